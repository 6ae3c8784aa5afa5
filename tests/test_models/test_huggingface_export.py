"""Exports for transformers: the same logits, and in float32 the same greedy tokens."""

import json

import pytest
import torch

from delvm_mm.models import DeLVM, delvm_from_huggingface, save_as_huggingface

transformers = pytest.importorskip("transformers")
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)


def build(codebook=True, special=0, bos=None, **backbone):
    torch.manual_seed(0)
    size = dict(num_embeddings=96 + special)
    embedding = (
        dict(type="CodebookEmbedding", codebook_dims=8, init_std=0.5) if codebook else dict(type="TokenEmbedding")
    )
    arch = dict(embed_dims=64, num_layers=2, num_heads=4)
    model = DeLVM(
        None,
        dict(type="LLaMA", arch=arch, max_positions=400, init_std=0.3, **backbone),
        embedding | size,
        dict(type="NextTokenHead", init_std=0.3) | size,
        num_special_ids=special,
        bos_token=bos,
    ).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    if codebook:
        torch.nn.init.normal_(model.embedding.codebook)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(codebook=False, qkv_bias=False),
        dict(num_kv_heads=2),
        dict(rope_base=500.0, rope_scaling=LLAMA3),
        dict(rope_scaling=dict(rope_type="linear", factor=2.0), norm_eps=1e-6),
    ],
    ids=str,
)
def test_transformers_gives_the_same_logits_and_greedy_tokens(settings, tmp_path):
    model = build(**settings)
    save_as_huggingface(model, tmp_path / "export")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert type(theirs).__name__ == "LlamaForCausalLM"
    tokens = torch.randint(96, (2, 144))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-4, rtol=0)
    written = theirs.generate(tokens, max_new_tokens=256, do_sample=False)[:, 144:]
    assert written.shape[1] == 256 and len(written.unique()) > 10
    assert torch.equal(model.generate(tokens, 256), written)


def test_shards_and_half_precision(tmp_path):
    model = build()
    save_as_huggingface(model, tmp_path / "export", dtype=torch.bfloat16, shard_bytes=50_000)
    assert len(list((tmp_path / "export").glob("model-*.safetensors"))) > 2
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export", torch_dtype="auto")
    assert theirs.dtype == torch.bfloat16
    assert torch.equal(theirs.lm_head.weight, model.head.projection.weight.bfloat16())
    table = model.embedding(torch.arange(96)[None])[0].detach().bfloat16()
    assert torch.equal(theirs.model.embed_tokens.weight, table)


def test_special_ids_are_never_written_there_either(tmp_path):
    model = build(codebook=False, special=4, bos=96)
    with torch.no_grad():
        model.head.projection.weight[96:] *= 100  # would win nearly always
    save_as_huggingface(model, tmp_path / "export")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert theirs.config.bos_token_id == 96
    tokens = model.with_bos(torch.randint(96, (1, 40)))
    written = theirs.generate(tokens, max_new_tokens=100, do_sample=False)[:, 41:]
    assert written.max() < 96 and torch.equal(written, model.generate(tokens, 100))


def test_the_samplers_settings_go_along(tmp_path):
    model = build()
    model.sampler = dict(temperature=0.1, top_p=0.75)
    save_as_huggingface(model, tmp_path / "export")
    config = transformers.GenerationConfig.from_pretrained(tmp_path / "export")
    assert (config.do_sample, config.temperature, config.top_p, config.top_k) == (True, 0.1, 0.75, 0)


def test_a_round_trip_keeps_every_bit(tmp_path):
    model = build(num_kv_heads=2)
    save_as_huggingface(model, tmp_path / "once")
    again = delvm_from_huggingface(tmp_path / "once")
    save_as_huggingface(again, tmp_path / "twice")
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_only_exports_are_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(dict(architectures=["BertModel"])))
    with pytest.raises(FileExistsError, match="is no export"):
        save_as_huggingface(build(), tmp_path / "mine")
    save_as_huggingface(build(), tmp_path / "new")
    save_as_huggingface(build(codebook=False), tmp_path / "new")
    assert len(list(tmp_path.iterdir())) == 2
