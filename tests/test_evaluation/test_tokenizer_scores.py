import numpy as np
import pytest
import torch
from torch import nn

from delvm_mm.datasets import ProceduralScenes
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.evaluation.tokenizer_scores import codebook_scores, flat_label_scores, score_task


class EightColors(nn.Module):
    """A token for each pixel: each channel black or full. Masks in black and white come back as they are."""

    num_embeddings = 8

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def grid_of(self, height, width):
        return height, width

    def encode(self, images):
        bits = (images >= 0.5).long()
        return (bits[:, 0] * 4 + bits[:, 1] * 2 + bits[:, 2]).flatten(1)

    def decode(self, indices, grid):
        channels = [(indices >> shift & 1).view(-1, *grid) for shift in (2, 1, 0)]
        return torch.stack(channels, 1).float()


def _samples(length=5):
    return ProceduralScenes(
        "seg", size=32, length=length, pipeline=[dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec"))]
    )


def _evaluator():
    return VisionPromptEvaluator(dict(type="ForegroundMaskCodec"), dict(type="mmseg.IoUMetric"), ceiling=False)


def test_labels_that_come_back_whole_have_the_full_ceiling_and_images_their_error():
    samples, calls = _samples(), []
    scores = score_task(
        EightColors(), samples, _evaluator(), batch_size=2, num_panels=3, progress=lambda *call: calls.append(call)
    )
    assert scores.ceilings["mIoU"] == 100
    squares = []
    codes = []
    for i in range(len(samples)):
        image = samples[i]["img"]
        bits = image > 127
        squares.append(np.square(image - 255.0 * bits).mean())
        codes.append((bits @ [4, 2, 1]).ravel())
    assert scores.reconstruction["PSNR"] == pytest.approx(np.mean([10 * np.log10(255**2 / s) for s in squares]))
    assert scores.tokens.shape == (10, 32 * 32)
    np.testing.assert_array_equal(scores.tokens[:5], codes)
    np.testing.assert_array_equal(scores.counts, np.bincount(scores.tokens.ravel(), minlength=8))
    assert calls == [(2, 5), (4, 5), (5, 5)]
    assert len(scores.panels) == 3
    np.testing.assert_array_equal(scores.panels[1][0], samples[1]["img"])
    np.testing.assert_array_equal(scores.panels[1][2], scores.panels[1][3])


def test_perceptual_distances_are_of_images_and_averaged():
    scores = score_task(EightColors(), _samples(), _evaluator(), perceptual=lambda a, b: (a - b).abs().mean((1, 2, 3)))
    expected = np.mean([np.abs(p / 255.0 - (p > 127)).mean() for p in (s["img"] for s in _samples())])
    assert scores.reconstruction["LPIPS"] == pytest.approx(expected, rel=1e-5)


def test_a_broken_label_lowers_the_ceiling():
    class Blind(EightColors):
        def decode(self, indices, grid):
            return torch.zeros(len(indices), 3, *grid)

    scores = score_task(Blind(), _samples(), _evaluator())
    # Everything is taken for background: foreground has IoU 0, and the mean is at most a half.
    assert scores.ceilings["mIoU"] <= 50


def test_codebook_scores_are_the_formulas():
    assert codebook_scores(np.array([5, 5, 0, 0])) == {"codebook usage": 50.0, "perplexity": pytest.approx(2.0)}
    assert codebook_scores(np.array([1, 1, 2]))["perplexity"] == pytest.approx(2**1.5)


def test_samples_without_labels_are_refused():
    with pytest.raises(ValueError, match=r"sample 0 lacks label, annotation: its pipeline must end with DrawLabel"):
        score_task(EightColors(), ProceduralScenes("seg", size=32, length=1), _evaluator())


def test_the_ceiling_can_be_scored_at_the_size_of_the_original():
    codec = dict(type="ForegroundMaskCodec")
    steps = [dict(type="KeepAnnotation", codec=codec), dict(type="Letterbox", size=16)]
    samples = ProceduralScenes("seg", size=32, length=2, pipeline=[*steps, dict(type="DrawLabel", codec=codec)])
    evaluator = VisionPromptEvaluator(codec, dict(type="mmseg.IoUMetric"), ceiling=False, original=True)
    scores = score_task(EightColors(), samples, evaluator)
    assert 80 < scores.ceilings["mIoU"] < 100, "of the borders half the pixels are lost"


class Grays(torch.nn.Module):
    """Sixteen gray levels, one for each patch of 4 x 4 pixels; ``black`` is what the first of them looks like."""

    def __init__(self, black):
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor([black, *(k / 15 for k in range(1, 16))]))

    def grid_of(self, height, width):
        return height // 4, width // 4

    def encode(self, images):
        return (15 * images[:, 0, ::4, ::4]).round().long().flatten(1)

    def decode(self, codes, grid):
        gray = self.levels[codes].view(-1, 1, *grid)
        return gray.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)


@pytest.mark.parametrize(("black", "share"), [(0.0, 100.0), (15 / 255, 100.0), (16 / 255, 0.0)])
def test_a_tokenizer_says_nothing_and_everything_or_is_said_not_to(black, share):
    assert flat_label_scores(Grays(black), 8, 12) == {"empty label": share, "full label": 100.0}
