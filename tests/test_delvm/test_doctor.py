"""``delvm doctor``: what it finds, what it makes of it, and how it ends."""

import shutil
import sys
from importlib import metadata

import pytest

from delvm import doctor
from delvm.doctor import Finding


@pytest.fixture
def versions(monkeypatch):
    """Distributions -> versions, in place of those installed."""
    known = {"delvm_mm": "1.0"}

    def version(name):
        if name not in known:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    return known


def of_state(findings, *states):
    return [finding for finding in findings if finding.state in states]


def test_this_environment_is_whole(capsys):
    doctor.main([])
    shown = capsys.readouterr().out
    assert "broken" not in shown
    for text in ("mmengine", "CPU cores", "GiB of memory", "GiB of disk", "delvm_mm://mini, ", " configs in "):
        assert text in shown


def test_it_ends_with_1_where_something_is_broken_and_tells_a_remedy_once(monkeypatch, capsys):
    found = [Finding("ok", "a"), Finding("broken", "b", "pip install c"), Finding("missing", "d", "pip install c")]
    monkeypatch.setattr(doctor, "examine", lambda: iter([("part", iter(found))]))
    with pytest.raises(SystemExit) as stopped:
        doctor.main([])
    assert stopped.value.code.startswith("1 broken")
    shown = capsys.readouterr().out
    assert shown.splitlines() == ["part", "  ok      a", "  broken  b", "          -> pip install c", "  missing d"]


@pytest.mark.parametrize(
    ("requirement", "installed", "fault"),
    [
        ("thing>=2.1", {"thing": "2.1.0"}, None),
        ("thing>=2.1", {"thing": "2.0.9"}, "thing 2.0.9, wanted is thing>=2.1"),
        ("thing", {}, "thing is not installed"),
        ("opencv-python", {"opencv-python-headless": "4.9"}, None),
        ("gradio<6,>=5.50", {"gradio": "6.1"}, "gradio 6.1, wanted is gradio<6,>=5.50"),
    ],
)
def test_requirements_are_compared_with_what_is_installed(versions, requirement, installed, fault):
    versions.update(installed)
    assert doctor.fault_of(requirement) == fault


def test_what_is_missing_is_named_with_the_command_that_installs_it(versions, monkeypatch):
    lines = ["scipy", "torch>=2.1", "gradio<6,>=5.50; extra == 'webui'", 'lmdb>=1.4; extra == "lmdb"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    versions.update(torch="2.5", gradio="5.50.0")
    assert of_state(doctor.package(), "broken") == [Finding("broken", "scipy is not installed", "pip install 'scipy'")]
    optional = list(doctor.optional_parts())
    assert of_state(optional, "missing") == [
        Finding("missing", "lmdb is not installed: for data sets in LMDB files", "pip install 'delvm_mm[lmdb]'")
    ]
    assert Finding("ok", "webui: delvm page") in optional


def test_two_families_of_toolboxes_are_too_many(versions):
    versions.update({"onedl-mmengine": "0.10.12", "mmcv-lite": "2.1.0"})
    (mixed,) = of_state(doctor.toolboxes(), "broken")
    assert mixed.text == "two families of packages are mixed: onedl-mmengine 0.10.12 and mmcv-lite 2.1.0"
    assert mixed.mend.startswith("pip uninstall -y onedl-mmengine mmcv-lite, then pip install onedl-mmengine")


def test_a_module_that_cannot_be_imported_gives_one_line(tmp_path, monkeypatch):
    (tmp_path / "of_another_abi.py").write_text("raise RuntimeError('built for\\n  another one')")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.import_fault("of_another_abi") == "RuntimeError: built for another one"
    assert doctor.import_fault("json") is None


def test_a_driver_without_a_gpu_in_torch_is_told_from_no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "sees no GPU" in of_state(doctor.device(), "missing")[0].text
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert of_state(doctor.device(), "missing") == []


def test_scarce_memory_and_disk_are_noted(monkeypatch):
    monkeypatch.setattr(doctor, "memory", lambda: (doctor.GIB // 2, 8 * doctor.GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    scarce = of_state(doctor.room(), "note")
    assert scarce[0].text == "0.5 of 8.0 GiB of memory are free" and "end other programs" in scarce[0].mend
    assert scarce[1].text.startswith("0.0 GiB of disk")


@pytest.mark.skipif(sys.platform != "linux", reason="of /proc")
def test_memory_is_what_the_kernel_says():
    free, total = doctor.memory()
    assert 0 < free < total


def test_weights_that_are_pointers_are_broken(tmp_path, monkeypatch):
    for name, size in (("whole", 2000), ("pointer", 130)):
        (tmp_path / "pretrained" / name).mkdir(parents=True)
        (tmp_path / "pretrained" / name / "config.json").write_text("{}")
        (tmp_path / "pretrained" / name / "model.safetensors").write_bytes(b"x" * size)
    monkeypatch.setattr(doctor, "folder", lambda: tmp_path)
    pointer, whole, configs = doctor.carried()
    assert (pointer.state, whole.state, configs.state) == ("broken", "ok", "missing")
    assert pointer.text.startswith("delvm_mm://pointer")
