"""Lists of samples and regular splits, which every reader takes."""

import pytest
from PIL import Image

from delvm_mm.datasets import CocoPoseDataset, FrameFolderDataset, ImageFolderDataset
from helpers.layouts_people import write_coco_pose


@pytest.fixture
def images(tmp_path):
    for name in ("a/1.jpg", "a/2.png", "a/10.jpg", "b/1.jpg", "b/3.jpg", "é/4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def read(folder, text, reader=ImageFolderDataset, **arguments):
    (folder / "list.txt").write_text(text, encoding="utf-8")
    dataset = reader(folder, sample_list="list.txt", **arguments)
    return [dataset[i]["img_path"].removeprefix(f"{folder}/") for i in range(len(dataset))]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2\n10.jpg\n", ["a/2.png", "a/10.jpg"]),
        ("\ufeff3\n\n# more\nb/1 7 label\n", ["b/3.jpg", "b/1.jpg"]),
        ("b\n2", ["b/1.jpg", "b/3.jpg", "a/2.png"]),
        ("e\u0301/4.jpg", ["é/4.jpg"]),
    ],
)
def test_a_list_chooses_and_orders_samples(images, text, expected):
    assert read(images, text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("2\n5\n6", r"list\.txt names 5, 6, which no sample of .* has \(6 samples, the first is .*a/1\.jpg\)"),
        ("1", r"list\.txt names 1, which may be .*a/1, .*b/1: name more of the path"),
        ("2\n2", r"list\.txt: name '2' is there more than once"),
        ("b\n3", r"list\.txt: number of a sample"),
        ("\n# nothing", r"list\.txt names nothing"),
    ],
)
def test_a_list_that_is_not_of_the_data_set_is_refused(images, text, message):
    with pytest.raises(ValueError, match=message):
        read(images, text)
    with pytest.raises(FileNotFoundError, match=r"no list of samples at .*other\.txt"):
        ImageFolderDataset(images, sample_list="other.txt")


def test_regular_parts_are_all_samples_and_share_no_image(images):
    part = {name: ImageFolderDataset(images, val_every=4, part=name) for name in ("train", "val")}
    paths = {name: [sample["img_path"][-8:] for sample in dataset] for name, dataset in part.items()}
    everything = [sample["img_path"][-8:] for sample in ImageFolderDataset(images)]
    assert paths["val"] == everything[::4] and sorted(paths["val"] + paths["train"]) == sorted(everything)
    assert part["train"].digest != part["val"].digest
    assert read(images, "a", val_every=2, part="val") == ["a/1.jpg", "a/2.png"]


def test_people_of_one_image_and_clips_of_one_video_stay_together(images, tmp_path_factory):
    coco = write_coco_pose(tmp_path_factory.mktemp("coco"), 6)
    parts = [
        {sample["img_id"] for sample in CocoPoseDataset(coco.parents[1], per_person=True, val_every=2, part=part)}
        for part in ("train", "val")
    ]
    assert parts[0] and parts[1] and not parts[0] & parts[1]
    videos = FrameFolderDataset(images, clip_length=1, val_every=2, part="val")
    assert {sample["img_path"].split("/")[-2] for sample in videos} == {"a", "é"}


@pytest.mark.parametrize("arguments", [{"part": "val"}, {"val_every": 5}, {"part": "test", "val_every": 5}])
def test_a_part_needs_a_number_and_a_number_a_part(images, arguments):
    with pytest.raises(ValueError, match="expected 'train' or 'val', and a number"):
        ImageFolderDataset(images, **arguments)
    with pytest.raises(ValueError, match="val_every is 1"):
        ImageFolderDataset(images, val_every=1, part="val")
