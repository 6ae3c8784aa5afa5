"""Ensembles of prompts: how pairs make them, and that answers are combined as an independent computation says."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from delvm_mm.codecs import ForegroundMaskCodec, RestorationCodec
from delvm_mm.generation import engine
from delvm_mm.models.prompt_ensemble import PromptEnsemble
from delvm_mm.registry import MODELS

BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def tiny_model(context=8 * 8, **changes):
    """Images of 4 x 8 pixels, 8 tokens each; a context of 8 images; weights that vary with what is read."""
    torch.manual_seed(0)
    model = dict(
        type="DeLVM",
        tokenizer=dict(
            type="VQGAN",
            resolution=16,
            hidden_channels=32,
            channel_mult=(1, 2),
            num_res_blocks=1,
            z_channels=8,
            num_embeddings=24,
            quantized_embed_dim=8,
        ),
        backbone=dict(
            type="LLaMA", arch=dict(embed_dims=32, num_layers=2, num_heads=4), max_positions=context, init_std=0.5
        ),
        embedding=dict(type="CodebookEmbedding", init_std=1.0),
        head=dict(type="NextTokenHead", init_std=0.5),
    )
    return MODELS.build(model | changes).eval()


def prompts_of(num_pairs, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 2 * num_pairs + 1, 3, 4, 8, generator=generator)


def answer(model, inputs):
    return model(inputs, [BaseDataElement() for _ in inputs], mode="predict")


def test_pairs_are_dealt_so_that_the_last_stand_last():
    assert PromptEnsemble(size=3).arrange(6).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert PromptEnsemble(size=2).arrange_images(4).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_orders_are_different_drawn_by_seed_and_the_first_is_as_given():
    orders = PromptEnsemble(size=6, vary="order").arrange(3).tolist()
    assert orders[0] == [0, 1, 2] and sorted(map(tuple, orders)) == sorted({tuple(order) for order in orders})
    few = [PromptEnsemble(size=3, vary="order", seed=seed).arrange(5).tolist() for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]


@torch.no_grad()
@pytest.mark.parametrize("vary, num_pairs, order", [("pairs", 4, [[0, 2], [1, 3]]), ("order", 2, [[0, 1], [1, 0]])])
def test_the_answer_is_chosen_from_the_mean_distribution_of_the_prompts(vary, num_pairs, order):
    model, inputs = tiny_model(ensemble=dict(size=2, vary=vary)), prompts_of(num_pairs)
    samples = answer(model, inputs)
    for images, sample in zip(inputs, samples, strict=True):
        tokens = model.tokenizer.encode(images)
        rows = torch.stack(
            [
                torch.cat([tokens[2 * pair + half] for pair in pairs for half in (0, 1)] + [tokens[-1]])
                for pairs in order
            ]
        )
        start = rows.shape[1]
        for _ in range(8):
            probability = model(rows)[:, -1].double().softmax(-1).mean(0)
            rows = torch.cat((rows, probability.argmax().expand(2, 1)), 1)
        assert torch.equal(sample.pred_tokens, rows[0, start:])
        assert sample.pred_image.shape == (4, 8, 3) and "pred_images" not in sample
    alone = answer(tiny_model(), inputs[:, -5:])  # the last two pairs alone
    assert any(not torch.equal(a.pred_tokens, b.pred_tokens) for a, b in zip(samples, alone, strict=True))


def test_answers_of_all_prompts_are_given_beside_their_mean():
    model, inputs = tiny_model(ensemble=dict(size=3, combine="vote")), prompts_of(6)
    plain = tiny_model()
    for number, sample in enumerate(answer(model, inputs)):
        alone = [
            answer(plain, inputs[number : number + 1, [2 * p, 2 * p + 1, 2 * p + 6, 2 * p + 7, -1]])[0]
            for p in range(3)
        ]
        np.testing.assert_array_equal(sample.pred_images, [one.pred_image for one in alone])
        assert torch.equal(sample.pred_tokens, torch.stack([one.pred_tokens for one in alone]))
        mean = np.mean([one.pred_image.astype(float) for one in alone], axis=0)
        np.testing.assert_array_equal(sample.pred_image, np.rint(mean))
        assert sample.combine == "vote" and len(np.unique(sample.pred_images, axis=0)) > 1


def test_draws_are_answers_of_one_prompt_that_is_read_once(monkeypatch):
    drawing = dict(temperature=1.0, seed=0)
    model, inputs = tiny_model(ensemble=dict(size=5, vary="draws", combine="mean"), sampler=drawing), prompts_of(2)
    samples = answer(model, inputs)
    # Five rows a query, drawn in turn, are what a plain model writes behind the same five prompts.
    plain = answer(tiny_model(sampler=drawing), inputs.repeat_interleave(5, 0))
    for number, sample in enumerate(samples):
        alone = plain[5 * number : 5 * number + 5]
        assert torch.equal(sample.pred_tokens, torch.stack([one.pred_tokens for one in alone]))
        mean = np.mean([one.pred_image.astype(float) for one in alone], axis=0)
        np.testing.assert_array_equal(sample.pred_image, np.rint(mean))
        assert len(np.unique(sample.pred_tokens, axis=0)) > 1
    reads = []
    read_prompt = engine._read_prompt
    monkeypatch.setattr(engine, "_read_prompt", lambda *given: reads.append(given) or read_prompt(*given))
    answer(tiny_model(ensemble=dict(size=5, vary="draws", combine="mean"), sampler=drawing), inputs)
    assert len(reads) == 2


def test_draws_of_a_greedy_sampler_are_one_answer():
    inputs = prompts_of(2)
    draws = dict(size=5, vary="draws", combine="mean")
    for sample, alone in zip(answer(tiny_model(ensemble=draws), inputs), answer(tiny_model(), inputs), strict=True):
        assert torch.equal(sample.pred_tokens, alone.pred_tokens[None])
        np.testing.assert_array_equal(sample.pred_image, alone.pred_image)
    assert PromptEnsemble(**draws).num_prompts(dict(temperature=0.5)) == 5
    assert PromptEnsemble(size=5).num_prompts({}) == 5
    assert PromptEnsemble.of(dict(size=5, vary="draws")) == PromptEnsemble(**draws)


def test_a_task_has_an_ensemble_where_the_model_has_none():
    inputs, draws = prompts_of(2, batch=1), dict(size=3, vary="draws", combine="mean")
    model = tiny_model(sampler=dict(temperature=1.0, seed=0))
    with model.sampling(None, draws):
        assert len(answer(model, inputs)[0].pred_images) == 3
    assert "pred_images" not in answer(model, inputs)[0]
    own = tiny_model(sampler=dict(temperature=1.0, seed=0), ensemble=dict(size=2, vary="order", combine="mean"))
    with own.sampling(None, draws):
        assert len(answer(own, inputs)[0].pred_images) == 2


def test_labels_are_shown_in_other_colors_and_answers_turned_back(monkeypatch):
    colors = [(BLACK, WHITE), (WHITE, BLACK), ((0, 0, 255), RED)]
    model = tiny_model(ensemble=dict(size=3, vary="colors", combine="mean", colors=colors))
    inputs = prompts_of(1, batch=1)
    inputs[:, 1] = torch.tensor([0.0, 1.0]).repeat_interleave(4)  # the right half is foreground
    seen = []
    monkeypatch.setattr(
        model._memo, "encode", lambda tokenizer, images: seen.append(images) or tokenizer.encode(images)
    )
    (sample,) = answer(model, inputs)
    shown = seen[0].view(3, 3, 3, 4, 8)  # prompt, image, channel
    assert torch.equal(shown[:, 0], inputs[0, 0].expand(3, -1, -1, -1)) and torch.equal(shown[0], inputs[0])
    assert torch.equal(shown[1, 1], 1 - inputs[0, 1])
    assert shown[2, 1, :, 0, 0].tolist() == [0, 0, 1] and shown[2, 1, :, 0, -1].tolist() == [1, 0, 0]
    assert sample.pred_images.shape == (3, 4, 8, 3)


def test_colors_come_back_as_they_were():
    ensemble = PromptEnsemble(size=2, vary="colors", combine="vote", colors=[(WHITE, BLACK), ((0, 0, 255), RED)])
    gray = np.random.RandomState(0).randint(0, 256, (5, 6, 1)).repeat(3, -1).astype(np.uint8)
    drawn = ensemble.recolor(torch.from_numpy(gray).permute(2, 0, 1)[None].float() / 255)[:, 0]
    answers = [(one * 255).round().byte().permute(1, 2, 0).numpy() for one in drawn]
    restored = ensemble.restore(answers)
    assert np.abs(restored.astype(int) - gray).max() <= 1 and not np.array_equal(answers[0], gray)
    with pytest.raises(ValueError, match="labels of this prompt have colors of their own"):
        ensemble.recolor(torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)))


def test_codecs_read_what_most_answers_say():
    masks = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], np.uint8)[:, None]
    images = np.stack([ForegroundMaskCodec().encode(mask) for mask in masks])
    answered = dict(pred_image=images[0], pred_images=images, combine="vote")
    assert ForegroundMaskCodec().decode_answer(answered).tolist() == [[0, 0, 1, 0]]  # ties are background
    images[3, 0, 1], images[3, 0, 3] = 200, 100  # means (0 + 2 * 255 + 200) / 4 and (255 + 100) / 4
    assert ForegroundMaskCodec().decode_answer(answered | dict(combine="mean")).tolist() == [[0, 1, 1, 0]]
    assert ForegroundMaskCodec().decode_answer(dict(pred_image=images[0])).tolist() == [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match="RestorationCodec reads no map of classes"):
        RestorationCodec().decode_vote(images)


@pytest.mark.parametrize(
    "ensemble, num_pairs, message",
    [
        (dict(size=2), 3, "deals out the pairs evenly, and there are 3: show a multiple of 2"),
        (dict(size=3, vary="order"), 2, "2 pairs have 2: set a smaller size"),
        (dict(size=2), 8, "each of the 2 prompts of the ensemble has 4 pairs, which are 10 images of 8 tokens"),
    ],
)
def test_pairs_that_make_no_ensemble_or_do_not_fit_are_refused(ensemble, num_pairs, message):
    with pytest.raises(ValueError, match=message):
        answer(tiny_model(ensemble=ensemble), prompts_of(num_pairs, batch=1))


@pytest.mark.parametrize(
    "ensemble, message",
    [
        (dict(size=0), "size is 0, expected a number of prompts"),
        (dict(vary="order"), "no 'size'"),
        (dict(size=2, by="order"), r"\['by'\], expected some of"),
        (dict(size=2, vary="sizes"), "vary is 'sizes', expected 'pairs' or 'order' or 'colors'"),
        (dict(size=2, combine="best"), "combine is 'best'"),
        (dict(size=2, colors=[(BLACK, WHITE)] * 2), "vary is 'pairs'"),
        (dict(size=2, vary="colors", combine="vote", colors=[(BLACK, WHITE)]), "has 1 entries, expected 2"),
        (dict(size=1, vary="colors", combine="vote", colors=[(BLACK, BLACK)]), "one color twice"),
        (dict(size=1, vary="colors", colors=[(BLACK, WHITE)]), "set combine='mean' or combine='vote'"),
        (
            dict(size=4, vary="draws", combine="distributions"),
            r"draws behind the same prompt .* have one distribution: set combine='mean'",
        ),
    ],
)
def test_what_is_no_ensemble_is_named(ensemble, message):
    with pytest.raises(ValueError, match=message):
        PromptEnsemble.of(ensemble)
