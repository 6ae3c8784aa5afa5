"""``label_weight``: how much the tokens of labels count in the cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement

from delvm_mm.models import DeLVM, next_token_losses


def _model(**options) -> DeLVM:
    torch.manual_seed(0)
    return DeLVM(
        tokenizer=None,
        backbone=dict(type="LLaMA", arch=dict(embed_dims=16, num_layers=1, num_heads=2), max_positions=24),
        embedding=dict(type="TokenEmbedding", num_embeddings=11),
        head=dict(type="NextTokenHead", num_embeddings=11, init_std=0.5),
        **options,
    )


def _samples(number: int, clip_shape: tuple[int, int]) -> list[BaseDataElement]:
    return [BaseDataElement(metainfo=dict(clip_shape=clip_shape)) for _ in range(number)]


def test_labels_count_as_often_as_the_weight_says():
    tokens = torch.randint(11, (3, 24))
    model = _model(label_weight=4.0)
    loss = model.loss(tokens, _samples(3, (2, 6)))["loss_ce"]
    nll = F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(3, 23)
    # Image, label, image, label of 6 tokens each; the first token of all is never predicted.
    weights = torch.tensor([1.0] * 5 + [4.0] * 6 + [1.0] * 6 + [4.0] * 6)
    torch.testing.assert_close(loss, (nll * weights).sum() / weights.sum() / 3)


def test_gradients_are_those_of_the_plain_weighted_loss():
    features, weight = torch.randn(20, 5, requires_grad=True), torch.randn(7, 5, requires_grad=True)
    labels, token_weights = torch.randint(7, (20,)), torch.rand(20)
    loss = next_token_losses(features, weight, labels, (), 6, 1.5, token_weights)["loss_ce"]
    plain = 1.5 * (F.cross_entropy(features @ weight.T, labels, reduction="none") * token_weights).mean()
    torch.testing.assert_close(loss, plain)
    for own, expected in zip(*(torch.autograd.grad(value, (features, weight)) for value in (loss, plain)), strict=True):
        torch.testing.assert_close(own, expected)


def test_one_is_the_published_loss_bit_for_bit():
    tokens = torch.randint(11, (2, 24))
    assert torch.equal(_model(label_weight=1.0).loss(tokens)["loss_ce"], _model().loss(tokens)["loss_ce"])


def test_where_no_image_is_a_label_nothing_changes():
    tokens = torch.randint(11, (2, 24))
    weighted = _model(label_weight=9.0).loss(tokens, _samples(2, (1, 6)))["loss_ce"]
    torch.testing.assert_close(weighted, _model().loss(tokens)["loss_ce"])


@pytest.mark.parametrize("samples", [None, [BaseDataElement()] * 2, _samples(1, (2, 6))])
def test_sentences_of_unknown_shape_are_refused(samples):
    with pytest.raises(ValueError, match=r"label_weight=2.0 needs data_samples with 'clip_shape'"):
        _model(label_weight=2).loss(torch.zeros(2, 24, dtype=torch.long), samples)


@pytest.mark.parametrize("value", [0, -1, True, "much", float("nan")])
def test_weights_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="label_weight is"):
        _model(label_weight=value)
