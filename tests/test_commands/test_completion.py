"""``delvm completion``: what bash makes of what it prints."""

import shutil
import subprocess

import pytest

from delvm_mm.commands import completion

shtab = pytest.importorskip("shtab")

ASK = """
source "$0"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMP_LINE="$*"
COMP_POINT=${#COMP_LINE}
COMPREPLY=()
$(complete -p delvm | sed 's/.*-F \\([^ ]*\\).*/\\1/') delvm "${@: -1}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "delvm.bash"
    path.write_text(shtab.complete(completion.whole_parser(shtab.FILE), "bash"))
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["delvm", "te"], {"test"}),
        (["delvm", "con"], {"convert", "convert-tokenizer", "convert-tokens", "consolidate", "configs"}),
        (["delvm", "train", "--res"], {"--resume"}),
        (["delvm", "convert", "--to", "g"], {"gguf"}),
        (["delvm", "convert-tokens", "exp"], {"export"}),
    ],
)
def test_commands_options_and_choices_are_completed(script, words, expected):
    done = subprocess.run(["bash", "-c", ASK, script, *words], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_words_of_options_may_be_files(script, tmp_path):
    (tmp_path / "my_config.py").touch()
    asked = ["bash", "-c", ASK, script, "delvm", "test", "my_c"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["my_config.py"]


def test_the_command_prints_it(capsys):
    completion.main(["zsh"])
    assert capsys.readouterr().out.startswith("#compdef delvm")
