import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement

from delvm_mm.models import DeLVM, LogitsKLLoss, next_token_losses
from delvm_mm.models.losses.distillation import TeacherTerm
from delvm_mm.registry import MODELS
from helpers.reads import Reads

VQGAN = dict(
    type="VQGAN",
    resolution=16,
    hidden_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    z_channels=8,
    num_embeddings=24,
    quantized_embed_dim=8,
)


def tiny_model(context=48, **changes):
    config = dict(
        type="DeLVM",
        tokenizer=VQGAN,
        backbone=dict(
            type="LLaMA",
            arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=48),
            max_positions=context,
        ),
        embedding=dict(type="CodebookEmbedding"),
        head=dict(type="NextTokenHead"),
    )
    torch.manual_seed(0)
    return MODELS.build(config | changes)


def test_logits_have_one_row_a_token_and_one_column_a_code():
    assert tiny_model()(torch.randint(24, (2, 10)), mode="tensor").shape == (2, 10, 24)


def test_loss_is_the_cross_entropy_of_every_token_with_token_zero_an_ordinary_one():
    model = tiny_model()
    tokens = torch.zeros(1, 9, dtype=torch.long)
    tokens[0, 5:] = 7
    log_probability = model(tokens).log_softmax(-1)
    by_hand = -sum(log_probability[0, i, tokens[0, i + 1]] for i in range(8)) / 8
    torch.testing.assert_close(model(tokens, mode="loss")["loss_ce"], by_hand)


def test_the_tokenizer_stays_frozen_and_out_of_training():
    model = tiny_model().train()
    assert not any(module.training for module in model.tokenizer.modules())
    model(torch.randint(24, (2, 10)), mode="loss")["loss_ce"].backward()
    assert all(parameter.grad is None for parameter in model.tokenizer.parameters())
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"backbone", "embedding", "head"}


def test_checkpoints_carry_the_tokenizer_only_when_told_to():
    without, with_it = tiny_model().state_dict(), tiny_model(save_tokenizer=True).state_dict()
    assert not any(key.startswith("tokenizer.") for key in without)
    assert any(key.startswith("tokenizer.") for key in with_it)
    model = tiny_model()
    assert model.load_state_dict(without).missing_keys == []
    assert model.load_state_dict(with_it).unexpected_keys == []


def test_a_checkpoint_made_with_another_tokenizer_is_refused():
    checkpoint = tiny_model().state_dict()
    torch.manual_seed(1)
    other = tiny_model(tokenizer=MODELS.build(VQGAN))
    with pytest.raises(ValueError, match="trained with tokenizer"):
        other.load_state_dict(checkpoint)


def test_the_learned_table_is_the_alternative_embedding():
    model = tiny_model(embedding=dict(type="TokenEmbedding"))
    assert model.embedding.weight.shape == (24, 32)
    assert model(torch.randint(24, (1, 4))).shape == (1, 4, 24)


def test_embedding_is_the_code_vector_through_one_linear_layer():
    model = tiny_model()
    tokens = torch.tensor([[3, 0, 23]])
    expected = model.tokenizer.codebook[tokens] @ model.embedding.projection.weight.T
    torch.testing.assert_close(model.embedding(tokens), expected)


def test_codebook_sizes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="codebook sizes differ"):
        tiny_model(head=dict(type="NextTokenHead", num_embeddings=25))


@pytest.mark.parametrize("token", [24, -1])
def test_a_token_outside_the_codebook_is_named(token):
    model = tiny_model()
    tokens = torch.tensor([[0, token, 1]])
    with pytest.raises(ValueError, match=f"token {token} is outside the codebook of 24"):
        model(tokens)
    with pytest.raises(ValueError, match=f"token {token}"):
        model.generate(tokens, 2)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="expected 'tensor', 'loss' or 'predict'"):
        tiny_model()(torch.zeros(1, 3, dtype=torch.long), mode="train")


def test_prompts_are_answered_with_images_and_the_ceiling_beside_them():
    model = tiny_model(context=8 * 64).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(2, 3, 3, 8, 16, generator=generator)
    label = torch.randint(256, (8, 16, 3), dtype=torch.uint8, generator=generator).numpy()
    samples = [BaseDataElement(metainfo=dict(task="seg")) for _ in range(2)]
    for sample in samples:
        sample.set_data(dict(label_image=label))
    answered = model(inputs, samples, mode="predict")
    prompt = model.tokenizer.encode(inputs.flatten(0, 1)).view(2, -1)
    tokens = model.generate(prompt, 32)
    for sample, row in zip(answered, tokens, strict=True):
        assert sample.pred_image.shape == (8, 16, 3) and sample.pred_image.dtype == np.uint8
        assert torch.equal(sample.pred_tokens, row)
        image = model.tokenizer.decode(row[None], grid=(4, 8))[0].permute(1, 2, 0)
        np.testing.assert_array_equal(sample.pred_image, (image * 255).round().byte().numpy())
        assert sample.ceiling_image.shape == (8, 16, 3)


def test_sentences_are_scored_token_by_token():
    model = tiny_model().eval()
    tokens = torch.randint(24, (2, 10))
    samples = model(tokens, mode="predict")
    nll = torch.stack([sample.token_nll for sample in samples])
    torch.testing.assert_close(nll.mean(), model(tokens, mode="loss")["loss_ce"])
    expected = model(tokens)[:, :-1].argmax(-1) == tokens[:, 1:]
    assert torch.equal(torch.stack([sample.token_correct for sample in samples]), expected)


def test_prompts_with_their_answer_are_scored_as_the_sentence_of_their_tokens():
    model = tiny_model(context=64).eval()
    images = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    tokens = model.tokenizer.encode(images.flatten(0, 1)).view(2, -1)
    samples = model(images, [BaseDataElement(metainfo=dict(task="seg")) for _ in range(2)], mode="predict")
    for sample, row, wanted in zip(samples, tokens, model(tokens, mode="predict"), strict=True):
        assert sample.clip_shape == (2, 16) and sample.task == "seg" and torch.equal(sample.tokens, row)
        torch.testing.assert_close(sample.token_nll, wanted.token_nll)
    with pytest.raises(ValueError, match="a prompt with its answer of 96 tokens does not fit the context of 64"):
        model(torch.rand(1, 6, 3, 8, 8), mode="predict")


def test_prompt_and_answer_beyond_the_context_are_refused():
    with pytest.raises(ValueError, match="40 tokens and an answer of 9 do not fit the context of 48"):
        tiny_model().generate(torch.zeros(1, 40, dtype=torch.long), 9)


def test_a_model_without_tokenizer_trains_on_tokens_and_refuses_images():
    model = tiny_model(
        tokenizer=None,
        embedding=dict(type="TokenEmbedding", num_embeddings=24),
        head=dict(type="NextTokenHead", num_embeddings=24),
    )
    assert model(torch.randint(24, (1, 4)), mode="loss")["loss_ce"].isfinite()
    with pytest.raises(ValueError, match="without a tokenizer"):
        model(torch.rand(1, 3, 3, 8, 8), mode="predict")


def test_generation_leaves_the_training_mode_as_it_was():
    model = tiny_model().train()
    model.generate(torch.zeros(1, 4, dtype=torch.long), 2)
    assert model.training
    assert copy.deepcopy(model).eval().generate(torch.zeros(1, 4, dtype=torch.long), 2).shape == (1, 2)


def model_of_tokens(**options) -> DeLVM:
    torch.manual_seed(0)
    return DeLVM(
        tokenizer=None,
        backbone=dict(type="LLaMA", arch=dict(embed_dims=16, num_layers=1, num_heads=2), max_positions=24),
        embedding=dict(type="TokenEmbedding", num_embeddings=11),
        head=dict(type="NextTokenHead", num_embeddings=11, init_std=0.5),
        **options,
    )


def samples_with_labels(number: int, clip_shape: tuple[int, int]) -> list[BaseDataElement]:
    return [BaseDataElement(metainfo=dict(clip_shape=clip_shape)) for _ in range(number)]


def test_labels_count_as_often_as_the_weight_says():
    tokens = torch.randint(11, (3, 24))
    model = model_of_tokens(label_weight=4.0)
    loss = model.loss(tokens, samples_with_labels(3, (2, 6)))["loss_ce"]
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
    assert torch.equal(
        model_of_tokens(label_weight=1.0).loss(tokens)["loss_ce"], model_of_tokens().loss(tokens)["loss_ce"]
    )


def test_where_no_image_is_a_label_nothing_changes():
    tokens = torch.randint(11, (2, 24))
    weighted = model_of_tokens(label_weight=9.0).loss(tokens, samples_with_labels(2, (1, 6)))["loss_ce"]
    torch.testing.assert_close(weighted, model_of_tokens().loss(tokens)["loss_ce"])


@pytest.mark.parametrize("samples", [None, [BaseDataElement()] * 2, samples_with_labels(1, (2, 6))])
def test_sentences_of_unknown_shape_are_refused(samples):
    with pytest.raises(ValueError, match=r"label_weight=2.0 needs data_samples with 'clip_shape'"):
        model_of_tokens(label_weight=2).loss(torch.zeros(2, 24, dtype=torch.long), samples)


@pytest.mark.parametrize("value", [0, -1, True, "much", float("nan")])
def test_weights_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="label_weight is"):
        model_of_tokens(label_weight=value)


def test_a_training_step_with_a_teacher_reads_no_value_before_the_optimizer():
    model = tiny_model().train()
    teacher = TeacherTerm(LogitsKLLoss(), torch.randn(18, 32), tiny_model().head.requires_grad_(False))
    other = dict(loss_other=torch.ones((), requires_grad=True))
    model.extra_losses.append(
        SimpleNamespace(prepare=lambda *_: None, logit_terms=lambda: [teacher], scalar_losses=lambda: other)
    )
    losses = model.loss(torch.randint(24, (2, 10)))
    total, logged = model.parse_losses(losses)
    assert list(logged) == ["loss", "loss_ce", "loss_kd", "loss_other"]
    with Reads() as seen:
        total.backward()
    assert seen.count == 0
