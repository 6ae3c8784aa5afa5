import json
import sys
from types import ModuleType

import pytest
import torch
import yaml

from delvm_mm.models import VQGAN
from delvm_mm.models.tokenizers.conversion import (
    config_of_shapes,
    save_as_diffusers,
    save_as_taming,
    vqgan_from_diffusers,
    vqgan_from_taming,
)

SMALL = {
    "resolution": 32,
    "hidden_channels": 32,
    "channel_mult": (1, 2, 2),
    "num_res_blocks": 2,
    "z_channels": 8,
    "num_embeddings": 24,
    "quantized_embed_dim": 6,
}


def _vqgan(**changes) -> VQGAN:
    torch.manual_seed(0)
    vqgan = VQGAN(**{**SMALL, **changes}).eval()
    for name, value in vqgan.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(value, 0.5, 0.2)
    # Codes among the vectors: many of them are used.
    with torch.no_grad():
        vectors = vqgan.to_vectors(torch.rand(1, 3, 32, 32)).permute(0, 2, 3, 1).flatten(0, 2)
        vqgan.codebook.copy_(vectors[torch.linspace(0, len(vectors) - 1, 24).long()])
    return vqgan


def _vqmodel(attention: bool, mid: bool = True):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    levels = [False, False, attention]
    model = diffusers.VQModel(
        block_out_channels=(32, 64, 64),
        down_block_types=tuple(f"{'Attn' * attend}DownEncoderBlock2D" for attend in levels),
        up_block_types=tuple(f"{'Attn' * attend}UpDecoderBlock2D" for attend in reversed(levels)),
        layers_per_block=2,
        latent_channels=8,
        num_vq_embeddings=24,
        vq_embed_dim=6,
        mid_block_add_attention=mid,
    ).eval()
    with torch.no_grad():
        vectors = model.encode(torch.rand(1, 3, 32, 32)).latents.permute(0, 2, 3, 1).flatten(0, 2)
        model.quantize.embedding.weight.copy_(vectors[torch.linspace(0, len(vectors) - 1, 24).long()])
    return model


@torch.no_grad()
def _assert_agree(vqgan, vqmodel, symmetric=False):
    images = torch.rand(2, 3, 24, 40)
    latents = vqmodel.encode(2 * images - 1 if symmetric else images).latents
    _, _, (_, _, tokens) = vqmodel.quantize(latents)
    decoded = vqmodel.decode(latents).sample
    decoded = (decoded + 1) / 2 if symmetric else decoded
    assert torch.equal(vqgan.encode(images).flatten(), tokens.flatten())
    assert len(tokens.unique()) > 8
    torch.testing.assert_close(vqgan(images), decoded.clamp(0, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("attention", "mid"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_of_diffusers_gives_the_same_tokens_and_images(tmp_path, attention, mid, safe):
    other = _vqmodel(attention, mid)
    other.save_pretrained(tmp_path, safe_serialization=safe)
    vqgan = vqgan_from_diffusers(tmp_path)
    assert not vqgan.training
    _assert_agree(vqgan, other)


def test_diffusers_reads_what_is_written_for_it(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    vqgan = _vqgan(attn_resolutions=(8,), no_attn_mid_block=False, commitment_cost=0.5)
    save_as_diffusers(vqgan, tmp_path)
    other, info = diffusers.VQModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    _assert_agree(vqgan, other.eval())
    again = vqgan_from_diffusers(tmp_path, resolution=32)
    assert again.fingerprint == vqgan.fingerprint


def test_a_vqmodel_of_symmetric_images_takes_and_gives_ours(tmp_path):
    other = _vqmodel(attention=True)
    other.save_pretrained(tmp_path)
    _assert_agree(vqgan_from_diffusers(tmp_path, symmetric_pixels=True), other, symmetric=True)


def test_old_names_of_attention_are_read(tmp_path):
    torch_file = pytest.importorskip("safetensors.torch")
    other = _vqmodel(attention=True)
    other.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, value in torch_file.load_file(path).items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[name] = value
    assert any("proj_attn" in name for name in renamed)
    torch_file.save_file(renamed, path)
    _assert_agree(vqgan_from_diffusers(tmp_path), other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "config of a AutoencoderKL, expected a VQModel"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu', VQGAN has 'silu' only"),
        ({"norm_type": "spatial"}, "norm_type is 'spatial'"),
        ({"up_block_types": ["UpDecoderBlock2D"] * 3}, "do not fit VQGAN"),
        ({"block_out_channels": [32, 48, 64]}, "must be multiples of the first, 32"),
        ({"layers_per_block": 1}, "attention in levels of a single residual block"),
        ({"num_vq_embeddings": 25}, r"quantize\.embedding\.weight: \(24, 6\) in the file, \(25, 6\) in the model"),
        ({"latent_channels": 4}, r"conv_out.*with another shape|with another shape"),
    ],
)
def test_vqmodels_that_do_not_fit_are_refused(tmp_path, changes, message):
    _vqmodel(attention=True).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        vqgan_from_diffusers(tmp_path)


def test_damaged_and_missing_files_of_diffusers_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected config\.json and diffusion_pytorch_model\.safetensors"):
        vqgan_from_diffusers(tmp_path)
    save_as_diffusers(_vqgan(), tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON object"):
        vqgan_from_diffusers(tmp_path)


def _published_taming_shapes(ch, ch_mult, blocks, attends, z, embed_dim, n_embed):
    """Names and shapes of a checkpoint of taming-transformers' VQModel, by the architecture of its paper."""
    shapes = {}

    def layer(name, *shape, bias=True):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def residual(name, width_in, width):
        layer(f"{name}.norm1", width_in)
        layer(f"{name}.conv1", width, width_in, 3, 3)
        layer(f"{name}.norm2", width)
        layer(f"{name}.conv2", width, width, 3, 3)
        if width_in != width:
            layer(f"{name}.nin_shortcut", width, width_in, 1, 1)

    def attention(name, width):
        layer(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{name}.{part}", width, width, 1, 1)

    def middle(name, width):
        residual(f"{name}.mid.block_1", width, width)
        attention(f"{name}.mid.attn_1", width)
        residual(f"{name}.mid.block_2", width, width)

    widths = [ch * multiple for multiple in ch_mult]
    last = len(widths) - 1
    layer("encoder.conv_in", ch, 3, 3, 3)
    width_in = ch
    for level, width in enumerate(widths):
        for block in range(blocks):
            residual(f"encoder.down.{level}.block.{block}", width_in, width)
            width_in = width
            if level in attends:
                attention(f"encoder.down.{level}.attn.{block}", width)
        if level < last:
            layer(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    middle("encoder", widths[-1])
    layer("encoder.norm_out", widths[-1])
    layer("encoder.conv_out", z, widths[-1], 3, 3)
    layer("decoder.conv_in", widths[-1], z, 3, 3)
    middle("decoder", widths[-1])
    width_in = widths[-1]
    for level in reversed(range(len(widths))):
        for block in range(blocks + 1):
            residual(f"decoder.up.{level}.block.{block}", width_in, widths[level])
            width_in = widths[level]
            if level in attends:
                attention(f"decoder.up.{level}.attn.{block}", widths[level])
        if level > 0:
            layer(f"decoder.up.{level}.upsample.conv", widths[level], widths[level], 3, 3)
    layer("decoder.norm_out", ch)
    layer("decoder.conv_out", 3, ch, 3, 3)
    layer("quantize.embedding", n_embed, embed_dim, bias=False)
    layer("quant_conv", embed_dim, z, 1, 1)
    layer("post_quant_conv", z, embed_dim, 1, 1)
    return shapes


def test_the_published_imagenet_checkpoint_of_taming_fits():
    # vqgan_imagenet_f16_16384, its model.yaml: ch 128, ch_mult 1,1,2,2,4, attn_resolutions [16], z_channels 256.
    shapes = _published_taming_shapes(128, (1, 1, 2, 2, 4), 2, {4}, 256, 256, 16384)
    config = config_of_shapes(shapes, "last.ckpt", 256)
    assert config == {
        "resolution": 256, "num_channels": 3, "hidden_channels": 128, "channel_mult": [1, 1, 2, 2, 4],
        "num_res_blocks": 2, "attn_resolutions": [16], "no_attn_mid_block": False, "z_channels": 256,
        "num_embeddings": 16384, "quantized_embed_dim": 256, "resample_with_conv": True,
    }  # fmt: skip
    with torch.device("meta"):
        own = VQGAN(**config, symmetric_pixels=True).state_dict()
    assert {name: tuple(value.shape) for name, value in own.items()} == shapes


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_lightning_checkpoint_is_read_without_running_anything(tmp_path, monkeypatch, prefix):
    torch.manual_seed(0)
    shapes = _published_taming_shapes(32, (1, 2), 2, {1}, 8, 6, 24)
    weights = {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    state = {prefix + name: value for name, value in weights.items()}
    state |= {f"{prefix}loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4), "model_ema.decay": torch.ones(())}
    # Lightning before 1.5 has the class of a callback as a key; nobody needs Lightning to read that.
    module = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    callbacks = {module.ModelCheckpoint: {"best_model_path": "x"}}
    torch.save({"epoch": 3, "state_dict": state, "callbacks": callbacks, "lr_schedulers": []}, tmp_path / "last.ckpt")
    monkeypatch.undo()
    vqgan = vqgan_from_taming(tmp_path / "last.ckpt", resolution=64)
    assert vqgan.config["attn_resolutions"] == (32,)
    assert all(torch.equal(value, weights[name]) for name, value in vqgan.state_dict().items())


def test_images_of_taming_are_rescaled_on_the_way_in_and_out(tmp_path):
    plain = _vqgan(attn_resolutions=(8,), no_attn_mid_block=False)
    save_as_taming(plain, tmp_path / "a.ckpt")
    vqgan = vqgan_from_taming(tmp_path / "a.ckpt", resolution=32)
    assert vqgan.symmetric_pixels
    images = torch.rand(2, 3, 32, 32)
    tokens = vqgan.encode(images)
    assert torch.equal(tokens, plain.encode(2 * images - 1))
    assert not torch.equal(tokens, plain.encode(images))
    with torch.no_grad():
        vectors = plain.to_vectors(2 * images - 1)
        torch.testing.assert_close(vqgan.to_images(vectors), plain.to_images(vectors) / 2 + 0.5)
    assert vqgan.fingerprint != plain.fingerprint
    vqgan.save_pretrained(tmp_path / "folder")
    again = VQGAN.from_pretrained(tmp_path / "folder")
    assert again.symmetric_pixels
    assert again.fingerprint == vqgan.fingerprint
    assert vqgan_from_taming(tmp_path / "a.ckpt", False, 32).fingerprint == plain.fingerprint


def test_what_is_written_for_taming_has_its_keys_its_config_and_attention_that_adds_nothing(tmp_path):
    vqgan = _vqgan()
    save_as_taming(vqgan, tmp_path / "out" / "a.ckpt")
    state = torch.load(tmp_path / "out" / "a.ckpt", weights_only=True)["state_dict"]
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes == _published_taming_shapes(32, (1, 2, 2), 2, (), 8, 6, 24)
    params = yaml.safe_load((tmp_path / "out" / "a.yaml").read_text())["model"]["params"]
    assert (params["n_embed"], params["embed_dim"], params["ddconfig"]["ch_mult"]) == (24, 6, [1, 2, 2])
    again = vqgan_from_taming(tmp_path / "out" / "a.ckpt", symmetric_pixels=False)
    assert not again.config["no_attn_mid_block"]
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(images), vqgan(images), atol=1e-5, rtol=0)


def test_checkpoints_that_are_no_vqgan_of_taming_are_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    weights = {name: torch.zeros(shape) for name, shape in _published_taming_shapes(32, (1,), 2, (), 8, 6, 4).items()}
    gumbel = {name: value for name, value in weights.items() if not name.startswith("quantize")}
    cases = (
        (gumbel | {"quantize.embed.weight": torch.zeros(4, 6)}, "Gumbel-softmax VQGAN"),
        ({"cond_stage_model.weight": torch.zeros(1)}, "no VQGAN of taming-transformers"),
        (weights | {"quant_conv.weight": torch.zeros(6, 16, 1, 1)}, "gives 8 channels and .* takes 16"),
        ({n: v for n, v in weights.items() if n != "encoder.conv_out.weight"}, r"encoder\.conv_out\.weight is missing"),
        ({n: v for n, v in weights.items() if not n.startswith("decoder.up.0.block.2")}, "do not fit VQGAN.*missing"),
        (weights | {"encoder.down.0.block.0.conv1.weight": torch.zeros(48, 32, 3, 3)}, r"\[48\] channels.*multiples"),
    )
    for state, message in cases:
        torch.save({"state_dict": state}, path)
        with pytest.raises(ValueError, match=message):
            vqgan_from_taming(path)


def test_tokenizers_that_others_cannot_hold_are_not_written(tmp_path):
    single = _vqgan(num_res_blocks=1, attn_resolutions=(8,))
    for save in (save_as_diffusers, save_as_taming):
        with pytest.raises(ValueError, match="levels of a single residual block"):
            save(single, tmp_path / "out")
    with pytest.raises(ValueError, match="always resamples with convolutions"):
        save_as_diffusers(_vqgan(resample_with_conv=False), tmp_path / "out")
    with pytest.raises(ValueError, match="32 groups, this tokenizer in 8"):
        save_as_taming(_vqgan(norm_num_groups=8), tmp_path / "out")
    assert not (tmp_path / "out").exists()
