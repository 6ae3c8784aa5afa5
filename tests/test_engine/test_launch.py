"""Reading configs and checkpoints for the tools."""

import io
import os
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader
from rich.console import Console

from delvm_mm.engine.launch import load_config, set_up_distributed, use_safe_checkpoints, user_errors
from delvm_mm.registry import MODELS


@pytest.fixture
def safe_checkpoints():
    before = dict(CheckpointLoader._schemes)
    use_safe_checkpoints()
    yield
    CheckpointLoader._schemes = before


def test_a_misspelled_top_level_key_is_named_with_what_was_meant(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("optim_wraper = dict()\n")
    with pytest.raises(ValueError, match="'optim_wraper' is not a key that is read; did you mean 'optim_wrapper'"):
        load_config(str(path))


def test_variables_of_ones_own_are_welcome(tmp_path):
    path = tmp_path / "my_config.py"
    path.write_text("num_pairs = 3\n")
    assert load_config(str(path)).work_dir == "work_dirs/my_config"


def test_an_option_for_an_entry_that_a_list_has_not_is_an_error(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("param_scheduler = [dict(end=3)]\n")
    with pytest.raises(ValueError, match="--cfg-options: Index 1 exceeds the length of list"):
        load_config(str(path), {"param_scheduler.1.end": 4})


def test_what_a_tool_needs_must_be_there(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("num_pairs = 3\n")
    with pytest.raises(ValueError, match="has no 'model'"):
        load_config(str(path), needed=("model",))


def test_mmengine_reads_its_own_checkpoints_without_the_code_that_old_ones_carry(safe_checkpoints, tmp_path):
    path = str(tmp_path / "old.pth")
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta=dict(iter=3, config="print('executed')")), path)
    checkpoint = CheckpointLoader.load_checkpoint(path)
    assert checkpoint["meta"] == dict(iter=3)
    assert torch.equal(checkpoint["state_dict"]["weight"], torch.ones(2))


@pytest.mark.parametrize("name", ["https://example.org/a.pth", "s3://bucket/a.pth", "torchvision://resnet50"])
def test_weights_from_elsewhere_are_refused(safe_checkpoints, name):
    with pytest.raises(ValueError, match="local files only"):
        CheckpointLoader.load_checkpoint(name)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("no such thing"), "error: no such thing\n"),
        (
            ValueError(
                "Caught ValueError in DataLoader worker process 0.\nTraceback ...\nValueError: a.png is damaged"
            ),
            "error: a.png is damaged\n",
        ),
    ],
)
def test_a_users_error_is_one_line_and_a_failing_exit_code(capsys, error, shown):
    @user_errors
    def main():
        raise error

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith(shown)


@pytest.mark.parametrize("error", [AssertionError, KeyError, TypeError, AttributeError])
def test_a_programming_error_keeps_its_traceback(error):
    @user_errors
    def main():
        raise error("a bug")

    with pytest.raises(error):
        main()


def test_a_file_name_that_is_no_utf8_is_printed_and_ends_nothing(monkeypatch):
    streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", "strict") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    name = os.fsdecode(b"caf\xe9.png")

    @user_errors
    def main():
        print(name)
        Console().print(name)
        raise ValueError(f"{name} is damaged")

    with pytest.raises(SystemExit):
        main()
    for stream in streams.values():
        stream.flush()
    assert streams["stdout"].buffer.getvalue() == b"caf\\udce9.png\n" * 2
    assert streams["stderr"].buffer.getvalue().startswith(b"error: caf\\udce9.png is damaged")


class HandsOn:
    """A class whose arguments go to another one, and one in which a bug hides."""

    def __init__(self, **kwargs):
        if kwargs.pop("bug", False):
            len(3)
        Takes(**kwargs)


class Takes:
    def __init__(self, size=1):
        self.size = size


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(type="LLaMa"), "LLaMa is not in the delvm_mm::model registry; did you mean 'LLaMA'?"),
        (dict(type="CodebookEmbedding", size=3), "got an unexpected keyword argument 'size'"),
        (dict(type=HandsOn, sizes=3), "got an unexpected keyword argument 'sizes'"),
        (dict(size=3), 'must contain the key "type"'),
    ],
)
def test_what_a_registry_cannot_build_is_the_configs_fault(capsys, config, message):
    @user_errors
    def main():
        MODELS.build(config)

    with pytest.raises(SystemExit):
        main()
    assert message in capsys.readouterr().err.splitlines()[0]


def test_a_bug_in_what_a_registry_builds_is_a_bug():
    @user_errors
    def main():
        MODELS.build(dict(type=HandsOn, bug=True))

    with pytest.raises(TypeError, match="has no len"):
        main()


@pytest.mark.parametrize("error", [ValueError("a.png is damaged"), KeyError("a bug")])
def test_the_log_of_a_run_has_the_traceback_of_what_ended_it(tmp_path, error):
    log = tmp_path / "run.log"
    MMLogger.get_instance(f"failed_{type(error).__name__}", log_file=str(log))

    @user_errors
    def main():
        raise error

    with pytest.raises((SystemExit, KeyError)):
        main()
    text = log.read_text()
    assert "Traceback" in text and "in main" in text and str(error) in text


def test_a_launcher_that_did_not_start_the_process_is_named(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match=r"launcher 'pytorch': \['RANK'.*start it with torchrun"):
        set_up_distributed(Config(dict()), "pytorch")
