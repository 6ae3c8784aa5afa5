import math

import pytest
import torch

from delvm_mm.evaluation import TokenMetric
from delvm_mm.registry import METRICS


def sentence(nll, correct, **more):
    return dict(token_nll=torch.tensor(nll), token_correct=torch.tensor(correct), **more)


def score(*samples):
    metric = METRICS.build(dict(type="TokenMetric"))
    metric.process(None, samples)
    return metric.evaluate(size=len(samples))


def test_tokens_weigh_the_same_in_sentences_of_different_lengths():
    result = score(sentence([1.0, 2.0, 3.0], [True, False, False]), sentence([6.0], [True]))
    assert result == {
        "token/loss": pytest.approx(3.0),  # 12 nats over 4 tokens
        "token/accuracy": pytest.approx(50.0),
        "token/perplexity": pytest.approx(math.exp(3)),
    }


def test_each_task_has_its_own_results():
    result = score(
        sentence([1.0, 3.0], [True, True], task="seg"),
        sentence([4.0, 4.0], [False, True], task="pose"),
        sentence([0.0, 0.0], [True, False], task="seg"),
    )
    assert result["token/loss"] == pytest.approx(2.0)
    assert result["token/seg/loss"] == pytest.approx(1.0)
    assert result["token/pose/loss"] == pytest.approx(4.0)
    assert result["token/seg/accuracy"] == pytest.approx(75.0)
    assert result["token/pose/perplexity"] == pytest.approx(math.exp(4))


def test_loss_is_that_of_cross_entropy_on_logits():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 11, generator=generator)
    tokens = torch.randint(0, 11, (2, 8), generator=generator)
    nll = -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    correct = logits.argmax(-1) == tokens[:, 1:]
    result = score(*(dict(token_nll=n, token_correct=c) for n, c in zip(nll, correct, strict=True)))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert result["token/loss"] == pytest.approx(float(expected), rel=1e-6)


def test_unigram_entropy_is_of_the_predicted_tokens_only():
    first = sentence([1.0, 1.0], [True, True], tokens=torch.tensor([9, 5, 5]))  # 9 is never predicted
    second = sentence([1.0, 1.0], [True, True], tokens=torch.tensor([5, 5, 0]), task="seg")
    result = score(first, second)
    assert result["token/unigram_entropy"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert result["token/seg/unigram_entropy"] == pytest.approx(math.log(2))


def test_unigram_entropy_is_left_out_where_a_sentence_has_no_tokens():
    result = score(sentence([1.0], [True], tokens=torch.tensor([1, 2])), sentence([1.0], [True]))
    assert "token/unigram_entropy" not in result


def test_half_precision_losses_are_summed_without_overflow():
    # 8191 values of 12 sum to 98 292, more than float16 holds
    result = score(
        dict(token_nll=torch.full((8191,), 12.0, dtype=torch.float16), token_correct=torch.ones(8191).bool())
    )
    assert result["token/loss"] == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("data_sample", "message"),
    [
        (dict(token_nll=torch.zeros(2)), "token_correct is missing"),
        (sentence([1.0, 1.0], [True]), "2 values of token_nll, but 1"),
        (sentence([1.0], [True], tokens=torch.tensor([1, 2, 3])), "3 tokens has 2 predictions, got 1"),
    ],
)
def test_incomplete_samples_are_refused(data_sample, message):
    with pytest.raises(ValueError, match=message):
        TokenMetric().process(None, [data_sample])


def test_label_tokens_are_those_of_the_last_image_of_each_clip():
    # Clips of 2 images of 2 tokens: tokens 2, 3, 6, 7 are labels, predictions 1, 2, 5, 6.
    nll = torch.tensor([9.0, 1.0, 2.0, 9.0, 9.0, 3.0, 4.0])
    metric = TokenMetric()
    metric.process(
        None,
        [
            dict(
                task="seg",
                token_nll=nll,
                token_correct=nll < 3,
                clip_shape=(2, 2),
                tokens=torch.tensor([5, 5, 0, 1, 5, 5, 0, 1]),
            )
        ],
    )
    results = metric.evaluate(1)
    assert results["token/label/loss"] == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert results["token/seg/label/accuracy"] == pytest.approx(50)
    assert results["token/label/unigram_entropy"] == pytest.approx(math.log(2))
