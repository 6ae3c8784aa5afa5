"""``delvm convert-tokenizer``, called in this process."""

import pytest
import torch

from delvm_mm.commands import convert_tokenizer
from delvm_mm.models import VQGAN


@pytest.fixture
def convert():
    return lambda *arguments: convert_tokenizer.main([str(argument) for argument in arguments])


@pytest.fixture
def tokenizer(tmp_path):
    torch.manual_seed(0)
    vqgan = VQGAN(resolution=32, hidden_channels=32, channel_mult=(1, 1), z_channels=8, num_embeddings=16)
    vqgan.save_pretrained(tmp_path / "start")
    return vqgan


def test_a_tokenizer_goes_to_every_layout_and_back(convert, tokenizer, tmp_path, capsys):
    convert(tmp_path / "start", tmp_path / "vqmodel", "--to", "diffusers")
    convert(tmp_path / "vqmodel", tmp_path / "again", "--resolution", "32")
    assert VQGAN.from_pretrained(tmp_path / "again").fingerprint == tokenizer.fingerprint
    assert tokenizer.fingerprint in capsys.readouterr().out
    convert(tmp_path / "start", tmp_path / "a.ckpt", "--to", "taming")
    assert "[0, 1], where taming-transformers feeds [-1, 1]" in capsys.readouterr().out
    convert(tmp_path / "a.ckpt", tmp_path / "unit", "--pixels", "unit")
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(VQGAN.from_pretrained(tmp_path / "unit").encode(images), tokenizer.eval().encode(images))
    convert(tmp_path / "a.ckpt", tmp_path / "symmetric")
    assert "works on images in [-1, 1], which openmuse" in capsys.readouterr().out
    assert VQGAN.from_pretrained(tmp_path / "symmetric").symmetric_pixels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out"], "nowhere is neither a .ckpt file nor a folder"),
        (["start", "out", "--to", "taming"], "name one that ends with .ckpt"),
        (["start", "out", "--pixels", "unit"], "--pixels is for diffusers and taming"),
        (["start", "out", "--from", "diffusers"], "start is no folder of a VQModel"),
        (["start", "out", "--resolution", "0"], "--resolution must be positive"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    convert, tokenizer, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        convert(*arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
