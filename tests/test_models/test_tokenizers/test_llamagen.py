"""LlamaGen's tokenizers: the published key list, and arithmetic of the normalized look-up."""

import pytest
import torch
import torch.nn.functional as F

from delvm_mm.commands import convert_tokenizer as tool
from delvm_mm.models import VQGAN
from delvm_mm.models.tokenizers.conversion import config_of_shapes, save_as_diffusers
from delvm_mm.models.tokenizers.llamagen import taming_name, vqgan_from_llamagen

PUBLISHED = {"vq_ds16_c2i": (1, 1, 2, 2, 4), "vq_ds8_c2i": (1, 2, 2, 4)}


def published_shapes(ch_mult, ch=128, z=256, codes=16384, dims=8, blocks=2):
    """Names and shapes of ``VQModel`` by its architecture: attention in every block of the lowest resolution."""
    shapes = {}

    def layer(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def residual(name, width_in, width):
        for part, size in (("norm1", (width_in,)), ("conv1", (width, width_in, 3, 3)), ("norm2", (width,)),
                           ("conv2", (width, width, 3, 3))):  # fmt: skip
            layer(f"{name}.{part}", *size)
        if width_in != width:
            layer(f"{name}.nin_shortcut", width, width_in, 1, 1)

    def attention(name, width):
        layer(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{name}.{part}", width, width, 1, 1)

    widths = [ch * multiple for multiple in ch_mult]
    last = len(widths) - 1
    layer("encoder.conv_in", ch, 3, 3, 3)
    layer("decoder.conv_in", widths[-1], z, 3, 3)
    for part, order, resample in (("encoder", range(last + 1), "down"), ("decoder", range(last, -1, -1), "up")):
        width_in = ch if part == "encoder" else widths[-1]
        for number, level in enumerate(order):
            name = f"{part}.conv_blocks.{number}"
            for block in range(blocks + (part == "decoder")):
                residual(f"{name}.res.{block}", width_in, widths[level])
                width_in = widths[level]
                if level == last:
                    attention(f"{name}.attn.{block}", width_in)
            if number < last:
                layer(f"{name}.{resample}sample.conv", width_in, width_in, 3, 3)
        residual(f"{part}.mid.0", widths[-1], widths[-1])
        attention(f"{part}.mid.1", widths[-1])
        residual(f"{part}.mid.2", widths[-1], widths[-1])
    layer("encoder.norm_out", widths[-1])
    layer("encoder.conv_out", z, widths[-1], 3, 3)
    layer("decoder.norm_out", widths[0])
    layer("decoder.conv_out", 3, widths[0], 3, 3)
    shapes["quantize.embedding.weight"] = (codes, dims)
    shapes["quantize.codebook_used"] = (65536,)
    layer("quant_conv", dims, z, 1, 1)
    layer("post_quant_conv", z, dims, 1, 1)
    return shapes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A narrow ``vq_ds8`` with codes that are not of length 1, and its weights."""
    random = torch.Generator().manual_seed(0)
    shapes = published_shapes((1, 2, 2, 4), ch=32, z=16, codes=64, dims=8)
    weights = {
        name: torch.randn(shape, generator=random) / max(1, sum(shape[1:])) ** 0.5 for name, shape in shapes.items()
    }
    weights["quantize.embedding.weight"] *= torch.rand(64, 1, generator=random) * 5 + 0.1
    path = tmp_path_factory.mktemp("llamagen") / "vq_ds8_c2i.pt"
    torch.save(dict(model=weights, steps=3), path)
    return path, weights


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_key_has_a_place(name):
    ch_mult = PUBLISHED[name]
    shapes = {
        taming_name(key, len(ch_mult)): shape
        for key, shape in published_shapes(ch_mult).items()
        if key != "quantize.codebook_used"
    }
    config = config_of_shapes(shapes, name, 256)
    assert (config["num_embeddings"], config["quantized_embed_dim"]) == (16384, 8)
    assert config["attn_resolutions"] == [256 // 2 ** (len(ch_mult) - 1)] and not config["no_attn_mid_block"]
    with torch.device("meta"):
        own = VQGAN(**config, unit_vectors=True).state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == shapes


def test_codes_are_looked_up_and_decoded_on_the_unit_sphere(checkpoint):
    path, weights = checkpoint
    vqgan = vqgan_from_llamagen(path)
    images = torch.rand(2, 3, 32, 32)
    codes = F.normalize(weights["quantize.embedding.weight"], dim=-1)
    torch.testing.assert_close(vqgan.codebook.norm(dim=-1), torch.ones(64))
    with torch.no_grad():
        z = F.normalize(vqgan.quant_conv(vqgan.encoder(2 * images - 1)), dim=1).permute(0, 2, 3, 1).flatten(0, 2)
        expected = (z @ codes.T).argmax(-1).view(2, -1)
        assert torch.equal(vqgan.encode(images), expected)
        drawn = vqgan.decoder(vqgan.post_quant_conv(codes[expected].view(2, 4, 4, 8).permute(0, 3, 1, 2)))
    torch.testing.assert_close(vqgan.decode(expected), ((drawn + 1) / 2).clamp(0, 1))
    # Without the normalization other codes would be nearest.
    assert not torch.equal(torch.cdist(z, weights["quantize.embedding.weight"]).argmin(-1).view(2, -1), expected)


def test_weights_land_where_the_same_layer_is(checkpoint):
    path, weights = checkpoint
    own = vqgan_from_llamagen(path).state_dict()
    for theirs, ours in {
        "encoder.conv_blocks.3.attn.1.q.weight": "encoder.down.3.attn.1.q.weight",
        "decoder.conv_blocks.0.res.2.conv2.weight": "decoder.up.3.block.2.conv2.weight",
        "decoder.conv_blocks.2.upsample.conv.weight": "decoder.up.1.upsample.conv.weight",
        "decoder.mid.1.proj_out.weight": "decoder.mid.attn_1.proj_out.weight",
    }.items():
        assert torch.equal(own[ours], weights[theirs]), theirs


def test_the_tool_tells_it_from_other_files_and_a_folder_keeps_it(checkpoint, tmp_path, capsys):
    path, _ = checkpoint
    tool.main([str(path), str(tmp_path / "out")])
    assert "64 codes, 1 token for 8 x 8 pixels" in capsys.readouterr().out
    vqgan, read = vqgan_from_llamagen(path), VQGAN.from_pretrained(tmp_path / "out")
    assert read.fingerprint == vqgan.fingerprint and read.config["unit_vectors"]
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(read.encode(images), vqgan.encode(images))


def test_other_libraries_have_no_such_look_up_and_other_files_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="unit_vectors=True"):
        save_as_diffusers(vqgan_from_llamagen(checkpoint[0]), tmp_path / "out")
    skip = VQGAN(
        resolution=32, hidden_channels=32, channel_mult=(1, 2), z_channels=8, num_embeddings=8, linear_skip=True
    )
    with pytest.raises(ValueError, match="linear_skip=True"):
        save_as_diffusers(skip, tmp_path / "out")
    torch.save(dict(model=dict(weight=torch.zeros(2))), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="is no tokenizer of LlamaGen"):
        vqgan_from_llamagen(tmp_path / "other.pt")
    assert not (tmp_path / "out").exists()
