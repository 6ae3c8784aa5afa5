"""The text format of released tokens: read with every check, written as it was, to and from token stores."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from delvm_mm.stores import released_tokens
from delvm_mm.stores.released_tokens import (
    export_released_tokens,
    import_released_tokens,
    read_released_tokens,
    write_released_tokens,
)
from delvm_mm.stores.token_store import TokenStore

SETTINGS = {"grid": (2, 2), "num_embeddings": 64, "tokenizer_fingerprint": "tok-a", "task": "seg"}


def write(path, lines, meta=None):
    """A file as somebody else would write it, with its ``.meta`` if wanted."""
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    if meta is not None:
        with open(f"{path}.meta", "wb") as stream:
            np.save(stream, np.array(meta))
    return path


def rows_of(*lengths):
    random = np.random.RandomState(0)
    return [random.randint(0, 64, length) for length in lengths]


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def tokens_of(folder):
    store = TokenStore(folder)
    return np.stack([store[clip] for clip in range(len(store))])


def same(rows, others):
    return len(rows) == len(others) and all(np.array_equal(row, other) for row, other in zip(rows, others, strict=True))


def test_the_golden_file_is_read_exactly_and_written_byte_for_byte(golden, tmp_path):
    tokens = golden / "tokens"
    expected = np.load(tokens / "expected.npz")
    rows = list(read_released_tokens(tokens / "train.bin", num_embeddings=64))
    assert same(rows, [expected[f"row{number}"] for number in range(6)])
    assert write_released_tokens(tmp_path / "train.bin", rows) == 6
    for name in ("train.bin", "train.bin.meta"):
        assert (tmp_path / name).read_bytes() == (tokens / name).read_bytes()


def test_the_golden_file_is_imported_by_length(golden, tmp_path):
    tokens = golden / "tokens"
    expected = np.load(tokens / "expected.npz")
    folders = import_released_tokens(tokens / "train.bin", tmp_path / "out", **(SETTINGS | {"grid": (16, 16)}))
    assert [folder.name for folder in folders] == ["clips_of_2", "clips_of_6", "rows_of_40"]
    for name, rows, grid in (
        ("clips_of_2", (0, 1, 2, 4), (16, 16)),
        ("clips_of_6", (3,), (16, 16)),
        ("rows_of_40", (5,), (1, 40)),
    ):
        store = TokenStore(tmp_path / "out" / name, tokenizer_fingerprint="tok-a")
        store.verify()
        assert (store.complete, store.grid, store.task, store.source) == (True, grid, "seg", "train.bin")
        assert same(tokens_of(store.path).reshape(len(rows), -1), [expected[f"row{row}"] for row in rows])


def test_meta_says_where_lines_begin_and_how_long_they_are(tmp_path):
    write_released_tokens(tmp_path / "a.bin", [np.array([1, 22]), np.array([3], np.uint16)])
    assert (tmp_path / "a.bin").read_bytes() == b'{"tokens": [1, 22]}\n{"tokens": [3]}\n'
    # {"tokens": [1, 22]} and its end of line are 20 bytes.
    assert np.load(tmp_path / "a.bin.meta").tolist() == [[0, 2], [20, 1]]


def test_meta_is_not_needed_and_a_last_line_without_its_end_is_read(tmp_path):
    path = write(tmp_path / "a.bin", [{"tokens": [1, 2]}, b'{"tokens": [3]}'])
    assert same(list(read_released_tokens(path)), [[1, 2], [3]])


def test_rows_of_one_length_become_one_store(tmp_path):
    write_released_tokens(tmp_path / "a.bin", rows_of(8, 8, 8))
    assert import_released_tokens(tmp_path / "a.bin", tmp_path / "out", **SETTINGS) == [tmp_path / "out"]
    assert tokens_of(tmp_path / "out").shape == (3, 2, 4)
    assert contents(tmp_path) == ["a.bin", "a.bin.meta", "out", "out/index.json", "out/shard-000000.npy"]


def test_long_rows_are_split_into_clips_and_those_that_cannot_be_stay_whole(tmp_path):
    rows = rows_of(32, 12, 8)  # 8, 3 and 2 images
    write_released_tokens(tmp_path / "a.bin", rows)
    folders = import_released_tokens(tmp_path / "a.bin", tmp_path / "out", clip_length=2, **SETTINGS)
    assert [folder.name for folder in folders] == ["clips_of_2", "clips_of_3"]
    assert np.array_equal(tokens_of(folders[0]).reshape(-1), np.concatenate([rows[0], rows[2]]))
    assert np.array_equal(tokens_of(folders[1]).reshape(-1), rows[1])


@pytest.mark.parametrize(("images_per_row", "lengths"), [(None, [8] * 7), (6, [24, 24, 8]), (8, [32, 24])])
def test_a_store_comes_back_from_its_export(tmp_path, images_per_row, lengths):
    write_released_tokens(tmp_path / "a.bin", rows_of(*[8] * 7))
    settings = SETTINGS | {"clip_length": 2, "shard_clips": 3, "source": "photographs"}
    import_released_tokens(tmp_path / "a.bin", tmp_path / "store", **settings)
    export_released_tokens([tmp_path / "store"], tmp_path / "b.bin", images_per_row)
    assert [len(row) for row in read_released_tokens(tmp_path / "b.bin")] == lengths
    import_released_tokens(tmp_path / "b.bin", tmp_path / "again", **settings)
    for name in contents(tmp_path / "store"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "store" / name).read_bytes()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"tokens": [1]}, b'{"tokens": [2, 3\n'], "line 2 is no readable JSON"),
        ([b"\xff\xfe\n"], "line 1 is no readable JSON"),
        ([b"[" * 100_000 + b"\n"], "line 1 is no readable JSON"),
        ([{"tokens": [1]}, b"\n"], "line 2 is no readable JSON"),
        ([[1, 2]], 'line 1 has no list "tokens"'),
        ([{"token": [1]}], 'line 1 has no list "tokens"'),
        ([{"tokens": "12"}], 'line 1 has no list "tokens"'),
        ([{"tokens": []}], "line 1 has no tokens"),
        ([{"tokens": [1, 2, 64]}], "line 1 holds token 64 at position 2: expected 0 to 63"),
        ([{"tokens": [1, -2]}], "line 1 holds token -2 at position 1"),
        ([{"tokens": [10**30]}], "line 1 holds token 1000000000000000000000000000000 at position 0"),
        ([{"tokens": [1, 2.0]}], r"line 1 holds 2.0 at position 1: expected integers"),
        ([{"tokens": [True]}], "line 1 holds true at position 0"),
        ([{"tokens": [1, [2]]}], r"line 1 holds \[2\] at position 1"),
        ([{"tokens": [float("nan")]}], "line 1 holds NaN at position 0"),
        ([], "is empty"),
    ],
)
def test_a_damaged_file_is_named_with_its_line_and_leaves_nothing(tmp_path, lines, message):
    path = write(tmp_path / "train.bin", lines)
    with pytest.raises(ValueError, match=f"train.bin.* {message}" if "line" in message else message):
        import_released_tokens(path, tmp_path / "out", **(SETTINGS | {"grid": (1, 1)}))
    assert contents(tmp_path) == ["train.bin"]


def test_a_line_without_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(released_tokens, "MAX_LINE_BYTES", 100)
    path = write(tmp_path / "a.bin", [{"tokens": [1]}, {"tokens": [1] * 100}])
    with pytest.raises(ValueError, match="line 2 is longer than 100 bytes"):
        list(read_released_tokens(path))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ([[0, 2], [20, 1]], "line 1 begins at byte 0 and has 1 tokens, but .*a.bin.meta says byte 0 and 2 tokens"),
        ([[0, 1], [15, 1]], "line 2 begins at byte 16 and has 1 tokens, but .* says byte 15"),
        ([[0, 1]], "goes on with line 2, but .*a.bin.meta has 1 rows"),
        ([[0, 1], [16, 1], [32, 1]], "ends after line 2, but .*a.bin.meta has 3 rows"),
        ([0, 16], r"shape \(2,\): expected int64"),
        ([[0.0, 1.0], [16.0, 1.0]], "holds float64"),
    ],
)
def test_a_meta_that_says_something_else_is_refused(tmp_path, meta, message):
    path = write(tmp_path / "a.bin", [{"tokens": [1]}, {"tokens": [2]}], meta)
    with pytest.raises(ValueError, match=message):
        list(read_released_tokens(path))


def test_a_damaged_meta_is_named(tmp_path):
    path = write(tmp_path / "a.bin", [{"tokens": [1]}])
    Path(f"{path}.meta").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"a.bin.meta is not a readable .npy file"):
        list(read_released_tokens(path))


def test_meta_is_checked_beyond_the_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr(released_tokens._MetaFile, "block_rows", 2)
    rows = rows_of(1, 2, 3, 4, 5)
    write_released_tokens(tmp_path / "a.bin", rows)
    assert same(list(read_released_tokens(tmp_path / "a.bin")), rows)
    meta = np.load(tmp_path / "a.bin.meta")
    meta[3, 1] += 1
    with open(tmp_path / "a.bin.meta", "wb") as stream:
        np.save(stream, meta)
    with pytest.raises(ValueError, match="line 4 begins"):
        list(read_released_tokens(tmp_path / "a.bin"))


def test_nothing_is_overwritten(tmp_path):
    write_released_tokens(tmp_path / "a.bin", rows_of(8))
    import_released_tokens(tmp_path / "a.bin", tmp_path / "store", **SETTINGS)
    (tmp_path / "b.bin.meta").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="store exists and is not overwritten"):
        import_released_tokens(tmp_path / "a.bin", tmp_path / "store", **SETTINGS)
    with pytest.raises(FileExistsError, match=r"a.bin exists"):
        export_released_tokens([tmp_path / "store"], tmp_path / "a.bin")
    with pytest.raises(FileExistsError, match=r"b.bin.meta exists"):
        export_released_tokens([tmp_path / "store"], tmp_path / "b.bin")
    assert contents(tmp_path) == before and (tmp_path / "b.bin.meta").read_text() == "mine"


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, monkeypatch, call):
    write_released_tokens(tmp_path / "a.bin", rows_of(8, 8))
    import_released_tokens(tmp_path / "a.bin", tmp_path / "store", **SETTINGS)
    before = contents(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"cannot write .*new .*No space left on device.*; nothing of it is kept"):
        import_released_tokens(tmp_path / "a.bin", tmp_path / "new", **SETTINGS)
    with pytest.raises(OSError, match=r"cannot write .*new.bin .*No space left on device.*; nothing of it is kept"):
        export_released_tokens([tmp_path / "store"], tmp_path / "new.bin")
    assert contents(tmp_path) == before


def test_what_a_killed_run_left_does_not_hinder_the_next(tmp_path):
    write_released_tokens(tmp_path / "a.bin", rows_of(8, 8))
    (tmp_path / ".store.tmp" / "clips_of_2").mkdir(parents=True)
    (tmp_path / ".store.tmp" / "clips_of_2" / "shard-000007.npy").write_text("half")
    (tmp_path / "store").mkdir()
    import_released_tokens(tmp_path / "a.bin", tmp_path / "store", **SETTINGS)
    assert len(TokenStore(tmp_path / "store")) == 2 and not (tmp_path / ".store.tmp").exists()


def test_stores_that_cannot_be_exported_are_named(tmp_path):
    for name, settings in (("a", {}), ("b", {"tokenizer_fingerprint": "tok-b"})):
        write_released_tokens(tmp_path / f"{name}.bin", rows_of(8))
        import_released_tokens(tmp_path / f"{name}.bin", tmp_path / name, **(SETTINGS | settings))
    with pytest.raises(ValueError, match="disagree in tokenizer_fingerprint"):
        export_released_tokens([tmp_path / "a", tmp_path / "b"], tmp_path / "c.bin")
    with pytest.raises(ValueError, match="a multiple of the 2 images"):
        export_released_tokens([tmp_path / "a"], tmp_path / "c.bin", images_per_row=3)
    index = tmp_path / "a" / "index.json"
    index.write_text(index.read_text().replace('"complete": true', '"complete": false'))
    with pytest.raises(ValueError, match="a is unfinished"):
        export_released_tokens([tmp_path / "a"], tmp_path / "c.bin")
    index = tmp_path / "b" / "index.json"
    index.write_text(index.read_text().replace('"num_embeddings": 64', '"num_embeddings": 2'))
    with pytest.raises(ValueError, match=r"b holds token .* in clips 0 to 0, its codebook has 2"):
        export_released_tokens([tmp_path / "b"], tmp_path / "c.bin")
    assert not list(tmp_path.glob("*c.bin*"))


def test_rows_of_many_lengths_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(released_tokens, "MAX_LENGTHS", 3)
    write_released_tokens(tmp_path / "a.bin", rows_of(4, 8, 12, 16))
    with pytest.raises(ValueError, match="more than 3 lengths"):
        import_released_tokens(tmp_path / "a.bin", tmp_path / "out", **SETTINGS)
    # All of them are whole clips of one image.
    assert len(import_released_tokens(tmp_path / "a.bin", tmp_path / "out", clip_length=1, **SETTINGS)) == 1
