"""``norm='channel'`` with ``padding_mode='replicate'``: what is flat stays flat, the published layers as published."""

import json

import pytest
import torch

from delvm_mm.models.tokenizers.conversion import save_as_diffusers, save_as_taming
from delvm_mm.models.tokenizers.vqgan import VQGAN
from delvm_mm.models.tokenizers.vqgan_layers import ChannelNorm, Upsample

FLAT = {"norm": "channel", "padding_mode": "replicate"}


def _vqgan(**arguments) -> VQGAN:
    torch.manual_seed(0)
    vqgan = VQGAN(
        resolution=32,
        hidden_channels=8,
        channel_mult=(1, 2, 3),
        num_res_blocks=1,
        z_channels=8,
        num_embeddings=32,
        quantized_embed_dim=4,
        norm_num_groups=4,
        **arguments,
    )
    torch.nn.init.normal_(vqgan.codebook)
    return vqgan.eval()


@pytest.mark.parametrize("with_conv", [False, True])
def test_any_repeated_code_decodes_to_one_color(with_conv):
    images = _vqgan(resample_with_conv=with_conv, **FLAT).decode(torch.arange(32)[:, None].expand(32, 30), grid=(5, 6))
    assert images.shape == (32, 3, 20, 24)
    spread = images.amax((2, 3)) - images.amin((2, 3))
    assert spread.max() < 1e-5
    assert images.std() > 0.01, "all codes decode to one color: the test shows nothing"


@pytest.mark.parametrize("with_conv", [False, True])
def test_any_flat_image_is_one_code(with_conv):
    vqgan = _vqgan(resample_with_conv=with_conv, **FLAT)
    colors = torch.cat([torch.rand(20, 3), torch.zeros(1, 3), torch.ones(1, 3)])
    vectors = vqgan.to_vectors(colors[:, :, None, None].expand(-1, -1, 24, 20))
    assert (vectors - vectors[..., :1, :1]).abs().max() < 1e-4


def test_the_published_layers_draw_patterns_there():
    images = _vqgan().decode(torch.arange(32)[:, None].expand(32, 36))
    assert (images.amax((2, 3)) - images.amin((2, 3))).max() > 0.1


def test_what_is_drawn_in_a_corner_stays_there():
    vqgan = _vqgan(**FLAT)
    images = torch.rand(1, 3, 256, 256)
    changed = images.clone()
    changed[..., :4, :4] = 0
    difference = (vqgan.to_vectors(images) - vqgan.to_vectors(changed)).abs().amax(1)[0]
    assert difference[0, 0] > 0 and difference[-1, -1] == 0


@pytest.mark.parametrize("options", [{}, FLAT, {"linear_skip": True, **FLAT}])
@pytest.mark.parametrize("depth", [3, 5])
def test_gradients_of_black_images_are_of_ordinary_size(options, depth):
    torch.manual_seed(0)
    vqgan = VQGAN(
        resolution=32, hidden_channels=8, channel_mult=(1,) * depth, num_res_blocks=1, z_channels=8, num_embeddings=32,
        quantized_embed_dim=4, norm_num_groups=4, **options,
    )  # fmt: skip
    black = torch.zeros(2, 3, 32, 32)
    vqgan.to_vectors(black).sub(1).square().mean().backward()
    norms = [value.grad.norm() for value in vqgan.encoder.parameters()]
    assert all(norm < 100 for norm in norms), max(norms)


def test_channel_norm_is_layer_norm_of_each_place():
    norm, hidden = ChannelNorm(6), torch.randn(2, 6, 3, 5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    centered = hidden - hidden.mean(1, keepdim=True)
    expected = centered / (centered.square().mean(1, keepdim=True) + 1e-6).sqrt()
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(hidden), expected)


def test_repeating_and_convolving_at_once_goes_on_at_the_border_too():
    upsample, hidden = Upsample(4, True, "replicate"), torch.randn(2, 4, 5, 3)
    with_gradient = upsample(hidden)
    with torch.no_grad():
        torch.testing.assert_close(upsample(hidden), with_gradient, atol=1e-5, rtol=1e-5)


def test_keys_and_shapes_do_not_depend_on_it():
    own, published = _vqgan(**FLAT).state_dict(), _vqgan().state_dict()
    assert {name: value.shape for name, value in own.items()} == {k: v.shape for k, v in published.items()}


def test_the_config_names_it_only_where_it_is_used(tmp_path):
    assert not set(FLAT) & set(_vqgan().config)
    vqgan = _vqgan(**FLAT)
    vqgan.save_pretrained(tmp_path)
    assert FLAT.items() <= json.loads((tmp_path / "config.json").read_text()).items()
    again = VQGAN.from_pretrained(tmp_path)
    images = torch.rand(1, 3, 24, 24)
    assert torch.equal(again.encode(images), vqgan.encode(images))
    assert again.fingerprint == vqgan.fingerprint


def test_the_fingerprint_tells_them_apart():
    plain, flat = _vqgan(), _vqgan(**FLAT)
    flat.load_state_dict(plain.state_dict())
    assert plain.fingerprint != flat.fingerprint


@pytest.mark.parametrize("save", [save_as_diffusers, save_as_taming])
def test_libraries_that_do_not_know_it_are_not_given_it(save, tmp_path):
    with pytest.raises(ValueError, match="norm='channel'"):
        save(_vqgan(**FLAT), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "valid"), [("norm", "'group' or 'channel'"), ("padding_mode", "'zeros' or 'replicate'")]
)
def test_other_values_are_refused(name, valid):
    with pytest.raises(ValueError, match=f"{name} must be {valid}, got 'batch'"):
        VQGAN(**{name: "batch"})


def test_a_linear_skip_adds_a_map_of_each_patch_and_of_each_code():
    plain, skip = _vqgan(**FLAT), _vqgan(linear_skip=True, **FLAT)
    added = set(skip.state_dict()) - set(plain.state_dict())
    assert added == {f"{name}.{part}" for name in ("patch_in", "patch_out") for part in ("weight", "bias")}
    images = torch.rand(2, 3, 8, 12)
    patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3)
    linear = (patches @ skip.patch_in.weight.flatten(1).T + skip.patch_in.bias).permute(0, 3, 1, 2)
    layers = skip.quant_conv(skip.encoder(images))
    torch.testing.assert_close(skip.to_vectors(images), layers + linear, atol=1e-5, rtol=1e-4)
    codes = torch.randn(2, 4, 2, 3)
    drawn = (codes.permute(0, 2, 3, 1) @ skip.patch_out.weight.flatten(1)).view(2, 2, 3, 3, 4, 4)
    drawn = drawn.permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 8, 12) + skip.patch_out.bias[:, None, None]
    expected = skip.decoder(skip.post_quant_conv(codes)) + drawn
    torch.testing.assert_close(skip.to_images(codes), expected, atol=1e-5, rtol=1e-4)


def test_tokenizers_with_other_linear_maps_have_other_tokens_and_fingerprints(tmp_path):
    skip = _vqgan(linear_skip=True, **FLAT)
    skip.keep_fingerprint()
    kept = skip.fingerprint
    torch.nn.init.normal_(skip.patch_out.weight)
    assert skip.fingerprint == kept, "the decoder's map makes no tokens"
    skip.save_pretrained(tmp_path)
    assert VQGAN.from_pretrained(tmp_path).fingerprint == kept
    torch.nn.init.normal_(skip.patch_in.weight)
    assert skip.fingerprint != kept
