"""Single images: any folder, and ImageNet through mmpretrain."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from delvm_mm.datasets.readers.image_folder import ImageFolderDataset, ImageNetDataset, ScikitImageDataset
from helpers.layouts_restoration import save, write_image_folder, write_imagenet

PACK = [{"type": "LoadImage"}, {"type": "PackClip", "keys": ("img",)}]


def test_all_images_are_found_at_any_depth(tmp_path):
    images = write_image_folder(tmp_path, 8)
    save(tmp_path / ".thumbnails" / "a.jpg", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "more" / "readme.txt").write_text("no image")
    dataset = ImageFolderDataset(tmp_path, pipeline=PACK)
    assert len(dataset) == 8 and dataset.task == "image"
    items = [dataset[number] for number in range(8)]
    assert [item["data_samples"].img_path for item in items] == [str(path) for path in images]
    assert all(item["inputs"].shape == (1, 3, 48, 64) for item in items)


def test_sub_folders_are_left_out_on_demand(tmp_path):
    images = write_image_folder(tmp_path, 8)
    dataset = ImageFolderDataset(tmp_path, recursive=False)
    here = [str(path) for path in images if path.parent == tmp_path]
    assert [dataset[number]["img_path"] for number in range(len(dataset))] == here and len(here) == 4


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("")
    for recursive in (True, False):
        with pytest.raises(ValueError, match="no image"):
            ImageFolderDataset(tmp_path, recursive=recursive)
        with pytest.raises(FileNotFoundError, match=r"no folder at .*gone"):
            ImageFolderDataset(tmp_path / "gone", recursive=recursive)


def test_a_broken_image_is_an_error_of_its_sample(tmp_path):
    images = write_image_folder(tmp_path, 4)
    images[1].write_bytes(b"")
    images[2].unlink()
    images[2].symlink_to(tmp_path / "gone.png")
    dataset = ImageFolderDataset(tmp_path, pipeline=PACK)
    assert len(dataset) == 4
    with pytest.raises(ValueError, match="has 0 bytes: expected an image;"):
        dataset[1]
    with pytest.raises(FileNotFoundError, match="no image at"):
        dataset[2]
    assert dataset[3]["inputs"].shape == (1, 3, 48, 64)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_is_named(tmp_path):
    images = write_image_folder(tmp_path, 4)
    images[0].chmod(0)
    with pytest.raises((ValueError, OSError), match=images[0].name):
        ImageFolderDataset(tmp_path, pipeline=PACK)[0]
    (tmp_path / "more").chmod(0)
    try:
        with pytest.raises(PermissionError, match="more"):  # not fewer samples without a word
            ImageFolderDataset(tmp_path)
    finally:
        (tmp_path / "more").chmod(0o755)


def test_views_indices_and_spawned_workers(tmp_path):
    images = write_image_folder(tmp_path, 4)
    dataset = ImageFolderDataset(tmp_path, pipeline=PACK, num_views=2, indices=[2])
    loader = DataLoader(
        pickle.loads(pickle.dumps(dataset)), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    found = [(item["data_samples"].img_path, item["data_samples"].sample_idx) for item in loader]
    assert found == [(str(images[2]), 0), (str(images[2]), 1)]


# ImageNet


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    pytest.importorskip("mmpretrain")
    root = tmp_path_factory.mktemp("imagenet")
    write_imagenet(root)
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_imagenet_in_folders_of_classes(imagenet, split):
    dataset = ImageNetDataset(imagenet, split=split, pipeline=[{"type": "LoadImage"}])
    assert len(dataset) == 1000 and dataset.task == "image"
    sample = dataset[3]
    assert sample["gt_label"] == 3 and f"{split}/n01440767/" in sample["img_path"]
    assert sample["img"].shape == (48, 64, 3)
    assert len(dataset.metainfo["classes"]) == 1000
    assert dataset.metainfo["classes"][0].startswith("tench")  # n01440764 in ILSVRC2012


@pytest.mark.parametrize(("split", "label"), [("train", 0), ("val", 67)])
def test_imagenet_with_lists_in_meta(tmp_path, split, label):
    pytest.importorskip("mmpretrain")
    write_imagenet(tmp_path, form="meta", count=3)
    dataset = ImageNetDataset(tmp_path, split=split, pipeline=PACK)
    assert len(dataset) == 3 and dataset[2]["inputs"].shape == (1, 3, 48, 64)
    assert dataset.get_data_info(2)["gt_label"] == label


def test_imagenet_with_too_few_classes_or_a_damaged_list_is_refused(tmp_path):
    pytest.importorskip("mmpretrain")
    save(tmp_path / "val" / "n01440764" / "a.JPEG", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"val cannot be read as ImageNet .*1000 folders of classes.*meta/val\.txt"):
        ImageNetDataset(tmp_path, split="val")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "val.txt").write_text("n01440764/a.JPEG\n")
    with pytest.raises(ValueError, match=r"expected a line 'image label' .*meta/val\.txt"):
        ImageNetDataset(tmp_path, split="val")
    with pytest.raises(FileNotFoundError, match=r"no folder at .*train"):
        ImageNetDataset(tmp_path)
    with pytest.raises(ValueError, match="split is 'test'"):
        ImageNetDataset(tmp_path, split="test")


def test_a_missing_mmpretrain_is_one_sentence(imagenet, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("delvm_mm.toolboxes.importlib.import_module", missing)
    with pytest.raises(ImportError, match="mmpretrain is needed here and is not installed"):
        ImageNetDataset(imagenet)


def test_a_task_may_be_named_like_a_file_or_folder_of_the_working_directory(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mmengine.dataset.base_dataset.print_log", None)  # it would warn
    (tmp_path / "cats").mkdir()
    (tmp_path / "list").write_text("a line\n")
    for task in ("cats", "list", "neither"):
        assert ImageFolderDataset(tmp_path, metainfo=dict(task=task)).task == task
    assert ImageFolderDataset(tmp_path).task == "image"


def test_photographs_of_scikit_image_are_read_in_the_order_of_their_names():
    dataset = ScikitImageDataset(["rocket.jpg", "coffee.png"], pipeline=[dict(type="LoadImage")])
    assert [os.path.basename(dataset[index]["img_path"]) for index in range(2)] == ["rocket.jpg", "coffee.png"]
    assert dataset[1]["img"].shape == (400, 600, 3)


@pytest.mark.parametrize("names", [["nobody.png"], []])
def test_photographs_that_scikit_image_does_not_bring_are_refused(names):
    with pytest.raises(ValueError, match=r"names are \[.*\], expected some of those that .*: \[.*'chelsea.png'"):
        ScikitImageDataset(names)
