"""``delvm browse``: sheets from raw data, from tokens and of prompts, summaries, what is damaged."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from delvm_mm.commands import browse as browse_dataset
from delvm_mm.models import VQGAN
from delvm_mm.precompute import tokenize_clips
from delvm_mm.registry import DATASETS
from delvm_mm.stores import TokenStore, TokenStoreWriter, store_summary

CONFIG = """
default_scope = "delvm_mm"
tokenizer = "tokenizer"
draw = dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec"))
scenes = dict(type="ProceduralScenes", task="seg", size=32)
clips = dict(scenes, length=6, pipeline=[draw, dict(type="PackClip")])
images = dict(type="ImageFolderDataset", data_root="images",
              pipeline=[dict(type="LoadImage"), dict(type="PackClip", keys=("img",))])
stores = [dict(dataset=clips, out="tokens/train/seg"), dict(dataset=images, out="tokens/val/seg")]
model = dict(type="DeLVM", tokenizer=dict(type="VQGAN", pretrained="tokenizer"))
train_dataloader = dict(dataset=dict(type="VisualSentenceDataset", stores=["tokens/train/seg"], context=256))
shown = dict(scenes, length=5, pipeline=[draw])
tasks = dict(seg=dict(dataloader=dict(
    dataset=dict(type="VisionPromptDataset", support=dict(shown, start=9), query=shown, num_pairs=2))))
"""
TILE, MARGIN = 160, 6  # pixels; images of 32 are enlarged five times


@pytest.fixture
def tokenizer(tmp_path, monkeypatch):
    """A folder with ``config.py``, three images of which the second is cut short, and a tiny tokenizer."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    vqgan = VQGAN(
        resolution=32, hidden_channels=8, channel_mult=(1, 2, 2), num_res_blocks=1, z_channels=8, num_embeddings=32,
        quantized_embed_dim=8, norm_num_groups=4,
    )  # fmt: skip
    vqgan.save_pretrained("tokenizer")
    Path("config.py").write_text(CONFIG)
    Path("images").mkdir()
    for number in range(3):
        image = np.random.RandomState(number).randint(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(image).save(f"images/{number}.png")
    content = Path("images/1.png").read_bytes()
    Path("images/1.png").write_bytes(content[: len(content) // 2])
    return vqgan.eval()


@pytest.fixture
def browse(tokenizer, capsys):
    """The tool; returns what it prints."""

    def run(*arguments):
        capsys.readouterr()
        browse_dataset.main([*arguments, "--device", "cpu", "--out-dir", "sheets"])
        return capsys.readouterr().out

    run.module = browse_dataset
    return run


def tokenize(tokenizer, out="tokens/train/seg", **options):
    store = next(store for store in Config.fromfile("config.py").stores if store["out"] == out)
    return tokenize_clips(DATASETS.build(store["dataset"]), tokenizer, out, device="cpu", **options)


def sheets():
    return sorted(path.name for path in Path("sheets").glob("*"))


def tiles(name, rows, row, *groups):
    """The images of a row of a sheet whose rows are all alike, in groups of so many, shrunk to 32 x 32 x 3."""
    part = np.split(np.asarray(Image.open(f"sheets/{name}.png")), rows)[row][-MARGIN - TILE : -MARGIN]
    lefts = MARGIN + np.cumsum([0] + [TILE + gap for group in groups for gap in [2] * (group - 1) + [10]])
    assert part.shape[1] == lefts[-1] - 10 + MARGIN, "no more images than these"
    return np.stack([part[::5, left : left + TILE : 5] for left in lefts[:-1]])


def test_raw_clips_are_shown_before_anything_is_tokenized(browse):
    said = browse("config.py", "--what", "stores", "--stores", "train/seg", "--num", "4")
    assert "sheets/tokens-train-seg" not in said and "sheets/train-seg_raw.png: 4 of 6 clips, raw" in said
    assert "tokens/train/seg: not tokenized yet" in said
    assert sheets() == ["train-seg_raw.png"]


def test_sheets_show_the_clips_and_beside_them_what_their_tokens_decode_to(browse, tokenizer):
    store = tokenize(tokenizer)
    said = browse("config.py", "--what", "stores", "--stores", "train/seg")
    assert sheets() == ["train-seg_decoded.png", "train-seg_raw.png"]
    dataset = DATASETS.build(dict(type="ProceduralScenes", task="seg", size=32, length=6))
    decoded = tokenizer.decode(torch.from_numpy(store[4].astype(np.int64)), grid=(8, 8)) * 255
    decoded = decoded.round().byte().permute(0, 2, 3, 1).numpy()
    image, label, *back = tiles("train-seg_decoded", 6, 4, 2, 2)
    assert np.array_equal(image, dataset[4]["img"]) and set(np.unique(label)) == {0, 255}
    assert np.array_equal(back, decoded)
    assert len(tiles("train-seg_raw", 6, 0, 2)) == 2
    for line in ("6 of 2 images of 8 x 8 tokens", "768", tokenizer.fingerprint, "ProceduralScenes", "complete"):
        assert line in said


def test_summary_counts_codes_and_their_perplexity(browse, tokenizer):
    writer = TokenStoreWriter(
        "store", clip_shape=(1, 4), grid=(2, 2), num_embeddings=32, tokenizer_fingerprint="other", task="seg",
        shard_clips=1,
    )  # fmt: skip
    # Half of the tokens are 5, a quarter each 0 and 31: perplexity 2 ** 1.5.
    writer.add(np.array([[[5, 5, 0, 31]]] * 3))
    writer.finish()
    said = browse("--store", "store", "--tokenizer", "tokenizer")
    assert "3 of 32 entries used (9.4%)" in said and "perplexity       │ 2.8" in said
    assert "store: no decoded sheet: it was made with tokenizer 'other'" in said and sheets() == []


def test_of_a_large_store_some_shards_are_counted(browse, monkeypatch):
    writer = TokenStoreWriter(
        "store", clip_shape=(1, 4), grid=(2, 2), num_embeddings=32, tokenizer_fingerprint="other", task="seg",
        shard_clips=1,
    )  # fmt: skip
    writer.add(np.arange(24).reshape(6, 1, 4))
    writer.finish()
    monkeypatch.setattr(store_summary, "TOKENS_COUNTED", 200)  # shards of 136 bytes: 408 tokens, if all were
    assert "8 of 32 entries used (25.0%), in 2 of 6 shards" in browse("--store", "store")


def test_damaged_samples_are_named_and_the_rest_is_shown_beside_its_tokens(browse, tokenizer):
    store = tokenize(tokenizer, "tokens/val/seg", on_error="skip")
    assert len(store) == 2
    said = browse("config.py", "--what", "stores", "--stores", "val/seg")
    assert re.search(r"damaged: images/1.png is damaged or truncated", said)
    assert "sheets/val-seg_raw.png: 2 of 3 clips, raw" in said
    assert re.search(r"skipped +│ 1 clips", said) and "clip 1: images/1.png" in said
    # Clip 1 of the store is image 2: the damaged one is not in it.
    image, back = tiles("val-seg_decoded", 2, 1, 1, 1)
    assert np.array_equal(image, np.asarray(Image.open("images/2.png")))
    decoded = tokenizer.decode(torch.from_numpy(store[1].astype(np.int64)), grid=(8, 8)) * 255
    assert np.array_equal(back, decoded[0].round().byte().permute(1, 2, 0).numpy())


def test_augmented_copies_are_those_of_the_store(browse, tokenizer):
    text = CONFIG.replace("size=32)\n", 'size=32)\nflip = dict(type="RandomFlip", prob=0.5)\n')
    text = text.replace("pipeline=[draw, dict", "pipeline=[flip, draw, dict")
    text = text.replace('out="tokens/train/seg")', 'out="tokens/train/seg", num_augmented_copies=2, seed=3)')
    Path("config.py").write_text(text)
    store = tokenize(tokenizer, num_augmented_copies=2, seed=3)
    assert "12 of 12 clips, raw" in browse("config.py", "--what", "stores", "--stores", "train/seg")
    for clip in range(12):
        images = tiles("train-seg_decoded", 12, clip, 2, 2)[:2]
        tokens = tokenizer.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
        assert (tokens.numpy() == store[clip]).mean() > 0.98, "another batch may round a token, not more"


def test_a_store_of_other_data_is_shown_without_raw_clips(browse, tokenizer):
    tokenize(tokenizer)
    arguments = ("config.py", "--what", "stores", "--stores", "train/seg", "--cfg-options", "stores.0.dataset.length=9")
    said = browse(*arguments)
    assert "shown without raw clips" in said and "train-seg_raw.png: 9 of 9 clips, raw" in said
    assert len(tiles("train-seg_decoded", 6, 0, 2)) == 2


def test_without_a_tokenizer_raw_sheets_are_made_and_without_data_decoded_ones(browse, tokenizer):
    tokenize(tokenizer)
    Path("tokenizer").rename("moved")
    said = browse("config.py", "--what", "stores", "--stores", "train/seg")
    assert re.search("tokens/train/seg: no decoded sheet: .*tokenizer", said) and sheets() == ["train-seg_raw.png"]
    Path("sheets/train-seg_raw.png").unlink()
    Path("images").rename("gone")
    Path("config.py").write_text(CONFIG.replace("dataset=clips", "dataset=images"))
    said = browse("config.py", "--what", "stores", "--stores", "train/seg", "--tokenizer", "moved")
    assert "tokens/train/seg: no sheet of raw data: " in said and sheets() == ["train-seg_decoded.png"]


def test_frames_of_a_video_and_their_decoded_ones_are_two_rows(browse, tokenizer):
    text = CONFIG.replace('type="ImageFolderDataset"', 'type="FrameFolderDataset", clip_length=6')
    Path("config.py").write_text(text.replace('"LoadImage"', '"LoadFrames"').replace('"img",', '"frames",'))
    for number in range(12):
        Image.fromarray(np.full((32, 32, 3), 20 * number, np.uint8)).save(f"images/{number}.png")
    tokenize(tokenizer, "tokens/val/seg")
    browse("config.py", "--what", "stores", "--stores", "val/seg")
    raw = np.asarray(Image.open("sheets/val-seg_raw.png"))
    both = np.asarray(Image.open("sheets/val-seg_decoded.png"))
    assert both.shape[1] == raw.shape[1] > 6 * TILE and raw.shape[0] < both.shape[0] < 2 * raw.shape[0]


def test_sentences_are_those_of_the_training_data(browse, tokenizer):
    store = tokenize(tokenizer)
    said = browse("config.py", "--what", "sentences")
    assert "sheets/sentences_train.png: 3 of 3 sentences of an epoch, from their tokens" in said
    assert "6 of 2 images of 8 x 8 tokens" in said
    sentence = DATASETS.build(dict(type="VisualSentenceDataset", stores=[store.path], context=256))[2]["inputs"]
    decoded = (tokenizer.decode(sentence.view(4, 64), grid=(8, 8)) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(tiles("sentences_train", 3, 2, 2, 2), decoded)


def test_every_store_gets_its_share_of_the_sentences(browse, tokenizer):
    tokenize(tokenizer)
    for name in ("a", "b"):
        Path(f"tokens/{name}").symlink_to(Path("tokens/train/seg").absolute())
    Path("config.py").write_text(CONFIG.replace('stores=["tokens/train/seg"]', 'stores=["tokens/a", "tokens/b"]'))
    assert "3 of 6 sentences" in browse("config.py", "--what", "sentences", "--num", "3")
    assert "2 of 6 sentences" in browse("config.py", "--what", "sentences", "--num", "2", "--stores", "b")


def test_prompts_of_tasks_are_shown_with_their_truth(browse):
    said = browse("config.py", "--what", "prompts", "--num", "2")
    assert "sheets/prompts_seg.png: 2 of 5 prompts" in said
    query, truth = tiles("prompts_seg", 2, 0, 2, 2, 1, 1)[-2:]
    assert set(np.unique(truth)) <= {0, 255} and len(np.unique(query)) > 2


def test_without_what_everything_is_shown_that_can_be(browse):
    said = browse("config.py", "--num", "2")
    assert "sentences: not shown: no token store at tokens/train/seg" in said
    assert sheets() == ["prompts_seg.png", "train-seg_raw.png", "val-seg_raw.png"]


def test_a_store_of_rows_that_are_no_images_is_only_summed_up(browse, tokenizer):
    writer = TokenStoreWriter(
        "rows", clip_shape=(1, 40), grid=(1, 40), num_embeddings=32, tokenizer_fingerprint=tokenizer.fingerprint,
        task="seg",
    )  # fmt: skip
    writer.add(np.zeros((1, 1, 40), int))
    assert "unfinished" in browse("--store", "rows", "--tokenizer", "tokenizer")
    writer.finish()
    said = browse("--store", "rows", "--tokenizer", "tokenizer")
    assert "rows: no decoded sheet: its rows of 40 tokens are no images" in said and sheets() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config.py", "--what", "stores", "--stores", "depth"], r"no 'depth' in the config, which has \['tokens/tr"),
        (["config.py", "--what", "prompts", "--task", "depth"], r"no task \['depth'\], it has \['seg'\]"),
        (["config.py", "--what", "sentences", "--split", "val"], "config.py has no 'val_dataloader'"),
        (["config.py", "--what", "sentences"], "no token store at tokens/train/seg"),
        (["config.py", "--num", "0"], "--num must be at least 1"),
        (["none.py"], "no config at none.py"),
        (["--store", "none"], "no token store at none"),
        ([], "give either a config or --store"),
    ],
)
def test_bad_input_gives_one_clear_error_and_a_failing_exit_code(browse, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        browse(*arguments)
    assert stopped.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0])


def test_a_store_with_a_token_outside_the_codebook_is_an_error(browse, tokenizer, capsys):
    store = tokenize(tokenizer)
    shard = store.path / "shard-000000.npy"
    tokens = np.load(shard)
    tokens[0, 0, 0] = 32
    np.save(shard, tokens)
    assert TokenStore(store.path)[0][0, 0] == 32
    with pytest.raises(SystemExit):
        browse("--store", str(store.path), "--tokenizer", "tokenizer")
    assert "train/seg holds token 32, its codebook has 32" in capsys.readouterr().err
