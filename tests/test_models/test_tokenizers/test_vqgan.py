import json

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict

from delvm_mm.models.tokenizers.vqgan import VQGAN
from delvm_mm.models.tokenizers.vqgan_layers import Downsample, Upsample, VectorQuantizer
from delvm_mm.registry import MODELS

TINY = {
    "resolution": 16,
    "hidden_channels": 8,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "z_channels": 4,
    "num_embeddings": 16,
    "quantized_embed_dim": 4,
    "norm_num_groups": 4,
}


@pytest.fixture
def vqgan() -> VQGAN:
    torch.manual_seed(0)
    model = VQGAN(**TINY).eval()
    torch.nn.init.normal_(model.quantize.embedding.weight)
    return model


def test_golden_checkpoint_gives_the_released_tokens_and_images(golden):
    vqgan = VQGAN.from_pretrained(golden / "vqgan")
    vectors = {name: torch.from_numpy(value) for name, value in np.load(golden / "vqgan" / "io.npz").items()}
    tokens = vqgan.encode(vectors["pixel_values"])
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, vectors["indices"])
    quantized = vqgan.codebook[vectors["indices"]].view(4, 8, 8, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(quantized, vectors["quantized"], atol=1e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(vqgan.to_images(quantized), vectors["reconstruction"], atol=1e-4, rtol=0)
    torch.testing.assert_close(vqgan.decode(tokens), vectors["reconstruction"].clamp(0, 1), atol=1e-4, rtol=0)
    assert not vqgan.training


def test_keys_are_the_published_ones(golden):
    published = torch.load(golden / "vqgan" / "pytorch_model.bin", weights_only=True)
    own = VQGAN.from_config(golden / "vqgan").state_dict()
    assert {name: value.shape for name, value in own.items()} == {k: v.shape for k, v in published.items()}


def test_published_defaults_build_with_as_many_parameters_as_diffusers():
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        vqgan = VQGAN()
        other = diffusers.VQModel(
            block_out_channels=(128, 256, 256, 512, 768),
            down_block_types=("DownEncoderBlock2D",) * 5,
            up_block_types=("UpDecoderBlock2D",) * 5,
            layers_per_block=2,
            latent_channels=64,
            num_vq_embeddings=8192,
            vq_embed_dim=64,
            mid_block_add_attention=False,
        )
    assert vqgan.codebook.shape == (8192, 64)
    assert vqgan.downsample_factor == 16
    assert sum(p.numel() for p in vqgan.parameters()) == sum(p.numel() for p in other.parameters()) == 146_244_675


@pytest.mark.parametrize("mid_attention", [True, False])
def test_diffusers_vqmodel_with_the_same_weights_agrees(mid_attention):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    widths, blocks = (32, 64, 64), 2
    other = diffusers.VQModel(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=blocks,
        latent_channels=8,
        num_vq_embeddings=32,
        vq_embed_dim=6,
        mid_block_add_attention=mid_attention,
    ).eval()
    torch.nn.init.normal_(other.quantize.embedding.weight)
    own = VQGAN(
        hidden_channels=32,
        channel_mult=(1, 2, 2),
        num_res_blocks=blocks,
        no_attn_mid_block=not mid_attention,
        z_channels=8,
        num_embeddings=32,
        quantized_embed_dim=6,
    ).eval()
    theirs = other.state_dict()
    own.load_state_dict({name: theirs[_diffusers_name(name)].view(v.shape) for name, v in own.state_dict().items()})

    images = torch.rand(2, 3, 24, 40)
    with torch.no_grad():
        latents = other.encode(images).latents
        _, _, (_, _, tokens) = other.quantize(latents)
        expected = other.decode(latents).sample
        torch.testing.assert_close(own.to_vectors(images), latents, atol=1e-4, rtol=1e-4)
        assert torch.equal(own.encode(images).flatten(), tokens.flatten())
        torch.testing.assert_close(own(images), expected.clamp(0, 1), atol=1e-4, rtol=1e-4)
        quantized = own.codebook[tokens].view(2, 6, 10, 6).permute(0, 3, 1, 2)
        torch.testing.assert_close(own.to_images(quantized), expected, atol=1e-4, rtol=1e-4)


def _diffusers_name(name: str) -> str:
    """Our key to diffusers': there decoder levels count from the lowest resolution."""
    parts = name.split(".")
    renamed = {
        "norm_out": "conv_norm_out",
        "nin_shortcut": "conv_shortcut",
        "block_1": "resnets.0",
        "block_2": "resnets.1",
        "attn_1": "attentions.0",
        "norm": "group_norm",
        "q": "to_q",
        "k": "to_k",
        "v": "to_v",
        "proj_out": "to_out.0",
        "block": "resnets",
        "mid": "mid_block",
        "down": "down_blocks",
        "up": "up_blocks",
        "downsample": "downsamplers.0",
        "upsample": "upsamplers.0",
    }
    if parts[1] == "up":
        parts[2] = str(2 - int(parts[2]))
    return ".".join(renamed.get(part, part) for part in parts)


def test_any_size_that_divides_is_encoded_row_by_row_and_decoded(vqgan):
    images = torch.rand(2, 3, 8, 20)
    tokens = vqgan.encode(images)
    assert tokens.shape == (2, 2 * 5)
    assert vqgan.decode(tokens, grid=(2, 5)).shape == images.shape
    vectors = vqgan.to_vectors(images).detach()
    first_of_second_row = torch.cdist(vectors[:1, :, 1, 0], vqgan.codebook.detach()).argmin()
    assert tokens[0, 5] == first_of_second_row


def test_decoded_images_are_clamped_and_squares_need_no_grid(vqgan):
    vqgan.decoder.conv_out.bias.data = torch.tensor([9.0, -9.0, 0.5])
    images = vqgan.decode(torch.zeros(1, 4, dtype=torch.int32))
    assert images.shape == (1, 3, 8, 8)
    assert images.min() == 0
    assert images.max() == 1


def test_forward_is_decode_of_encode_and_deterministic_in_eval(vqgan):
    images = torch.rand(1, 3, 8, 12)
    reconstruction = vqgan(images)
    assert torch.equal(reconstruction, vqgan.decode(vqgan.encode(images), grid=(2, 3)))
    assert torch.equal(reconstruction, vqgan(images))
    assert not reconstruction.requires_grad


def test_nearest_code_equals_brute_force_and_takes_the_first_of_equals(monkeypatch):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, 8)
    quantizer.embedding.weight.data = torch.randn(32, 8)
    quantizer.embedding.weight.data[20] = quantizer.embedding.weight.data[3]
    vectors = torch.cat([torch.randn(101, 8), quantizer.embedding.weight.data[20:21]])
    expected = (vectors[:, None].double() - quantizer.embedding.weight.double()).square().sum(-1).argmin(1)
    assert torch.equal(quantizer.nearest(vectors), expected)
    assert quantizer.nearest(vectors)[-1] == 3
    monkeypatch.setattr("delvm_mm.models.tokenizers.vqgan_layers._MAX_DISTANCES", 100)
    assert torch.equal(quantizer.nearest(vectors), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.nearest(vectors), expected)


def test_downsampling_pads_right_and_bottom_only():
    down = Downsample(1, with_conv=True)
    torch.nn.init.zeros_(down.conv.bias)
    down.conv.weight.data = torch.zeros(1, 1, 3, 3)
    down.conv.weight.data[0, 0, 0, 0] = 1  # picks the top left pixel of each window
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert down(image).flatten().tolist() == [0, 2, 8, 10]
    assert Downsample(1, with_conv=False)(image).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 4)])
def test_upsampling_without_gradients_is_the_convolution_of_repeated_places(size, layout):
    torch.manual_seed(0)
    upsample = Upsample(6, with_conv=True).to(memory_format=layout)
    hidden = torch.randn(2, 6, *size).to(memory_format=layout)
    plain = upsample.conv(hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)).detach()
    with torch.inference_mode():
        quick = upsample(hidden)
    torch.testing.assert_close(quick, plain, atol=1e-5, rtol=1e-5)
    assert quick.is_contiguous(memory_format=layout)
    with torch.no_grad():
        half = upsample.bfloat16()(hidden.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, atol=0.03, rtol=0.03)
    assert upsample.float()(hidden).requires_grad


def test_resampling_without_convolutions_has_no_weights_for_it():
    vqgan = VQGAN(**TINY, resample_with_conv=False)
    assert not [name for name in vqgan.state_dict() if "sample.conv" in name]
    assert vqgan(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.rand(1, 3, 10, 8), ValueError, "10x8.*multiples of 4.*8x8"),
        (torch.rand(1, 3, 0, 8), ValueError, "0x8"),
        (torch.rand(3, 8, 8), ValueError, r"N x 3 x H x W, got \(3, 8, 8\)"),
        (torch.rand(1, 1, 8, 8), ValueError, r"got \(1, 1, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, "uint8"),
    ],
)
def test_images_that_cannot_be_tokenized_are_refused(vqgan, images, error, message):
    with pytest.raises(error, match=message):
        vqgan.encode(images)


@pytest.mark.parametrize(
    ("indices", "grid", "error", "message"),
    [
        (torch.tensor([[0, 1, 2, 16]]), None, ValueError, "token 16 is outside the codebook, which has 16 codes"),
        (torch.tensor([[0, 1, -2, 15]]), None, ValueError, "token -2"),
        (torch.zeros(1, 6, dtype=torch.long), None, ValueError, "6 tokens are not a square"),
        (torch.zeros(1, 6, dtype=torch.long), (2, 2), ValueError, "grid 2x2 has 4 places, but there are 6 tokens"),
        (torch.zeros(1, 0, dtype=torch.long), None, ValueError, "0 tokens"),
        (torch.zeros(6, dtype=torch.long), None, ValueError, "N x "),
        (torch.zeros(1, 4), None, TypeError, "float32"),
    ],
)
def test_tokens_that_cannot_be_decoded_are_refused(vqgan, indices, grid, error, message):
    with pytest.raises(error, match=message):
        vqgan.decode(indices, grid)


def test_no_images_give_no_tokens(vqgan):
    tokens = vqgan.encode(torch.rand(0, 3, 8, 8))
    assert tokens.shape == (0, 4)
    assert vqgan.decode(tokens).shape == (0, 3, 8, 8)


def test_saved_folder_is_read_back_the_same(vqgan, tmp_path):
    vqgan.save_pretrained(tmp_path / "tokenizer")
    assert sorted(path.name for path in (tmp_path / "tokenizer").iterdir()) == ["config.json", "pytorch_model.bin"]
    again = VQGAN.from_pretrained(tmp_path / "tokenizer")
    assert again.config == vqgan.config
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(again(images), vqgan(images))
    assert again.fingerprint == vqgan.fingerprint


def test_saved_config_has_only_published_names(golden, tmp_path):
    VQGAN.from_pretrained(golden / "vqgan").save_pretrained(tmp_path)
    published = json.loads((golden / "vqgan" / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == {name: value for name, value in published.items() if name != "_version"}


@pytest.mark.parametrize("name", ["model.safetensors", "diffusion_pytorch_model.safetensors"])
def test_safetensors_folder_is_read(vqgan, tmp_path, name):
    safetensors = pytest.importorskip("safetensors.torch")
    vqgan.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    safetensors.save_file(vqgan.state_dict(), tmp_path / name)
    assert VQGAN.from_pretrained(tmp_path).fingerprint == vqgan.fingerprint


def test_fingerprint_follows_weights_and_architecture_but_not_training_options(vqgan):
    before = vqgan.fingerprint
    assert len(before) == 16
    assert vqgan.fingerprint == before
    twin = VQGAN(**TINY, commitment_cost=1.0, dropout=0.1)
    assert twin.fingerprint != before
    twin.load_state_dict(vqgan.state_dict())
    assert twin.fingerprint == before
    other = VQGAN(**{**TINY, "attn_resolutions": [99]})
    other.load_state_dict(vqgan.state_dict())
    assert other.fingerprint != before
    with torch.no_grad():
        vqgan.quant_conv.bias[0] += 1
    assert vqgan.fingerprint != before


def test_a_kept_fingerprint_stays_with_the_tokens_and_survives_saving(vqgan, tmp_path):
    before = vqgan.fingerprint
    vqgan.keep_fingerprint()
    with torch.no_grad():
        vqgan.decoder.conv_out.bias += 1
        vqgan.post_quant_conv.weight *= 2
    assert vqgan.fingerprint == before
    vqgan.save_pretrained(tmp_path)
    again = VQGAN.from_pretrained(tmp_path)
    assert again.fingerprint == before
    built = VQGAN(**TINY, init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path)})
    built.init_weights()
    assert built.fingerprint == before
    # Without the note it is the tokenizer that its weights are.
    config = json.loads((tmp_path / "config.json").read_text())
    note = config.pop("_tokens_of")
    assert note["fingerprint"] == before
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert VQGAN.from_pretrained(tmp_path).fingerprint != before
    with torch.no_grad():
        vqgan.codebook[3, 1] += 1e-3
    changed = vqgan.fingerprint
    assert changed != before
    vqgan.save_pretrained(tmp_path)
    assert VQGAN.from_pretrained(tmp_path).fingerprint == changed


@pytest.mark.parametrize("note", [{"fingerprint": "0" * 16, "encoder": "0" * 16}, "0" * 16, {"encoder": "0" * 16}])
def test_a_folder_that_claims_tokens_of_another_is_refused(vqgan, tmp_path, note):
    vqgan.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "_tokens_of": note}))
    with pytest.raises(ValueError, match=r"config\.json says .* encoder and codebook are not"):
        VQGAN.from_pretrained(tmp_path)


def test_registry_builds_and_initializes_from_a_folder_or_a_trainers_checkpoint(vqgan, tmp_path):
    vqgan.save_pretrained(tmp_path)
    torch.save({"state_dict": {f"vqgan.{k}": v for k, v in vqgan.state_dict().items()}}, tmp_path / "iter_1.pth")
    for init_cfg in (
        {"type": "Pretrained", "checkpoint": str(tmp_path)},
        {"type": "Pretrained", "checkpoint": str(tmp_path / "iter_1.pth"), "prefix": "vqgan."},
    ):
        built = MODELS.build(ConfigDict(type="VQGAN", **TINY, init_cfg=init_cfg))
        assert built.fingerprint != vqgan.fingerprint
        built.init_weights()
        assert built.fingerprint == vqgan.fingerprint


def test_config_errors_name_the_culprit(vqgan, tmp_path):
    with pytest.raises(ValueError, match=r"unknown names \['num_codes'\].*num_embeddings"):
        VQGAN.from_config({**TINY, "num_codes": 3})
    assert VQGAN.from_config({**TINY, "_class_name": "VQGANModel"}).num_embeddings == 16
    with pytest.raises(ValueError, match="12 channels, not divisible by norm_num_groups=8"):
        VQGAN(**{**TINY, "norm_num_groups": 8, "hidden_channels": 12})
    with pytest.raises(ValueError, match="num_embeddings must be a positive integer, got 0"):
        VQGAN(**{**TINY, "num_embeddings": 0})
    with pytest.raises(FileNotFoundError, match=r"nowhere; it holds config\.json and"):
        VQGAN.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"No weights in .*pytorch_model\.bin"):
        VQGAN.from_pretrained(tmp_path)
    vqgan.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        VQGAN.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object"):
        VQGAN.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"No config at .*config\.json"):
        VQGAN.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "num_embeddings": 8}))
    with pytest.raises(
        ValueError, match=r"pytorch_model\.bin do not fit VQGAN.*quantize\.embedding\.weight: \(16, 4\)"
    ):
        VQGAN.from_pretrained(tmp_path)


def test_an_interrupted_save_leaves_the_old_file(vqgan, tmp_path, monkeypatch):
    vqgan.save_pretrained(tmp_path)
    before = (tmp_path / "pytorch_model.bin").read_bytes()

    def fail(weights, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        vqgan.save_pretrained(tmp_path)
    assert (tmp_path / "pytorch_model.bin").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
