"""``DeLVM(init_cfg=dict(type='Pretrained', layers=...))``: a shallow model begins with layers of a deep one."""

import re

import pytest
import torch

from delvm_mm.apis.model_folder import save_model
from delvm_mm.models.initial_layers import choose_layers
from delvm_mm.registry import MODELS

ARCH = dict(embed_dims=32, num_heads=4, feedforward_channels=48)
TOKENIZER = dict(
    type="VQGAN", resolution=16, hidden_channels=32, channel_mult=(1, 2), num_res_blocks=1, z_channels=8,
    num_embeddings=24, quantized_embed_dim=8,
)  # fmt: skip
TOKENS = torch.arange(20).reshape(2, 10) % 24


@pytest.fixture
def tokenizer(tmp_path):
    torch.manual_seed(0)
    MODELS.build(TOKENIZER).save_pretrained(tmp_path / "tokenizer")
    return dict(type="VQGAN", pretrained=str(tmp_path / "tokenizer"))


def build(tokenizer, num_layers, **changes):
    torch.manual_seed(1 + num_layers)  # deep and shallow models have nothing in common but what is taken over
    backbone = dict(type="LLaMA", arch=dict(ARCH, num_layers=num_layers), max_positions=48, init_std=0.3)
    config = dict(type="DeLVM", tokenizer=tokenizer, backbone=backbone, embedding=dict(type="CodebookEmbedding"))
    return MODELS.build(dict(config, head=dict(type="NextTokenHead", init_std=0.3), **changes)).eval()


@pytest.fixture
def deep(tokenizer, tmp_path):
    """A model of five layers, whose checkpoint is ``deep.pth``."""
    model = build(tokenizer, 5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / "deep.pth")
    return model


def initial(path, **changes):
    return dict(type="Pretrained", checkpoint=str(path), **changes)


def test_the_chosen_layers_and_all_that_is_no_layer_are_those_of_the_other_model(deep, tokenizer, tmp_path):
    shallow = build(tokenizer, 3, init_cfg=initial(tmp_path / "deep.pth", layers=(0, 2, -1)))
    assert not torch.equal(shallow.head.projection.weight, deep.head.projection.weight), "nothing is read when built"
    shallow.init_weights()
    for ours, theirs in ((0, 0), (1, 2), (2, 4)):
        for (name, one), other in zip(
            shallow.backbone.layers[ours].named_parameters(), deep.backbone.layers[theirs].parameters(), strict=True
        ):
            assert torch.equal(one, other), (ours, name)
    for part in ("embedding", "head", "backbone.norm"):
        for one, other in zip(
            shallow.get_submodule(part).state_dict().values(), deep.get_submodule(part).state_dict().values(),
            strict=True,
        ):  # fmt: skip
            assert torch.equal(one, other), part
    # What the five layers compute without the second and the fourth.
    del deep.backbone.layers[3], deep.backbone.layers[1]
    torch.testing.assert_close(shallow(TOKENS), deep(TOKENS), rtol=0, atol=0)


@pytest.mark.parametrize("layers", [None, [0, 1, 2, 3, 4]])
def test_all_layers_give_the_logits_of_the_other_model(deep, tokenizer, tmp_path, layers):
    same = build(tokenizer, 5, init_cfg=initial(tmp_path / "deep.pth", layers=layers))
    same.init_weights()
    torch.testing.assert_close(same(TOKENS), deep(TOKENS), rtol=0, atol=0)
    turned = build(tokenizer, 5, init_cfg=initial(tmp_path / "deep.pth", layers=[4, 3, 2, 1, 0]))
    turned.init_weights()
    assert not torch.allclose(turned(TOKENS), deep(TOKENS)), "the order counts"


def test_a_model_folder_is_read_too_and_a_tokenizer_in_the_file_left(deep, tokenizer, tmp_path):
    save_model(deep, tmp_path / "folder")
    deep.save_tokenizer = True
    torch.save(dict(state_dict={f"student.{key}": value for key, value in deep.state_dict().items()}), tmp_path / "own")
    for init_cfg in (
        initial(tmp_path / "folder", layers=[1]),
        initial(tmp_path / "own", prefix="student.", layers=[1]),
    ):
        shallow = build(tokenizer, 1, init_cfg=init_cfg)
        shallow.init_weights()
        ours, theirs = (model.backbone.layers[layer].self_attn.q_proj for model, layer in ((shallow, 0), (deep, 1)))
        assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([0, 2, 5], "5 is none of them"),
        ([0, -6, 2], "-6 is none of them"),
        ([0, "2", 4], "'2' is none of them"),
        ([0, 1.0, 2], "1.0 is none of them"),
        ([True, 1, 2], "True is none of them"),
        ([0, 2], "these are 2, the model has 3"),
        (2, "these are 1, the model has 3"),
        (None, "these are 5, the model has 3"),
    ],
)
def test_layers_that_are_not_there_or_not_as_many_are_refused(deep, tokenizer, tmp_path, layers, problem):
    model = build(tokenizer, 3, init_cfg=initial(tmp_path / "deep.pth", layers=layers))
    before = model(TOKENS)
    message = f"{tmp_path / 'deep.pth'} has 5 layers: {problem}. Name one layer of it, from 0 to 4, for each"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.init_weights()
    assert torch.equal(model(TOKENS), before)


def test_other_mistakes_are_named(deep, tokenizer, tmp_path):
    path = tmp_path / "deep.pth"
    for init_cfg, message in (
        (initial(path, layer=[0]), r"has the keys \['checkpoint', 'layer', 'type'\], expected .* 'layers'"),
        (initial(path, prefix="student."), "has no weights that start with 'student.'"),
    ):
        with pytest.raises(ValueError, match=message):
            build(tokenizer, 5, init_cfg=init_cfg).init_weights()
    with pytest.raises(FileNotFoundError, match="No weight file at"):
        build(tokenizer, 5, init_cfg=initial(tmp_path / "other.pth")).init_weights()
    with pytest.raises(ValueError, match=r"holds no layer of a DeLVM.*first are \['weight'\]"):
        choose_layers(dict(weight=torch.zeros(1)), [0], 1, "file")
    wider = build(tokenizer, 5, init_cfg=initial(path))
    wider.head = MODELS.build(dict(type="NextTokenHead", embed_dims=32, num_embeddings=25))
    with pytest.raises(ValueError, match="with another shape"):
        wider.init_weights()
    torch.manual_seed(9)
    MODELS.build(TOKENIZER).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="trained with tokenizer"):
        build(tokenizer, 5, init_cfg=initial(path)).init_weights()
