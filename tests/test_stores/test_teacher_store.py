"""Teacher caches: what is in them is what the teacher says, and every mismatch and damage has its own message."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest
import torch
from filelock import FileLock

from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.engine.distillation.cache_fits import check_cache_fits
from delvm_mm.precompute import teacher as teacher_caching
from delvm_mm.stores import TeacherCache
from helpers.killed_runs import contents
from helpers.small_teacher_cache import (
    CODES,
    FINGERPRINT,
    LENGTH,
    make_cache,
    sentences_of,
    teacher_of,
    write_two_stores,
)


@pytest.fixture(scope="module")
def teacher():
    return teacher_of()


@pytest.fixture
def stores(tmp_path):
    return write_two_stores(tmp_path)


@pytest.fixture
def sentences(stores):
    return sentences_of(stores)


def log_probs_of(teacher, sentence, temperature):
    """All log-probabilities, in float64 from the model's logits."""
    return (teacher(sentence["inputs"][None])[0, :-1].double() / temperature).log_softmax(-1).numpy()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_numpy_reads_the_teachers_top_codes_and_the_rest(tmp_path, sentences, teacher, dtype, tolerance, temperature):
    make_cache(sentences, teacher, tmp_path / "cache", dtype=dtype, temperature=temperature)
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    shards = [np.load(tmp_path / "cache" / shard["file"], mmap_mode="r") for shard in index["shards"]]
    records = np.concatenate(shards)
    assert [len(shard) for shard in shards] == [3, 3, 1] and records.shape == (7, LENGTH - 1)
    assert records["codes"].dtype == np.uint16 and records["log_probs"].dtype == records["log_rest"].dtype == dtype
    assert records.itemsize == dict(float16=4 * 5 + 2, float32=6 * 5 + 4)[dtype]
    for number in range(7):
        expected = log_probs_of(teacher, sentences[number], temperature)
        order = np.argsort(-expected, axis=-1)
        assert np.array_equal(records["codes"][number], order[:, :5])
        found = records["log_probs"][number].astype(np.float64)
        np.testing.assert_allclose(found, np.take_along_axis(expected, order[:, :5], -1), atol=tolerance)
        rest = np.exp(np.take_along_axis(expected, order[:, 5:], -1)).sum(-1)
        np.testing.assert_allclose(np.exp(records["log_rest"][number].astype(np.float64)), rest, atol=tolerance)


def test_the_index_says_what_belongs_together(tmp_path, stores, sentences, teacher):
    make_cache(sentences, teacher, tmp_path / "cache", temperature=2.0)
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    expected = dict(
        format="delvm_mm.teacher_cache",
        version=1,
        num_embeddings=CODES,
        top_k=5,
        temperature=2.0,
        dtype="float16",
        precision="float32",
        tokenizer_fingerprint=FINGERPRINT,
        context=LENGTH,
        sentence_length=LENGTH,
        assembly_seed=3,
        num_sentences=7,
        shard_sentences=3,
        complete=True,
    )
    assert {key: index[key] for key in expected} == expected
    for entry, store, clips in zip(index["stores"], stores, (9, 6), strict=True):
        shards = json.loads((store / "index.json").read_text())["shards"]
        digest = hashlib.sha256("\n".join(shard["sha256"] for shard in shards).encode()).hexdigest()[:16]
        assert entry == dict(path=str(store), clips=clips, digest=digest)
    for shard in index["shards"]:
        content = (tmp_path / "cache" / shard["file"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(content).hexdigest() and shard["bytes"] == len(content)


def test_sentences_are_read_in_any_order(tmp_path, sentences, teacher):
    cache = make_cache(sentences, teacher, tmp_path / "cache", dtype="float32")
    codes, log_probs, log_rest = cache.read([5, 0, 5])
    assert codes.dtype == torch.int64 and log_probs.dtype == log_rest.dtype == torch.float32
    assert codes.shape == log_probs.shape == (3, LENGTH - 1, 5) and log_rest.shape == (3, LENGTH - 1)
    for row, number in enumerate([5, 0, 5]):
        expected = torch.from_numpy(log_probs_of(teacher, sentences[number], 1.0))
        torch.testing.assert_close(log_probs[row].double(), expected.gather(-1, codes[row]), rtol=0, atol=1e-5)
    torch.testing.assert_close(log_probs.exp().sum(-1) + log_rest.exp(), torch.ones(3, LENGTH - 1))
    for wrong in (7, -1):
        with pytest.raises(IndexError, match="has 7 sentences"):
            cache.read([wrong])
    assert len(pickle.dumps(cache)) == len(pickle.dumps(TeacherCache(cache.path))), "without its open shards"
    cache.verify()


def test_with_all_codes_there_is_no_rest(tmp_path, sentences, teacher):
    cache = make_cache(sentences, teacher, tmp_path / "cache", top_k=CODES)
    codes, _, log_rest = cache.read(range(7))
    assert (log_rest == -torch.inf).all()
    assert torch.equal(codes.sort(-1).values, torch.arange(CODES).expand_as(codes))
    cache.verify()


def test_half_precision_is_near_and_said_in_the_index(tmp_path, sentences, teacher):
    cache = make_cache(sentences, teacher, tmp_path / "cache", precision="bfloat16", top_k=CODES)
    assert cache.index["precision"] == "bfloat16"
    codes, log_probs, _ = cache.read([0])
    expected = torch.from_numpy(log_probs_of(teacher, sentences[0], 1.0)).gather(-1, codes[0])
    assert 0 < (log_probs[0] - expected).abs().max() < 0.3
    with pytest.raises(FileExistsError, match="precision is 'bfloat16', now 'float32'"):
        make_cache(sentences, teacher, tmp_path / "cache", top_k=CODES)


def test_logits_are_there_in_chunks_only(tmp_path, sentences, teacher, monkeypatch):
    monkeypatch.setitem(teacher_caching.CHUNK_VALUES, "cpu", 4 * CODES)
    rows, forward = [], teacher.head.forward
    monkeypatch.setattr(teacher.head, "forward", lambda features: rows.append(len(features)) or forward(features))
    make_cache(sentences, teacher, tmp_path / "chunks")
    assert max(rows) == 4 and sum(rows) == 7 * (LENGTH - 1)
    monkeypatch.undo()
    make_cache(sentences, teacher, tmp_path / "whole")
    chunks, whole = (TeacherCache(tmp_path / name).read(range(7)) for name in ("chunks", "whole"))
    assert torch.equal(chunks[0], whole[0])
    torch.testing.assert_close(chunks[1], whole[1], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("killed_at", [1, 2, 3, 5, 7, 8])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, sentences, teacher, monkeypatch, killed_at):
    make_cache(sentences, teacher, tmp_path / "whole")
    replace, calls = os.replace, []

    def dying_replace(source, target):
        calls.append(target)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        replace(source, target)

    # Eight renames: the index, a shard and a journal three times, the index.
    monkeypatch.setattr(os, "replace", dying_replace)
    with pytest.raises(KeyboardInterrupt):
        make_cache(sentences, teacher, tmp_path / "killed")
    monkeypatch.undo()
    if (tmp_path / "killed" / "index.json").exists():
        left = TeacherCache(tmp_path / "killed")
        left.verify()
        with pytest.raises(ValueError, match=r"unfinished, with \d of 7 sentences.*run delvm cache-teacher again"):
            check_cache_fits(left, sentences)
    seen = []
    make_cache(sentences, teacher, tmp_path / "killed", progress=lambda done, total: seen.append((done, total)))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert seen[0] == (min(3 * len([c for c in calls[:-1] if str(c).endswith(".npy")]), 7), 7) and seen[-1] == (7, 7)


def test_a_full_disk_is_named_and_keeps_what_is_finished(tmp_path, sentences, teacher, monkeypatch):
    replaced, replace = [], os.replace

    def full(source, target):
        replaced.append(target)
        if len(replaced) == 4:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*shard-000001\.npy: No space left on device; .* run again"):
        make_cache(sentences, teacher, tmp_path / "cache")
    monkeypatch.undo()
    assert len(TeacherCache(tmp_path / "cache")) == 3 and not list((tmp_path / "cache").glob(".*"))


def test_another_run_on_the_same_cache_is_kept_out(tmp_path, sentences, teacher, monkeypatch):
    monkeypatch.setattr(teacher_caching, "LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / ".cache.lock"), pytest.raises(FileExistsError, match="another run is writing"):
        make_cache(sentences, teacher, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(temperature=2.0), "temperature is 1.0, now 2.0"),
        (dict(top_k=6), "top_k is 5, now 6"),
        (dict(dtype="float32"), "dtype is 'float16', now 'float32'"),
        (dict(shard_sentences=4), "shard_sentences is 3, now 4"),
        (dict(teacher=dict(seed=1)), "teacher_fingerprint is "),
        (dict(teacher=dict(rope_base=500.0)), "teacher_fingerprint is "),
    ],
)
def test_a_cache_with_other_settings_is_left_alone(tmp_path, sentences, teacher, changes, message):
    make_cache(sentences, teacher, tmp_path / "cache")
    before = contents(tmp_path / "cache")
    changes = dict(changes)
    given = teacher_of(**changes.pop("teacher")) if "teacher" in changes else teacher
    with pytest.raises(FileExistsError, match=f"teacher cache with other settings: {message}"):
        make_cache(sentences, given, tmp_path / "cache", **changes)
    assert contents(tmp_path / "cache") == before


def edit_index(folder, **changes):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | changes))


def test_damage_is_named(tmp_path, sentences, teacher):
    folder = make_cache(sentences, teacher, tmp_path / "cache").path
    shard = folder / "shard-000001.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"shard-000001\.npy has \d+ bytes.*make it again with delvm cache-teacher"):
        TeacherCache(folder)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-000001\.npy is missing"):
        TeacherCache(folder)
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"shard-000001\.npy has sha256"):
        TeacherCache(folder).verify()
    shard.write_bytes(whole)
    edit_index(folder, top_k=4)
    with pytest.raises(ValueError, match=r"shard-000000\.npy holds .*index\.json says"):
        TeacherCache(folder).read([0])
    edit_index(folder, format="delvm_mm.token_store")
    with pytest.raises(ValueError, match="not the index of a teacher cache"):
        TeacherCache(folder)
    with pytest.raises(FileNotFoundError, match=r"no teacher cache at .*delvm cache-teacher"):
        TeacherCache(tmp_path / "nowhere")


def test_probabilities_that_cannot_be_are_found(tmp_path, sentences, teacher):
    folder = make_cache(sentences, teacher, tmp_path / "cache").path
    shard = folder / "shard-000000.npy"
    records = np.load(shard)
    records["log_probs"][1, 3, 0] = 0
    np.save(shard, records)
    shards = json.loads((folder / "index.json").read_text())["shards"]
    shards[0]["sha256"] = hashlib.sha256(shard.read_bytes()).hexdigest()
    edit_index(folder, shards=shards)
    with pytest.raises(ValueError, match=r"shard-000000\.npy holds probabilities that do not sum to 1"):
        TeacherCache(folder).verify()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(top_k=0), "top_k must be from 1 to the vocabulary of 30, got 0"),
        (dict(top_k=31), "got 31"),
        (dict(temperature=0.0), "temperature must be more than 0"),
        (dict(dtype="bfloat16"), "dtype must be 'float16' or 'float32', got 'bfloat16'"),
        (dict(precision="float16"), "precision must be"),
        (dict(batch=0), "batch must be at least 1"),
        (dict(teacher=dict(max_positions=8)), "sentences have 16 tokens and the teacher's context is 8"),
    ],
)
def test_settings_that_cannot_be_are_named_and_leave_nothing(tmp_path, sentences, teacher, changes, message):
    changes = dict(changes)
    given = teacher_of(**changes.pop("teacher")) if "teacher" in changes else teacher
    with pytest.raises(ValueError, match=message):
        make_cache(sentences, given, tmp_path / "cache", **changes)
    assert not (tmp_path / "cache").exists()


def test_random_sentences_are_refused(tmp_path, stores, teacher):
    with pytest.raises(ValueError, match="assembly='fixed', got 'random'"):
        make_cache(VisualSentenceDataset(stores, context=LENGTH), teacher, tmp_path / "cache")


def test_a_teacher_of_another_tokenizer_is_refused(tmp_path, sentences):
    teacher = teacher_of()
    teacher.tokenizer_digest.copy_(torch.frombuffer(bytearray.fromhex("cd" * 8), dtype=torch.uint8))
    with pytest.raises(ValueError, match=f"made with tokenizer '{FINGERPRINT}', the teacher has '{'cd' * 8}'"):
        make_cache(sentences, teacher, tmp_path / "cache")


def test_a_teacher_whose_weights_are_damaged_is_refused(tmp_path, sentences):
    teacher = teacher_of()
    teacher.head.projection.weight[3] = torch.nan
    with pytest.raises(ValueError, match="predictions in sentences 0 to 2 are not finite"):
        make_cache(sentences, teacher, tmp_path / "cache")
