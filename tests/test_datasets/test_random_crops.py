import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from delvm_mm.datasets import RandomCrops
from delvm_mm.registry import TRANSFORMS


class Clips(Dataset):
    """Clips of two images of side 20: one with a small white square on black, and one of noise."""

    def __init__(self, task="any"):
        self.task, self.asked = task, []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.asked.append(index)
        label = np.zeros((20, 20, 3), np.uint8)
        label[12:16, 3:7] = 255
        image = np.random.randint(1, 255, (20, 20, 3), dtype=np.uint8)
        return TRANSFORMS.build(dict(type="PackClip"))(dict(img=image, label=label, task=self.task))


def _crops(**arguments):
    return RandomCrops([dict(dataset=Clips())], **{"size": 8, "flat": 0.0, **arguments})


def test_a_sample_depends_on_its_number_and_the_seed_alone():
    first, second = _crops(), _crops()
    forward = [first[i]["inputs"] for i in range(12)]
    backward = [second[i]["inputs"] for i in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not torch.equal(forward[0], _crops(seed=1)[0]["inputs"])
    assert forward[0].shape == (4, 3, 8, 8) and forward[0].dtype == torch.uint8


def test_clips_are_made_once_and_copies_differ():
    crops = RandomCrops([dict(dataset=Clips(), copies=2)], size=20, flat=0.0)
    images = {crops[i]["inputs"][0].numpy().tobytes() for i in range(200)}
    assert len(images) == 10
    assert sorted(crops.clips[0].dataset.asked) == sorted([*range(5)] * 2)


def test_images_of_a_clip_take_turns_and_the_drawn_part_is_seen():
    found = torch.stack([_crops(candidates=30)[i]["inputs"][1::2] for i in range(20)])
    assert (found.flatten(2).amax(2) == 255).float().mean() > 0.8
    assert (_crops(candidates=1)[0]["inputs"][0] > 0).all()


def test_flat_crops_are_black_white_and_of_any_color():
    samples = [_crops(flat=1.0)[i]["inputs"] for i in range(60)]
    crops = torch.cat(samples).flatten(2)
    assert (crops == crops[..., :1]).all()
    black, white = (crops == 0).all(2).all(1).float().mean(), (crops == 255).all(2).all(1).float().mean()
    # A third each of 240: five standard errors are 0.15.
    assert abs(black - 1 / 3) < 0.15 and abs(white - 1 / 3) < 0.15
    assert len({tuple(color) for color in crops[:, :, 0].tolist()}) > 40


def test_sources_are_drawn_by_their_shares():
    bright, dark = Clips(), Clips()
    crops = RandomCrops([dict(dataset=bright, share=1), dict(dataset=dark, share=3)], size=20, flat=0.0)
    drawn = []
    crops._clip = lambda number, clip: drawn.append(number) or np.zeros((1, 3, 20, 20), np.uint8)
    for index in range(400):
        crops[index]
    # Five standard errors of a quarter of 400 are 0.11.
    assert abs(np.mean(drawn) - 0.75) < 0.11


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sources": []}, "sources is empty"),
        ({"size": 0}, "size is 0"),
        ({"crops": 1.5}, "crops is 1.5"),
        ({"candidates": 0}, "candidates is 0"),
        ({"flat": 2}, "flat is 2"),
        ({"sources": [dict(dataset=Clips(), share=0)]}, "shares are"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        RandomCrops(**{"sources": [dict(dataset=Clips())], **arguments})


def test_images_smaller_than_the_crops_are_refused():
    with pytest.raises(ValueError, match=r"source 0 .* has images of 20x20 .* smaller than size=21"):
        _crops(size=21)[0]
