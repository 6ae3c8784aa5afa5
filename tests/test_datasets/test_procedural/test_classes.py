"""``ProceduralClasses``: labeled images that depend on seed and index alone."""

from collections import Counter

import cv2
import numpy as np
import pytest

from delvm_mm.datasets import ProceduralClasses
from delvm_mm.registry import DATASETS
from helpers import ROOT


def test_a_sample_depends_on_seed_and_index_alone():
    whole = ProceduralClasses(size=32, length=30)
    window = ProceduralClasses(size=32, start=20, length=10)
    backwards = [window[index]["img"] for index in reversed(range(10))][::-1]
    for index, image in enumerate(backwards):
        np.testing.assert_array_equal(image, whole[20 + index]["img"])
    other = ProceduralClasses(size=32, seed=1, length=30)
    assert all((other[index]["img"] != whole[index]["img"]).any() for index in range(5))


def test_a_cached_image_is_not_what_a_pipeline_made_of_it():
    def spoil(results):
        results["img"][:] = 0
        return results

    cached = ProceduralClasses(size=16, length=2, cache=True, pipeline=[spoil])
    assert cached[1]["img"].max() == 0
    cached.pipeline = lambda results: results
    np.testing.assert_array_equal(cached[1]["img"], ProceduralClasses(size=16, length=2)[1]["img"])


def test_classes_are_balanced_and_named():
    dataset = ProceduralClasses(size=16, start=5, length=40)
    assert Counter(dataset[index]["gt_label"] for index in range(40)) == dict.fromkeys(range(10), 4)
    assert len(dataset.metainfo["classes"]) == 10 and dataset.metainfo["classes"] == dataset.METAINFO["classes"]


def test_training_and_held_out_images_of_the_mini_config_are_disjoint(root_config):
    windows = [root_config[f"{split}_dataloader"]["dataset"] for split in ("train", "test")]
    (start, end), (other_start, other_end) = sorted((each["start"], each["start"] + each["length"]) for each in windows)
    assert windows[0]["seed"] == windows[1]["seed"] and start < end <= other_start < other_end
    few = [
        {
            ProceduralClasses(size=16, seed=each["seed"], start=each["start"], length=10)[index]["img"].tobytes()
            for index in range(10)
        }
        for each in windows
    ]
    assert not few[0] & few[1] and len(few[0] | few[1]) == 20


@pytest.fixture(scope="module")
def root_config():

    from mmengine.config import Config

    return Config.fromfile(str(ROOT / "configs" / "mini" / "visionllama_scenes.py"))


def test_color_alone_does_not_tell_the_classes_apart():
    """A nearest-centroid rule on histograms of hue and brightness stays near chance, one in ten."""
    dataset = ProceduralClasses(size=24, length=400)

    def histogram(image):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        return np.concatenate([np.histogram(hsv[..., channel], 12, (0, 256))[0] for channel in range(3)]) / 576

    features = np.stack([histogram(dataset[index]["img"]) for index in range(400)])
    labels = np.arange(400) % 10
    centroids = np.stack([features[:300][labels[:300] == label].mean(0) for label in range(10)])
    guesses = np.abs(features[300:, None] - centroids).sum(-1).argmin(1)
    assert (guesses == labels[300:]).mean() < 0.3


def test_the_same_image_is_drawn_at_every_size():
    small, large = (ProceduralClasses(size=size, length=12)[11]["img"] for size in (32, 96))
    reduced = cv2.resize(large, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - small).mean() < 4


def test_channels_can_be_in_mmpretrains_order():
    rgb, bgr = (ProceduralClasses(size=16, length=1, channel_order=order)[0]["img"] for order in ("rgb", "bgr"))
    np.testing.assert_array_equal(rgb, bgr[..., ::-1])


def test_it_is_built_from_a_config_and_runs_a_pipeline():
    pytest.importorskip("mmpretrain")
    config = dict(type="ProceduralClasses", size=16, length=4, pipeline=[dict(type="mmpretrain.PackInputs")])
    sample = DATASETS.build(config)[3]
    assert sample["inputs"].shape == (3, 16, 16) and sample["data_samples"].gt_label.tolist() == [3]
    assert sample["data_samples"].img_path == "procedural/classes/seed0/3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(dict(size=0), "size is 0"), (dict(length=True), "length is True"), (dict(channel_order="hsv"), "'hsv'")],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProceduralClasses(**arguments)


def test_an_index_beyond_the_window_is_refused():
    dataset = ProceduralClasses(size=16, length=3)
    np.testing.assert_array_equal(dataset[-1]["img"], dataset[2]["img"])
    with pytest.raises(IndexError, match="3 is out of range"):
        dataset[3]
