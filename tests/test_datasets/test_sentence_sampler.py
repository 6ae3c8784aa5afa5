"""The order of training: a formula that processes share and that a resumed run continues."""

from itertools import islice

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from delvm_mm.datasets import SentenceSampler, VisualSentenceDataset, samplers


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
