"""``delvm consolidate`` on ordinary files; on folders of shards, see ``test_fully_sharded.py``."""

import sys

import pytest
import torch

from delvm_mm.checkpoints.io import load_checkpoint
from delvm_mm.commands import consolidate as consolidate_checkpoint


def consolidate(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["consolidate_checkpoint.py", *map(str, arguments)])
    consolidate_checkpoint.main()


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "iter_2.pth"
    optimizer = dict(state={0: dict(exp_avg=torch.ones(1000))}, param_groups=[])
    weights = dict(weight=torch.arange(3.0))
    torch.save(dict(meta=dict(iter=2), state_dict=weights, optimizer=optimizer, message_hub={}), path)
    return path


def test_of_an_ordinary_checkpoint_the_weights_alone_are_kept(checkpoint, monkeypatch, capsys):
    out = checkpoint.parent / "new" / "weights.pth"
    consolidate(monkeypatch, checkpoint, out, "--weights-only")
    kept = load_checkpoint(out)
    assert kept.keys() == {"meta", "state_dict"} and kept["meta"] == dict(iter=2)
    assert torch.equal(kept["state_dict"]["weight"], torch.arange(3.0))
    assert out.stat().st_size < checkpoint.stat().st_size - 3000
    assert "weights.pth: 1 tensors" in capsys.readouterr().out


def test_an_ordinary_checkpoint_as_it_is_needs_no_consolidating(checkpoint, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        consolidate(monkeypatch, checkpoint, checkpoint.parent / "out.pth")
    assert "only --weights-only makes something else of it" in capsys.readouterr().err
    assert not (checkpoint.parent / "out.pth").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(dict(meta={}), "holds no weights"), (None, "No weight file at"), ([1], "not a checkpoint")],
)
def test_a_file_without_weights_is_named(tmp_path, monkeypatch, capsys, content, message):
    if content is not None:
        torch.save(content, tmp_path / "a.pth")
    with pytest.raises(SystemExit):
        consolidate(monkeypatch, tmp_path / "a.pth", tmp_path / "out.pth", "--weights-only")
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()
