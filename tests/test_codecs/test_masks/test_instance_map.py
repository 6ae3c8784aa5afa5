"""instance_map: run-length encodings painted into one map; pycocotools is what it is compared with."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from delvm_mm.codecs.masks.instance_map import instance_map, rle_runs


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def painted_with_pycocotools(masks):
    """Every mask decoded to pixels and painted, the largest first."""
    decoded = [coco_mask.decode(mask) > 0 for mask in masks]
    expected = np.zeros(decoded[0].shape, np.int64)
    for number, mask in enumerate(sorted(decoded, key=lambda mask: -mask.sum()), 1):
        expected[mask] = number
    return expected


@pytest.mark.parametrize("shape", [(37, 53), (1, 40), (40, 1), (1, 1), (300, 200)])
@pytest.mark.parametrize("kind", ["noise", "blocks", "full"])
def test_maps_are_those_that_pycocotools_decodes(shape, kind):
    rng = np.random.default_rng(0)
    for _ in range(5):
        masks = []
        for _ in range(int(rng.integers(1, 9))):
            mask = rng.random(shape) < rng.random()
            if kind == "blocks":  # long runs, and large differences between them
                rows, columns = np.sort(rng.integers(0, shape[0] + 1, 2)), np.sort(rng.integers(0, shape[1] + 1, 2))
                mask = np.zeros(shape, bool)
                mask[slice(*rows), slice(*columns)] = True
            masks.append(rle(np.ones(shape) if kind == "full" else mask))
        # numbers of empty masks are not used
        kept = [mask for mask in masks if coco_mask.area(mask)] or masks
        np.testing.assert_array_equal(instance_map(masks), painted_with_pycocotools(kept))


def test_compressed_counts_are_the_runs_that_pycocotools_encoded():
    # By hand: 4 background, 1 foreground, 1 background, down the columns of 2x3.
    assert rle_runs(rle(np.array([[0, 0, 1], [0, 0, 0]]))["counts"]).tolist() == [4, 1, 1]
    rng = np.random.default_rng(1)
    runs = rng.integers(1, 3_000_000, 101).tolist()  # up to five characters a number, differences of both signs
    size = [sum(runs), 1]
    assert rle_runs(coco_mask.frPyObjects({"size": size, "counts": runs}, *size)["counts"]).tolist() == runs


def test_text_bytes_lists_and_annotations_give_the_same_map():
    mask = np.zeros((5, 4), bool)
    mask[1:4, 1:3] = True
    compressed = rle(mask)
    counts = [6, 3, 2, 3, 6]  # down the columns
    forms = [
        compressed,
        {"size": [5, 4], "counts": compressed["counts"].decode()},
        {"size": [5, 4], "counts": counts},
        {"segmentation": {"size": [5, 4], "counts": counts}, "area": 6},
    ]
    for form in forms:
        np.testing.assert_array_equal(instance_map([form]), mask)
    np.testing.assert_array_equal(instance_map(mask[None]), mask)


def test_the_larger_mask_lies_below_whatever_the_order():
    small = {"size": [2, 3], "counts": [4, 1, 1]}
    large = {"size": [2, 3], "counts": [0, 6]}
    expected = [[1, 1, 2], [1, 1, 1]]
    assert instance_map([small, large]).tolist() == expected
    assert instance_map([large, small]).tolist() == expected
    arrays = np.array([[[0, 0, 1], [0, 0, 0]], np.ones((2, 3))], bool)
    assert instance_map(arrays).tolist() == expected
    assert instance_map(arrays[::-1]).tolist() == expected


def test_small_masks_are_left_out_below_min_area():
    masks = [{"size": [1, 9], "counts": [n, n, 9 - 2 * n]} for n in (1, 2, 3)]
    assert instance_map(masks, min_area=2).tolist() == [[0, 0, 2, 2, 1, 1, 0, 0, 0]]
    assert not instance_map(masks, min_area=4).any()


def test_more_masks_than_sixteen_bits_hold_do_not_wrap_round():
    count = 2**16 + 5
    masks = [{"size": [1, count], "counts": [n, 1, count - n - 1]} for n in range(count)]
    painted = instance_map(masks)
    assert painted[0].tolist() == list(range(1, count + 1))  # equal areas: in the order given


def test_no_masks_make_an_empty_map_of_the_image():
    assert instance_map([], shape=(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="no shape"):
        instance_map([])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [2, 3], "counts": [4, 1]}, "5 pixels in all, its size 2x3 has 6"),
        ({"size": [2, 3], "counts": [4, 1, 1, 1]}, "7 pixels"),
        ({"size": [2, 3], "counts": [8, -3, 1]}, "negative length"),
        ({"size": [2, 3], "counts": [4, 1, 10**30]}, "expected a string"),
        ({"size": [2, 3], "counts": [4, 1, 2**40]}, "more than any image"),
        ({"size": [2, 3], "counts": [4.0, 1.0, 1.0]}, "expected a string"),
        ({"size": [2, 3], "counts": [True, False]}, "expected a string"),
        ({"size": [2, 3], "counts": [[4], [1, 1]]}, "expected a string"),
        ({"size": [2, 3], "counts": []}, "0 pixels"),
        ({"size": [2, 3], "counts": None}, "expected a string"),
        ({"size": [2, 3], "counts": ""}, "0 pixels"),
        ({"size": [2, 3], "counts": "4é1"}, "other characters"),
        ({"size": [2, 3], "counts": "4\ud8001"}, "other characters"),
        ({"size": [2, 3], "counts": "41 1"}, "other characters"),
        ({"size": [2, 3], "counts": "41Q"}, "end within a number"),
        ({"size": [2, 3], "counts": "4" + "o" * 20 + "1"}, "21 characters"),
        # The sign bit of the first number is set: 'O' is 31, which is -1.
        ({"size": [2, 3], "counts": "O61"}, "negative length"),
        ({"size": [3, 2], "counts": [4, 1, 1]}, "its size is 3x2 .*, the image's is 2x3"),
        ({"size": [2], "counts": [4, 1, 1]}, "expected .height, width"),
        ({"size": "23", "counts": [4, 1, 1]}, "expected .height, width"),
        ({"size": [2, 3]}, "no 'counts'"),
        ({"segmentation": [[0, 0, 1, 0, 1, 1]]}, "expected COCO RLE"),
        ("mask", "expected COCO RLE"),
    ],
)
def test_a_damaged_mask_is_named(mask, message):
    whole = {"size": [2, 3], "counts": [4, 1, 1]}
    with pytest.raises(ValueError, match=f"mask 1: .*{message}"):
        instance_map([whole, mask], shape=(2, 3))


def test_a_size_that_no_memory_holds_is_refused_before_it_is_allocated():
    side = 10**6
    with pytest.raises(ValueError, match="1000000x1000000"):
        instance_map([{"size": [side, side], "counts": [side * side]}])
    with pytest.raises(ValueError, match=r"a map of 0x5 \(height x width\) is outside"):
        instance_map([{"size": [0, 5], "counts": []}])


@pytest.mark.parametrize("change", ["cut", "character", "twice"])
def test_damaged_strings_never_make_another_error(change):
    rng = np.random.default_rng(2)
    mask = rle(rng.random((20, 30)) < 0.3)
    for _ in range(300):
        counts = bytearray(mask["counts"])
        place = int(rng.integers(len(counts)))
        if change == "cut":
            del counts[place:]
        elif change == "character":
            counts[place] = int(rng.integers(256))
        else:
            counts[place:place] = counts[place:]
        damaged = {"size": [20, 30], "counts": bytes(counts)}
        try:
            painted = instance_map([damaged])
        except ValueError:
            continue
        np.testing.assert_array_equal(painted, coco_mask.decode(damaged))
