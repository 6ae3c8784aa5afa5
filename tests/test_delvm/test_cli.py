"""``delvm``: which code a command runs, under which name it speaks, and what is said where MMEngine is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

import delvm_mm.commands
from delvm import cli
from helpers import ROOT


def test_every_module_of_the_package_is_a_command_with_a_parser():
    commands = {name.replace("-", "_") for name in cli.COMMANDS if name not in cli.HERE}
    folder = Path(delvm_mm.commands.__file__).parent
    assert {path.stem for path in folder.glob("[a-z]*.py")} == commands
    assert {path.stem for path in (folder / "parsers").glob("[a-z]*.py")} == commands
    for name in cli.COMMANDS:
        assert callable(cli.load_command(name).main)
        assert cli.load_parser(name).format_help().startswith("usage: ")


def test_wrong_arguments_are_refused_before_the_code_of_a_command_is_imported(monkeypatch, capsys):
    monkeypatch.setattr(cli, "load_command", lambda command: pytest.fail(f"{command} was imported"))
    monkeypatch.setattr(sys, "argv", ["delvm"])
    with pytest.raises(SystemExit) as stopped:
        cli.main(["prompt", "complete", "a.png", "--out", "answers", "--num", "3"])
    assert stopped.value.code == 2
    assert "delvm prompt complete: error: unrecognized arguments: --num 3" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_tools_are_the_code_of_commands(path):
    """But for those that only a checkout can use."""
    called = [line.strip() for line in path.read_text().splitlines() if line.strip().startswith('run("')]
    if path.stem in ("quickstart", "mended_xtcocotools"):
        assert not called
    else:
        assert called[0].removeprefix('run("').removesuffix('")') in cli.COMMANDS


def test_a_command_gets_its_arguments_and_the_name_of_both(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/anywhere/bin/delvm", "configs", "zoo/teacher"])
    cli.main()
    assert capsys.readouterr().out == "delvm_mm::zoo/teacher.py\n"
    assert sys.argv == ["delvm configs", "zoo/teacher"]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_has_a_line_for_every_command(arguments, capsys):
    cli.main(arguments)
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in cli.COMMANDS)


def test_a_misspelled_command_is_refused_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["trian"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: delvm has no command 'trian'; did you mean 'train'?\n"


def test_without_mmengine_commands_say_what_to_install_and_the_doctor_works():
    """In a process of its own: here MMEngine has been imported."""
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "mmengine":
            raise ModuleNotFoundError("No module named 'mmengine'", name="mmengine")
sys.meta_path.insert(0, Missing())
from delvm import cli, doctor
try:
    cli.main(["train", "config.py"])
except SystemExit as stopped:
    print(stopped.code)
doctor.toolbox_module()
for finding in doctor.toolboxes():
    print(*finding, sep=" | ")
    break
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    first, second, third = done.stdout.splitlines()
    assert first.startswith("error: mmengine is needed here and is not installed: install one of")
    assert second == "(`delvm doctor` says what else is missing)"
    assert third.startswith("broken | mmengine is needed here and is not installed | install one of the two families")


def test_the_version_is_that_of_the_installed_package(capsys, monkeypatch):
    monkeypatch.setattr(cli.metadata, "version", lambda name: {"delvm_mm": "7.8.9"}[name])
    cli.main(["--version"])
    assert capsys.readouterr().out == "delvm_mm 7.8.9\n"
