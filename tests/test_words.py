import re

from helpers import ROOT

KEPT = {"delvm_mm/datasets/transforms/images.py": ["LoadPicture"]}  # for configs of 0.1


def test_code_and_configs_say_image():
    found = {}
    for folder in ("delvm", "delvm_mm", "configs", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            if words := re.findall(r"\w*picture\w*", path.read_text(encoding="utf-8"), re.IGNORECASE):
                found[path.relative_to(ROOT).as_posix()] = words
    assert found == KEPT
