"""``delvm convert-tokens``: released tokens to stores and back, what it says about rows, and its errors."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from delvm_mm.commands import convert_tokens
from delvm_mm.models import VQGAN
from delvm_mm.stores import TokenStore

FINGERPRINT = ("--fingerprint", "0123456789abcdef")
OPTIONS = ("--task", "seg", "--num-embeddings", "64")


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """The tool, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: convert_tokens.main(list(arguments))


def write(path, *rows):
    Path(path).write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))


def test_the_golden_file_goes_to_stores_and_back(convert, golden, tmp_path, capsys):
    convert("import", str(golden / "tokens" / "train.bin"), "tokens", *OPTIONS, *FINGERPRINT)
    said = capsys.readouterr().out
    assert "tokens/clips_of_2: 4 clips of 2 x 256 tokens" in said
    assert "tokens/clips_of_6: 1 clips of 6 x 256 tokens" in said
    assert "40 tokens are no whole number of images of 16 x 16" in said and said.count("note:") == 1
    stores = [f"tokens/{name}" for name in ("clips_of_2", "clips_of_6", "rows_of_40")]
    convert("export", *stores, "back/train.bin")
    assert "back/train.bin: 6 rows" in capsys.readouterr().out
    lines = Path("back/train.bin").read_bytes().splitlines()
    assert sorted(lines) == sorted((golden / "tokens" / "train.bin").read_bytes().splitlines())
    offsets = np.load("back/train.bin.meta")[:, 0]
    assert offsets.tolist() == np.cumsum([0, *(len(line) + 1 for line in lines)])[:-1].tolist()


def test_clips_are_split_on_import_and_joined_on_export(convert, capsys):
    write("a.bin", list(range(16)), list(range(4)))
    convert("import", "a.bin", "out", "--grid", "2", "2", "--clip-length", "2", *OPTIONS, *FINGERPRINT)
    assert "rows of 1 images do not split into clips of 2 and are kept whole" in capsys.readouterr().out
    store = TokenStore("out/clips_of_2")
    assert store[1].tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]] and store.tokenizer_fingerprint == FINGERPRINT[1]
    convert("export", "out/clips_of_2", "b.bin", "--images-per-row", "4")
    assert json.loads(Path("b.bin").read_text()) == {"tokens": list(range(16))}


def test_the_tokenizer_gives_fingerprint_and_codebook_size(convert, capsys):
    vqgan = VQGAN(
        resolution=32, hidden_channels=8, channel_mult=(1, 2), num_res_blocks=1, z_channels=8, num_embeddings=32,
        quantized_embed_dim=8, norm_num_groups=4,
    )  # fmt: skip
    vqgan.save_pretrained("tokenizer")
    write("a.bin", [31] * 256)
    convert("import", "a.bin", "out", "--task", "seg", "--tokenizer", "tokenizer", "--source", "photographs")
    store = TokenStore("out", vqgan.fingerprint)
    assert (store.num_embeddings, store.source) == (32, "photographs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "gone.bin", "out", *OPTIONS, *FINGERPRINT], "no file at gone.bin"),
        (["import", "a.bin", "out", *OPTIONS, "--fingerprint", "mine"], "expected 16 hexadecimal digits"),
        (["import", "a.bin", "out", *OPTIONS, "--tokenizer", "gone"], "gone"),
        (["import", "a.bin", "out", *OPTIONS, *FINGERPRINT, "--grid", "0", "2"], r"grid must be .* got \(0, 2\)"),
        (["import", "a.bin", "out", *OPTIONS, *FINGERPRINT, "--clip-length", "0"], "clip_length must be at least 1"),
        (["import", "a.bin", "out", *OPTIONS, *FINGERPRINT, "--shard-clips", "0"], "--shard-clips must be at least 1"),
        (["import", "a.bin", "out", *OPTIONS, *FINGERPRINT], "a.bin, line 2 holds token 64 at position 1"),
        (["export", "gone", "b.bin"], "no token store at gone"),
    ],
)
def test_bad_input_gives_one_clear_error_and_leaves_nothing(convert, tmp_path, capsys, arguments, message):
    write("a.bin", [1], [2, 64])
    with pytest.raises(SystemExit) as stopped:
        convert(*arguments)
    assert stopped.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
