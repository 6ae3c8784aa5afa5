"""Compiled code for passes of few tokens, against the operators of PyTorch; and what happens without a compiler."""

import copy
import dataclasses
import shutil

import pytest
import torch

from delvm_mm.generation import SharedPrompt, decode_tokens, native, pack_decoder, prefill
from delvm_mm.generation import decoder as decoder_module
from delvm_mm.models import LLaMA, NextTokenHead, TokenEmbedding

CODES, CONTEXT = 50, 200
NARROW = "gcc -DNARROW"  # as on processors without AVX-512

needs_compiler = pytest.mark.skipif(not native.has_native(torch.float32, torch.device("cpu")), reason="needs gcc")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing is compiled yet, and what a test compiles is forgotten."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._library.cache_clear()
    yield tmp_path
    native._library.cache_clear()


# Head dimensions of whole pairs of vectors, of a part more, and of less than one; other sizes that are multiples of
# nothing.
SHAPES = {
    "128 channels a head": dict(embed_dims=256, num_layers=2, num_heads=2, feedforward_channels=300),
    "40 channels a head": dict(embed_dims=120, num_layers=2, num_heads=3, feedforward_channels=77),
    "10 channels a head": dict(embed_dims=40, num_layers=3, num_heads=4, feedforward_channels=52),
}


def make_parts(arch, num_kv_heads=None):
    torch.manual_seed(0)
    backbone = LLaMA(arch, max_positions=CONTEXT, init_std=0.1, num_kv_heads=num_kv_heads).eval()
    for name, bias in backbone.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(bias, std=0.1)
    width = arch["embed_dims"]
    return TokenEmbedding(width, CODES, init_std=1.0), backbone, NextTokenHead(width, CODES, init_std=0.3)


def passes(decoder, prompt_length):
    """Logits of passes of several rows, of which some share a prompt, and the cache that they leave."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(CODES, (4, 150), generator=generator)
    prompts = []
    for start, stop in ((0, 3), (3, 4)) if prompt_length else ():
        prompts.append(SharedPrompt(start, stop, decoder.new_cache(1, prompt_length)))
        prefill(decoder, torch.randint(CODES, (1, prompt_length), generator=generator), prompts[-1].cache)
    cache, logits, at = decoder.new_cache(4, 110), [], [70] * 4
    prefill(decoder, tokens[:, :70], cache, prompts)
    for counts in ((1, 1, 1, 1), (2, 0, 0, 0), (0, 1, 1, 0), (5, 1, 0, 3), (0, 0, 0, 1), (17, 0, 0, 0)):
        given = [tokens[row, at[row] : at[row] + count].tolist() for row, count in enumerate(counts)]
        logits.append(decode_tokens(decoder, given, at, cache, prompts).float())
        at = [place + count for place, count in zip(at, counts, strict=True)]
    return torch.cat(logits), cache


@needs_compiler
@pytest.mark.parametrize("compiler", ["gcc", NARROW])
@pytest.mark.parametrize("prompt_length", [0, 65])
@pytest.mark.parametrize("at_once", [0, 100], ids=["attention alone", "whole passes"])
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_is_what_the_operators_compute(shape, at_once, prompt_length, compiler, fresh, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(decoder_module, "NATIVE_TOKENS", at_once)
    parts = make_parts(SHAPES[shape], num_kv_heads=1 if "128" in shape else None)
    decoder = pack_decoder(*parts, dtype=torch.float32)
    assert decoder.native is not None
    expected, expected_cache = passes(dataclasses.replace(decoder, native=None), prompt_length)
    logits, cache = passes(decoder, prompt_length)
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(cache.keys, expected_cache.keys, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cache.values, expected_cache.values, atol=1e-5, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("compiler", ["gcc", NARROW])
@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_keeps_keys_in_two_bytes_and_is_closer_to_float32_than_the_operators(
    shape, compiler, fresh, monkeypatch
):
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(decoder_module, "NATIVE_TOKENS", 100)
    parts = [copy.deepcopy(part).bfloat16() for part in make_parts(SHAPES[shape])]
    decoder = pack_decoder(*parts, dtype=torch.bfloat16)
    exact = dataclasses.replace(pack_decoder(*(part.float() for part in parts), dtype=torch.float32), native=None)
    expected, expected_cache = passes(exact, 65)
    by_operators, _ = passes(dataclasses.replace(decoder, native=None), 65)
    logits, cache = passes(decoder, 65)
    assert cache.keys.dtype == cache.values.dtype == torch.bfloat16
    assert cache.nbytes == expected_cache.nbytes / 2
    assert decoder.cache_bytes(110) * 4 == cache.nbytes
    spread = expected.std()
    error, error_by_operators = (x.sub(expected).square().mean().sqrt() for x in (logits, by_operators))
    assert 0 < error < error_by_operators < 0.1 * spread
    # Where what is read is the same, what is kept is the exact key, rounded: the first layer's, of a pass's token.
    key, rounded = expected_cache.keys[0, 0, :, 71], cache.keys[0, 0, :, 71].float()
    torch.testing.assert_close(rounded, key, atol=1e-3, rtol=2**-8)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_nothing(dtype):
    decoder = pack_decoder(*make_parts(SHAPES["40 channels a head"]), dtype=dtype)
    cache = decoder.new_cache(1, 9)
    cache.keys.normal_(), cache.values.normal_()
    logits, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        logits.append(decode_tokens(decoder, [[3, 4]], [5], cache))
    torch.set_num_threads(before)
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


@needs_compiler
def test_what_is_not_a_number_stays_none(monkeypatch):
    parts = make_parts(SHAPES["40 channels a head"])
    with torch.no_grad():
        parts[1].layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    for dtype in (torch.float32, torch.bfloat16):
        decoder = pack_decoder(*parts, dtype=dtype)
        assert decode_tokens(decoder, [[3]], [0], decoder.new_cache(1, 2)).isnan().all()


@needs_compiler
def test_it_is_compiled_once_for_a_processor_and_a_compiler(fresh, monkeypatch):
    path = native.compiled(native.SOURCE)
    monkeypatch.setattr(native.subprocess, "run", lambda *arguments, **options: pytest.fail("compiled again"))
    assert native.compiled(native.SOURCE) == path
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh))
    monkeypatch.setattr(native, "_features", lambda: ["another processor"])
    assert native.compiled(native.SOURCE) != path


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(dict(CC="/nowhere/cc"), id="no compiler"),
        pytest.param(dict(CC="false"), id="a compiler that fails"),
        pytest.param(dict(CC="true"), id="a compiler that makes nothing"),
        pytest.param(dict(XDG_CACHE_HOME="/dev/null"), id="no place to keep it"),
        pytest.param({native.NATIVE_VARIABLE: "0"}, id="not wanted"),
    ],
)
def test_without_compiled_code_the_operators_write_in_silence(broken, fresh, monkeypatch, capfd):
    for name, value in broken.items():
        monkeypatch.setenv(name, value)
    assert shutil.which("true")
    decoder = pack_decoder(*make_parts(SHAPES["40 channels a head"]), dtype=torch.bfloat16)
    assert decoder.native is None and decoder.cache_dtype == torch.float32
    assert passes(decoder, 65)[0].isfinite().all()
    assert capfd.readouterr() == ("", "")


def test_a_library_of_another_making_is_not_used(fresh, monkeypatch):
    """A file of the name that is none: as after a full disk."""
    monkeypatch.setattr(native, "compiled", lambda source: source)
    assert not native.has_native(torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, "cpu"), (torch.float16, "cpu"), (torch.float32, "meta")])
def test_other_types_and_devices_go_without(dtype, device):
    assert not native.has_native(dtype, torch.device(device))
