"""``model-index.yml`` and what it imports, in OpenMMLab's form."""

import re

import yaml
from mmengine.config import Config

from delvm_mm.pretrained import resolve_shipped, shipped_names
from helpers import ROOT


def read(path):
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_it_names_every_shipped_model_with_files_that_there_are():
    metafiles = [read(path) for path in read("model-index.yml")["Import"]]
    collections = [one["Name"] for file in metafiles for one in file.get("Collections", ())]
    models = [one for file in metafiles for one in file["Models"]]
    assert sorted(f"delvm_mm://{model['Name']}" for model in models) == shipped_names()
    for model in models:
        assert model["In Collection"] in collections
        assert Config.fromfile(str(ROOT / model["Config"]))["model"]
        assert (ROOT / model["Weights"]).parent == resolve_shipped(f"delvm_mm://{model['Name']}")
        assert (ROOT / model["Weights"]).is_file() and (ROOT / model["README"]).is_file()
        assert model["Results"][0].keys() == {"Task", "Dataset", "Metrics"}


def test_every_metafile_is_imported_and_built_into_the_wheel():
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("metafile.yml")}
    assert found == set(read("model-index.yml")["Import"])
    assert re.search(r"recursive-include configs .*\*\.yml", (ROOT / "MANIFEST.in").read_text("utf-8"))


def test_files_for_people_and_platforms_parse():
    for path in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text("utf-8")), path
    citation = read("CITATION.cff")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert str(citation["version"]) == re.search(r"^## \[?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)[1]
    assert len(citation["preferred-citation"]["authors"]) == 8
    for path in re.findall(
        r"`((?:delvm_mm|configs|docs|tools|tests)/[\w/.]+)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    ):
        assert (ROOT / path).exists(), path
