import numpy as np
import pytest
from PIL import Image

from delvm_mm.datasets import MaskFolderDataset
from delvm_mm.registry import DATASETS
from helpers.layouts_names import COMPOSED, DECOMPOSED, turn_by_exif

TRIMAP = {1: 1, 2: 0, 3: 255}


@pytest.fixture
def folder(tmp_path):
    """Three images of other formats and sizes with trimaps of 1, 2 and 3."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    random = np.random.default_rng(0)
    for name, suffix, shape in (("b", ".jpg", (20, 31)), ("a", ".png", (16, 16)), ("c", ".webp", (9, 40))):
        Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)).save(tmp_path / "images" / (name + suffix))
        Image.fromarray(random.integers(1, 4, shape, np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def _mask(folder, name="a"):
    return np.array(Image.open(folder / "masks" / f"{name}.png"))


def test_pairs_are_sorted_and_labels_mapped(folder):
    dataset = MaskFolderDataset(folder, label_map=TRIMAP)
    assert [sample["img_path"].rsplit("/", 1)[1] for sample in dataset] == ["a.png", "b.jpg", "c.webp"]
    sample = dataset[0]
    mask = _mask(folder)
    np.testing.assert_array_equal(sample["gt_seg_map"], np.select([mask == 1, mask == 2], [1, 0], 255))
    assert sample["img"].shape == (16, 16, 3) and sample["img_shape"] == sample["ori_shape"] == (16, 16)
    assert sample["task"] == "seg" and sample["gt_seg_map"].dtype == np.uint8


def test_the_list_decides_which_and_in_what_order(folder):
    (folder / "train.txt").write_text("# a comment\nc 1 2\n\nb.jpg\n")
    dataset = MaskFolderDataset(folder, ann_file="train.txt", label_map=TRIMAP, task="pets")
    assert [sample["img_path"].rsplit("/", 1)[1] for sample in dataset] == ["c.webp", "b.jpg"]
    assert dataset[0]["task"] == dataset.task == "pets"


def test_built_from_a_config_whose_keys_are_strings(folder):
    dataset = DATASETS.build(
        dict(
            type="MaskFolderDataset",
            data_root=folder,
            label_map={"1": 1, "2": 0, "3": 0},
            pipeline=[dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec"))],
        )
    )
    np.testing.assert_array_equal(dataset[0]["label"][..., 0] == 255, _mask(folder) == 1)


def test_what_is_ignored_is_drawn_as_background_and_not_scored(folder):
    pipeline = [dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec"))]
    sample = MaskFolderDataset(folder, label_map=TRIMAP, pipeline=pipeline)[0]
    assert not sample["label"][_mask(folder) == 3].any()
    assert (sample["annotation"][_mask(folder) == 3] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB", "RGBA", "LA"])
def test_masks_of_any_depth(folder, mode):
    truth = np.arange(256).reshape(16, 16) % 5 == 0
    if mode == "1":
        image = Image.fromarray(truth)
    elif mode == "I;16":
        image = Image.fromarray(truth.astype(np.uint16) * 65535)
    elif mode == "P":
        image = Image.fromarray(truth.astype(np.uint8))
        image = image.convert("P") if image.mode != "P" else image
        image.putpalette([0, 0, 0, 200, 10, 10] + [0] * 750)
    else:
        image = Image.fromarray(truth.astype(np.uint8) * 255).convert(mode)
    image.save(folder / "masks" / "a.png")
    np.testing.assert_array_equal(MaskFolderDataset(folder)[0]["gt_seg_map"], truth)


def test_palette_masks_give_their_indices(folder):
    image = Image.fromarray(np.full((16, 16), 7, np.uint8)).convert("P")
    image = Image.frombytes("P", (16, 16), bytes([7] * 256))
    image.putpalette([50] * 768)
    image.save(folder / "masks" / "a.png")
    assert (MaskFolderDataset(folder)[0]["gt_seg_map"] == 7).all()


def test_sixteen_bits_keep_large_labels(folder):
    Image.fromarray(np.full((16, 16), 1000, np.uint16)).save(folder / "masks" / "a.png")
    assert (MaskFolderDataset(folder)[0]["gt_seg_map"] == 1000).all()
    assert (MaskFolderDataset(folder, label_map={1000: 1})[0]["gt_seg_map"] == 1).all()


def test_one_bit_is_0_and_255_for_a_label_map(folder):
    truth = np.arange(256).reshape(16, 16) % 3 == 0
    Image.fromarray(truth).save(folder / "masks" / "a.png")
    labels = MaskFolderDataset(folder, label_map={0: 4, 255: 9})[0]["gt_seg_map"]
    np.testing.assert_array_equal(labels, np.where(truth, 9, 4))


def test_a_mask_of_too_many_pixels_is_refused_before_it_is_decoded(folder, monkeypatch):
    monkeypatch.setattr("delvm_mm.datasets.readers.io.label_map.MAX_PIXELS", 200)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a mask \(16x16 pixels, more than 200"):
        MaskFolderDataset(folder)[0]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_images_of_any_mode_are_rgb(folder, mode):
    pixels = Image.fromarray(np.full((16, 16), 60000, np.uint16)) if mode == "I;16" else Image.new(mode, (16, 16))
    suffix = ".tiff" if mode == "CMYK" else ".png"
    (folder / "images" / "a.png").unlink()
    pixels.save(folder / "images" / f"a{suffix}")
    image = MaskFolderDataset(folder)[0]["img"]
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8


def test_suffixes(folder):
    (folder / "masks" / "a.png").rename(folder / "masks" / "a_mask.png")
    (folder / "images" / "a.png").rename(folder / "images" / "a_image.png")
    dataset = MaskFolderDataset(folder, img_suffix="_image.png", mask_suffix="_mask.png")
    assert len(dataset) == 1 and dataset[0]["img_path"].endswith("a_image.png")


def test_sizes_that_differ_are_refused_with_both_files(folder):
    Image.fromarray(np.zeros((16, 17), np.uint8)).save(folder / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has 17x16 pixels, its image .*images/a\.png 16x16"):
        MaskFolderDataset(folder)[0]


def test_a_value_without_a_label_is_named(folder):
    with pytest.raises(ValueError, match=r"a\.png holds the values \[3\], label_map names \[1, 2\]"):
        MaskFolderDataset(folder, label_map={1: 1, 2: 0})[0]


def test_a_colored_mask_is_refused(folder):
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(folder / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is a color image \(RGB\)"):
        MaskFolderDataset(folder)[0]


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_damaged_mask_is_named(folder, content):
    path = folder / "masks" / "a.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(ValueError, match=r"masks/a\.png cannot be read as a mask"):
        MaskFolderDataset(folder)[0]


def test_names_without_a_file_are_counted_and_named(folder):
    (folder / "train.txt").write_text("a\nx\ny\n")
    with pytest.raises(FileNotFoundError, match=r"2 of 3 names of .*train\.txt have no image in .*images: x, y"):
        MaskFolderDataset(folder, ann_file="train.txt")
    (folder / "masks" / "b.png").unlink()
    (folder / "train.txt").write_text("a\nb\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 names .* have no mask in .*masks: b.*mask_suffix"):
        MaskFolderDataset(folder, ann_file="train.txt")


@pytest.mark.parametrize(
    ("text", "words"), [("", "names no image"), ("a\na\n", "names a twice"), (None, "no list at .*train.txt")]
)
def test_lists_that_say_nothing_are_refused(folder, text, words):
    if text is not None:
        (folder / "train.txt").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        MaskFolderDataset(folder, ann_file="train.txt")


def test_two_images_of_one_name_are_refused(folder):
    Image.new("RGB", (16, 16)).save(folder / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"two images of one name, a\.jpg and a\.png"):
        MaskFolderDataset(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"label_map": {}}, "label_map is {}"),
        ({"label_map": {1: -1}}, "label_map is"),
        ({"label_map": {"one": 1}}, "label_map is"),
        ({"ignore_index": 0}, "ignore_index is 0"),
        ({"img_dir": "nowhere"}, "no folder at .*nowhere"),
        ({"mask_dir": "images", "mask_suffix": ".tif"}, r"holds no mask \*\.tif"),
        ({"img_suffix": ".gif"}, r"holds no image \(\.gif\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(folder, arguments, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        MaskFolderDataset(folder, **arguments)


def test_a_mask_of_an_image_before_its_exif_orientation_is_named_as_such(folder):
    turn_by_exif(folder / "images" / "b.jpg")
    with pytest.raises(ValueError, match=r"20x31 \(EXIF orientation applied\)\. Its EXIF orientation.*by a quarter"):
        MaskFolderDataset(folder, label_map=TRIMAP)[1]


def test_accents_are_of_one_form_and_a_list_may_begin_with_a_mark(folder):
    (folder / "images" / "a.png").rename(folder / "images" / f"{COMPOSED}.png")
    (folder / "masks" / "a.png").rename(folder / "masks" / f"{DECOMPOSED}.png")
    (folder / "train.txt").write_text(f"{DECOMPOSED}.png\nb\n", encoding="utf-8-sig")
    for dataset in (MaskFolderDataset(folder), MaskFolderDataset(folder, ann_file="train.txt")):
        assert any(sample["img"].shape == (16, 16, 3) for sample in dataset)
    (folder / "train.txt").write_text(f"b\n{COMPOSED}\n", encoding="utf-8-sig")
    assert len(MaskFolderDataset(folder, ann_file="train.txt")) == 2
