import importlib
import sys
import types

import pytest

from delvm_mm.toolboxes import DISTRIBUTIONS, ToolboxError, installed_version, require_installed, require_toolbox


def fail_to_import(monkeypatch, error):
    def import_module(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", import_module)


def one_sentence(message):
    return "\n" not in message and not message.endswith(".") and ". " not in message


def test_a_toolbox_and_its_modules_are_imported(monkeypatch):
    fake = types.ModuleType("mmseg")
    monkeypatch.setitem(sys.modules, "mmseg", fake)
    assert require_toolbox("mmseg") is fake
    assert require_toolbox("mmengine.evaluator").Evaluator


def test_a_missing_toolbox_is_named_with_both_families_of_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmseg", None)  # importing it now raises ModuleNotFoundError
    with pytest.raises(ImportError, match="mmseg is needed here and is not installed") as caught:
        require_toolbox("mmseg.evaluation")
    message = str(caught.value)
    assert "onedl-mmsegmentation" in message and "mmsegmentation==1.2.2" in message
    assert one_sentence(message) and isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_mmpose_is_to_be_installed_without_its_dependencies(monkeypatch):
    fail_to_import(monkeypatch, ModuleNotFoundError("No module named 'mmpose'", name="mmpose"))
    with pytest.raises(ImportError, match=r"--no-deps mmpose==1\.3\.2"):
        require_toolbox("mmpose")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            AssertionError("MMCV==2.3.6 is used but incompatible.\nPlease install mmcv>=2.0.0rc4, <2.2.0."),
            "MMCV==2.3.6",
        ),
        (ModuleNotFoundError("No module named 'mmcv._ext'", name="mmcv._ext"), "compiled ops"),
        (ModuleNotFoundError("No module named 'six'", name="six"), "install the package that provides six"),
        (ValueError("numpy.dtype size changed"), "numpy.dtype size changed"),
    ],
)
def test_an_unusable_toolbox_is_reported_with_version_and_cause(monkeypatch, error, words):
    monkeypatch.setattr("delvm_mm.toolboxes.metadata.version", lambda distribution: "9.8.7")
    fail_to_import(monkeypatch, error)
    with pytest.raises(ImportError) as caught:
        require_toolbox("mmseg.models")
    message = str(caught.value)
    assert f"{DISTRIBUTIONS['mmseg'][0]} 9.8.7 is installed, but mmseg.models cannot be imported" in message
    assert words in message and "\n" not in message and caught.value.__cause__ is error


def test_a_part_of_mmpose_that_no_deps_left_out_leads_to_its_own_advice(monkeypatch):
    fail_to_import(monkeypatch, ModuleNotFoundError("No module named 'xtcocotools'", name="xtcocotools"))
    with pytest.raises(ImportError, match="build xtcocotools"):
        require_toolbox("mmpose.evaluation")


def test_the_version_is_of_the_distribution_that_is_installed(monkeypatch):
    from importlib import metadata

    def version(name):
        if name == "mmsegmentation":
            return "1.2.2"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("delvm_mm.toolboxes.metadata.version", version)
    assert installed_version("mmseg") == "mmsegmentation 1.2.2"
    assert installed_version("mmpose") is None


def test_a_toolbox_is_missed_without_being_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "mmcv", raising=False)
    require_installed("mmcv")
    assert "mmcv" not in sys.modules
    monkeypatch.setitem(sys.modules, "mmcv", None)
    with pytest.raises(ToolboxError, match="mmcv is needed here and is not installed: install one of the two"):
        require_installed("mmcv")


def test_unknown_toolboxes_are_refused():
    with pytest.raises(ValueError, match="unknown toolbox 'mmdet' in 'mmdet': expected"):
        require_toolbox("mmdet")
