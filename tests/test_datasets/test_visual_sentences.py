"""Sentences from token stores: which clips, in which order, in which epoch."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from delvm_mm.datasets import VisualSentenceDataset, visual_sentences
from delvm_mm.registry import DATASETS


def clips_of(sentence, length=8):
    """Numbers of the clips in a sentence: every token of a clip of make_store is its number."""
    clips = sentence["inputs"].view(-1, length)
    assert (clips == clips[:, :1]).all()
    return clips[:, 0].tolist()


def test_a_sentence_is_as_many_whole_clips_as_fit(make_store):
    dataset = DATASETS.build({"type": "VisualSentenceDataset", "stores": [str(make_store(clips=10))], "context": 30})
    assert len(dataset) == 3 and dataset.sentence_length == 24
    sentence = dataset[0]
    assert sentence["inputs"].dtype == torch.int64 and sentence["inputs"].shape == (24,)
    assert sentence["data_samples"].task == "seg" and sentence["data_samples"].sentence == 0
    assert len(list(dataset)) == 3


def test_no_clip_comes_twice_in_an_epoch_and_the_left_over_changes(make_store):
    dataset = VisualSentenceDataset([make_store(clips=10)], context=24)
    used = []
    for epoch in range(20):
        clips = [clip for i in range(3) for clip in clips_of(dataset[epoch * 3 + i])]
        assert len(clips) == len(set(clips)) == 9
        used.append(frozenset(clips))
    assert len(set(used)) > 5


def test_random_regroups_each_epoch_and_fixed_never(make_store):
    path = make_store(clips=40)
    random = VisualSentenceDataset([path], context=32)
    fixed = VisualSentenceDataset([path], context=32, assembly="fixed")
    assert clips_of(random[0]) != clips_of(random[len(random)]) != clips_of(random[2 * len(random)])
    assert [clips_of(fixed[i]) for i in range(10)] == [clips_of(fixed[i + 70]) for i in range(10)]
    assert [clips_of(fixed[i]) for i in range(10)] == [clips_of(random[i]) for i in range(10)]
    assert random[23]["data_samples"].epoch == 2 and random[23]["data_samples"].sentence == 3


def test_the_grouping_is_that_of_numpys_frozen_stream(make_store):
    """What a cached teacher saw must stay sentence i in later versions: RandomState([seed, store, epoch])."""
    dataset = VisualSentenceDataset([make_store(clips=10)], context=80, seed=5)
    assert clips_of(dataset[2]) == np.random.RandomState([5, 0, 2]).permutation(10).tolist()


def test_seed_changes_the_grouping(make_store):
    path = make_store(clips=40)
    assert clips_of(VisualSentenceDataset([path], 64, seed=0)[0]) != clips_of(
        VisualSentenceDataset([path], 64, seed=1)[0]
    )


def test_sentences_hold_one_task_and_stores_follow_each_other(make_store):
    stores = [make_store("a", clips=10), {"path": make_store("b", clips=7, offset=100, task="pose", seed=9)}]
    dataset = VisualSentenceDataset(stores, context=16)
    assert len(dataset) == 5 + 3 and dataset.metainfo["tasks"] == ("seg", "pose")
    for i in range(8):
        assert all((clip >= 100) == (i >= 5) for clip in clips_of(dataset[i]))
        assert dataset[i]["data_samples"].task == ("pose" if i >= 5 else "seg")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_change_nothing(make_store, num_workers):
    dataset = VisualSentenceDataset([make_store(clips=20)], context=16)
    indices = list(range(0, 40, 3))
    loader = DataLoader(dataset, sampler=indices, batch_size=None, num_workers=num_workers)
    alone = VisualSentenceDataset([dataset.stores[0].path], context=16)
    read = [sentence["inputs"] for sentence in loader]
    assert all(torch.equal(a, alone[i]["inputs"]) for a, i in zip(read, indices, strict=True))


def test_clips_of_other_length_mix_if_the_sentences_agree(make_store):
    stores = [make_store("pairs", k=2, clips=8), make_store("videos", k=4, clips=8, offset=100)]
    dataset = VisualSentenceDataset(stores, context=16)
    assert len(dataset) == 4 + 8 and dataset[11]["inputs"].shape == (16,)
    with pytest.raises(ValueError, match=r"differ in length: .*sentences of 24; .*sentences of 16"):
        VisualSentenceDataset(stores, context=30)


def test_disagreeing_stores_are_named(make_store):
    first = make_store("a")
    for name, change, key in [
        ("b", {"tokenizer_fingerprint": "tok-b"}, "tokenizer_fingerprint"),
        ("c", {"num_embeddings": 500}, "num_embeddings"),
        ("d", {"grid": (1, 4)}, "grid"),
    ]:
        with pytest.raises(ValueError, match=f"disagree in {key}.*{name}"):
            VisualSentenceDataset([first, make_store(name, **change)], context=16)
    with pytest.raises(ValueError, match="expected 'tok-z'"):
        VisualSentenceDataset([first], context=16, tokenizer_fingerprint="tok-z")


def test_bad_arguments_say_what_to_do(make_store, tmp_path):
    path = make_store(clips=3)
    with pytest.raises(ValueError, match=r"context 7 is shorter than one clip of .*2 images x 4 tokens = 8"):
        VisualSentenceDataset([path], context=7)
    with pytest.raises(ValueError, match=r"has 3 clips, one sentence of context 32 needs 4"):
        VisualSentenceDataset([path], context=32)
    with pytest.raises(ValueError, match="unfinished, with 4 clips"):
        VisualSentenceDataset([make_store("half", clips=5, finish=False)], context=16)
    with pytest.raises(ValueError, match="has 0 clips, one sentence of context 16"):
        VisualSentenceDataset([make_store("empty", clips=0)], context=16)
    (tmp_path / "bare").mkdir()
    with pytest.raises(FileNotFoundError, match=r"bare has no index\.json"):
        VisualSentenceDataset([tmp_path / "bare"])
    for arguments, message in [
        ({"stores": []}, "stores is empty"),
        ({"stores": [{"folder": "x"}]}, "dict"),
        ({"stores": [path], "assembly": "sorted"}, "'random' or 'fixed'"),
        ({"stores": [path], "seed": -1}, "seed"),
    ]:
        with pytest.raises(ValueError, match=message):
            VisualSentenceDataset(**arguments)
    with pytest.raises(IndexError, match="index must not be negative, got -1"):
        VisualSentenceDataset([path], context=8)[-1]


def test_a_batch_at_once_is_the_same_as_one_by_one(make_store):
    stores = [make_store("a", clips=12), make_store("b", clips=8, offset=100, task="pose", shard_clips=3)]
    dataset = VisualSentenceDataset(stores, context=16)
    indices = [0, 9, 3, 9, 25, len(dataset) + 8, 6]
    for index, together in zip(indices, dataset.__getitems__(indices), strict=True):
        alone = dataset[index]
        assert torch.equal(together["inputs"], alone["inputs"])
        assert together["data_samples"].metainfo == alone["data_samples"].metainfo
    assert len({together["data_samples"].task for together in dataset.__getitems__(indices)}) == 2


def test_orders_of_clips_are_kept_up_to_a_number_of_bytes(make_store, monkeypatch):
    monkeypatch.setattr(visual_sentences, "MAX_GROUPING_BYTES", 5 * 12 * 4)
    dataset = VisualSentenceDataset([make_store(clips=12)], context=16)
    fresh = [dataset[6 * epoch]["inputs"].tolist() for epoch in range(20)]
    assert len(dataset._groupings) == 5
    assert [dataset[6 * epoch]["inputs"].tolist() for epoch in range(20)] == fresh
