"""Tokenization as it runs for days: killed, damaged data, several processes, a full disk; the bytes do not change."""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from delvm_mm.datasets import ImageFolderDataset
from delvm_mm.models import VQGAN
from delvm_mm.precompute import tokenization, tokenize_clips
from delvm_mm.stores import TokenStore
from helpers import ROOT
from helpers.killed_runs import contents, kill
from helpers.small_vqgan import SMALL_VQGAN

CONFIG = """
tokenizer = "tokenizer"
stores = [dict(
    dataset=dict(
        type="ProceduralScenes", task="derain", size=40, length=30,
        pipeline=[dict(type="ResizeShortSide", size=32), dict(type="CenterCrop", size=32),
                  dict(type="PackClip", keys=("img", "gt_img"))]),
    out="whole", num_augmented_copies=2, shard_clips=3)]
tokenization = dict(batch_clips=2, num_workers=1)
"""


class SomeBroken:
    """Clips of which some cannot be read."""

    def __init__(self, clips, broken):
        self.clips, self.broken = clips, broken

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, clip):
        if clip in self.broken:
            raise self.broken[clip]
        return self.clips[clip]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clips_that_cannot_be_read_are_left_out_and_listed(tmp_path, numbered_clips, tokenizer, num_workers):
    broken = {0: ValueError("a.jpg is damaged"), 5: PermissionError(13, "Permission denied", "b.jpg")}
    broken |= {n: FileNotFoundError("no image at c.jpg") for n in (8, 9, 10, 11)}
    clips = SomeBroken(numbered_clips(14), broken)
    options = dict(shard_clips=4, batch_clips=3, num_workers=num_workers)
    store = tokenize_clips(clips, tokenizer, tmp_path / "s", on_error="skip", **options)
    store.verify()
    left = [clip for clip in range(14) if clip not in broken]
    assert [int(store[i][0, 0]) for i in range(len(store))] == left, "a whole shard, 8 to 11, is empty"
    assert [entry["clip"] for entry in store.skipped] == sorted(broken)
    assert store.skipped[0]["error"] == "a.jpg is damaged" and "b.jpg" in store.skipped[1]["error"]
    assert json.loads((tmp_path / "s" / "index.json").read_text())["skipped"] == store.skipped
    again = tokenize_clips(clips, tokenizer, tmp_path / "s", on_error="skip", **options)
    assert len(again) == 8, "a finished store is not another data set for its gaps"


def test_a_clip_that_cannot_be_read_stops_the_run_by_its_name(tmp_path, numbered_clips, tokenizer):
    clips = SomeBroken(numbered_clips(6), {4: ValueError("a.jpg is damaged")})
    with pytest.raises(ValueError, match=r"a\.jpg is damaged\n\(clip 4; .*--on-error skip"):
        tokenize_clips(clips, tokenizer, tmp_path / "s", shard_clips=2, batch_clips=2, num_workers=1)
    assert len(TokenStore(tmp_path / "s")) == 4, "what was finished before is kept"
    store = tokenize_clips(clips, tokenizer, tmp_path / "s", shard_clips=2, batch_clips=2, on_error="skip")
    assert len(store) == 5 and store.complete


def test_programming_errors_are_not_skipped(tmp_path, numbered_clips, tokenizer):
    clips = SomeBroken(numbered_clips(6), {4: AttributeError("a mistake")})
    with pytest.raises(AttributeError, match="a mistake"):
        tokenize_clips(clips, tokenizer, tmp_path / "s", on_error="skip")


def test_if_nothing_can_be_read_there_is_no_store(tmp_path, numbered_clips, tokenizer):
    clips = SomeBroken(numbered_clips(3), {n: ValueError(f"{n}.jpg is damaged") for n in range(3)})
    with pytest.raises(ValueError, match=r"none of the 3 clips .* can be read; the last one: 2\.jpg"):
        tokenize_clips(clips, tokenizer, tmp_path / "s", on_error="skip")
    assert not (tmp_path / "s").exists()


def test_every_copy_has_random_numbers_of_its_own(tmp_path, numbered_clips, tokenizer):
    store = tokenize_clips(numbered_clips(5, noise=True), tokenizer, tmp_path / "s", num_augmented_copies=4)
    assert len(store) == 20 and store.num_augmented_copies == 4
    first = [[int(store[copy * 5 + sample][0, 0]) for copy in range(4)] for sample in range(5)]
    assert all(len(set(levels)) > 1 for levels in first)
    plain = tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "plain", num_augmented_copies=2)
    assert [int(plain[i][0, 0]) for i in range(10)] == [0, 1, 2, 3, 4] * 2, "copies follow each other"


def test_another_run_on_the_same_store_is_kept_out(tmp_path, numbered_clips, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenization, "LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / ".s.lock"), pytest.raises(FileExistsError, match="another run is writing"):
        tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_data_that_changed_in_the_meantime_are_not_mixed(tmp_path, tokenizer):
    folder = tmp_path / "images"
    folder.mkdir()
    pipeline = [dict(type="LoadImage"), dict(type="PackClip", keys=("img",))]

    def tokenize():
        clips = ImageFolderDataset(folder, pipeline=pipeline)
        return tokenize_clips(clips, tokenizer, tmp_path / "s", shard_clips=2, batch_clips=2)

    for number in range(6):
        Image.fromarray(np.full((8, 8, 3), 10 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "4.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"4\.png"):
        tokenize()
    before = contents(tmp_path / "s")
    (folder / "5.png").rename(folder / "00.png")
    with pytest.raises(FileExistsError, match=r"source_digest .*\. The data set has changed"):
        tokenize()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "5.png")
    with pytest.raises(FileExistsError, match="source_clips is 6, now 7"):
        tokenize()
    assert contents(tmp_path / "s") == before


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(24, "Too many open files")])
def test_what_is_no_fault_of_the_data_is_not_skipped(tmp_path, numbered_clips, tokenizer, error):
    clips = SomeBroken(numbered_clips(6), {4: error})
    with pytest.raises(OSError, match=error.strerror):
        tokenize_clips(clips, tokenizer, tmp_path / "s", on_error="skip")


def test_a_clip_of_another_shape_is_not_skipped(tmp_path, numbered_clips, tokenizer):
    class OneSmaller(numbered_clips):
        def __getitem__(self, clip):
            sample = super().__getitem__(clip)
            return sample | {"inputs": sample["inputs"][..., :4]} if clip == 3 else sample

    with pytest.raises(ValueError, match="clip 3 has images of shape"):
        tokenize_clips(OneSmaller(6), tokenizer, tmp_path / "s", on_error="skip")


def test_another_precision_is_another_store(tmp_path, numbered_clips, tokenizer):
    tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "s", precision="bfloat16")
    with pytest.raises(FileExistsError, match="precision is 'bfloat16', now 'float32'"):
        tokenize_clips(numbered_clips(5), tokenizer, tmp_path / "s")


def test_a_full_disk_is_named_and_keeps_what_is_finished(tmp_path, numbered_clips, tokenizer, monkeypatch):
    replaced, replace = [], os.replace

    def full(source, target):
        replaced.append(target)
        if len(replaced) == 6:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*shard-000002\.npy: No space left on device; .* run again"):
        tokenize_clips(numbered_clips(10), tokenizer, tmp_path / "s", shard_clips=2)
    monkeypatch.undo()
    assert len(TokenStore(tmp_path / "s")) == 4 and not list((tmp_path / "s").glob(".*"))
    tokenize_clips(numbered_clips(10), tokenizer, tmp_path / "s", shard_clips=2)
    tokenize_clips(numbered_clips(10), tokenizer, tmp_path / "whole", shard_clips=2)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.fixture
def run(tmp_path):
    """Start the tool on a config of 60 small clips in 20 shards."""
    VQGAN(**SMALL_VQGAN).save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "config.py").write_text(CONFIG)
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))

    def start(out, processes=1):
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        tool = [str(ROOT / "tools" / "tokenize_dataset.py"), "config.py", "--cfg-options", f"stores.0.out={out}"]
        return subprocess.Popen(
            [*launcher, *tool],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def test_killed_runs_and_several_processes_end_with_the_same_bytes(run, tmp_path):
    whole = run("whole")
    assert "60 clips of 2 x 64 tokens" in whole.communicate()[0] and whole.returncode == 0
    shared = run("shared", processes=2)
    output = shared.communicate()[0]
    assert shared.returncode == 0 and "60 clips" in output, output
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")

    rounds = random.Random(0)
    for _ in range(2):
        killed = run("killed", processes=rounds.choice([1, 2]))
        shards = len(list(tmp_path.glob("killed/shard-*.npy"))) + rounds.randint(1, 3)
        while killed.poll() is None and len(list(tmp_path.glob("killed/shard-*.npy"))) < shards:
            time.sleep(0.005)
        kill(killed.pid)
        killed.communicate()
    last = run("killed")
    output = last.communicate()[0]
    assert last.returncode == 0 and "by an earlier run" in output, output
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_tool_lists_what_it_skipped(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((32, 32, 3), number * 50, np.uint8)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    VQGAN(**SMALL_VQGAN).save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "config.py").write_text(
        "tokenizer = 'tokenizer'\n"
        "stores = [dict(dataset=dict(type='ImageFolderDataset', data_root='images', pipeline=["
        "dict(type='LoadImage'), dict(type='PackClip', keys=('img',))]), out='out')]\n"
    )
    command = [sys.executable, str(ROOT / "tools" / "tokenize_dataset.py"), "config.py"]
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    stopped = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert stopped.returncode == 1 and "2.png" in stopped.stderr and "--on-error skip" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    skipped = subprocess.run(
        [*command, "--on-error", "skip"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert skipped.returncode == 0, skipped.stderr
    assert "3 clips of 1 x 64 tokens, 1 skipped" in skipped.stdout and "2.png" in skipped.stdout
