"""Memory by formula: against the published sizes, plain arithmetic, and what its own parts add up to."""

import pytest

from tools.analysis import footprint

TINY = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)


@pytest.mark.parametrize(("arch", "parameters"), [("80m", 91_331_328), ("300m", 291_181_568), ("1b", 1_147_545_600)])
def test_parameters_are_those_of_the_models_table(arch, parameters):
    assert footprint.num_parameters(arch, 8192) == parameters  # the README's, which the models' own tests count


def test_one_layer_by_hand():
    # float32, a token: two norm inputs and scales, two norm outputs, q k v and the output, 2 heads, gate, up.
    assert footprint.layer_activation_bytes(TINY, "float32") == 4 * (2 * 8 + 2 + 2 * 8 + 4 * 8 + 2 + 2 * 16)


def test_a_float32_step_by_hand():
    # 4 x (64 + 8) + 3 x 8 x 16 + 2 x 8 weights a layer; 8 of the final norm; 8 x (32 codes + 4 dims).
    parameters = 2 * (4 * 72 + 384 + 16) + 8 + 8 * 36
    step = footprint.training_footprint(TINY, 3, 10, 32, precision="float32", codebook_dims=4, loss_chunk=20)
    assert (step.weights, step.gradients, step.optimizer) == (4 * parameters, 4 * parameters, 8 * parameters)
    outside = 4 * (4 + 8 + 1)  # the embedded code, the last norm's input and scale
    assert step.activations == 30 * (2 * footprint.layer_activation_bytes(TINY, "float32") + outside) + 2 * 10 * 4 * 4
    assert step.loss == 12 * 20 * 32 + 4 * 30 * 8 + 4 * 32 * 8
    assert step.total == sum(getattr(step, name) for name in step.names())
    assert (step.communication, step.cast_weights, step.teacher, step.tokenizer) == (0, 0, 0, 0)


def test_checkpointing_keeps_inputs_of_layers_and_one_whole_layer():
    plain, less = (footprint.activation_bytes("300m", 2, 2048, "bfloat16", checkpointing=cp) for cp in (False, True))
    of_layer = 2 * 2048 * footprint.layer_activation_bytes("300m", "bfloat16")
    assert plain - less == 21 * of_layer - 22 * 2 * 2048 * 2 * 1024


def test_fsdp_divides_what_stands_and_ddp_does_not():
    one, ddp, fsdp = (
        footprint.training_footprint("1b", 1, 2048, 8192, strategy=strategy, num_devices=devices)
        for strategy, devices in (("ddp", 1), ("ddp", 8), ("fsdp", 8))
    )
    assert ddp.weights == one.weights and ddp.communication == one.gradients
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(fsdp, name) == getattr(one, name) // 8
    assert fsdp.activations == one.activations
    layer = 4 * 2048**2 + 3 * 2048 * 5632 + 6 * 2048
    assert fsdp.communication == 2 * (2 * layer + 2048 * (1 + 8192 + 64)) + 4 * layer


def test_a_teacher_adds_its_weights_and_wider_logits():
    alone, taught = (footprint.training_footprint("300m", 1, 2048, 8192, teacher=teacher) for teacher in (None, "1b"))
    assert taught.teacher == 4 * 1_147_545_600
    assert taught.loss - alone.loss == 16 * 2048 * 8192


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(precision="fp8"), "precision must be one of float32, bfloat16, got 'fp8'"),
        (dict(strategy="zero"), "strategy must be one of ddp, fsdp, got 'zero'"),
        (dict(num_devices=0), "0 devices"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        footprint.training_footprint("80m", 1, 2048, 8192, **changes)
