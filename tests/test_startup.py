"""What is imported before it is needed: nothing that takes long. Each check has a process of its own."""

import json
import os
import subprocess
import sys

import pytest

import delvm_mm.codecs
import delvm_mm.engine
import delvm_mm.evaluation
import delvm_mm.visualization
from delvm.cli import COMMANDS
from helpers import ROOT

TOOLBOXES = ("mmcv", "mmpretrain", "mmseg", "mmpose")
LIBRARIES = ("diffusers", "gradio", "matplotlib", "pandas", "pycocotools", "scipy", "skimage", "sklearn")
MORE = ("cv2", "mmengine.model", "mmengine.runner", "torchmetrics", "torchvision", "transformers")
HEAVY = (*TOOLBOXES, *LIBRARIES, *MORE)
LAZY = (delvm_mm.codecs, delvm_mm.engine, delvm_mm.evaluation, delvm_mm.visualization)
PACKAGES = ("apis", "engine.launch", "precompute", "stores", "visualization.overlays")


def loaded_by(code: str, modules: tuple[str, ...]) -> list[str]:
    """Which of these modules a process has imported when the code is done."""
    code += f"\nimport json, sys; print(json.dumps([name for name in {modules} if name in sys.modules]))"
    environment = os.environ | dict(PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_package_is_imported_without_anything_heavy():
    assert loaded_by("import delvm_mm", HEAVY) == []


@pytest.mark.parametrize("path", ["tools/quickstart.py", "tools/test.py"])
def test_help_of_a_tool_imports_nothing_heavy(path):
    code = f"""
import runpy, sys
sys.argv = [{path!r}, "--help"]
try:
    runpy.run_path({path!r}, run_name="__main__")
except SystemExit as end:
    assert end.code in (None, 0)
"""
    assert loaded_by(code, HEAVY) == []


def test_help_of_every_command_imports_nothing_heavy():
    """In one process, since what one of them imports stays."""
    code = f"""
import sys
from delvm.cli import main
for command in {tuple(COMMANDS)}:
    sys.argv = ["delvm"]
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code in (None, 0)
    else:
        raise AssertionError(f"{{command}} ran")
"""
    assert loaded_by(code, HEAVY) == []


def test_wrong_arguments_are_refused_without_anything_heavy():
    code = """
import sys
from delvm.cli import main
sys.argv = ["delvm"]
try:
    main(["train"])
except SystemExit as end:
    assert end.code == 2
"""
    assert loaded_by(code, HEAVY) == []


def test_all_of_the_package_is_imported_without_what_only_some_tasks_need():
    """But for what MMEngine and mmcv import themselves."""
    some = (*TOOLBOXES[1:], *LIBRARIES)
    theirs = loaded_by("import mmengine.runner, mmcv.transforms", some)
    code = f"""
import {", ".join(f"delvm_mm.{name}" for name in PACKAGES)}
from delvm_mm import registry
for one in vars(registry).values():
    if isinstance(one, registry.Registry):
        one.import_from_location()
"""
    ours = loaded_by(code, some)
    assert [name for name in ours if name not in theirs] == []


@pytest.mark.parametrize(
    "package",
    [delvm_mm.codecs, delvm_mm.engine, delvm_mm.evaluation, delvm_mm.visualization],
    ids=lambda package: package.__name__,
)
def test_names_that_a_package_imports_late_are_there(package):
    assert dir(package) == package.__all__
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Nothing'"):
        package.Nothing  # noqa: B018 - that it fails is the test
