"""``delvm configs``: the list, and a whole config that can be read again."""

import pytest
from mmengine.config import Config

from delvm_mm.commands import configs
from helpers import ROOT


def test_a_part_of_the_name_chooses(capsys):
    configs.main(["mini_long"])
    listed = capsys.readouterr().out.splitlines()
    assert listed == [f"delvm_mm::mini_long/{name}.py" for name in ("student_kd", "teacher", "tokens")]


def test_all_are_listed_but_those_that_only_others_use(capsys):
    configs.main([])
    listed = capsys.readouterr().out.splitlines()
    assert "delvm_mm::zoo/mini.py" in listed and not any("_base_" in name for name in listed)


@pytest.mark.parametrize("name", ["delvm_mm::zoo/mini.py", "configs/zoo/mini.py", "zoo/mini.py"])
def test_a_whole_name_prints_what_the_file_says(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs.main([name])
    (tmp_path / "mine.py").write_text(capsys.readouterr().out)
    assert Config.fromfile("mine.py").to_dict() == Config.fromfile(ROOT / "configs/zoo/mini.py").to_dict()


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        configs.main(["nothing"])
    assert "configs of the package has 'nothing' in its name" in capsys.readouterr().err
