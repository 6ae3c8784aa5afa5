"""The offline teacher of a training run: checked before the first step, and the same loss as the online one."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.engine import DistillationHook
from delvm_mm.engine.distillation.offline import CachedTeacher
from delvm_mm.engine.distillation.online import OnlineTeacher
from delvm_mm.models import LogitsKLLoss, SimilarityLoss
from delvm_mm.precompute import cache_teacher
from delvm_mm.registry import MODELS
from helpers.tiny_run import model_config

NUMBERS = itertools.count()


def runner_of(**changes):
    cfg = Config.fromfile("student.py")
    name = f"cached_teacher_{next(NUMBERS)}"
    options = {"work_dir": "run", "experiment_name": name, "train_dataloader.dataset.assembly": "fixed"}
    cfg.merge_from_dict(options | changes)
    return Runner.from_cfg(cfg)


@pytest.fixture
def teacher(run_folder):
    model = MODELS.build(Config.fromfile("teacher.py").model)
    model.load_state_dict(torch.load("teacher.pth", weights_only=True)["state_dict"])
    return model.eval().requires_grad_(False)


@pytest.fixture
def cache(run_folder, teacher):
    sentences = VisualSentenceDataset(["stores/seg", "stores/pose"], context=64, assembly="fixed")
    return cache_teacher(sentences, teacher, "cache", top_k=24, temperature=2.0, dtype="float32", device="cpu").path


@pytest.mark.parametrize("collate", ["default_collate", "pseudo_collate"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_loss_of_a_batch_is_that_of_the_teacher_online(cache, teacher, collate, num_workers):
    loader = {"train_dataloader.collate_fn.type": collate, "train_dataloader.num_workers": num_workers}
    runner = runner_of(**loader)
    loss = LogitsKLLoss(temperature=2.0, loss_weight=0.5)
    cached = CachedTeacher(cache, loss)
    cached.check(runner)
    student = runner.model
    batches = itertools.islice(iter(runner.train_dataloader), 8)
    epochs = set()
    for batch in batches:
        data = student.data_preprocessor(batch, training=True)
        tokens, samples = data["inputs"], data["data_samples"]
        epochs |= {sample.epoch for sample in samples}
        logits = student(tokens)[:, :-1]
        expected = loss(logits, teacher(tokens)[:, :-1])
        (gradient,) = torch.autograd.grad(expected, logits)
        cached.prepare(tokens, samples)
        (term,) = cached.logit_terms()
        assert term.name == "loss_kd"
        count = tokens[:, 1:].numel()
        value, of_logits = term(logits.detach().flatten(0, 1), slice(0, count))
        assert value.item() / count == pytest.approx(expected.item(), abs=1e-5)
        torch.testing.assert_close(of_logits / count, gradient.flatten(0, 1), rtol=1e-4, atol=1e-7)
    assert len(epochs) > 1, "sentences of later epochs are those of the first"


def test_the_student_learns_the_same_from_the_cache_as_from_the_teacher(cache, teacher):
    """Loss and gradients of all parameters, with the weight of a schedule half way."""
    runner = runner_of()
    student = runner.model
    loss = LogitsKLLoss(temperature=2.0)
    batch = student.data_preprocessor(next(iter(runner.train_dataloader)), training=True)
    found = []
    for extra_loss in (OnlineTeacher(teacher, loss), CachedTeacher(cache, loss)):
        extra_loss.factor = 0.5
        student.extra_losses[:] = [extra_loss]
        student.zero_grad()
        losses = student(**batch, mode="loss")
        sum(losses.values()).backward()
        gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
        found.append(({name: value.item() for name, value in losses.items()}, gradients))
    (online, of_online), (offline, of_offline) = found
    assert online == pytest.approx(offline, abs=1e-5) and online["loss_kd"] > 0.01
    assert of_online.keys() == of_offline.keys()
    for name, expected in of_online.items():
        torch.testing.assert_close(of_offline[name], expected, rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_stops_the_run_before_its_first_step(cache):
    loss = LogitsKLLoss(temperature=2.0)
    with pytest.raises(ValueError, match=r"assembly is 'random'"):
        CachedTeacher(cache, loss).check(runner_of(**{"train_dataloader.dataset.assembly": "random"}))
    with pytest.raises(ValueError, match="number of token stores 2, the data set has 1"):
        CachedTeacher(cache, loss).check(runner_of(**{"train_dataloader.dataset.stores": ["stores/seg"]}))
    with pytest.raises(ValueError, match=r"made with temperature 2\.0, the loss has 1\.0.*--temperature 1\.0"):
        CachedTeacher(cache, LogitsKLLoss())
    with pytest.raises(FileNotFoundError, match="no teacher cache at gone"):
        CachedTeacher("gone", loss)
    with pytest.raises(ValueError, match=r"for a LogitsKLLoss; DistillationHook\.loss is a SimilarityLoss"):
        CachedTeacher(cache, SimilarityLoss())


def test_a_student_with_another_vocabulary_or_tokenizer_is_refused(cache):
    cached = CachedTeacher(cache, LogitsKLLoss(temperature=2.0))
    sentences = VisualSentenceDataset(["stores/seg", "stores/pose"], context=64, assembly="fixed")
    sizes = dict(num_embeddings=25)
    parts = dict(embedding=dict(type="TokenEmbedding", **sizes), head=dict(type="NextTokenHead", **sizes))
    with pytest.raises(ValueError, match="vocabulary of 24, the student one of 25"):
        cached.check_fits(MODELS.build(model_config(32, tokenizer=None, **parts)), sentences)
    other = MODELS.build(model_config(32))
    with torch.no_grad():
        next(other.tokenizer.parameters()).add_(1)
    with pytest.raises(ValueError, match="teacher and student must have the same tokenizer"):
        cached.check_fits(other, sentences)


def test_sentences_are_found_in_whatever_was_collated(cache):
    cached = CachedTeacher(cache, LogitsKLLoss(temperature=2.0))
    tokens = torch.zeros(2, 64, dtype=torch.int64)
    elements = [BaseDataElement(metainfo=dict(sentence=number)) for number in (3, 1)]

    def codes_of(samples):
        cached.prepare(tokens, samples)
        return cached.logit_terms()[0].codes

    expected = codes_of(elements)
    assert expected.shape == (2 * 63, 24)
    for samples in (
        [dict(sentence=3), dict(sentence=1)],
        dict(sentence=torch.tensor([3, 1]), task=["seg", "seg"]),
        tuple(elements),
    ):
        assert torch.equal(codes_of(samples), expected)


@pytest.mark.parametrize(
    "samples", [None, [], [BaseDataElement(), BaseDataElement()], [dict(sentence=1)], dict(task=["seg"] * 2), "ab"]
)
def test_samples_that_do_not_say_their_sentence_are_an_error(cache, samples):
    cached = CachedTeacher(cache, LogitsKLLoss(temperature=2.0))
    with pytest.raises(ValueError, match="data_samples with 'sentence'"):
        cached.prepare(torch.zeros(2, 64, dtype=torch.int64), samples)
    with pytest.raises(ValueError, match="sentences of 63 tokens, teacher cache cache is of 64"):
        cached.prepare(torch.zeros(1, 63, dtype=torch.int64), [dict(sentence=1)])


def losses_of(name, teacher, loss_weight=1.0, **changes):
    loss = dict(type="LogitsKLLoss", temperature=2.0, loss_weight=loss_weight)
    hook = dict(type="DistillationHook", teacher=teacher, loss=loss)
    runner = runner_of(**{"custom_hooks": [hook], "train_cfg.max_iters": 8, "work_dir": name} | changes)
    runner.train()
    scalars = runner.message_hub.log_scalars
    return [list(scalars[f"train/{key}"]._log_history) for key in ("loss_ce", "loss_kd")]


def test_a_run_from_the_cache_is_that_with_the_teacher(cache):
    online = losses_of("online", dict(cfg="teacher.py", checkpoint="teacher.pth"))
    for file in ("teacher.py", "teacher.pth"):
        Path(file).unlink()
    offline = losses_of("offline", dict(cache=str(cache)))
    for expected, found in zip(online, offline, strict=True):
        assert len(found) == 8 and found == pytest.approx(expected, abs=1e-4)
    assert online[1][0] != pytest.approx(online[1][-1], abs=1e-3), "it has to move"


def test_half_the_codes_bring_the_student_to_the_teacher_too(run_folder, teacher):
    sentences = VisualSentenceDataset(["stores/seg", "stores/pose"], context=64, assembly="fixed")
    cache_teacher(sentences, teacher, "half", top_k=12, temperature=2.0, device="cpu")
    # a weight above that of the labels, which pull elsewhere: this teacher's are random
    _, kd = losses_of("half_run", dict(cache="half"), loss_weight=30.0, **{"train_cfg.max_iters": 40})
    # of eight steps each, as every step has other sentences
    assert np.mean(kd[-8:]) < 0.8 * np.mean(kd[:8])


def test_what_the_hook_cannot_do_with_a_cache_is_said():
    with pytest.raises(ValueError, match="or 'cache' alone"):
        DistillationHook(teacher=dict(cache="cache", checkpoint="teacher.pth"))
    with pytest.raises(ValueError, match="layers needs a teacher online"):
        DistillationHook(teacher=dict(cache="cache"), layers=dict(pairs=[(0, 0)]))


def test_the_hook_refuses_random_sentences_before_the_first_step(cache):
    with pytest.raises(ValueError, match="assembly is 'random'"):
        losses_of("random", dict(cache=str(cache)), **{"train_dataloader.dataset.assembly": "random"})
    assert not list(Path("random").glob("*.pth"))
