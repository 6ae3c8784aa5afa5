"""Token stores: what is written is what is read, also after a kill, and every kind of damage has its own message."""

import hashlib
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from delvm_mm.stores import TokenStore, TokenStoreWriter
from delvm_mm.stores.shard_folder import default_shard_size
from helpers.killed_runs import contents

SETTINGS = {
    "clip_shape": (2, 4),
    "grid": (2, 2),
    "num_embeddings": 1000,
    "tokenizer_fingerprint": "tok-a",
    "task": "seg",
    "source": {"type": "SomeClips", "root": "data"},
    "seed": 3,
    "num_augmented_copies": 10,
    "shard_clips": 4,
}


@pytest.fixture
def clips():
    return np.random.RandomState(0).randint(0, 1000, (10, 2, 4))


def edit_index(folder, **changes):
    index = json.loads((folder / "index.json").read_text())
    index.update(changes)
    (folder / "index.json").write_text(json.dumps(index))


def write(folder, clips):
    writer = TokenStoreWriter(folder, **SETTINGS)
    writer.add(clips)
    writer.finish()


def test_clips_come_back_across_shards(tmp_path, clips):
    write(tmp_path / "s", clips)
    store = TokenStore(tmp_path / "s", tokenizer_fingerprint="tok-a")
    assert len(store) == 10 and store.complete and store.grid == (2, 2) and store.clip_shape == (2, 4)
    assert all(np.array_equal(store[i], clips[i]) for i in range(10))
    assert np.array_equal(store[-1], clips[9])
    with pytest.raises(IndexError, match="10 clips"):
        store[10]
    store.verify()


def test_reading_a_clip_copies_nothing(tmp_path, clips):
    write(tmp_path / "s", clips)
    store = TokenStore(tmp_path / "s")
    assert isinstance(store[5], np.memmap) and np.shares_memory(store[5], store[5]) and store[5].dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        store[5][0, 0] = 1
    assert len(pickle.dumps(store)) == len(pickle.dumps(TokenStore(tmp_path / "s")))


def test_numpy_and_json_read_it_without_this_package(tmp_path, clips):
    write(tmp_path / "s", clips)
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    shards = [tmp_path / "s" / shard["file"] for shard in index["shards"]]
    read = np.concatenate([np.load(shard, mmap_mode="r") for shard in shards])
    assert read.dtype == np.uint16 and np.array_equal(read, clips)
    assert [shard["clips"] for shard in index["shards"]] == [4, 4, 2] and index["num_clips"] == 10
    assert [shard["sha256"] for shard in index["shards"]] == [
        hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards
    ]
    assert {key: index[key] for key in SETTINGS} == json.loads(json.dumps(SETTINGS))


@pytest.mark.parametrize("killed_at", range(1, 8))
def test_a_killed_writer_continues_to_the_same_bytes(tmp_path, clips, monkeypatch, killed_at):
    write(tmp_path / "whole", clips)
    replace, calls = os.replace, []

    def dying_replace(source, target):
        calls.append(target)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        replace(source, target)

    # Three shards make eight renames: the index before the first and after each shard, and when finishing.
    monkeypatch.setattr(os, "replace", dying_replace)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "killed", clips)
    monkeypatch.undo()
    if (tmp_path / "killed" / "index.json").exists():
        left = TokenStore(tmp_path / "killed")
        left.verify()
        assert not left.complete
    writer = TokenStoreWriter(tmp_path / "killed", **SETTINGS)
    writer.add(clips[writer.num_clips :])
    writer.finish()
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("key, value", [("tokenizer_fingerprint", "tok-b"), ("seed", 4), ("shard_clips", 8)])
def test_a_store_with_other_settings_is_left_alone(tmp_path, clips, key, value):
    write(tmp_path / "s", clips)
    before = contents(tmp_path / "s")
    with pytest.raises(FileExistsError, match=f"other settings: {key} is .*{value}"):
        TokenStoreWriter(tmp_path / "s", **(SETTINGS | {key: value}))
    assert contents(tmp_path / "s") == before


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        TokenStoreWriter(tmp_path, **SETTINGS)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize(
    "clips, message",
    [
        (np.zeros((1, 2, 5), int), "2 x 4"),
        (np.zeros((1, 2, 4)), "float64"),
        (np.full((1, 2, 4), 1000), "to 1000, but the codebook has 1000"),
        (np.full((1, 2, 4), -1), "from -1"),
    ],
)
def test_clips_that_do_not_fit_are_refused(tmp_path, clips, message):
    with pytest.raises(ValueError, match=message):
        TokenStoreWriter(tmp_path / "s", **SETTINGS).add(clips)


def test_settings_that_contradict_are_refused(tmp_path):
    for change, message in [
        ({"grid": (2, 3)}, "grid"),
        ({"num_embeddings": 70000}, "uint16"),
        ({"shard_clips": 0}, "1"),
    ]:
        with pytest.raises(ValueError, match=message):
            TokenStoreWriter(tmp_path / "s", **(SETTINGS | change))
    assert not (tmp_path / "s").exists()


def test_a_store_of_another_tokenizer_is_refused_by_name(tmp_path, clips):
    write(tmp_path / "s", clips)
    with pytest.raises(ValueError, match=r"made with tokenizer 'tok-a', expected 'tok-b'"):
        TokenStore(tmp_path / "s", tokenizer_fingerprint="tok-b")


def test_missing_parts_are_named(tmp_path, clips):
    with pytest.raises(FileNotFoundError, match="no token store at"):
        TokenStore(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no index\.json"):
        TokenStore(tmp_path)
    write(tmp_path / "s", clips)
    (tmp_path / "s" / "shard-000001.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-000001\.npy is missing"):
        TokenStore(tmp_path / "s")


def test_a_wrong_index_is_named(tmp_path, clips):
    write(tmp_path / "s", clips)
    edit_index(tmp_path / "s", version=2)
    with pytest.raises(ValueError, match="version 2"):
        TokenStore(tmp_path / "s")
    edit_index(tmp_path / "s", version=1, shards=[{"file": "shard-000000.npy"}])
    with pytest.raises(ValueError, match=r"shards\[0\]\.clips"):
        TokenStore(tmp_path / "s")
    (tmp_path / "s" / "index.json").write_text("{}")
    with pytest.raises(ValueError, match="not the index of a token store"):
        TokenStore(tmp_path / "s")
    (tmp_path / "s" / "index.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="not valid JSON"):
        TokenStore(tmp_path / "s")


def test_a_truncated_shard_is_found_on_opening(tmp_path, clips):
    write(tmp_path / "s", clips)
    shard = tmp_path / "s" / "shard-000000.npy"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"shard-000000\.npy has \d+ bytes"):
        TokenStore(tmp_path / "s")


def replace_shard(folder, array, checksum):
    """Put another array in the place of the first shard, with an index that knows its size."""
    np.save(folder / "shard-000000.npy", array)
    content = (folder / "shard-000000.npy").read_bytes()
    shards = json.loads((folder / "index.json").read_text())["shards"]
    shards[0]["bytes"] = len(content)
    if checksum:
        shards[0]["sha256"] = hashlib.sha256(content).hexdigest()
    edit_index(folder, shards=shards)


@pytest.mark.parametrize("array", [np.zeros((4, 2, 4), np.int16), np.zeros((4, 4, 2), np.uint16)])
def test_a_shard_of_other_type_or_shape_is_refused(tmp_path, clips, array):
    write(tmp_path / "s", clips)
    replace_shard(tmp_path / "s", array, checksum=True)
    with pytest.raises(ValueError, match=r"uint16 of shape \(4, 2, 4\)"):
        TokenStore(tmp_path / "s")[0]


def test_verify_finds_changed_tokens_and_tokens_outside_the_codebook(tmp_path, clips):
    write(tmp_path / "s", clips)
    replace_shard(tmp_path / "s", np.zeros((4, 2, 4), np.uint16), checksum=False)
    with pytest.raises(ValueError, match=r"shard-000000\.npy has sha256"):
        TokenStore(tmp_path / "s").verify()
    replace_shard(tmp_path / "s", np.full((4, 2, 4), 1000, np.uint16), checksum=True)
    with pytest.raises(ValueError, match="holds token 1000, but the codebook has 1000"):
        TokenStore(tmp_path / "s").verify()


def test_a_store_of_more_shards_than_files_may_be_open_is_read(tmp_path):
    writer = TokenStoreWriter(tmp_path / "s", **(SETTINGS | {"shard_clips": 1}))
    writer.add(np.arange(80 * 8).reshape(80, 2, 4))
    writer.finish()
    # In a process of its own, for the hard limit cannot be raised again.
    code = (
        "import sys, resource, numpy as np\n"
        "from delvm_mm.stores import TokenStore\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 4096))\n"
        "store = TokenStore(sys.argv[1])\n"
        "for _ in range(2):\n"
        "    assert (store.read(range(80)) == np.arange(640)).all()\n"
        "    assert all(store[clip][1, 3] == 8 * clip + 7 for clip in range(80))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == "4096", done.stderr


MIB = 2**20


@pytest.mark.parametrize(
    "item_bytes, total, size",
    [
        (1024, None, 16 * MIB // 1024),  # pairs of 2 x 256 tokens of uint16
        (1024, 2_000_000, 16 * MIB // 1024),
        (1024, 64 * 1000, 1000),
        (1024, 64 * 1000 + 1, 1001),
        (1024, 100, 512),
        (2047 * 130, 1_000_000, 63),  # sentences of a teacher, k = 32
        (2047 * 130, 200, 4),
        (32 * MIB, 10, 1),
    ],
)
def test_a_shard_has_16_mib_or_of_fewer_data_a_64th_part(item_bytes, total, size):
    assert default_shard_size(item_bytes, total) == size


def test_a_store_is_continued_with_the_shards_it_was_begun_with(tmp_path, clips):
    sized = dict(SETTINGS)
    default = {key: value for key, value in SETTINGS.items() if key != "shard_clips"}
    for name in ("unbroken", "continued"):
        TokenStoreWriter(tmp_path / name, **sized).add(clips[:4])
    writer = TokenStoreWriter(tmp_path / "unbroken", **sized)
    assert writer.shard_clips == 4
    continued = TokenStoreWriter(tmp_path / "continued", **default)
    assert continued.shard_clips == 4
    for each in (writer, continued):
        each.add(clips[4:])
        each.finish()
    files = [
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("unbroken", "continued")
    ]
    assert files[0] == files[1]
    new = TokenStoreWriter(tmp_path / "new", **default)
    assert new.shard_clips == 16 * MIB // (2 * 4 * 2)


def test_a_store_whose_last_shards_are_missing_is_not_finished(tmp_path, clips):
    writer = TokenStoreWriter(tmp_path / "s", **(SETTINGS | {"source_clips": 10}))
    writer.add(clips[:8])
    with pytest.raises(RuntimeError, match="has 8 of 10 clips: its last shards were not written"):
        writer.finish()
    assert not TokenStore(tmp_path / "s").complete


def test_a_store_from_before_the_data_were_counted_is_continued(tmp_path, clips):
    TokenStoreWriter(tmp_path / "s", **SETTINGS).add(clips[:4])
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    for key in ("source_clips", "source_digest", "precision", "skipped"):
        del index[key]
    (tmp_path / "s" / "index.json").write_text(json.dumps(index))
    writer = TokenStoreWriter(tmp_path / "s", **SETTINGS, source_clips=10, source_digest="ab")
    writer.add(clips[4:])
    writer.finish()
    assert len(TokenStore(tmp_path / "s")) == 10
