"""Every config of configs/tokens reads its data set from where the config says, in the published layout."""

import pytest
from mmengine.config import Config

from delvm_mm.registry import DATASETS
from helpers import ROOT
from helpers.layouts import COPIES

CONFIGS = ROOT / "configs" / "tokens"


def test_no_config_is_forgotten():
    assert set(COPIES) == {path.stem for path in CONFIGS.glob("[!_]*.py")}


@pytest.mark.parametrize("name", COPIES)
def test_the_config_reads_a_copy_of_its_data_set(tmp_path, monkeypatch, name):
    if "lmdb" in name:
        pytest.importorskip("lmdb")
    folder, write, images = COPIES[name]
    write(tmp_path / "data" / folder)
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(str(CONFIGS / f"{name}.py"))
    outs = [store.out for store in config.stores]
    assert len(set(outs)) == len(outs)
    tasks = {}
    for store in config.stores:
        dataset = DATASETS.build(store.dataset)
        sample = dataset[len(dataset) - 1]
        assert tuple(sample["inputs"].shape) == (images, 3, 256, 256)
        assert sample["inputs"][-1].float().std() > 0, "the last image of the clip is drawn"
        tasks[store.out.rsplit("/", 1)[0]] = sample["data_samples"].task
        assert bool(store.get("num_augmented_copies")) == store.out.endswith("_augmented")
    assert len(set(tasks.values())) == 1
