import ast
import re

import pytest

from delvm.cli import COMMANDS
from helpers import ROOT

KEPT = {"delvm_mm/datasets/transforms/images.py": ["LoadPicture"]}  # for configs of 0.1


def test_code_and_configs_say_image():
    found = {}
    for folder in ("delvm", "delvm_mm", "configs", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            if words := re.findall(r"\w*picture\w*", path.read_text(encoding="utf-8"), re.IGNORECASE):
                found[path.relative_to(ROOT).as_posix()] = words
    assert found == KEPT


@pytest.mark.parametrize("folder", ["delvm", "delvm_mm"])
def test_the_package_names_commands_that_there_are_without_a_checkout(folder):
    """``tools/quickstart.py`` alone is no command: it is of a checkout, and its message says so."""
    tools, unknown = {}, {}
    for path in (ROOT / folder).rglob("*.py"):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        if found := re.findall(r"tools/\w+\.(?:py|sh)", text):
            tools[name] = sorted(set(found))
        strings = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
        words = [
            word for value in strings if isinstance(value, str) for word in re.findall(r"\bdelvm ([a-z][a-z-]+)", value)
        ]
        if wrong := [word for word in words if word not in (*COMMANDS, "has")]:  # has no command ...
            unknown[name] = wrong
    assert tools == ({"delvm_mm/apis/model_loading.py": ["tools/quickstart.py"]} if folder == "delvm_mm" else {})
    assert unknown == {}
