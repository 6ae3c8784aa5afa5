"""Every config of configs/tokens reads its data set from where the config says, in the published layout."""

import pytest
from mmengine.config import Config

from delvm_mm.registry import DATASETS
from helpers import ROOT
from helpers.layouts_people import write_coco_pose, write_mpii, write_voc
from helpers.layouts_restoration import (
    write_frame_folders,
    write_gopro,
    write_image_folder,
    write_imagenet,
    write_rain13k,
    write_rain_lmdb,
)
from helpers.layouts_sa1b import write_archive

CONFIGS = ROOT / "configs" / "tokens"


def write_coco(folder):
    write_coco_pose(folder, 3, "train2017")
    # Both splits have one annotation folder.
    write_coco_pose(folder / "other", 3, "val2017")
    (folder / "other" / "val2017").rename(folder / "val2017")
    name = "person_keypoints_val2017.json"
    (folder / "other" / "annotations" / name).rename(folder / "annotations" / name)


def write_both_mpii(folder):
    write_mpii(folder, 2, "train")
    write_mpii(folder, 2, "val", start=10)


COPIES = {
    "coco_pose": ("coco", write_coco, 2),
    "frames": ("videos", lambda folder: write_frame_folders(folder, frames=30), 8),
    "gopro": ("GOPRO_Large", write_gopro, 2),
    "imagenet": ("imagenet", lambda folder: write_imagenet(folder, form="meta"), 1),
    "images": ("images", write_image_folder, 1),
    "mpii": ("mpii", write_both_mpii, 2),
    "pascal5i": (".", lambda folder: write_voc(folder, num_sbd=3), 2),
    "rain13k": ("rain13k", write_rain13k, 2),
    "rain13k_lmdb": ("rain13k", write_rain_lmdb, 2),
    "sa1b": ("sa1b", lambda folder: write_archive(folder / "sa_000000.tar", range(10, 30), size=(820, 1200)), 2),
}


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
