"""The four folds of Pascal-5i: which images and classes are samples, and what becomes of damaged label maps."""

import numpy as np
import pytest
from PIL import Image

from delvm_mm.datasets import CenterCrop, DrawLabel, LoadImage, ResizeShortSide
from delvm_mm.datasets.readers.pascal5i import PASCAL_CLASSES, Pascal5iDataset, read_label_map
from helpers.layouts_names import COMPOSED, DECOMPOSED, turn_by_exif
from helpers.layouts_people import save_label_map, save_sbd, voc_palette, write_voc


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """Image i of train and val shows class i + 1; every third shows the class after it too."""
    return write_voc(tmp_path_factory.mktemp("voc"))


@pytest.fixture
def small_voc(tmp_path):
    """Six images of classes 1 to 6 in val, and six in train."""
    return write_voc(tmp_path, 6, 6)


def shown(dataset):
    return [(dataset.img_paths[number][-10:-4], int(label)) for number, label in enumerate(dataset.class_ids)]


def test_classes_are_vocs_and_the_palette_is_too():
    assert len(PASCAL_CLASSES) == 20 and PASCAL_CLASSES[0] == "aeroplane" and PASCAL_CLASSES[14] == "person"
    # Of the development kit's documentation: aeroplane, bicycle, void.
    colors = np.reshape(voc_palette(), (256, 3)).tolist()
    assert colors[1] == [128, 0, 0] and colors[2] == [0, 128, 0] and colors[255] == [224, 224, 192]


@pytest.mark.parametrize("fold", range(4))
def test_a_fold_holds_out_five_classes(voc, fold):
    held_out = [*range(5 * fold + 1, 5 * fold + 6)]
    # By hand: image i shows class i + 1, and if i divides by 3 also class i + 2 (21 is 1).
    pairs = [(i, c) for i in range(20) for c in {i + 1, (i + 1) % 20 + 1 if i % 3 == 0 else i + 1}]
    wanted = {kind: sorted((f"{i:06d}", c) for i, c in pairs if (c in held_out) == kind) for kind in (True, False)}
    assert shown(Pascal5iDataset(voc, fold)) == wanted[True]
    assert shown(Pascal5iDataset(voc, fold, "train")) == wanted[False]
    support = Pascal5iDataset(voc, fold, "train", classes="held_out")
    assert shown(support) == wanted[True] and all("2007_" in path for path in support.img_paths)


def test_a_sample_is_the_mask_of_one_class_of_one_image(voc):
    dataset = Pascal5iDataset(voc, 0)
    for number, sample in enumerate(dataset):
        labels = np.array(Image.open(sample["seg_map_path"]))
        truth = np.where(labels == 255, 255, labels == sample["class_id"])
        assert np.array_equal(sample["gt_seg_map"], truth) and sample["gt_seg_map"].dtype == np.uint8
        assert {0, 1, 255} == {*np.unique(truth)}
        assert sample["class_id"] == dataset.class_ids[number] and sample["img_path"] == dataset.img_paths[number]
        assert sample["class_name"] == PASCAL_CLASSES[sample["class_id"] - 1] and sample["task"] == "seg"
        assert sample["img_path"] == str(voc / "JPEGImages" / f"{sample['img_id']}.jpg")
    two = [sample["class_name"] for sample in dataset if sample["img_id"] == "2008_000003"]
    assert two == ["boat", "bottle"], "an image of two classes is two samples"
    assert dataset.metainfo["classes"] == PASCAL_CLASSES


@pytest.mark.parametrize("form", ["png", "mat"])
def test_sbd_adds_images_to_train_but_none_of_vocs_val(tmp_path, form):
    root = write_voc(tmp_path, 4, 3, num_sbd=5, sbd_form=form)
    sbd = "SegmentationClassAug" if form == "png" else tmp_path / "benchmark_RELEASE"
    if form == "mat":  # the original SBD has images of VOC's val too
        save_sbd(sbd / "dataset/cls/2008_000001.mat", np.full((72, 96), 7, np.uint8))
    dataset = Pascal5iDataset(root, 3, "train", sbd=sbd)
    assert sorted({sample["img_id"] for sample in dataset}) == [f"2007_{i:06d}" for i in range(4)] + [
        f"2010_{i:06d}" for i in range(5)
    ]
    added = next(sample for sample in dataset if sample["img_id"] == "2010_000001")
    assert added["seg_map_path"].endswith(f"2010_000001.{form}")
    assert {*np.unique(added["gt_seg_map"])} == {0, 1} and added["class_name"] == "bicycle"
    assert LoadImage()(added)["img"].shape[:2] == added["gt_seg_map"].shape
    of_voc = next(sample for sample in dataset if sample["img_id"] == "2007_000001")
    assert of_voc["seg_map_path"].endswith("SegmentationClass/2007_000001.png"), "VOC's own map, with its borders"


def test_lists_of_classes_save_reading_the_label_maps(small_voc, monkeypatch):
    scanned = Pascal5iDataset(small_voc, 0)
    (small_voc / "lists").mkdir()
    for number, name in enumerate(PASCAL_CLASSES, 1):
        names = [path[-15:-4] for path, c in zip(scanned.img_paths, scanned.class_ids, strict=True) if c == number]
        (small_voc / "lists" / f"{name}.txt").write_text("\n".join([*names, "2007_000000"]))
    monkeypatch.setattr("delvm_mm.datasets.readers.pascal5i._scan", None)
    listed = Pascal5iDataset(small_voc, 0, class_lists="lists")
    assert shown(listed) == shown(scanned)
    (small_voc / "lists/cat.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"cat\.txt"):
        Pascal5iDataset(small_voc, 1, class_lists="lists")


def test_lists_may_begin_with_a_mark_and_accents_have_two_forms(small_voc):
    path = small_voc / "ImageSets" / "Segmentation" / "val.txt"
    first, *others = path.read_text().split()
    (small_voc / "JPEGImages" / f"{first}.jpg").rename(small_voc / "JPEGImages" / f"{DECOMPOSED}.jpg")
    (small_voc / "SegmentationClass" / f"{first}.png").rename(small_voc / "SegmentationClass" / f"{DECOMPOSED}.png")
    path.write_text("\n".join([COMPOSED, *others]), encoding="utf-8-sig")
    samples = list(Pascal5iDataset(small_voc, split="val", fold=0, pipeline=[dict(type="LoadImage")]))
    assert COMPOSED in {sample["img_id"] for sample in samples}


def test_a_mask_of_before_an_exif_orientation_is_named_as_such(small_voc):
    dataset = Pascal5iDataset(small_voc, split="val", fold=0)
    turn_by_exif(dataset.get_data_info(0)["img_path"])
    with pytest.raises(ValueError, match="Its EXIF orientation, which is applied here, turns it by a quarter"):
        dataset[0]


def test_a_wrong_list_is_an_error_of_the_sample(small_voc):
    (small_voc / "lists").mkdir()
    for name in PASCAL_CLASSES:
        (small_voc / "lists" / f"{name}.txt").write_text("2008_000001\n")
    dataset = Pascal5iDataset(small_voc, 0, class_lists="lists")
    with pytest.raises(ValueError, match=r"2008_000001\.png shows no aeroplane"):
        dataset[0]
    assert dataset[1]["class_name"] == "bicycle"


def test_tiny_objects_can_be_left_out(small_voc):
    """The second class's box has 20 x 24 of 72 x 96 pixels less its border: below 0.07; the first class has more."""
    everything, large = Pascal5iDataset(small_voc, 0), Pascal5iDataset(small_voc, 0, min_area=0.07)
    areas = [(sample["gt_seg_map"] == 1).mean() for sample in everything]
    assert shown(large) == [each for each, area in zip(shown(everything), areas, strict=True) if area >= 0.07]
    assert 0 < len(large) < len(everything)


def _save(path, labels, palette=True):
    save_label_map(path, np.asarray(labels, np.uint8), palette)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda path: path.unlink(), "no label map at"),
        (lambda path: path.write_bytes(b""), "is not an image"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot be read as a label map"),
        (lambda path: path.write_bytes(b"no image"), "is not an image"),
        (lambda path: Image.open(path).convert("RGB").save(path), "has mode RGB, expected a palette or gray PNG"),
        (lambda path: Image.open(path).convert("1").save(path), "has mode 1"),
        (lambda path: _save(path, np.full((72, 96), 21)), r"holds the values \[21\]"),
        (lambda path: _save(path, np.full((72, 96), 254)), r"holds the values \[254\]"),
        (lambda path: _save(path, np.full((10, 12), 2)), "12x10 pixels, its image .* has 96x72"),
        (lambda path: _save(path, np.full((1, 1), 2)), "1x1 pixels"),
    ],
)
def test_a_damaged_label_map_is_named_when_its_sample_is_read_and_only_then(small_voc, spoil, message):
    before = Pascal5iDataset(small_voc, 0)
    spoil(small_voc / "SegmentationClass/2008_000001.png")
    dataset = Pascal5iDataset(small_voc, 0)
    assert len(dataset) == len(before), "image 1 shows one class, and is one sample still"
    broken = next(number for number, path in enumerate(dataset.img_paths) if "2008_000001" in path)
    for number in range(len(dataset)):
        if number == broken:
            with pytest.raises((ValueError, OSError), match=message) as caught:
                dataset[number]
            assert "2008_000001.png" in str(caught.value)
        else:
            assert dataset[number]["gt_seg_map"].any()


def test_a_damaged_file_of_sbd_is_named(tmp_path):
    root = write_voc(tmp_path, 2, 2, num_sbd=3, sbd_form="mat")
    folder = tmp_path / "benchmark_RELEASE/dataset/cls"
    cut = (folder / "2010_000000.mat").read_bytes()
    (folder / "2010_000000.mat").write_bytes(cut[: len(cut) // 2])
    save_sbd(folder / "2010_000001.mat", np.zeros((72, 96)))
    dataset = Pascal5iDataset(root, 3, "train", sbd=tmp_path / "benchmark_RELEASE")
    broken = {dataset.img_paths[number][-10:-4]: number for number in np.flatnonzero(dataset.class_ids < 0)}
    with pytest.raises(ValueError, match=r"2010_000000\.mat cannot be read"):
        dataset[broken["000000"]]
    with pytest.raises(ValueError, match=r"2010_000001\.mat: GTcls.Segmentation is float64"):
        dataset[broken["000001"]]
    assert len(broken) == 2


def test_a_label_map_that_was_repaired_is_read_anew(small_voc):
    path = small_voc / "SegmentationClass/2008_000001.png"
    whole = path.read_bytes()
    path.write_bytes(b"")
    dataset = Pascal5iDataset(small_voc, 0)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="build it again"):
        dataset[int(np.flatnonzero(dataset.class_ids < 0)[0])]
    assert (Pascal5iDataset(small_voc, 0).class_ids > 0).all()


def test_label_maps_are_scanned_once_for_all_folds(small_voc, monkeypatch):
    read = []

    def counted(path):
        read.append(path)
        return read_label_map(path)

    monkeypatch.setattr("delvm_mm.datasets.readers.pascal5i.read_label_map", counted)
    for fold in (0, 1):
        Pascal5iDataset(small_voc, fold)
    assert len(read) == 6


def test_indices_and_views_apply_to_class_ids_too(voc):
    whole, part = Pascal5iDataset(voc, 0), Pascal5iDataset(voc, 0, indices=[5, 2], num_views=2)
    assert part.class_ids.tolist() == whole.class_ids[[5, 5, 2, 2]].tolist()
    assert part.img_paths == [whole.img_paths[number] for number in (5, 5, 2, 2)]
    assert [sample["class_id"] for sample in part] == part.class_ids.tolist()


def test_what_concerns_all_images_stops_the_constructor(small_voc):
    for arguments, message in (
        ({"fold": 4}, "fold must be"),
        ({"fold": 0, "split": "test"}, "split must be"),
        ({"fold": 0, "classes": "all"}, "classes must be"),
        ({"fold": 0, "sbd": "SegmentationClassAug"}, "sbd has no 'val'"),
        ({"fold": 0, "min_area": 2}, "min_area must be"),
        ({"fold": 0, "min_area": 0.1, "class_lists": "lists"}, "do not give class_lists"),
        ({"fold": 3}, "none of the 6 images .* shows one of pottedplant"),
        ({"fold": 0, "split": "train", "sbd": "JPEGImages"}, r"JPEGImages holds no \*\.png"),
    ):
        with pytest.raises(ValueError, match=message):
            Pascal5iDataset(small_voc, **arguments)
    with pytest.raises(FileNotFoundError, match="SegmentationClassAug"):
        Pascal5iDataset(small_voc, 0, "train", sbd="SegmentationClassAug")
    (small_voc / "ImageSets/Segmentation/val.txt").write_text("2008_000000\n2008_000001\n2008_000000\n")
    with pytest.raises(ValueError, match=r"val\.txt: image '2008_000000' is there more than once"):
        Pascal5iDataset(small_voc, 0)
    (small_voc / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt is empty"):
        Pascal5iDataset(small_voc, 0)
    (small_voc / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.txt"):
        Pascal5iDataset(small_voc, 0)
    (small_voc / "SegmentationClass").rename(small_voc / "labels")
    with pytest.raises(FileNotFoundError, match="SegmentationClass"):
        Pascal5iDataset(small_voc, 0, "train")


def test_the_samples_go_through_a_pipeline_to_white_masks(voc):
    pipeline = [LoadImage(), ResizeShortSide(32), CenterCrop(32), DrawLabel({"type": "ForegroundMaskCodec"})]
    for sample in Pascal5iDataset(voc, 1, pipeline=pipeline):
        assert sample["label"].shape == (32, 32, 3)
        assert np.array_equal(sample["label"][..., 0] == 255, sample["annotation"] == 1)
