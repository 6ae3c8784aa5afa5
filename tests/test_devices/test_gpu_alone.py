"""What only a GPU has: memory that is counted, waits that are refused, graphs that are captured."""

import gc
import threading

import pytest
import torch
from mmengine.optim import OptimWrapper

from delvm_mm.engine.distillation.online import OnlineTeacher
from delvm_mm.engine.optimizers.step_guard import guard_steps
from delvm_mm.models import DeLVM, LogitsKLLoss
from footprint import training_footprint

pytestmark = pytest.mark.gpu

ARCH = dict(embed_dims=512, num_layers=8, num_heads=8)
CODES, CONTEXT = 8192, 1024
MEBIBYTES = 2**20


def model_of(arch=ARCH):
    torch.manual_seed(0)
    table = dict(type="TokenEmbedding", num_embeddings=CODES)
    stack = dict(type="LLaMA", arch=arch, max_positions=CONTEXT)
    return DeLVM(None, stack, table, dict(type="NextTokenHead", num_embeddings=CODES)).cuda()


def tokens_of(rows, length=CONTEXT):
    return torch.randint(CODES, (rows, length), device="cuda")


@pytest.fixture
def no_waits():
    """Within ``with no_waits():`` PyTorch refuses to wait for the device."""

    class NoWaits:
        def __enter__(self):
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_):
            torch.cuda.set_sync_debug_mode("default")

    yield NoWaits
    torch.cuda.set_sync_debug_mode("default")


def peak_of(run):
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("overlap", [None, False, True], ids=["alone", "distilled", "distilled beside it"])
def test_a_training_step_never_waits_for_the_device(no_waits, overlap):
    model = model_of().train()
    if overlap is not None:
        teacher = model_of().requires_grad_(False).eval()
        model.extra_losses.append(OnlineTeacher(teacher, LogitsKLLoss(), overlap=overlap))
    wrapper = guard_steps(OptimWrapper(torch.optim.AdamW(model.parameters(), fused=True)))
    data = dict(inputs=tokens_of(2))

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            losses = model.loss(data["inputs"])
        wrapper.update_params(model.parse_losses(losses)[0])

    step()  # allocates and chooses kernels
    with no_waits():
        step()
    assert wrapper.take_outcome() is None


@pytest.mark.parametrize("options", [{}, dict(compile=True)], ids=["plain", "captured"])
@pytest.mark.parametrize("sampler", [{}, dict(temperature=0.5, top_k=50, top_p=0.9)], ids=["greedy", "drawn"])
def test_the_loop_over_tokens_never_waits_for_the_device(no_waits, options, sampler):
    model = model_of().eval()
    tokens = tokens_of(2, 64)
    inner, steps = model._engine, []

    def on_token(index, chosen):
        steps.append(index)
        if index == 2:
            torch.cuda.set_sync_debug_mode("error")
        if index == 29:
            torch.cuda.set_sync_debug_mode("default")

    model.generate(tokens, 32, sampler=sampler, **options)
    model.generate(tokens, 32, sampler=sampler, on_token=on_token, **options)
    assert steps == list(range(32)) and inner.decoder is not None


def test_keys_and_values_take_no_more_than_their_bound():
    model = model_of().eval()
    tokens = tokens_of(16, 512)
    model.generate(tokens[:1], 2)  # packs the weights, which stay
    row = model._engine.decoder.cache_bytes(512 + 64 - 1)
    whole = peak_of(lambda: model.generate(tokens, 64, max_cache_bytes=16 * row))
    bound = 4 * row
    bounded = peak_of(lambda: model.generate(tokens, 64, max_cache_bytes=bound))
    assert bounded < whole - 8 * row
    # Beside the cache: what lies between two layers while prompts are read, 8192 tokens at a time.
    between = 8192 * 4 * (6 * ARCH["embed_dims"] + 2 * 1536) + 16 * CODES * 4
    assert bounded <= bound + 1.5 * between


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_step_takes_the_memory_of_the_formula(precision, batch):
    model = model_of().train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    tokens = tokens_of(batch)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model.loss(tokens)["loss_ce"]
        loss.backward()
        optimizer.step()

    step()
    held = sum(parameter.nbytes for parameter in model.parameters()) * 3  # weights and two moments
    optimizer.zero_grad()
    # A table of its own in place of codebook vectors: as wide as the model.
    formula = training_footprint(
        ARCH, batch, CONTEXT, CODES, precision=precision, codebook_dims=CODES, loss_chunk=2048
    ).total
    measured = held + peak_of(step)
    assert 0.6 * formula < measured < 1.1 * formula


def test_logits_of_a_batch_never_exist_as_a_whole():
    model = model_of(dict(embed_dims=128, num_layers=1, num_heads=2)).train()
    tokens = tokens_of(16)
    model.loss(tokens)["loss_ce"].backward()
    model.zero_grad()
    logits = tokens.numel() * CODES * 4
    peak = peak_of(lambda: model.loss(tokens)["loss_ce"].backward())
    assert peak < 0.6 * logits


def test_a_graph_is_captured_once_a_shape_and_given_back():
    model = model_of().eval()
    tokens = tokens_of(2, 64)
    model.generate(tokens, 16, compile=True)
    captured = model._engine._captured
    model.generate(tokens, 16, compile=True)
    assert captured is not None and model._engine._captured is captured
    model.generate(tokens[:1], 16, compile=True)
    assert model._engine._captured is not captured
    before = torch.cuda.memory_allocated()
    del captured
    model.train()
    gc.collect()
    assert model._engine._captured is None
    assert torch.cuda.memory_allocated() < before - 30 * MEBIBYTES  # the packed copy alone is larger


def test_another_thread_may_pin_memory_while_a_graph_is_captured():
    model = model_of().eval()
    stop, errors = threading.Event(), []

    def pin():
        try:
            while not stop.is_set():
                torch.zeros(1024).pin_memory().to("cuda", non_blocking=True)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        captured = model.generate(tokens_of(2, 64), 16, compile=True)
    finally:
        stop.set()
        thread.join()
    assert not errors and captured.shape == (2, 16)
