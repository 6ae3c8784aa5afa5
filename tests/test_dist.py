"""Wheel and sdist, installed where nothing else is: ``make test-dist``, which installs torch and all anew (minutes)."""

import os
import subprocess
import sys
import tarfile
import time
import venv
import zipfile

import pytest
from PIL import Image

import delvm_mm
from helpers import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DELVM_MM_TEST_DIST" not in os.environ, reason="set DELVM_MM_TEST_DIST=1 (make test-dist does)"),
]


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the sdist, and the wheel that was built of it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_both_are_named_by_the_version_and_carry_code_weights_configs_and_tools(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    assert wheel.name == f"delvm_mm-{delvm_mm.__version__}-py3-none-any.whl"
    assert sdist.name == f"delvm_mm-{delvm_mm.__version__}.tar.gz"
    within = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "delvm/doctor.py",
        "delvm_mm/commands/train.py",
        "delvm_mm/generation/native.c",
        "delvm_mm/pretrained/mini/model.safetensors",
        "delvm_mm/pretrained/mini/prompts/seg/00_img.png",
        "delvm_mm/.mim/configs/zoo/mini.py",
        "delvm_mm/.mim/tools/train.py",
        "delvm_mm/.mim/model-index.yml",
    ):
        assert name in within
    assert not any(name.startswith(("tests", "helpers")) for name in within)
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert any(name.endswith("/configs/zoo/mini.py") for name in names)
    assert any(name.endswith("/generation/native.c") for name in names)


def test_installed_alone_it_is_well_and_answers_an_image(dist, tmp_path):
    """With the time that each step takes, which ``pytest -s`` shows."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    folder = tmp_path / "environment"
    steps = {}

    def timed(name, *command):
        begin = time.perf_counter()
        shown = run(*command, env=environment, cwd=tmp_path)
        steps[name] = time.perf_counter() - begin
        return shown

    venv.create(folder, with_pip=True)
    (wheel,) = dist.glob("*.whl")
    timed("pip install", folder / "bin/pip", "install", "--quiet", f"{wheel}[onedl]")
    assert f"delvm_mm {delvm_mm.__version__}" in timed("delvm --version", folder / "bin/delvm", "--version")
    shown = timed("delvm doctor", folder / "bin/delvm", "doctor")
    assert "broken" not in shown and str(folder) in shown
    assert "delvm_mm::zoo/mini.py" in timed("delvm configs", folder / "bin/delvm", "configs")

    Image.effect_mandelbrot((120, 90), (-2, -1.2, 1, 1.2), 50).convert("RGB").save(tmp_path / "mine.png")
    options = ("--model", "delvm_mm://mini", "--task", "seg", "--query", "mine.png", "--out", "out")
    shown = timed("delvm prompt", folder / "bin/delvm", "prompt", *options)
    assert "1 images in out" in shown
    assert [path.name for path in (tmp_path / "out/masks").iterdir()]
    print("\n" + "\n".join(f"{name}: {seconds:.1f} s" for name, seconds in steps.items()))
