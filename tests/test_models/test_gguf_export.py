"""GGUF files: read back bit by bit, by arithmetic that rotates neighbors, and by llama.cpp where it is installed."""

import numpy as np
import pytest
import torch

from delvm_mm.models import DeLVM, save_as_gguf
from delvm_mm.models.backbones.llama import rotary_frequencies

gguf = pytest.importorskip("gguf")
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)
CODES, HEADS, DIMS = 96, 4, 16


def build(**backbone):
    torch.manual_seed(0)
    arch = dict(embed_dims=HEADS * DIMS, num_layers=2, num_heads=HEADS, feedforward_channels=112)
    model = DeLVM(
        None,
        dict(type="LLaMA", arch=arch, max_positions=400, init_std=0.3, **backbone),
        dict(type="CodebookEmbedding", num_embeddings=CODES, codebook_dims=8, init_std=0.5),
        dict(type="NextTokenHead", num_embeddings=CODES, init_std=0.3),
    ).eval()
    torch.nn.init.normal_(model.embedding.codebook)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def read(path):
    """Settings, and tensors in float32."""
    reader = gguf.GGUFReader(path)
    settings = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
        for tensor in reader.tensors
    }
    return settings, tensors, {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}


def halves(weight, heads):
    """The inverse of llama.cpp's arrangement, written out: row 2i of a head was row i, row 2i + 1 was i + D/2."""
    dims = len(weight) // heads
    order = [head * dims + 2 * (row % (dims // 2)) + row // (dims // 2) for head in range(heads) for row in range(dims)]
    return weight[order]


def logits_by_llama_cpp(settings, tensors, tokens):
    """What llama.cpp computes of a file, from its description: RoPE of neighboring channels, all else as usual."""
    heads, groups = settings["llama.attention.head_count"], settings["llama.attention.head_count_kv"]
    dims, eps = settings["llama.rope.dimension_count"], settings["llama.attention.layer_norm_rms_epsilon"]
    frequency = settings["llama.rope.freq_base"] ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    if "rope_freqs.weight" in tensors:
        frequency = frequency / tensors["rope_freqs.weight"].double()
    if settings.get("llama.rope.scaling.type") == "linear":
        frequency = frequency / settings["llama.rope.scaling.factor"]
    length = len(tokens)
    turn = torch.polar(torch.ones(()).double(), torch.outer(torch.arange(length).double(), frequency))

    def norm(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight

    def rotated(x):  # L x heads x dims, neighbors as complex numbers
        turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn[:, None]
        return torch.view_as_real(turned).flatten(-2)

    weights = {name: value.double() for name, value in tensors.items()}
    hidden = weights["token_embd.weight"][tokens]
    mask = torch.full((length, length), float("-inf")).double().triu(1)
    for number in range(settings["llama.block_count"]):
        layer = {name.split(".", 2)[2]: value for name, value in weights.items() if name.startswith(f"blk.{number}.")}

        def linear(name, x, layer=layer):
            return x @ layer[f"{name}.weight"].T + layer.get(f"{name}.bias", 0)

        x = norm(hidden, layer["attn_norm.weight"])
        query = rotated(linear("attn_q", x).unflatten(-1, (heads, dims)))
        key = rotated(linear("attn_k", x).unflatten(-1, (groups, dims))).repeat_interleave(heads // groups, 1)
        value = linear("attn_v", x).unflatten(-1, (groups, dims)).repeat_interleave(heads // groups, 1)
        scores = torch.einsum("lhd,mhd->hlm", query, key) / dims**0.5 + mask
        hidden = hidden + linear("attn_output", torch.einsum("hlm,mhd->lhd", scores.softmax(-1), value).flatten(1))
        x = norm(hidden, layer["ffn_norm.weight"])
        hidden = hidden + linear("ffn_down", torch.nn.functional.silu(linear("ffn_gate", x)) * linear("ffn_up", x))
    return norm(hidden, weights["output_norm.weight"]) @ weights["output.weight"].T


VARIANTS = [
    dict(), dict(num_kv_heads=2), dict(rope_base=500.0, rope_scaling=LLAMA3), dict(qkv_bias=False),
    dict(rope_scaling=dict(rope_type="linear", factor=2.0)),
]  # fmt: skip


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_file_computes_what_the_model_computes(settings, tmp_path):
    model = build(**settings)
    written, tensors, _ = read(save_as_gguf(model, tmp_path / "model.gguf"))
    tokens = torch.randint(CODES, (60,))
    with torch.no_grad():
        expected = model(tokens[None])[0]
    torch.testing.assert_close(logits_by_llama_cpp(written, tensors, tokens).float(), expected, atol=1e-4, rtol=0)


def test_every_bit_of_float32_is_there_under_llama_cpps_names(tmp_path):
    model = build(num_kv_heads=2)
    settings, tensors, kinds = read(save_as_gguf(model, tmp_path / "tiny.gguf"))
    assert settings["general.architecture"] == "llama" and settings["general.name"] == "tiny"
    assert settings["tokenizer.ggml.model"] == "no_vocab" and settings["llama.vocab_size"] == CODES
    assert settings["llama.context_length"] == 400 and set(kinds.values()) == {"F32"}
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    theirs = {
        known.get_name(f"model.layers.{n}.{name}") for n in range(2) for name in ("self_attn.q_proj", "mlp.up_proj")
    }
    assert theirs <= {name.removesuffix(".weight") for name in tensors}
    assert torch.equal(tensors["token_embd.weight"], model.embedding(torch.arange(CODES)[None])[0].detach())
    for number, layer in enumerate(model.backbone.layers):
        for kind in ("weight", "bias"):
            for name, part, heads in (("q", "q_proj", 4), ("k", "k_proj", 2)):
                stored = halves(tensors[f"blk.{number}.attn_{name}.{kind}"], heads)
                assert torch.equal(stored, getattr(getattr(layer.self_attn, part), kind))
            assert torch.equal(tensors[f"blk.{number}.attn_v.{kind}"], getattr(layer.self_attn.v_proj, kind))
            assert torch.equal(tensors[f"blk.{number}.attn_output.{kind}"], getattr(layer.self_attn.o_proj, kind))
        assert torch.equal(tensors[f"blk.{number}.ffn_down.weight"], layer.mlp.down_proj.weight)
    assert torch.equal(tensors["output.weight"], model.head.projection.weight)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "q8_0"])
def test_other_types_round_matrices_alone(dtype, tmp_path):
    model = build()
    _, tensors, kinds = read(save_as_gguf(model, tmp_path / "model.gguf", dtype))
    weight = model.head.projection.weight.detach()
    assert (
        kinds["output.weight"] == dtype.upper() and kinds["blk.0.attn_q.bias"] == kinds["output_norm.weight"] == "F32"
    )
    if dtype == "q8_0":
        # rows of down_proj are 112 long, no multiple of 32
        assert kinds["blk.0.ffn_down.weight"] == "F16"
        scale = weight.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True) / 127
        error = (tensors["output.weight"] - weight).unflatten(1, (-1, 32)).abs()
        assert (error <= 0.51 * scale + 127 * scale * 2**-11).all()  # half a step, and the scale is float16
    else:
        kind = dict(f16=torch.float16, bf16=torch.bfloat16)[dtype]
        assert torch.equal(tensors["output.weight"], weight.to(kind).float())


def test_bad_names_and_types_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of f32, f16, bf16, q8_0"):
        save_as_gguf(build(), tmp_path / "model.gguf", "q4_0")
    with pytest.raises(ValueError, match=r"ends with \.gguf"):
        save_as_gguf(build(), tmp_path / "model.bin")
    assert not list(tmp_path.iterdir())


def test_frequencies_of_the_file_are_factors_of_the_plain_ones(tmp_path):
    model = build(rope_base=500.0, rope_scaling=LLAMA3)
    _, tensors, _ = read(save_as_gguf(model, tmp_path / "model.gguf"))
    stretched = rotary_frequencies(DIMS, 500.0) / tensors["rope_freqs.weight"]
    torch.testing.assert_close(stretched, rotary_frequencies(DIMS, 500.0, LLAMA3))
    assert tensors["rope_freqs.weight"].max() == 8 and tensors["rope_freqs.weight"].min() == 1


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["F32", "F16"])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_llama_cpp_writes_the_same_tokens(settings, cache, tmp_path):
    """Of 256 greedy tokens all. A wheel of llama-cpp-python takes long to build, so it is rarely here.

    By default its cache is float16, in which two logits that nearly tie may change places.
    """
    llama_cpp = pytest.importorskip("llama_cpp")
    model = build(**settings)
    path = save_as_gguf(model, tmp_path / "model.gguf")
    kind = getattr(llama_cpp, f"GGML_TYPE_{cache}")
    llm = llama_cpp.Llama(str(path), n_ctx=400, logits_all=False, verbose=False, type_k=kind, type_v=kind)
    prompt = torch.randint(CODES, (1, 100))
    expected = model.generate(prompt, 256)
    llm.eval(prompt[0].tolist())
    logits = np.empty((256, CODES), np.float32)
    for step, token in enumerate(expected[0].tolist()):
        logits[step] = np.ctypeslib.as_array(llama_cpp.llama_get_logits(llm.ctx), (CODES,))
        llm.eval([token])
    assert len(expected.unique()) > 10
    with torch.no_grad():
        ours = model(torch.cat((prompt, expected), dim=1))[0, 99:-1]
    theirs = torch.from_numpy(logits)
    torch.testing.assert_close(theirs, ours, atol=dict(F32=1e-3, F16=0.05)[cache], rtol=0)
    if cache == "F32":
        # every step was given the tokens before it, so this is what it would have written by itself
        assert torch.equal(theirs.argmax(1), expected[0])


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 0.05), ("bf16", 0.5), ("q8_0", 0.8)])
def test_llama_cpp_reads_the_smaller_types(dtype, tolerance, tmp_path):
    """llama.cpp rounds activations to the type of the weights, hence the tolerance; logits have a deviation of 2.4."""
    llama_cpp = pytest.importorskip("llama_cpp")
    path = save_as_gguf(build(num_kv_heads=2), tmp_path / "model.gguf", dtype)
    settings, tensors, _ = read(path)
    tokens = torch.randint(CODES, (60,))
    expected = logits_by_llama_cpp(settings, tensors, tokens).float()
    kind = llama_cpp.GGML_TYPE_F32
    llm = llama_cpp.Llama(str(path), n_ctx=400, logits_all=False, verbose=False, type_k=kind, type_v=kind)
    logits = np.empty((60, CODES), np.float32)
    for step, token in enumerate(tokens.tolist()):
        llm.eval([token])
        logits[step] = np.ctypeslib.as_array(llama_cpp.llama_get_logits(llm.ctx), (CODES,))
    assert expected.std() > 2
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=tolerance, rtol=0)
