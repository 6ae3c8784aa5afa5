import copy
import itertools

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from delvm_mm.checkpoints.io import load_checkpoint
from delvm_mm.engine import DistillationHook
from delvm_mm.engine.hooks.distillation_hook import factor_at
from delvm_mm.models import LogitsKLLoss
from delvm_mm.registry import MODELS
from helpers.tiny_run import TOKENIZER, model_config, write_store

NUMBERS = itertools.count()


def runner_of(changes=None):
    cfg = Config.fromfile("student.py")
    # MMEngine keeps logs and scopes by the experiment's name, for the whole process.
    cfg.merge_from_dict(
        dict(work_dir="work_dirs/run", experiment_name=f"distillation_{next(NUMBERS)}") | (changes or {})
    )
    return Runner.from_cfg(cfg)


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, DistillationHook))


def test_both_losses_are_logged_and_equal_those_computed_by_hand(run_folder):
    runner = runner_of({"train_cfg.max_iters": 1})
    student = copy.deepcopy(runner.model)
    teacher = MODELS.build(Config.fromfile("teacher.py").model)
    teacher.load_state_dict(torch.load("teacher.pth", weights_only=True)["state_dict"])
    batch = next(iter(runner.train_dataloader))["inputs"]
    runner.train()
    scalars = runner.message_hub.log_scalars
    with torch.no_grad():
        expected_ce = student(batch, mode="loss")["loss_ce"]
        expected_kd = LogitsKLLoss()(student(batch)[:, :-1], teacher(batch)[:, :-1])
    assert scalars["train/loss_ce"].current() == pytest.approx(expected_ce.item(), rel=1e-6)
    assert scalars["train/loss_kd"].current() == pytest.approx(expected_kd.item(), rel=1e-4)
    total = scalars["train/loss_ce"].current() + scalars["train/loss_kd"].current()
    assert scalars["train/loss"].current() == pytest.approx(total, rel=1e-6)


def test_the_teacher_is_in_no_checkpoint_and_no_optimizer_and_does_not_change(run_folder):
    runner = runner_of({"train_cfg.max_iters": 4})
    hook = hook_of(runner)
    seen = []
    hook_loss = hook.loss.sum_and_gradient
    hook.loss.sum_and_gradient = lambda student, teacher: (
        seen.append(teacher.requires_grad) or hook_loss(student, teacher)
    )
    runner.train()
    saved = load_checkpoint("work_dirs/run/iter_4.pth")
    assert set(saved["state_dict"]) == set(MODELS.build(Config.fromfile("student.py").model).state_dict())
    shapes = {tuple(state["exp_avg"].shape) for state in saved["optimizer"]["state"].values()}
    assert not any(48 in shape for shape in shapes) and any(32 in shape for shape in shapes)
    assert seen == [False] * 4
    assert hook.teacher is None and runner.model.extra_losses == []


def test_distillation_alone_brings_the_student_to_the_teacher(run_folder):
    changes = {"train_cfg.max_iters": 30, "train_dataloader.batch_size": 8, "param_scheduler": None}
    runner = runner_of(changes)
    runner.model.head.loss_weight = 0.0
    runner.train()
    history = runner.message_hub.log_scalars["train/loss_kd"]._log_history
    assert history[-1] < 0.5 * history[0]


@pytest.mark.parametrize(
    ("teacher", "error", "message"),
    [
        (dict(cfg="teacher.py", checkpoint="gone.pth"), FileNotFoundError, "gone.pth"),
        (dict(cfg="gone.py", checkpoint="teacher.pth"), FileNotFoundError, "gone.py"),
        (dict(cfg="teacher.py"), ValueError, "'cfg' and 'checkpoint'"),
        (dict(cfg="teacher.py", checkpoint="student.py"), ValueError, "student.py"),
    ],
)
def test_a_teacher_that_cannot_be_loaded_stops_the_run_by_name(run_folder, teacher, error, message):
    with pytest.raises(error, match=message):
        hooks = [dict(type="DistillationHook", teacher=teacher)]
        runner_of({"custom_hooks": hooks}).train()


def stop_message(runner):
    with pytest.raises(ValueError) as caught:
        runner.train()
    assert "train/loss" not in runner.message_hub.log_scalars, "it must stop before the first step"
    return str(caught.value)


def save_teacher(**changes):
    teacher = MODELS.build(model_config(48, **changes))
    torch.save(dict(state_dict=teacher.state_dict()), "teacher.pth")
    Config(dict(model=model_config(48, **changes))).dump("teacher.py")


def test_a_teacher_with_another_vocabulary_stops_the_run(run_folder):
    sizes = dict(num_embeddings=25)
    save_teacher(
        tokenizer=None, embedding=dict(type="TokenEmbedding", **sizes), head=dict(type="NextTokenHead", **sizes)
    )
    assert "vocabulary of 25, the student's is 24" in stop_message(runner_of())


def test_a_teacher_with_a_shorter_context_stops_the_run(run_folder):
    arch = dict(embed_dims=48, num_layers=2, num_heads=4)
    save_teacher(backbone=dict(type="LLaMA", arch=arch, max_positions=32))
    assert "context of 32 tokens, the student's is 64" in stop_message(runner_of())


def test_a_teacher_trained_with_another_tokenizer_stops_the_run(run_folder):
    torch.manual_seed(5)
    other = MODELS.build(TOKENIZER)
    teacher = MODELS.build(model_config(48, tokenizer=other))
    torch.save(dict(state_dict=teacher.state_dict()), "teacher.pth")
    assert "trained with tokenizer" in stop_message(runner_of())


def test_a_teacher_of_another_shape_stops_the_run(run_folder):
    Config(dict(model=model_config(64))).dump("teacher.py")
    assert "teacher.pth" in stop_message(runner_of())


def test_validation_tokens_of_another_tokenizer_stop_the_run_too(run_folder):
    write_store(run_folder / "stores" / "other", "ab" * 8)
    cfg = Config.fromfile("student.py")
    loader = cfg.train_dataloader | dict(sampler=dict(type="DefaultSampler", shuffle=False))
    loader["dataset"] = loader["dataset"] | dict(stores=["stores/other"])
    changes = dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(type="TokenMetric"))
    assert "made with tokenizer abababababab" in stop_message(runner_of(changes))


def test_validation_reports_the_loss_of_labels_beside_their_unigram_entropy(run_folder):
    cfg = Config.fromfile("student.py")
    loader = cfg.train_dataloader | dict(sampler=dict(type="DefaultSampler", shuffle=False))
    changes = dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(type="TokenMetric"))
    runner = runner_of(changes | {"train_cfg.max_iters": 1, "train_cfg.val_interval": 1})
    runner.train()
    scalars = runner.message_hub.log_scalars
    # Random tokens: nothing but their frequencies can be known, 24 codes of about equal frequency.
    assert scalars["val/token/label/unigram_entropy"].current() == pytest.approx(np.log(24), abs=0.05)
    assert scalars["val/token/pose/label/loss"].current() == pytest.approx(np.log(24), abs=0.2)


def test_tokens_of_another_tokenizer_stop_the_run(run_folder):
    write_store(run_folder / "stores" / "other", "ab" * 8)
    message = stop_message(runner_of({"train_dataloader.dataset.stores": ["stores/other"]}))
    assert "made with tokenizer abababababab" in message


def with_hook(**arguments):
    hook = dict(type="DistillationHook", teacher=dict(cfg="teacher.py", checkpoint="teacher.pth"), **arguments)
    return {"custom_hooks": [hook], "train_cfg.max_iters": 5}


def test_the_weight_follows_its_schedule(run_folder):
    # Without learning, the losses differ by the factor alone.
    still = {"optim_wrapper.optimizer.lr": 0.0, "param_scheduler": None}
    plain = runner_of(with_hook() | still)
    plain.train()
    scheduled = runner_of(with_hook(schedule=dict(begin=1, end=3, start=1.0, stop=0.0)) | still)
    scheduled.train()
    factors = scheduled.message_hub.log_scalars["train/kd_factor"]._log_history
    assert factors.tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    histories = [runner.message_hub.log_scalars["train/loss_kd"]._log_history for runner in (plain, scheduled)]
    np.testing.assert_allclose(histories[1], histories[0] * factors, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "step", "expected"),
    [("linear", 0, 2.0), ("linear", 15, 1.5), ("linear", 99, 1.0), ("cosine", 15, 1.5), ("cosine", 12.5, 1.853553)],
)
def test_schedules_are_a_line_or_half_a_cosine(shape, step, expected):
    assert factor_at(step, begin=10, end=20, start=2.0, stop=1.0, shape=shape) == pytest.approx(expected)


def test_layers_are_matched_too(run_folder):
    hook = with_hook(
        layers=dict(pairs=[(0, 0), (-1, -1)], loss=dict(type="SimilarityLoss")),
        loss=dict(type="LogitsKLLoss", loss_weight=0.0),
    )
    runner = runner_of(hook | {"optim_wrapper.optimizer.lr": 1e-4, "train_cfg.max_iters": 30})
    runner.model.head.loss_weight = 0.0
    student = copy.deepcopy(runner.model)
    teacher = MODELS.build(Config.fromfile("teacher.py").model)
    teacher.load_state_dict(torch.load("teacher.pth", weights_only=True)["state_dict"])
    batch = next(iter(runner.train_dataloader))["inputs"]
    runner.train()

    def similarities(model, layer):
        hidden = model.embedding(batch)
        rope = [table[: batch.shape[1]] for table in (model.backbone.rope_cos, model.backbone.rope_sin)]
        for module in model.backbone.layers[: layer + 1]:
            hidden = module(hidden, rope)
        hidden = hidden / hidden.norm(dim=-1, keepdim=True)
        return torch.einsum("bic,bjc->bij", hidden, hidden)

    expected = np.mean([(similarities(student, n) - similarities(teacher, n)).square().mean().item() for n in (0, 1)])
    history = runner.message_hub.log_scalars["train/loss_layers"]._log_history
    assert history[0] == pytest.approx(expected, rel=1e-4)
    assert history[-1] < 0.9 * history[0]
    assert not any(layer._forward_hooks for layer in runner.model.backbone.layers)


def test_a_teacher_may_have_another_type(run_folder):
    exact, rounded = (
        runner_of({"custom_hooks": [dict(type="DistillationHook", teacher=teacher)], "train_cfg.max_iters": 1})
        for teacher in (
            dict(cfg="teacher.py", checkpoint="teacher.pth"),
            dict(cfg="teacher.py", checkpoint="teacher.pth", dtype="bfloat16"),
        )
    )
    exact.train(), rounded.train()
    losses = [runner.message_hub.log_scalars["train/loss_kd"].current() for runner in (exact, rounded)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(schedule=dict(begin=3)), "'end'"),
        (dict(schedule=dict(begin=3, end=3)), "before it begins"),
        (dict(schedule=dict(end=3, shape="step")), "'linear' or 'cosine'"),
        (dict(layers=dict(loss=dict(type="SimilarityLoss"))), "'pairs'"),
        (dict(layers=dict(pairs=[(0, 7)])), "layer 7 of the teacher, which has 2"),
        (dict(loss=dict(type="LogitsKLLoss", temperature=-1)), "temperature is -1"),
    ],
)
def test_wrong_arguments_are_named(run_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        runner_of(with_hook(**arguments)).train()
