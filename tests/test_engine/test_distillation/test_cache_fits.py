"""What belongs to a teacher cache is accepted; what does not is refused by name."""

import pytest

from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.engine.distillation.cache_fits import check_cache_fits
from helpers.small_teacher_cache import (
    CODES,
    FINGERPRINT,
    LENGTH,
    make_cache,
    sentences_of,
    teacher_of,
    write_store,
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


def test_stores_that_were_moved_are_the_same_stores(tmp_path, stores, sentences, teacher):
    make_cache(sentences, teacher, tmp_path / "cache")
    stores[0].rename(tmp_path / "moved")
    moved = VisualSentenceDataset([tmp_path / "moved", stores[1]], context=LENGTH, assembly="fixed", seed=3)
    check_cache_fits(make_cache(moved, teacher, tmp_path / "cache"), moved)


def test_a_cache_fits_the_dataset_it_was_made_from(tmp_path, sentences, teacher):
    cache = make_cache(sentences, teacher, tmp_path / "cache")
    check_cache_fits(cache, sentences, num_embeddings=CODES, tokenizer_fingerprint=FINGERPRINT)
    with pytest.raises(ValueError, match=r"vocabulary of 30, the student one of 31"):
        check_cache_fits(cache, sentences, num_embeddings=31)
    with pytest.raises(ValueError, match=f"tokenizer '{FINGERPRINT}', the student has 'other'"):
        check_cache_fits(cache, sentences, tokenizer_fingerprint="other")
    with pytest.raises(ValueError, match="is for a VisualSentenceDataset, the data set is a list"):
        check_cache_fits(cache, [sentences[0]])


def test_what_does_not_belong_to_a_cache_is_refused_by_name(tmp_path, stores, sentences, teacher):
    cache = make_cache(sentences, teacher, tmp_path / "cache")
    more, other = write_store(tmp_path / "more", 11), write_store(tmp_path / "other", 9, seed=5)
    foreign = [write_store(tmp_path / f"foreign_{n}", c, n, fingerprint="cd" * 8) for n, c in enumerate((9, 6))]
    larger = [write_store(tmp_path / f"larger_{n}", c, n, codes=31) for n, c in enumerate((9, 6))]
    fixed = dict(context=LENGTH, assembly="fixed", seed=3)
    for given, changes, message in (
        (stores, dict(assembly="random"), r"assembly is 'random'.*assembly='fixed'"),
        ([more, stores[1]], {}, r"position 0: \S+a with clips 9, the data set has \S+more with 11"),
        ([other, stores[1]], {}, r"position 0: \S+a with shards with digest \w+, the data set has \S+other"),
        (stores[::-1], {}, r"position 0: \S+a with clips 9, the data set has \S+b with 6"),
        (stores[:1], {}, "number of token stores 2, the data set has 1"),
        ([*stores, more], {}, "number of token stores 2, the data set has 3"),
        (stores, dict(context=8), r"context 16, the data set has 8: set train_dataloader\.dataset\.context"),
        (stores, dict(context=17), "context 16, the data set has 17"),
        (stores, dict(seed=4), r"assembly seed 3, the data set has 4: set train_dataloader\.dataset\.seed"),
        (foreign, {}, f"tokens of tokenizer '{FINGERPRINT}', the data set has '{'cd' * 8}'"),
        (larger, {}, "vocabulary of 30, the data set one of 31"),
    ):
        with pytest.raises(ValueError, match=message):
            check_cache_fits(cache, VisualSentenceDataset(given, **fixed | changes))
