"""Colorization on ImageNet: draws, crops and score again by hand."""

import numpy as np
import pytest
import torchvision
from PIL import Image

from delvm_mm.codecs import SquashedCodec
from delvm_mm.datasets import ColorizationEpisodes
from delvm_mm.evaluation import VisionPromptEvaluator
from helpers.layouts_protocols import write_imagenet_val

COLOR = dict(type="RestorationCodec")


@pytest.fixture(scope="module")
def val(tmp_path_factory):
    return write_imagenet_val(tmp_path_factory.mktemp("imagenet"))


def test_draws_are_those_of_the_public_code(val):
    images = [path for path, _ in torchvision.datasets.ImageFolder(val).samples]
    dataset = ColorizationEpisodes(val, num_drawn=12, codec=COLOR, size=16)
    state = np.random.get_state()
    np.random.seed(5)
    indices = np.random.choice(np.arange(0, len(images) - 1), size=12, replace=False)
    wanted = [(images[index], images[np.random.choice(np.arange(0, 12 - 1))]) for index in indices]
    np.random.set_state(state)
    assert [(each.query["img_path"], each.supports[0]["img_path"]) for each in dataset.episodes] == wanted
    short = ColorizationEpisodes(val, num_drawn=12, codec=COLOR, num_queries=5)
    assert short.episodes == dataset.episodes[:5]


def test_what_is_cut_out_is_the_middle_and_small_images_have_black_around_them(val):
    dataset = ColorizationEpisodes(val, num_drawn=13, codec=COLOR, size=111)
    crop = torchvision.transforms.CenterCrop(111)
    small = 0
    for index, episode in enumerate(dataset.episodes):
        image = Image.open(episode.query["img_path"])
        small += min(image.size) < 111
        sample = dataset[index]
        assert np.array_equal(sample["data_samples"].annotation, np.array(crop(image)))
        gray = np.array(torchvision.transforms.Grayscale(3)(crop(image))).astype(int)
        assert np.abs(sample["inputs"][-1].permute(1, 2, 0).numpy() - gray).max() <= 1
        assert np.array_equal(sample["data_samples"].label_image, np.array(crop(image)))
    assert small


def test_scores_are_those_by_hand(val):
    codec = SquashedCodec(COLOR, 111)
    dataset = ColorizationEpisodes(val, num_drawn=8, codec=codec, size=32)
    evaluator = VisionPromptEvaluator(codec, dict(type="NormalizedMSEMetric"), ceiling=False, trivial=False)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    random, wanted = np.random.default_rng(0), []
    for index, episode in enumerate(dataset.episodes):
        answer = random.integers(0, 256, (32, 32, 3), np.uint8)
        sample = dataset[index]["data_samples"]
        sample.pred_image = answer
        evaluator.process([sample])
        truth = torchvision.transforms.CenterCrop(111)(Image.open(episode.query["img_path"]))
        ours = Image.fromarray(answer).resize((111, 111), Image.Resampling.BICUBIC)
        normalized = [(np.array(image) / 255 - mean) / std for image in (truth, ours)]
        wanted.append(np.mean((normalized[0] - normalized[1]) ** 2))
    assert evaluator.evaluate(8) == {"MSE": pytest.approx(np.mean(wanted))}


def test_bad_input_is_refused(val, tmp_path):
    with pytest.raises(ValueError, match=r"holds 14 images, of which 1000 queries \(num_drawn\) are drawn"):
        ColorizationEpisodes(val, codec=COLOR)
    with pytest.raises(ValueError, match=r"holds 14 images, .*: expected 15 or more"):
        ColorizationEpisodes(val, codec=COLOR, num_drawn=14)
    with pytest.raises(ValueError, match="num_drawn is 1"):
        ColorizationEpisodes(val, codec=COLOR, num_drawn=1)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        ColorizationEpisodes(tmp_path / "gone", codec=COLOR)
    Image.new("RGB", (120, 120)).save(tmp_path / "flat.png")
    with pytest.raises(ValueError, match=r"flat.png lies in no folder of its class"):
        ColorizationEpisodes(tmp_path, codec=COLOR, num_drawn=2)
