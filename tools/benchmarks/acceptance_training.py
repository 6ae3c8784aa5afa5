"""The last part of ``gpu_acceptance.py``: a teacher, then a student of it, on built-in scenes, for as long as told."""

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from delvm_mm.datasets import ProceduralScenes, VisualSentenceDataset
from delvm_mm.models import DeLVM, load_tokenizer
from delvm_mm.precompute import tokenize_clips

GRID = 16  # tokens along a side: 256 px with a tokenizer of 16 x 16 pixels a token, 64 px with the shipped one
LEAST_SECONDS = 20.0
READ_EVERY = 10  # steps between two losses that are read: reading one waits for the device


class StopAfter(Hook):
    """End the training after some seconds, and keep its losses."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.losses: list[dict[str, float]] = []
        self.steps = 0
        self._since: float | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Look at the clock."""
        self._since = self._since or time.monotonic()
        self.steps += 1
        if self.steps % READ_EVERY == 1:
            self.losses.append({name: value.item() for name, value in outputs.items() if "loss" in name})
        if time.monotonic() - self._since > self.seconds:
            runner.train_loop.stop_training = True


def train(settings: Any, figures: Any, left: float) -> None:
    """Tokenize scenes, train a 300M for a third of the time, then an 80M with it as its teacher."""
    init_default_scope("delvm_mm")
    toy, out = settings.cpu, Path(settings.out).absolute() / "training"
    clips, context = (8, 256) if toy else (1000, 2048)
    seconds = 2.0 if toy else max(LEAST_SECONDS, left)
    start = time.monotonic()
    stores = {part: make_stores(settings, out, part, clips) for part in ("train", "val")}
    figures.add("tokenized", (6 * clips + 6 * min(clips, 24)) / (time.monotonic() - start), "images/s")
    seconds = max(LEAST_SECONDS if not toy else 2.0, seconds - (time.monotonic() - start))
    tiny = dict(embed_dims=32, num_layers=1, num_heads=2)
    teacher = run(settings, figures, "teacher", tiny if toy else "300m", stores, context, seconds / 3)
    weights = out / "teacher.pth"
    torch.save(dict(state_dict=teacher.state_dict(), meta={}), weights)
    shape = teacher.backbone.settings["arch"]
    distillation = dict(
        type="DistillationHook",
        teacher=dict(cfg=dict(model=model_config(settings, shape, context)), checkpoint=str(weights)),
    )
    del teacher
    student = tiny if toy else "80m"
    run(settings, figures, "student", student, stores, context, 2 * seconds / 3, distillation=distillation)


def make_stores(settings: Any, out: Path, part: str, clips: int) -> list[str]:
    """Token stores of scenes that no other part has."""
    tokenizer = load_tokenizer(settings.tokenizer)
    factor = tokenizer.downsample_factor
    size = factor * (GRID // 2 if settings.cpu else GRID)
    codecs = dict(
        seg=dict(type="ForegroundMaskCodec"),
        pose=dict(type="SkeletonCodec", radius=max(1, size // 64), thickness=max(1, size // 128)),
        derain=dict(type="RestorationCodec"),
    )
    made = []
    for task, codec in codecs.items():
        pipeline = [dict(type="DrawLabel", codec=codec), dict(type="PackClip", factor=factor)]
        first, length = (0, clips) if part == "train" else (1_000_000, min(clips, 24))
        scenes = ProceduralScenes(task=task, size=size, seed=0, start=first, length=length, pipeline=pipeline)
        folder = out / part / task
        tokenize_clips(
            scenes, tokenizer, folder, task=task, batch_clips=4 if settings.cpu else 32,
            num_workers=0 if settings.cpu else 8, device=settings.device,
            precision="float32" if settings.cpu else "bfloat16",
        )  # fmt: skip
        made.append(str(folder))
    return made


def model_config(settings: Any, arch: Any, context: int) -> dict[str, Any]:
    """A DeLVM beside the tokenizer."""
    return dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained=settings.tokenizer),
        backbone=dict(type="LLaMA", arch=arch, max_positions=context),
        embedding=dict(type="CodebookEmbedding"),
        head=dict(type="NextTokenHead"),
    )


def run(
    settings: Any, figures: Any, name: str, arch: Any, stores: dict[str, list[str]], context: int, seconds: float,
    **hooks: dict,
) -> DeLVM:  # fmt: skip
    """Train for some seconds and score sentences that were not trained on."""
    toy = settings.cpu
    loader = dict(
        batch_size=2 if toy else 16,
        num_workers=0 if toy else 4,
        persistent_workers=not toy,
        pin_memory=not toy,
        sampler=dict(type="SentenceSampler", seed=0),
        collate_fn=dict(type="default_collate"),
        dataset=dict(type="VisualSentenceDataset", stores=stores["train"], context=context),
    )
    cfg = Config(
        dict(
            default_scope="delvm_mm",
            experiment_name=f"gpu_acceptance_{name}",
            work_dir=str(Path(settings.out) / "training" / name),
            model=model_config(settings, arch, context),
            train_dataloader=loader,
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=10**6, val_interval=10**9),
            optim_wrapper=dict(
                type="OptimWrapper" if toy else "AutocastOptimWrapper",
                optimizer=dict(type="AdamW", lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50)],
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=10, log_metric_by_epoch=False),
                checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=10**9, save_last=False),
                guard=dict(type="NonFiniteGuardHook"),
                **hooks,
            ),
            log_level="WARNING",
            randomness=dict(seed=0),
        )
    )
    runner = Runner.from_cfg(cfg)
    watch = StopAfter(seconds)
    runner.register_hook(watch)
    start = time.monotonic()
    model = runner.train()
    took = time.monotonic() - start
    batch = loader["batch_size"]
    figures.add(f"{name}, steps of {batch} x {context} tokens", watch.steps)
    figures.add(f"{name}, everything included", watch.steps * batch * context / took, "tokens/s")
    for label, losses in (("first", watch.losses[0]), ("last", watch.losses[-1])):
        for key, value in losses.items():
            figures.add(f"{name}, {label} {key}", value, "nats")
    figures.add(f"{name}, loss of other scenes", held_out(model, stores["val"], context, settings), "nats")
    torch.save(dict(state_dict=model.state_dict(), meta={}), Path(settings.out) / "training" / f"{name}.pth")
    return model


def held_out(model: DeLVM, stores: list[str], context: int, settings: Any) -> float:
    """Mean negative log-likelihood of sentences, in nats a token."""
    sentences = VisualSentenceDataset(stores, context=context, assembly="fixed")
    model.eval()
    values = [
        sample.token_nll.mean().item()
        for number in range(min(len(sentences), 24))
        for sample in model.predict(sentences[number]["inputs"][None].to(settings.device))
    ]
    return sum(values) / len(values)
