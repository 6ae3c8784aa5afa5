"""The order of training: a formula that processes share and that a resumed run continues."""

from itertools import islice

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from delvm_mm.datasets import SentenceSampler, VisualSentenceDataset, samplers
from delvm_mm.engine.launch import use_safe_checkpoints


def stream(count, **arguments):
    return list(islice(SentenceSampler(range(7), **arguments), count))


def test_every_epoch_is_another_permutation_of_its_own_indices():
    indices = stream(21)
    epochs = [indices[0:7], indices[7:14], indices[14:21]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7 * e, 7 * e + 7)) for e in range(3)]
    assert len({tuple(i % 7 for i in epoch) for epoch in epochs}) == 3


def test_the_order_follows_from_the_seed():
    assert stream(20, seed=1) == stream(20, seed=1) != stream(20, seed=2)


def test_without_shuffling_tasks_stay_one_after_another():
    assert stream(16, shuffle=False) == list(range(16))


def test_start_and_skip_continue_the_stream():
    sampler = SentenceSampler(range(7), start=5)
    assert list(islice(sampler, 10)) == stream(15)[5:]
    sampler.skip(6)
    assert list(islice(sampler, 10)) == stream(21)[11:]
    assert list(islice(sampler, 10)) == stream(21)[11:], "a second iteration begins at the same place"


@pytest.mark.parametrize("world_size, batch", [(2, 3), (4, 2), (3, 1)])
def test_ranks_see_together_the_batches_of_one_process(monkeypatch, world_size, batch):
    alone = stream(5 * world_size * batch)
    ranks = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, world_size))
        sampler = SentenceSampler(range(7))
        assert len(sampler) == -(-7 // world_size)
        whole = list(islice(sampler, 5 * batch))
        sampler.skip(2 * batch)
        assert list(islice(sampler, 3 * batch)) == whole[2 * batch :]
        ranks.append(whole)
    for step in range(5):
        together = {index for indices in ranks for index in indices[step * batch : (step + 1) * batch]}
        assert together == set(alone[step * batch * world_size : (step + 1) * batch * world_size])


def test_bad_arguments_are_refused():
    for arguments, message in [({"start": -1}, "start"), ({"seed": -1}, "seed")]:
        with pytest.raises(ValueError, match=message):
            SentenceSampler(range(3), **arguments)
    with pytest.raises(ValueError, match="without sentences"):
        SentenceSampler([])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_reads_on_into_later_epochs(make_store, num_workers):
    dataset = VisualSentenceDataset([make_store(clips=10)], context=16)
    loader = DataLoader(
        dataset, sampler=SentenceSampler(dataset), batch_size=2, num_workers=num_workers, collate_fn=lambda batch: batch
    )
    seen = [(s["data_samples"].epoch, s["data_samples"].sentence) for batch in islice(loader, 5) for s in batch]
    assert seen == [divmod(index, 5) for index in islice(SentenceSampler(dataset), 10)]


class Recorder(BaseModel):
    """Remembers the sentences that it was trained on."""

    def __init__(self, seen):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = seen

    def forward(self, inputs, data_samples=None, mode="tensor"):
        self.seen.extend((sample.epoch, sample.sentence) for sample in data_samples)
        return {"loss": self.weight**2}


def train(dataset, work_dir, seen, max_iters, resume=False):
    runner = Runner(
        Recorder(seen),
        str(work_dir),
        train_dataloader={
            "dataset": dataset,
            "sampler": {"type": "SentenceSampler", "seed": 3},
            "batch_size": 2,
            "num_workers": 0,
        },
        train_cfg={"type": "IterBasedTrainLoop", "max_iters": max_iters},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 4, "by_epoch": False}},
        resume=resume,
        log_level="ERROR",
        default_scope="delvm_mm",
        # MMEngine keeps loggers by this name for the whole process.
        experiment_name=f"{work_dir}-{max_iters}",
    )
    use_safe_checkpoints()  # MMEngine's older releases cannot resume with current PyTorch by themselves
    runner.train()


@pytest.mark.parametrize("has_skip", [True, False])
def test_a_resumed_run_goes_on_with_the_next_sentence(make_store, tmp_path, monkeypatch, has_skip):
    """MMEngine skips in the sampler where it can; its older releases read and drop the batches instead."""
    if not has_skip:
        monkeypatch.delattr(SentenceSampler, "skip")
    dataset = VisualSentenceDataset([make_store(clips=10)], context=16)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole, stopped = [], []
    train(dataset, tmp_path / "whole", whole, 9)
    train(dataset, tmp_path / "stopped", stopped, 4)
    train(dataset, tmp_path / "stopped", stopped, 9, resume=True)
    assert len(whole) == 18 and stopped == whole


def balanced(make_store, scheme, **arguments):
    """Stores of 8 and 2 original sentences of two tasks, and one of 12 augmented sentences of the second."""
    stores = [
        make_store("seg", clips=16, task="seg", fresh=False),
        make_store("pose", clips=4, task="pose", offset=100, fresh=False),
        make_store("pose10", clips=24, task="pose", offset=200, num_augmented_copies=6, fresh=False),
    ]
    dataset = VisualSentenceDataset(stores, context=16)
    return dataset, SentenceSampler(dataset, scheme=scheme, **arguments)


def used(dataset, sampler, epochs=1):
    """How often each store comes in the first epochs, by its clips' numbers, and the sentences themselves."""
    sentences = [dataset[index]["inputs"] for index in islice(sampler, epochs * sampler.size)]
    return [sum(int(s[0]) // 100 == store for s in sentences) for store in range(3)], sentences


def test_mixture_gives_tasks_the_share_of_their_original_data(make_store):
    dataset, sampler = balanced(make_store, "mixture")
    counts, sentences = used(dataset, sampler)
    assert counts == [8, 2, 0] and sampler.task_ratios == {"seg": 0.8, "pose": 0.2}
    assert len({tuple(s.tolist()) for s in sentences}) == 10, "an epoch repeats nothing"


def test_resample_repeats_the_small_task_in_other_groupings(make_store):
    dataset, sampler = balanced(make_store, "resample")
    counts, sentences = used(dataset, sampler, epochs=8)
    assert counts == [40, 40, 0] and sampler.task_ratios == {"seg": 0.5, "pose": 0.5}
    pose = [tuple(s.tolist()) for s in sentences if int(s[0]) >= 100]
    assert len(set(pose)) > 2, "four clips in two sentences, grouped anew each time round"
    clips = [clip for sentence in pose for clip in sentence[::8]]
    assert all(clips.count(100 + clip) == 20 for clip in range(4))
    dataset, sampler = balanced(make_store, "resample", ratios={"seg": 1, "pose": 4})
    assert used(dataset, sampler)[0] == [2, 8, 0]
    assert sorted(used(dataset, sampler, epochs=4)[0]) == [0, 8, 32]


def test_augment_uses_copies_too(make_store):
    dataset, sampler = balanced(make_store, "augment")
    counts, sentences = used(dataset, sampler)
    assert counts == [8, 2, 12] and len({tuple(s.tolist()) for s in sentences}) == 22
    assert sampler.task_ratios == {"seg": 8 / 22, "pose": 14 / 22}


def test_without_shuffling_each_scheme_goes_task_by_task(make_store):
    for scheme in ("mixture", "resample", "augment"):
        dataset, sampler = balanced(make_store, scheme, shuffle=False)
        order = [int(dataset[index]["inputs"][0]) // 100 for index in islice(sampler, sampler.size)]
        assert order == sorted(order)


def test_schemes_continue_where_they_stopped(make_store):
    for scheme in ("mixture", "resample", "augment"):
        dataset, sampler = balanced(make_store, scheme)
        whole = list(islice(sampler, 60))
        assert list(islice(SentenceSampler(dataset, scheme=scheme, start=23), 37)) == whole[23:]


def test_a_scheme_that_leaves_a_task_without_data_is_refused(make_store):
    only_copies = VisualSentenceDataset(
        [make_store("a"), make_store("b", task="pose", num_augmented_copies=3)], context=16
    )
    with pytest.raises(ValueError, match="'pose' has only stores of augmented"):
        SentenceSampler(only_copies, scheme="mixture")
    for arguments, message in [
        ({"scheme": "balance"}, "'mixture', 'resample', 'augment', got 'balance'"),
        ({"scheme": "mixture", "ratios": {"seg": 1}}, "ratios are for scheme 'resample'"),
        ({"scheme": "resample", "ratios": {"seg": 1, "pose": 0.01}}, "'pose' none of 10 sentences"),
        ({"scheme": "resample", "ratios": {"seg": 1}}, r"each of the tasks \['seg', 'pose'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            balanced(make_store, **arguments)
