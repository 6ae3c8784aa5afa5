"""Bulk tokenization: the right tokens, resumable to the same bytes, and the tool around it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from delvm_mm.commands import tokenize as tokenize_dataset
from delvm_mm.datasets import CenterCrop, ProceduralScenes, ResizeShortSide, VisualSentenceDataset
from delvm_mm.models import VQGAN, load_tokenizer
from delvm_mm.precompute import tokenize_clips
from delvm_mm.stores import TokenStore
from helpers.killed_runs import contents
from helpers.small_vqgan import SMALL_VQGAN


@pytest.mark.parametrize("num_workers", [0, 2])
def test_tokens_are_those_of_the_clips_in_order(tmp_path, numbered_clips, tokenizer, num_workers):
    calls = []
    store = tokenize_clips(
        numbered_clips(10),
        tokenizer,
        tmp_path / "s",
        shard_clips=4,
        batch_clips=3,
        num_workers=num_workers,
        progress=lambda done, total: calls.append((done, total)),
    )
    expected = np.repeat([[[i], [i + 1]] for i in range(10)], 4, axis=2)
    assert np.array_equal(np.stack([store[i] for i in range(10)]), expected)
    assert (store.grid, store.task, store.tokenizer_fingerprint, store.num_embeddings) == (
        ((2, 2), "seg", "gray-levels", 16)
    )
    assert calls == [(n, 10) for n in (0, 3, 4, 7, 8, 10)], "batches end where shards end"
    assert set(tokenizer.batch_sizes) == {6, 2, 4}
    store.verify()


@pytest.mark.parametrize("fail_at", [0, 3, 4, 9])
def test_a_stopped_run_continues_to_the_same_bytes(tmp_path, numbered_clips, tokenizer, fail_at):
    options = {"shard_clips": 4, "batch_clips": 3, "seed": 7}
    tokenize_clips(numbered_clips(10, noise=True), tokenizer, tmp_path / "whole", **options)
    with pytest.raises(ValueError, match=f"clip {fail_at} cannot be read"):
        tokenize_clips(numbered_clips(10, fail_at=fail_at, noise=True), tokenizer, tmp_path / "stopped", **options)
    tokenize_clips(numbered_clips(10, noise=True), tokenizer, tmp_path / "stopped", num_workers=2, **options)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_finished_store_is_left_alone(tmp_path, numbered_clips, tokenizer):
    tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "s")
    before, tokenizer.batch_sizes = contents(tmp_path / "s"), []
    tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "s")
    assert contents(tmp_path / "s") == before and tokenizer.batch_sizes == []
    with pytest.raises(FileExistsError, match=r"source_clips is 5, now 6\. The data set has changed"):
        tokenize_clips(numbered_clips(6), tokenizer, tmp_path / "s")
    tokenizer.fingerprint = "changed"
    with pytest.raises(FileExistsError, match="tokenizer_fingerprint is 'gray-levels', now 'changed'"):
        tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "s")
    assert contents(tmp_path / "s") == before


def test_random_numbers_of_the_caller_are_left_alone(tmp_path, numbered_clips, tokenizer):
    np.random.seed(3)
    torch.manual_seed(3)
    tokenize_clips(numbered_clips(5, noise=True), tokenizer, tmp_path / "s")
    assert np.random.rand() == np.random.RandomState(3).rand()
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))


def test_clips_that_do_not_belong_together_are_named(tmp_path, numbered_clips, tokenizer):
    class Mixed(numbered_clips):
        def __getitem__(self, clip):
            sample = super().__getitem__(clip)
            if clip == 2:
                self.change(sample)
            return sample

    for number, (change, message) in enumerate(
        [
            (lambda self, s: s["data_samples"].set_metainfo({"task": "pose"}), "clip 2 is of task 'pose'"),
            (lambda self, s: s.update(inputs=s["inputs"][..., :4]), r"clip 2 has images of shape \(2, 3, 8, 4\)"),
            (lambda self, s: s.update(inputs=s["inputs"].float()), "clip 2 has no uint8 'inputs'"),
        ]
    ):
        Mixed.change = change
        with pytest.raises(ValueError, match=message):
            tokenize_clips(Mixed(5), tokenizer, tmp_path / str(number))
    with pytest.raises(ValueError, match="is empty"):
        tokenize_clips(numbered_clips(0), tokenizer, tmp_path / "none")
    tokenizer.downsample_factor = 3
    with pytest.raises(ValueError, match="multiples of 3"):
        tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "odd")
    assert not (tmp_path / "none").exists() and not (tmp_path / "odd").exists()


def test_a_tokenizer_is_loaded_frozen_from_a_folder_or_a_config(tmp_path):
    vqgan = VQGAN(**SMALL_VQGAN)
    vqgan.save_pretrained(tmp_path)
    for given in (tmp_path, str(tmp_path), {"pretrained": tmp_path}, {"type": "VQGAN", "pretrained": str(tmp_path)}):
        assert load_tokenizer(given).fingerprint == vqgan.fingerprint
    config = dict(type="VQGAN", **SMALL_VQGAN, init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path)})
    loaded = load_tokenizer(config)
    assert loaded.fingerprint == vqgan.fingerprint
    assert not loaded.training and not any(weight.requires_grad for weight in loaded.parameters())
    with pytest.raises(ValueError, match="num_embeddings"):
        load_tokenizer({"pretrained": tmp_path, "num_embeddings": 3})
    with pytest.raises(ValueError, match="NoneType"):
        load_tokenizer(None)


CONFIG = """
default_scope = "delvm_mm"
tokenizer = "tokenizer"
pipeline = [
    dict(type="ResizeShortSide", size=32),
    dict(type="CenterCrop", size=32),
    dict(type="PackClip", keys=("img", "gt_img"), factor=4),
]
scenes = dict(type="ProceduralScenes", task="derain", size=40, length=5, seed=1, pipeline=pipeline)
stores = [dict(dataset=scenes, out="tokens/derain", shard_clips=2)]
tokenization = dict(batch_clips=2, num_workers=1)
"""


@pytest.fixture
def tool():
    return tokenize_dataset.main


def error_of(tool, capsys, *arguments):
    """What a failing run prints; its exit code must be 1."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        tool(list(arguments))
    assert stopped.value.code == 1
    return capsys.readouterr().err


def test_the_tool_tokenizes_skips_what_is_finished_and_names_what_is_wrong(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    VQGAN(**SMALL_VQGAN).save_pretrained("tokenizer")
    Path("config.py").write_text(CONFIG)
    tool(["config.py", "--device", "cpu"])
    assert "tokens/derain: 5 clips of 2 x 64 tokens" in capsys.readouterr().out
    store = TokenStore("tokens/derain")
    store.verify()
    assert len(store) == 5 and store.seed == 1 and store.source["task"] == "derain"
    assert VisualSentenceDataset([store.path], context=256)[0]["inputs"].shape == (256,)
    scene = ProceduralScenes(task="derain", size=40, length=5, seed=1)[4]
    images = torch.from_numpy(np.stack([CenterCrop(32)(ResizeShortSide(32)(scene))[key] for key in ("img", "gt_img")]))
    tokens = VQGAN.from_pretrained("tokenizer").encode(images.permute(0, 3, 1, 2) / 255)
    assert (store[4] == tokens.numpy()).mean() > 0.98, "another batch may round a token to its neighbor, not more"
    before = contents(store.path)
    tool(["config.py"])
    assert "finished before, nothing to do (5 clips)" in capsys.readouterr().out
    assert "seed is 1, now 2" in error_of(tool, capsys, "config.py", "--cfg-options", "stores.0.dataset.seed=2")
    assert contents(store.path) == before


def test_the_tool_names_what_a_config_lacks(tool, tmp_path, capsys):
    config = tmp_path / "config.py"
    for text, message in [
        ("stores = [dict(out='x')]", "no 'tokenizer' in the config"),
        ("tokenizer = 'folder'", "no 'stores' in the config"),
        ("tokenizer = 'folder'; stores = [dict(out='x', dset=1)]", r"stores\[0\] lacks \['dataset'\] .* \['dset'\]"),
        ("tokenizer = 'no-folder'; stores = [dict(dataset=dict(), out='x')]", "no-folder"),
    ]:
        config.write_text(text)
        assert re.search(message, error_of(tool, capsys, str(config)))
    assert "none.py" in error_of(tool, capsys, str(tmp_path / "none.py"))


def test_the_tool_shows_the_last_line_of_an_error_in_a_worker(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    VQGAN(**SMALL_VQGAN).save_pretrained("tokenizer")
    broken = CONFIG.replace('dict(type="CenterCrop", size=32)', 'dict(type="CenterCrop", size=31)')
    Path("config.py").write_text(broken)
    error = error_of(tool, capsys, "config.py")
    assert "31x31" in error and "Traceback" not in error and not Path("tokens/derain").exists()


def test_a_store_names_the_task_of_clips_that_have_none(tmp_path, numbered_clips, tokenizer):
    clips = numbered_clips(3)
    clips_without = [dict(clips[i], data_samples=BaseDataElement()) for i in range(3)]
    with pytest.raises(ValueError, match=r"clip 0 has no 'task' .*SetTask"):
        tokenize_clips(clips_without, tokenizer, tmp_path / "s")
    assert tokenize_clips(clips_without, tokenizer, tmp_path / "s", task="cats").task == "cats"
    assert tokenize_clips(clips, tokenizer, tmp_path / "t", task="cats").task == "cats", "in place of the clips' own"
