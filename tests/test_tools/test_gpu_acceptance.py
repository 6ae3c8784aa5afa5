"""The acceptance script of GPUs, at toy size on the CPU: its parts, its report, and a part that fails."""

import json
import subprocess
import sys

import pytest

from helpers import ROOT

SCRIPT = ROOT / "tools" / "benchmarks" / "gpu_acceptance.py"
PARTS = ["machine", "speed", "tests", "generation", "steps", "vqgan", "tokenizing", "training"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("acceptance") / "out"
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--cpu", "--minutes", "1", "--fail", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (out / "report.json").exists(), done.stdout + done.stderr
    return done, json.loads((out / "report.json").read_text()), (out / "report.md").read_text()


@pytest.mark.slow
def test_all_parts_but_the_one_that_was_told_to_fail_pass(report):
    done, found, _ = report
    assert [part["part"] for part in found["parts"]] == PARTS
    failed = {part["part"]: part["error"] for part in found["parts"] if part["state"] == "failed"}
    assert list(failed) == ["speed"], failed
    assert "Traceback" in failed["speed"] and "told to fail" in failed["speed"]
    assert done.returncode == 1


@pytest.mark.slow
def test_each_part_has_figures_with_their_units(report):
    _, found, _ = report
    figures = {part["part"]: {row["name"]: row for row in part["figures"]} for part in found["parts"]}
    assert figures["tests"]["passed"]["value"] > 0 and figures["tests"]["failed"]["value"] == 0
    assert figures["generation"]["one query, plain"]["unit"] == "s"
    assert figures["steps"]["alone"]["value"] > 0
    assert {"teacher online, times alone", "teacher cached, times alone"} <= set(figures["steps"])
    assert figures["vqgan"]["VQGAN, float32"]["unit"] == "images/s"
    assert figures["tokenizing"]["plain loop"]["value"] > 0
    training = figures["training"]
    assert {"teacher, last loss_ce", "student, last loss_kd", "student, loss of other scenes"} <= set(training)
    assert all(row["unit"] in ("nats", "tokens/s", "images/s", "") for row in training.values())


@pytest.mark.slow
def test_the_report_to_read_says_what_the_other_says(report):
    _, found, text = report
    assert "Toy sizes on a CPU" in text
    for part in found["parts"]:
        assert f"## {part['part']}: {part['state']}" in text
        assert all(f"| {row['name']} |" in text for row in part["figures"])
    assert "told to fail" in text


def test_a_part_that_dies_or_hangs_is_reported_and_the_next_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_acceptance

    class Process:
        """Stands for the process of the parts: the first part dies in it, the second hangs."""

        exitcode = -9

        def __init__(self, target, args):
            self.connection, _, self.names, _ = args

        def start(self):
            if self.names[0] == "machine":
                self.connection.close()
            elif self.names[0] != "speed":
                for name in self.names:
                    self.connection.send(dict(part=name, state="passed", figures=[], error=""))

        def join(self, seconds=None):
            pass

        def is_alive(self):
            return False

    class Context:
        Pipe = staticmethod(gpu_acceptance.multiprocessing.Pipe)

    Context.Process = Process
    monkeypatch.setattr(gpu_acceptance.multiprocessing, "get_context", lambda _: Context)
    monkeypatch.setattr(gpu_acceptance.Settings, "seconds_of", lambda settings, name: 0.1)
    # The other end stays open, as that of a process that hangs.
    kept = []
    monkeypatch.setattr(gpu_acceptance, "end_here", lambda end: kept.append(end))
    settings = gpu_acceptance.Settings(str(tmp_path), 1, cpu=True)
    results = gpu_acceptance.run(settings, ["machine", "speed", "tests"])
    assert [(result["part"], result["state"]) for result in results] == [
        ("machine", "failed"), ("speed", "failed"), ("tests", "passed"),
    ]  # fmt: skip
    assert "exit code -9" in results[0]["error"] and "stopped after" in results[1]["error"]
    assert json.loads((tmp_path / "report.json").read_text())["parts"] == results
