"""LVM's perplexity by hand: exp of each sample's mean, then the mean."""

import numpy as np
import pytest
import torch

from delvm_mm.evaluation import LabelPerplexityMetric


def sample(nll, codes, tokens_of_image):
    """A sentence whose last image costs ``nll``; everything before costs 100."""
    before = 3 * tokens_of_image
    return dict(
        token_nll=torch.cat([torch.full((before - 1,), 100.0), torch.tensor(nll)]),
        tokens=torch.cat([torch.zeros(before, dtype=torch.int64), torch.tensor(codes)]),
        clip_shape=(2, tokens_of_image),
    )


def test_it_is_the_mean_of_exponents_and_not_the_exponent_of_the_mean():
    metric = LabelPerplexityMetric()
    metric.process(None, [sample([1.0, 3.0], [5, 6], 2), sample([0.0, 1.0], [5, 5], 2)])
    result = metric.evaluate(2)
    assert result["perplexity"] == pytest.approx((np.exp(2) + np.exp(0.5)) / 2)
    assert result["loss"] == pytest.approx(1.25)
    assert result["unigram_perplexity"] == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="clip_shape is missing: feed the model prompts with their answer"):
        LabelPerplexityMetric().process(None, [dict(token_nll=torch.zeros(3), tokens=torch.zeros(4))])
