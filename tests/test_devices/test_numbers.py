"""The same numbers on every device: losses, gradients, guarded steps, tokens, training of a tokenizer.

What is compared with is the CPU in float32.
"""

import copy

import numpy as np
import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from delvm_mm.datasets import ProceduralScenes, VisualSentenceDataset
from delvm_mm.engine import AutocastOptimWrapper
from delvm_mm.engine.distillation.offline import CachedTeacher
from delvm_mm.engine.distillation.online import OnlineTeacher
from delvm_mm.engine.optimizers.step_guard import guard_steps
from delvm_mm.models import DeLVM, LogitsKLLoss, VisionLLaMA, VQGANTrainer, load_tokenizer
from delvm_mm.models.tokenizers.images import encode_images
from helpers.small_teacher_cache import CODES, LENGTH, make_cache, teacher_of, write_store

# Of the norm of the difference, as a share of the norm: float32 sums in another order; 8 and 11 bits in the products.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def model_of(width=64, seed=0, **head):
    torch.manual_seed(seed)
    backbone = dict(type="LLaMA", arch=dict(embed_dims=width, num_layers=2, num_heads=4), max_positions=96)
    sizes = dict(num_embeddings=256)
    return DeLVM(
        None, backbone | dict(init_std=0.1), dict(type="TokenEmbedding", init_std=1.0, **sizes),
        dict(type="NextTokenHead", init_std=0.1, **sizes) | head,
    ).train()  # fmt: skip


def batch_of(device, rows=4, length=80):
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(1)).to(device)


def losses_and_gradients(model, tokens, dtype=torch.float32, scale=1.0):
    with torch.autocast(tokens.device.type, dtype=dtype, enabled=dtype != torch.float32):
        losses = model.loss(tokens)
    total, _ = model.parse_losses(losses)
    (scale * total).backward()
    gradients = torch.cat([parameter.grad.flatten().cpu() / scale for parameter in model.parameters()])
    return {name: value.item() for name, value in losses.items()}, gradients


def with_a_teacher(model, overlap=False, **options):
    teacher = model_of(96, seed=1).requires_grad_(False).eval().to(next(model.parameters()).device)
    model.extra_losses.append(OnlineTeacher(teacher, LogitsKLLoss(**options), overlap=overlap))
    return model


def assert_near(ours, theirs, tolerance):
    for name, value in theirs[0].items():
        assert ours[0][name] == pytest.approx(value, rel=tolerance), name
    assert (ours[1] - theirs[1]).norm() <= tolerance * theirs[1].norm()


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("distilled", [False, True], ids=["alone", "distilled"])
def test_losses_and_gradients(device, dtype, distilled):
    prepare = with_a_teacher if distilled else lambda model: model
    reference = losses_and_gradients(prepare(model_of()), batch_of("cpu"))
    scale = 1024.0 if dtype == torch.float16 else 1.0
    ours = losses_and_gradients(prepare(model_of().to(device)), batch_of(device), dtype, scale)
    assert_near(ours, reference, TOLERANCES[dtype])


@pytest.mark.parametrize("options", [dict(chunk_tokens=7), dict(loss_weight=0.5)], ids=str)
def test_losses_in_chunks_and_with_a_weight(device, options):
    reference = losses_and_gradients(model_of(**options), batch_of("cpu"))
    assert_near(losses_and_gradients(model_of(**options).to(device), batch_of(device)), reference, 1e-4)


def test_losses_weighed_by_hand(device):
    results = []
    for where in (torch.device("cpu"), device):
        model = with_a_teacher(model_of().to(where), temperature=2.0)
        losses = model.loss(batch_of(where))
        (losses["loss_ce"] + 0.5 * losses["loss_kd"]).backward()
        results.append(model.head.projection.weight.grad.cpu())
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_teacher_in_a_stream_of_its_own_changes_nothing(device, steps):
    results = []
    for overlap in (False, True):
        model = with_a_teacher(model_of().to(device), overlap)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            result = losses_and_gradients(model, batch_of(device))
            optimizer.step()
        results.append(result)
    assert_near(*results, 1e-4)


def test_a_cached_teacher_says_what_the_teacher_says(device, tmp_path):
    sentences = VisualSentenceDataset(write_store(tmp_path / "store", 8), context=LENGTH, assembly="fixed")
    options = dict(top_k=CODES, dtype="float32")
    made = make_cache(sentences, teacher_of(), tmp_path / "cache", **options | dict(device=str(device)))
    student = teacher_of(1).requires_grad_(True).to(device)
    items = [sentences[number] for number in range(4)]
    tokens = torch.stack([item["inputs"] for item in items]).to(device)
    values = []
    for extra in (CachedTeacher(made.path, LogitsKLLoss()), OnlineTeacher(teacher_of().to(device), LogitsKLLoss())):
        student.extra_losses = [extra]
        values.append(student.loss(tokens, [item["data_samples"] for item in items])["loss_kd"].item())
    assert values[0] == pytest.approx(values[1], rel=1e-4)


X = torch.linspace(-1, 1, 12).view(3, 4)
BAD = {
    "the loss is nan": lambda model, x: model(x).square().mean() * float("nan"),
    "the gradient is infinite": lambda model, x: (model.weight * 0).abs().sqrt().sum(),
}


@pytest.mark.parametrize("clip", [None, dict(max_norm=0.5)], ids=["free", "clipped"])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_step_is_as_if_it_had_never_been(device, bad, fused, clip):
    good = lambda model, x: model(x).square().mean()  # noqa: E731

    def trained(losses, guarded):
        torch.manual_seed(0)
        model = nn.Linear(4, 2).to(device)
        wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused), clip_grad=clip)
        if guarded:
            guard_steps(wrapper)
        outcomes = []
        for loss in losses:
            wrapper.update_params(loss(model, X.to(device)))
            outcomes += [wrapper.take_outcome() is not None] if guarded else []
        state = [value for entry in wrapper.optimizer.state_dict()["state"].values() for value in entry.values()]
        return [*model.state_dict().values(), *state], outcomes

    ours, outcomes = trained([good, BAD[bad], good], guarded=True)
    theirs, _ = trained([good, good], guarded=False)
    assert outcomes == [False, True, False]
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", ["bfloat16", pytest.param("float16", marks=pytest.mark.gpu)])
def test_mixed_precision_learns(device, kind):
    if kind == "float16" and device.type == "cpu":
        pytest.skip("MMEngine's float16 wrapper needs a GPU")
    model = model_of().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    wrapper = AutocastOptimWrapper(optimizer=optimizer) if kind == "bfloat16" else AmpOptimWrapper(optimizer=optimizer)
    guard_steps(wrapper)
    data = dict(inputs=list(batch_of(device)))
    model.data_preprocessor.to(device)
    losses = [model.train_step(data, wrapper)["loss_ce"].item() for _ in range(12)]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("attention", ["causal", "bidirectional", "soft"])
def test_features_of_patches(device, attention):
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=2, num_heads=4)
    model = VisionLLaMA(arch, img_size=32, patch_size=8, attention=attention, with_pos_embed=True).eval()
    images = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        reference = model(images)[-1]
        ours = model.to(device)(images.to(device))[-1].cpu()
    torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def scenes():
    data = ProceduralScenes(task="derain", size=64, length=8)
    return torch.from_numpy(np.stack([data[number]["img"] for number in range(8)])).permute(0, 3, 1, 2)


def test_a_tokenizer_makes_the_same_tokens_and_images(device, scenes):
    tokenizer = load_tokenizer("delvm_mm://mini_tokenizer")
    reference = encode_images(tokenizer, scenes)
    images = tokenizer.decode(reference, tokenizer.grid_of(64, 64))
    there = copy.deepcopy(tokenizer).to(device)
    tokens = encode_images(there, scenes.to(device)).cpu()
    assert (tokens == reference).float().mean() > 0.995  # the nearest of two codes may change by rounding
    decoded = there.decode(reference.to(device), tokenizer.grid_of(64, 64)).cpu()
    torch.testing.assert_close(decoded, images, rtol=0, atol=2e-3)


def test_a_tokenizer_in_bfloat16_makes_nearly_the_same_tokens(device, scenes):
    tokenizer = load_tokenizer("delvm_mm://mini_tokenizer")
    reference = encode_images(tokenizer, scenes)
    tokens = encode_images(tokenizer.to(device), scenes.to(device), "bfloat16").cpu()
    assert (tokens == reference).float().mean() > 0.8


@pytest.mark.parametrize("channels_last", [False, True], ids=["channels first", "channels last"])
def test_a_tokenizer_trains_as_on_the_cpu(device, scenes, channels_last):
    shape = dict(
        resolution=64, hidden_channels=16, channel_mult=(1, 1, 2), num_res_blocks=1, z_channels=8, num_embeddings=64,
        quantized_embed_dim=8, norm_num_groups=4,
    )  # fmt: skip
    curves = []
    for where in (torch.device("cpu"), device):
        torch.manual_seed(0)
        trainer = VQGANTrainer(dict(shape), channels_last=channels_last, restart_after=4).to(where).train()
        optimizer = torch.optim.Adam(trainer.parameters(), lr=2e-3)
        curve = []
        for _ in range(8):
            losses = trainer(scenes.to(where), mode="loss")
            loss = sum(value for name, value in losses.items() if "loss" in name)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(losses["loss_l1"].item())
        curves.append(curve)
    assert curves[1][0] == pytest.approx(curves[0][0], rel=1e-3)
    assert curves[1][-1] < curves[1][0]
    assert curves[1][-1] == pytest.approx(curves[0][-1], rel=0.25)
