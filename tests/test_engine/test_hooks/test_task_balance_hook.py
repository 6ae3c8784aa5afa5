"""The shares of tasks: printed before training, counted while it runs."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.structures import BaseDataElement

from delvm_mm.datasets import SentenceSampler, VisualSentenceDataset
from delvm_mm.engine.hooks import TaskBalanceHook
from delvm_mm.stores import TokenStoreWriter


def sentences(*tasks):
    return dict(data_samples=[BaseDataElement(metainfo=dict(task=task)) for task in tasks])


@pytest.fixture
def runner(tmp_path, caplog):
    for task, clips in (("seg", 24), ("pose", 8)):
        writer = TokenStoreWriter(
            tmp_path / task, clip_shape=(2, 16), grid=(4, 4), num_embeddings=24, tokenizer_fingerprint="aa", task=task
        )
        writer.add(np.zeros((clips, 2, 16), int))
        writer.finish()
    dataset = VisualSentenceDataset([tmp_path / "seg", tmp_path / "pose"], context=64)
    loader = SimpleNamespace(dataset=dataset, sampler=SentenceSampler(dataset, scheme="resample"))
    caplog.set_level(logging.INFO)
    logged = {}
    return SimpleNamespace(
        train_dataloader=loader,
        logger=logging.getLogger("task-balance"),
        message_hub=SimpleNamespace(update_scalar=logged.__setitem__),
        logged=logged,
        iter=0,
    )


def test_the_plan_is_printed_before_training(runner, caplog):
    TaskBalanceHook().before_train(runner)
    # 12 and 4 sentences, an epoch of 16, half of it for each task.
    assert "balancing 'resample'" in caplog.text and "seg 50.0%, pose 50.0%" in caplog.text
    rows = [line.split() for line in caplog.text.splitlines() if "│" in line]
    assert [row[-2] for row in rows] == ["50.0%", "50.0%"] and all("8" in row for row in rows)


def test_the_log_says_what_was_trained_on_since_the_last_value(runner):
    hook = TaskBalanceHook(interval=2)
    hook.before_train(runner)
    for step, tasks in enumerate([("seg", "seg"), ("seg", "pose"), ("pose", "pose"), ("pose", "pose")]):
        runner.iter = step
        hook.after_train_iter(runner, step, sentences(*tasks))
        if step == 1:
            assert runner.logged == {"train/share/pose": 0.25, "train/share/seg": 0.75}
    assert runner.logged == {"train/share/pose": 1.0, "train/share/seg": 0.0}


def test_other_data_is_left_alone(runner):
    runner.train_dataloader = SimpleNamespace(dataset=[1, 2], sampler=None)
    hook = TaskBalanceHook(interval=1)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, dict(inputs=[1]))
    assert runner.logged == {}
