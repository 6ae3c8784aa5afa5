import pytest
import torch

from delvm_mm.models import LLaMA

TINY = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=48)


@pytest.mark.parametrize(
    ("arch", "parameters"),
    # 4 (C^2 + C) + 3 C F + 2 C a layer, and C of the final norm.
    [("80m", 84_990_720), ("300m", 282_727_424), ("1b", 1_147_545_600 - 64 * 2048 - 8192 * 2048)],
)
def test_published_architectures_have_the_published_number_of_parameters(arch, parameters):
    with torch.device("meta"):
        model = LLaMA(arch)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_token_sees_only_what_stands_before_it():
    torch.manual_seed(0)
    model = LLaMA(TINY).eval()
    sentence = torch.randn(1, 10, 32)
    changed = sentence.clone()
    changed[:, 6:] += 1
    before, after = model(sentence), model(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_rotary_positions_are_relative():
    torch.manual_seed(0)
    model = LLaMA(TINY, init_std=0.3).eval()
    sentence = torch.randn(1, 6, 32)
    table = model.rope_cos, model.rope_sin
    here, there, nowhere = (
        model.layers[0](sentence, [part[places] for part in table])
        for places in (slice(6), slice(100, 106), torch.zeros(6, dtype=torch.int64))
    )
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(nowhere, here, atol=1e-2)


def test_gradient_checkpointing_changes_neither_values_nor_gradients():
    torch.manual_seed(0)
    plain, saving = LLaMA(TINY), LLaMA(TINY, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    sentence = torch.randn(2, 8, 32)
    for model in (plain, saving):
        model.train()(sentence).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_initial_weights_follow_the_published_deviations():
    torch.manual_seed(0)
    model = LLaMA(dict(embed_dims=256, num_layers=3, num_heads=4))
    for number, layer in enumerate(model.layers, start=1):
        assert layer.self_attn.q_proj.weight.std().item() == pytest.approx(0.006, rel=0.03)
        assert layer.mlp.up_proj.weight.std().item() == pytest.approx(0.006, rel=0.03)
        assert layer.self_attn.o_proj.weight.std().item() == pytest.approx(0.006 / (2 * number) ** 0.5, rel=0.03)
        assert layer.mlp.down_proj.weight.std().item() == pytest.approx(0.006 / (2 * number) ** 0.5, rel=0.03)
        assert layer.self_attn.q_proj.bias.abs().max() == 0


def test_a_sentence_longer_than_the_context_is_refused_by_its_lengths():
    model = LLaMA(TINY, max_positions=8)
    with pytest.raises(ValueError, match="9 tokens does not fit the context of 8"):
        model(torch.randn(1, 9, 32))


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("7b", "expected one of"),
        (dict(embed_dims=32, num_layers=2), "num_heads"),
        (dict(embed_dims=32, num_layers=2, num_heads=4, mlp=3), "mlp"),
        (dict(embed_dims=30, num_layers=2, num_heads=4), "cannot be split"),
    ],
)
def test_an_impossible_architecture_is_refused(arch, message):
    with pytest.raises(ValueError, match=message):
        LLaMA(arch)


def test_default_swiglu_width_is_eight_thirds_rounded_up_to_256():
    assert LLaMA(dict(embed_dims=300, num_layers=1, num_heads=2)).layers[0].mlp.up_proj.out_features == 1024
