"""Configs as text: quick to write, and read again without running anything."""

import os
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from delvm_mm.engine.configs.files import (
    PlainConfig,
    config_from_text,
    config_of_checkpoint,
    read_config,
    resolve_config,
)
from delvm_mm.engine.launch import load_config
from helpers import ROOT

CONFIGS = [*sorted((ROOT / "configs" / "mini").glob("[!_]*.py")), ROOT / "configs/imagenet/visionllama80m_300e_in1k.py"]
ODD = dict(
    indices=list(range(5000)),
    names=["it's", 'a "b"', os.fsdecode(b"caf\xe9.png"), "two\nlines"],
    limits=dict(low=float("-inf"), one=(1,), none=(), empty={}, deep=[[1, 2], [dict(a=b"x")]]),
    keys={"class": 1, "a.b": {3: None}, os.fsdecode(b"\xff"): True},
    long=[f"a file of some length, number {number}.png" for number in range(20)],
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_text_of_a_config_is_the_config(path):
    cfg = load_config(str(path))
    text = cfg.pretty_text
    assert max(map(len, text.splitlines())) <= 120
    for read in (Config.fromstring(text, ".py"), config_from_text(text, "here")):
        assert read.to_dict() == cfg.to_dict()
    by_mmengine = Config.fromfile(str(path)).pretty_text  # as in checkpoints of other versions
    assert config_from_text(by_mmengine, "here").to_dict() == Config.fromfile(str(path)).to_dict()


def test_odd_values_and_names_that_are_no_utf8_are_written_and_read(tmp_path):
    cfg = PlainConfig.of(Config(ODD))
    cfg.dump(tmp_path / "odd.py")
    assert Config.fromfile(tmp_path / "odd.py").to_dict() == config_from_text(cfg.pretty_text, "here").to_dict() == ODD


def test_thousands_of_indices_are_some_lines_and_take_no_time():
    cfg = PlainConfig.of(Config(dict(train_dataloader=dict(dataset=dict(indices=list(range(20_000)))))))
    begin = time.perf_counter()
    text = cfg.copy().pretty_text
    assert time.perf_counter() - begin < 2 and len(text.splitlines()) < 1300
    assert config_from_text(text, "here").train_dataloader.dataset.indices[-1] == 19_999


@pytest.mark.parametrize("text", ["a = open('executed', 'w')", "import os", "a = [b for b in (1, 2)]", "a = dict(*b)"])
def test_other_code_is_refused_and_not_executed(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={}, meta=dict(cfg=text)), "a.pth")
    with pytest.raises(ValueError, match=r"the config in a\.pth is not as a run saves it"):
        config_of_checkpoint("a.pth")
    assert not Path("executed").exists()


def test_a_checkpoint_without_a_config_has_none(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / "a.pth")
    assert config_of_checkpoint(tmp_path / "a.pth") is None


@pytest.mark.parametrize(
    ("name", "what"), [("a.pth", "a checkpoint"), ("folder", "a checkpoint"), ("a.txt", "no Python, JSON or YAML file")]
)
def test_a_checkpoint_where_a_config_is_expected_is_called_one(tmp_path, name, what):
    torch.save(dict(state_dict={}), tmp_path / "a.pth")
    (tmp_path / "folder").mkdir()
    torch.save(dict(), tmp_path / "folder" / "rest.pth")
    (tmp_path / "a.txt").write_text("model = dict()")
    with pytest.raises(ValueError, match=rf"{name} is {what}, where a config is expected"):
        read_config(str(tmp_path / name))


@pytest.mark.parametrize("name", ["delvm_mm::zoo/mini.py", "configs/zoo/mini.py"])
def test_configs_of_the_package_have_names_everywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(name)
    assert cfg.tasks == Config.fromfile(ROOT / "configs/zoo/mini.py").tasks


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("configs/zoo").mkdir(parents=True)
    Path("configs/zoo/mini.py").write_text("own = 1\n")
    assert read_config("configs/zoo/mini.py").own == 1
    assert "tasks" in read_config("delvm_mm::zoo/mini.py")


@pytest.mark.parametrize("name", ["delvm_mm::zoo/none.py", "configs/none.py", "delvm_mm::../setup.py", "mini.py"])
def test_other_names_are_left_as_they_are_and_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert resolve_config(name) == name
    with pytest.raises(FileNotFoundError, match=r"no config at .*`delvm configs` lists them"):
        read_config(name)
