"""Tools in processes of their own, and what is read of the trainings among them."""

import json

import pytest

from delvm_mm.engine import tool_runs
from delvm_mm.engine.tool_runs import run_tool, training_records, training_state


def test_the_output_of_a_tool_is_kept_and_its_failure_is_explained(tmp_path, capfd):
    log = tmp_path / "logs" / "tool.log"
    run_tool(["-c", "print('one'); print('two')"], log)
    assert log.read_text() == "one\ntwo\n" and capfd.readouterr().out == ""
    with pytest.raises(SystemExit) as stopped:
        run_tool(["-c", "print('three'); raise SystemExit(3)"], log)
    assert log.read_text() == "one\ntwo\nthree\n"
    for text in ("three\n", str(log), "failed: ", "run the same command again"):
        assert text in str(stopped.value.code)
    run_tool(["-c", "print('seen')"])
    assert capfd.readouterr().out == "seen\n"


def test_a_tool_is_watched_to_its_end_and_ends_with_who_watches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tool_runs, "WATCH_SECONDS", 0.05)
    file, seen = tmp_path / "file", []
    write = f"import pathlib, time; time.sleep(0.5); pathlib.Path({str(file)!r}).touch()"
    run_tool(["-c", write], tmp_path / "log", lambda: seen.append(file.exists()))
    assert seen[0] is False and seen[-1] is True

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(tool_runs, "WATCH_SECONDS", 0.01)
    file.unlink()
    with pytest.raises(KeyboardInterrupt):
        run_tool(["-c", write], tmp_path / "log", stop)
    assert not file.exists()


def test_a_training_is_followed_over_its_runs_and_through_half_a_line(tmp_path):
    assert training_state(tmp_path) == (0, "starting")
    runs = (
        ("20260101_000000", [dict(step=10, loss=2.0, time=1.0), {"step": 10, "token/loss": 3.0}], '{"step": 20, "lo'),
        ("20260101_000100", [dict(step=20, loss=1.5, loss_ce=1.25, tokens_per_s=812.4)], ""),
    )
    for name, records, rest in runs:
        path = tmp_path / name / "vis_data" / "scalars.json"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records) + rest)
    assert [record["step"] for record in training_records(tmp_path)] == [10, 10, 20]
    assert training_state(tmp_path) == (20, "loss 1.5  loss_ce 1.25  tokens_per_s 812.4")
