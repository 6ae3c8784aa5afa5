"""No path mixes devices, and the host waits for the device only where it is listed here, with the reason.

Run without a GPU, on tensors without values; see ``helpers/fake_device.py``. Each path says how often it waits.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from delvm_mm.apis.generating import ImageGenerator
from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.engine.distillation.offline import CachedTeacher
from delvm_mm.engine.distillation.online import OnlineTeacher
from delvm_mm.engine.optimizers.step_guard import guard_steps
from delvm_mm.evaluation import TokenMetric
from delvm_mm.models import VQGAN, DeLVM, LogitsKLLoss, SimilarityLoss, VisionLLaMA, VQGANTrainer
from delvm_mm.models.tokenizers.images import decode_images, encode_images
from delvm_mm.precompute.teacher import _predictions
from delvm_mm.structures import DataSample
from helpers.fake_device import DEVICE, Waits, fake_device, moved
from helpers.small_teacher_cache import CODES, LENGTH, make_cache, teacher_of, write_store

# 16 px images, 4 x 4 tokens of 32 codes, a context of 8 images.
SIDE, IMAGE, CONTEXT = 16, 16, 128
TOKENIZER = dict(
    resolution=SIDE, hidden_channels=8, channel_mult=(1, 1, 2), num_res_blocks=1, z_channels=8, num_embeddings=32,
    quantized_embed_dim=8, norm_num_groups=4,
)  # fmt: skip
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=32)

# Where the host may wait for the device, and why.
VERSIONS, PROMPTS = "generation/engine.py:_versions", "generation/engine.py:_prompt_keys"
MEMO, TO_UINT8, TRUTHS = (
    "models/tokenizers/memo.py:_keys",
    "models/tokenizers/images.py:to_uint8",
    "models/answering.py:predict",
)
WEIGHED = "models/losses/chunked_loss.py:_weighed"
REASONS = {
    VERSIONS: "once a call of generate: sums of all weights, which tell whether the packed copy is still theirs",
    PROMPTS: "once a call with a prompt: the tokens themselves say which rows share it, and what is kept of it",
    MEMO: "once a batch of prompts: images that were encoded before are found by their bytes",
    TO_UINT8: "once a batch of images: they are wanted on the host",
    TRUTHS: "once a batch of answers: their tokens are wanted on the host",
    "models/answering.py:_score": "three times a batch of sentences: metrics read tokens and losses on the host",
    WEIGHED: "once a step, and only where losses are weighed by hand: whether their gradients must be computed again",
    "models/tokenizers/vqgan.py:decode": "once a call with check=True: tokens of files may be none of the codebook",
    "apis/generating.py:encode": "once a call: images come from the host",
    "engine/optimizers/step_guard.py:take_outcome": "once a step, after the optimizer: to log what was skipped",
    "models/tokenizers/vqgan_trainer.py:_check_finite": "a step of a tokenizer: before codes are moved, not after",
    "models/tokenizers/vqgan_trainer.py:_start": "a step of a tokenizer: whether the codes have been started",
    "models/tokenizers/vqgan_trainer.py:_move_codes": "a step of a tokenizer: which codes are unused, to move them",
    "models/tokenizers/vqgan_trainer.py:_sample": "a step with unused codes: draws on the host are the same anywhere",
}


class World:
    """What the paths use: the parts of the fixture, on the fake device as soon as they are asked for."""

    def __init__(self, parts: dict[str, Any], waits: Waits) -> None:
        self._parts, self.waits = parts, waits

    def __getattr__(self, name: str) -> Any:
        part = self._parts[name]
        own = moved(part) if isinstance(part, nn.Module) else part
        setattr(self, name, own)
        return own

    def tokens(self, batch: int = 2, length: int = 48) -> Tensor:
        return torch.zeros(batch, length, dtype=torch.int64, device=DEVICE)

    def images(self, *shape: int) -> Tensor:
        return torch.rand(*shape, 3, SIDE, SIDE, device=DEVICE)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("fake")
    torch.manual_seed(0)
    tokenizer = VQGAN(**TOKENIZER)
    stack = dict(type="LLaMA", arch=ARCH, max_positions=CONTEXT)
    codes, table = dict(type="CodebookEmbedding"), dict(type="TokenEmbedding", num_embeddings=32)
    head = dict(type="NextTokenHead")
    small = dict(arch=ARCH, img_size=32, patch_size=8)
    sentences = VisualSentenceDataset(write_store(folder / "store", 8), context=LENGTH, assembly="fixed")
    caches = {k: make_cache(sentences, teacher_of(), folder / f"cache{k}", top_k=k) for k in (5, CODES)}
    trainer = dict(vqgan=dict(TOKENIZER), restart_after=2, data_init=True)
    return dict(
        model=DeLVM(tokenizer, stack, codes, head),
        teacher=DeLVM(tokenizer, stack, codes, head).requires_grad_(False).eval(),
        table_model=DeLVM(None, stack | dict(with_cp=True), table, head | dict(num_embeddings=32, chunk_tokens=7)),
        causal=VisionLLaMA(**small),
        bidirectional=VisionLLaMA(**small, attention="bidirectional", rope="2d", out_type="avg_featmap"),
        soft=VisionLLaMA(**small, attention="soft", with_pos_embed=True),
        trainer=VQGANTrainer(**trainer),
        small=teacher_of(1).requires_grad_(True),
        cache={k: cache.path for k, cache in caches.items()},
        sentences=sentences,
    )


@pytest.fixture
def world(parts, monkeypatch) -> Iterator[World]:
    with fake_device(monkeypatch) as waits:
        yield World(parts, waits)


PATHS: dict[str, tuple[Callable[[World], Any], dict[str, int]]] = {}


def path(title: str, /, **options: Any) -> Callable:
    """Register a path and how often it waits."""
    waits = options.pop("waits", {})

    def register(function: Callable) -> Callable:
        assert title not in PATHS
        PATHS[title] = (lambda world: function(world, **options)), waits
        return function

    return register


def on_device(value: Tensor, *shape: int) -> None:
    assert (value.device.type, tuple(value.shape)) == (DEVICE, shape)


# ---- forward


@path("forward, codebook")
@path("forward, a table of its own", name="table_model")
def forward(w: World, name: str = "model") -> None:
    on_device(getattr(w, name)(w.tokens(), mode="tensor"), 2, 48, 32)


@path("forward, bfloat16 by autocast", dtype=torch.bfloat16)
@path("forward, float16 by autocast", dtype=torch.float16)
def forward_in(w: World, dtype: torch.dtype) -> None:
    with torch.autocast(DEVICE, dtype=dtype):
        logits = w.model(w.tokens())
    on_device(logits, 2, 48, 32)
    assert logits.dtype == dtype


@path("VisionLLaMA, causal", name="causal")
@path("VisionLLaMA, bidirectional, two-dimensional positions", name="bidirectional")
@path("VisionLLaMA, soft mask, another size", name="soft", side=40)
def vision(w: World, name: str, side: int = 32) -> None:
    out = getattr(w, name).train()(torch.rand(2, 3, side, side, device=DEVICE))
    on_device(out[-1], 2, 32)


# ---- losses


def backward(losses: dict[str, Tensor], model: DeLVM) -> None:
    total, logged = model.parse_losses(losses)
    on_device(total)
    total.backward()
    assert set(logged) == {"loss", *losses}


@path("loss")
@path("loss and gradient", back=True)
def loss(w: World, back: bool = False) -> None:
    losses = w.model.train().loss(w.tokens())
    on_device(losses["loss_ce"])
    if back:
        backward(losses, w.model)


@path("loss in chunks, with checkpointing")
def chunked(w: World) -> None:
    backward(w.table_model.train().loss(w.tokens()), w.table_model)


@path("loss of a head with another projection")
def other_projection(w: World) -> None:
    class Adapted(nn.Linear):
        pass

    w.model.head.projection.__class__ = Adapted
    backward(w.model.train().loss(w.tokens()), w.model)


@path("loss with a weight for labels")
def label_weight(w: World) -> None:
    w.model.label_weight = 2.0
    samples = [DataSample(metainfo=dict(clip_shape=(2, IMAGE))) for _ in range(2)]
    backward(w.model.train().loss(w.tokens(), samples), w.model)


@path("loss under autocast, bfloat16", dtype=torch.bfloat16)
@path("loss under autocast, float16", dtype=torch.float16)
def loss_in(w: World, dtype: torch.dtype) -> None:
    with torch.autocast(DEVICE, dtype=dtype):
        losses = w.model.train().loss(w.tokens())
    assert losses["loss_ce"].dtype == torch.float32
    backward(losses, w.model)


@path("distillation online")
@path("distillation online, inverse, with a temperature", loss=LogitsKLLoss(2.0, inverse=True), factor=0.5)
@path("distillation online, beside the student", overlap=True)
@path("distillation online, layers", layers=[(0, 0), (-1, 1)])
def online(
    w: World, loss: nn.Module | None = None, overlap: bool = False, layers: tuple = (), factor: float = 1.0
) -> None:
    extra = OnlineTeacher(w.teacher, loss or LogitsKLLoss(), layers, SimilarityLoss(), w.model, overlap)
    extra.factor = factor
    w.model.extra_losses.append(extra)
    backward(w.model.train().loss(w.tokens()), w.model)


@path("distillation online, losses weighed by hand", waits={WEIGHED: 1})
def weighed(w: World) -> None:
    w.model.extra_losses.append(OnlineTeacher(w.teacher, LogitsKLLoss()))
    assert set(w.model.train().loss(w.tokens())) == {"loss_ce", "loss_kd"}
    w.waits.tape.backward(equally=False)


@path("distillation from a cache", top_k=5)
@path("distillation from a cache, all codes", top_k=CODES)
def cached(w: World, top_k: int) -> None:
    w.small.extra_losses.append(CachedTeacher(w.cache[top_k], LogitsKLLoss()))
    batch = [w.sentences[i] for i in range(2)]
    data = w.small.data_preprocessor(
        dict(inputs=[item["inputs"] for item in batch], data_samples=[item["data_samples"] for item in batch])
    )
    total, _ = w.small.parse_losses(w.small.train()(**data, mode="loss"))
    total.backward()


@path("predictions for a teacher cache")
def predictions(w: World) -> None:
    codes, *_ = _predictions(w.teacher, w.tokens(), 5, 1.0)
    assert codes.device.type == DEVICE


@path("a training step, fused and guarded", fused=True, waits={"engine/optimizers/step_guard.py:take_outcome": 1})
def guarded_step(w: World, fused: bool) -> None:
    wrapper = guard_steps(OptimWrapper(torch.optim.AdamW(w.model.parameters(), fused=fused)))
    for parameter in w.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    w.waits.truth = False  # nothing is bad
    w.model.train().train_step(dict(inputs=[torch.zeros(48, dtype=torch.int64)] * 2), wrapper)
    assert wrapper.stepped
    assert wrapper.take_outcome() is None


# ---- scoring and what metrics read


@path("scoring sentences", waits={"models/answering.py:_score": 3})
def score(w: World) -> list[DataSample]:
    samples = w.model.eval().predict(w.tokens(4))
    assert samples[3].token_nll.shape == (47,)
    return samples


@path("what TokenMetric reads", waits={"models/answering.py:_score": 3})
def token_metric(w: World) -> None:
    metric = TokenMetric()
    metric.process(None, [sample.to_dict() for sample in score(w)])
    assert len(metric.results) == 4


# ---- tokenizer


@path("tokenizer, encode")
def encode(w: World) -> None:
    on_device(w.model.tokenizer.encode(w.images(3)), 3, IMAGE)


@path("tokenizer, encode uint8 images in bfloat16", precision="bfloat16")
@path("tokenizer, encode uint8 images in float32", precision="float32")
def encode_uint8(w: World, precision: str) -> None:
    images = torch.zeros(3, 3, SIDE, 2 * SIDE, dtype=torch.uint8, device=DEVICE)
    on_device(encode_images(w.model.tokenizer, images, precision), 3, 2 * IMAGE)


@path("tokenizer, decode")
@path("tokenizer, decode tokens of a file", check=True, waits={"models/tokenizers/vqgan.py:decode": 2})
def decode(w: World, check: bool | None = None) -> None:
    on_device(w.model.tokenizer.decode(w.tokens(3, 2 * IMAGE), (4, 8), check), 3, 3, SIDE, 2 * SIDE)


@path("tokenizer, decode to the host", waits={TO_UINT8: 1})
def decode_to_host(w: World) -> None:
    assert decode_images(w.model.tokenizer, w.tokens(3, IMAGE))[2].shape == (SIDE, SIDE, 3)


@path("tokenizer, there and back")
def there_and_back(w: World) -> None:
    on_device(w.model.tokenizer(w.images(3)), 3, 3, SIDE, SIDE)


TRAINER = "models/tokenizers/vqgan_trainer.py:"


@path("tokenizer training, validation", waits={TO_UINT8: 2})
def trainer_predict(w: World) -> None:
    w.trainer.eval()(w.images(3), mode="predict")


@path(
    "tokenizer training, a step",
    waits={
        TRAINER + "_check_finite": 1, TRAINER + "_start": 1, TRAINER + "_move_codes": 1, TRAINER + "_sample": 3,
    },
)  # fmt: skip
def trainer_step(w: World) -> None:
    losses = w.trainer.train()(w.images(3), mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()


# ---- generation


@path("generation, greedy", waits={VERSIONS: 1})
@path("generation, drawn", sampler=dict(temperature=0.7, top_k=9, top_p=0.8), waits={VERSIONS: 1})
@path("generation, drawn with a seed", sampler=dict(temperature=1.0, seed=3), waits={VERSIONS: 1})
@path("generation, in bfloat16", dtype="bfloat16", waits={VERSIONS: 1})
@path("generation, in parts", max_cache_bytes=2 * 63 * 512, waits={VERSIONS: 1})
@path("generation, behind prompts that rows share", prompt_length=32, waits={VERSIONS: 1, PROMPTS: 1})
@path("generation, compiled and captured", compile=True, waits={VERSIONS: 1})
@path("generation, captured behind a prompt", compile=True, prompt_length=32, waits={VERSIONS: 1, PROMPTS: 1})
@path("generation, every token reported", report=True, waits={VERSIONS: 1})
def generate(w: World, report: bool = False, **options: Any) -> None:
    seen = []
    if report:
        options["on_token"] = lambda index, token: seen.append(token)
    on_device(w.model.eval().generate(w.tokens(4), IMAGE, **options), 4, IMAGE)
    assert len(seen) == (IMAGE if report else 0)


@path("generation, prompts side by side", waits={VERSIONS: 1})
def mixed_prompts(w: World) -> None:
    # Fake tokens are all the same to the host; so their order is said here.
    w.model._engine._prompt_keys = lambda tokens, length: [b"1", b"2", b"1", b"2"]
    on_device(w.model.eval().generate(w.tokens(4), IMAGE, prompt_length=32), 4, IMAGE)


@path("generation, under autocast", waits={VERSIONS: 1})
def generate_in_autocast(w: World) -> None:
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        w.model.eval().generate(w.tokens(), 4)
    assert w.model._engine.decoder.table.dtype == torch.bfloat16


@path("generation, a second call", waits={VERSIONS: 2, PROMPTS: 2})
def second_call(w: World) -> None:
    for _ in range(2):
        w.model.eval().generate(w.tokens(), 4, prompt_length=32)


ANSWER = {MEMO: 1, VERSIONS: 1, PROMPTS: 1, TRUTHS: 1}


@path("answers to prompts", waits=ANSWER | {TO_UINT8: 1})
@path("answers to prompts, with the truth beside", truth=True, waits=ANSWER | {TO_UINT8: 3})
def predict(w: World, truth: bool = False) -> None:
    samples = [DataSample() for _ in range(4)]
    for sample in samples if truth else []:
        sample.set_data(dict(label_image=np.zeros((SIDE, SIDE, 3), np.uint8)))
    w.model.eval().predict(w.images(4, 5), samples)
    assert samples[3].pred_image.shape == (SIDE, SIDE, 3)
    assert ("ceiling_image" in samples[3]) is truth


@path("answers, completions and frames of the API", waits={VERSIONS: 3, PROMPTS: 1, "apis/generating.py:encode": 1})
def api(w: World) -> None:
    generator = ImageGenerator(w.model.eval(), SIDE)
    tokens = generator.encode([np.zeros((SIDE, SIDE, 3), np.uint8)] * 3)
    on_device(generator.answer(tokens[:2], tokens[2:], {}), 1, 1, IMAGE)
    on_device(generator.complete(tokens, 2, {}), 3, IMAGE)
    on_device(generator.continue_frames(tokens, 1, {})[0], 1, IMAGE)


# ---- batches of a loader


@path("batches of sentences")
def sentences(w: World) -> None:
    batch = w.model.data_preprocessor(dict(inputs=[torch.zeros(48, dtype=torch.int64)] * 2, data_samples=[None] * 2))
    on_device(batch["inputs"], 2, 48)


@path("batches of prompts")
def prompts(w: World) -> None:
    images = [torch.zeros(5, 3, SIDE, SIDE, dtype=torch.uint8)] * 2
    batch = w.model.data_preprocessor(dict(inputs=images))
    on_device(batch["inputs"], 2, 5, 3, SIDE, SIDE)
    assert batch["inputs"].dtype == torch.float32


@pytest.mark.parametrize("name", PATHS)
def test_a_path_stays_on_its_device_and_waits_as_often_as_it_is_listed(world, name):
    run, expected = PATHS[name]
    run(world)
    assert dict(world.waits.places) == expected
    assert set(expected) <= set(REASONS)


def test_there_are_enough_paths_and_no_reason_without_one():
    assert len(PATHS) >= 30
    assert set(REASONS) == {place for _, waits in PATHS.values() for place in waits}


# ---- the test tells


@pytest.mark.parametrize("wait", [Tensor.item, bool, int, Tensor.tolist, Tensor.cpu, lambda value: value.to("cpu")])
def test_a_wait_in_the_loss_or_in_the_loop_over_tokens_is_found(world, monkeypatch, wait):
    head = world.model.head
    plain = head.loss_from_features

    def with_a_wait(*args):
        losses = plain(*args)
        wait(losses["loss_ce"])
        return losses

    monkeypatch.setattr(head, "loss_from_features", with_a_wait)
    world.model.train().loss(world.tokens())
    assert sum(world.waits.places.values()) == 1

    world.waits.places.clear()
    world.model.eval().generate(world.tokens(1), 5, sampler=lambda logits: [wait(logits[0, 0]), logits.argmax(-1)][1])
    assert sum(world.waits.places.values()) == 5 + 1


def test_tensors_of_two_devices_are_refused(world):
    with pytest.raises(RuntimeError, match="same device"):
        world.model.embedding(world.tokens().cpu())


def test_without_the_record_a_wait_would_end_the_path(monkeypatch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.zeros(1, device=DEVICE).item()
