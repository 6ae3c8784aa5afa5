import copy
import json
import shutil

import numpy as np
import pytest
import torch

from delvm_mm.generation.decoder import pack_decoder
from delvm_mm.models import DeLVM, delvm_from_huggingface
from helpers.random_llama import random_llama

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A random LlamaForCausalLM with attention biases that are not zero, and its folder."""
    model = random_llama(num_layers=3, max_positions=512)
    folder = tmp_path_factory.mktemp("export")
    model.save_pretrained(folder)
    return model, folder


def test_logits_equal_those_of_hugging_face(exported):
    reference, folder = exported
    model = delvm_from_huggingface(folder)
    tokens = torch.randint(96, (2, 200))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), reference(tokens).logits, atol=1e-4, rtol=0)


def test_greedy_generation_equals_that_of_hugging_face_over_256_tokens(exported):
    reference, folder = exported
    model = delvm_from_huggingface(folder)
    prompt = torch.randint(96, (3, 100))
    theirs = reference.generate(prompt, max_new_tokens=256, min_new_tokens=256, do_sample=False)[:, 100:]
    ours = model.generate(prompt, 256)
    assert len(theirs.unique()) > 10, "the sequence must be varied enough to show a difference"
    assert torch.equal(ours, theirs)


def test_released_layout_gives_the_released_logits_and_tokens(golden):
    folder = golden / "llama_hf"
    vectors = {key: torch.from_numpy(value) for key, value in np.load(folder / "io.npz").items()}
    model = delvm_from_huggingface(folder)
    with torch.no_grad():
        torch.testing.assert_close(model(vectors["input_ids"]), vectors["logits"], atol=1e-4, rtol=0)
    assert torch.equal(model.generate(vectors["input_ids"], 16), vectors["greedy"])


LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)


@pytest.mark.parametrize(
    "changes",
    [
        dict(num_key_value_heads=2),
        dict(num_key_value_heads=1),
        dict(head_dim=32),
        dict(head_dim=8, num_key_value_heads=2),
        dict(rope_scaling=dict(rope_type="linear", factor=4.0)),
        dict(rope_scaling=LLAMA3, rope_theta=500.0),
        dict(rope_scaling=dict(rope_type="dynamic", factor=4.0)),
        dict(tie_word_embeddings=True),
        dict(attention_bias=False, rope_theta=500000.0),
    ],
    ids=str,
)
def test_variants_give_the_logits_and_greedy_tokens_of_hugging_face(changes, tmp_path):
    reference = random_llama(num_layers=2, max_positions=400, **changes)
    reference.save_pretrained(tmp_path)
    model = delvm_from_huggingface(tmp_path)
    tokens = torch.randint(96, (2, 144))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), reference(tokens).logits, atol=1e-4, rtol=0)
    theirs = reference.generate(tokens, max_new_tokens=256, min_new_tokens=256, do_sample=False)[:, 144:]
    assert len(theirs.unique()) > 10, "the sequence must be varied enough to show a difference"
    assert torch.equal(model.generate(tokens, 256), theirs)


@pytest.mark.parametrize("flash", [True, False], ids=["flash", "public operators"])
def test_grouped_queries_cached_batched_and_with_a_shared_prompt(flash, tmp_path, monkeypatch):
    reference = random_llama(num_layers=2, max_positions=400, num_key_value_heads=2)
    reference.save_pretrained(tmp_path)
    model = delvm_from_huggingface(tmp_path)
    if not flash:
        monkeypatch.setattr("delvm_mm.generation.decoder.has_flash_with_lse", lambda device: False)
    prompts = torch.randint(96, (2, 60))
    tokens = torch.cat([prompts[[0, 1, 0, 0, 1]], torch.randint(96, (5, 40))], 1)
    theirs = reference.generate(tokens, max_new_tokens=256, min_new_tokens=256, do_sample=False)[:, 100:]
    together = model.generate(tokens, 256, prompt_length=60)
    assert torch.equal(together, theirs)
    assert model._engine.prompts.nbytes > 0, "prompts were to be shared"
    alone = torch.cat([model.generate(row[None], 256) for row in tokens])
    assert torch.equal(alone, theirs)


def test_half_the_key_value_heads_take_half_the_cache():
    caches = []
    for kv_heads in (4, 2):
        model = DeLVM(
            None, dict(type="LLaMA", arch=dict(embed_dims=64, num_layers=2, num_heads=4), num_kv_heads=kv_heads),
            dict(type="TokenEmbedding", num_embeddings=8), dict(type="NextTokenHead", num_embeddings=8),
        )  # fmt: skip
        decoder = pack_decoder(model.embedding, model.backbone, model.head, torch.float32)
        caches.append(decoder.new_cache(3, 100).nbytes)
        assert caches[-1] == 3 * decoder.cache_bytes(100)
    # 2 layers, keys and values of 3 rows of 100 tokens, 4 or 2 heads of 16 numbers of 4 bytes
    assert caches == [2 * 2 * 3 * 100 * 4 * 16 * 4, 2 * 2 * 3 * 100 * 2 * 16 * 4]


def test_grouped_queries_learn_as_hugging_face_does(tmp_path):
    reference = random_llama(num_layers=2, max_positions=64, num_key_value_heads=2)
    reference.save_pretrained(tmp_path)
    model = delvm_from_huggingface(tmp_path)
    tokens = torch.randint(96, (2, 50))
    model.loss(tokens)["loss_ce"].backward()
    reference(tokens, labels=tokens).loss.backward()
    for ours, theirs in zip(model.backbone.layers, reference.model.layers, strict=True):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            gradient = getattr(ours.self_attn, name).weight.grad
            torch.testing.assert_close(gradient, getattr(theirs.self_attn, name).weight.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_shards_in_every_form(exported, tmp_path, dtype, safe):
    if not safe and int(transformers.__version__.split(".")[0]) > 4:
        pytest.skip("transformers 5 writes safetensors alone")
    reference, _ = exported
    saved = copy.deepcopy(reference).to(dtype)
    saved.save_pretrained(tmp_path, max_shard_size="40KB", safe_serialization=safe)
    assert len(list(tmp_path.glob("*.safetensors" if safe else "*.bin"))) > 2
    model = delvm_from_huggingface(tmp_path)
    theirs = dict(saved.named_parameters())
    assert torch.equal(model.embedding.weight, theirs["model.embed_tokens.weight"].float())
    assert torch.equal(model.head.projection.weight, theirs["lm_head.weight"].float())
    for name, parameter in model.backbone.named_parameters():
        assert torch.equal(parameter, theirs[f"model.{name}"].float()), name


def edit_config(folder, target, drop=(), **changes):
    shutil.copytree(folder, target)
    path = target / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in drop}
    path.write_text(json.dumps(config | changes))
    return target


@pytest.mark.parametrize(
    ("drop", "changes"),
    [
        (("rope_theta", "torch_dtype", "rope_scaling"),
         dict(dtype="float32", rope_parameters=dict(rope_type="default", rope_theta=10000.0), head_dim=16)),
        (("attention_bias", "num_key_value_heads", "head_dim", "model_type"),
         dict(bias=True, architectures=["InternLMForCausalLM"], rotary=dict(base=10000, type="dynamic"))),
    ],
    ids=["transformers 5", "InternLM"],
)  # fmt: skip
def test_configs_of_other_versions_mean_the_same(exported, tmp_path, drop, changes):
    reference, folder = exported
    model = delvm_from_huggingface(edit_config(folder, tmp_path / "other", drop, **changes))
    tokens = torch.randint(96, (1, 60))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), reference(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(architectures=["MistralForCausalLM"], model_type="mistral"), "is the config of a MistralForCausalLM"),
        (dict(architectures=None, model_type="gpt2"), "is the config of a gpt2"),
        (dict(hidden_act="gelu"), "hidden_act is 'gelu'"),
        (dict(mlp_bias=True), "mlp_bias is True"),
        (dict(rope_scaling=dict(rope_type="yarn", factor=2.0)), "'yarn'.* are not supported"),
        (dict(rope_scaling=dict(type="longrope")), "'longrope'.* are not supported"),
        (dict(rope_scaling=dict(type="linear")), "expected rope_type 'linear' with a factor"),
        (dict(num_key_value_heads=3), "num_kv_heads is 3, expected a number that divides"),
        (dict(quantization_config=dict(bits=4)), "quantization_config"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused_by_name(exported, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        delvm_from_huggingface(edit_config(exported[1], tmp_path / "other", **changes))


def test_a_missing_or_cut_shard_is_named(exported, tmp_path):
    exported[0].save_pretrained(tmp_path, max_shard_size="100KB")
    (shard,) = tmp_path.glob("model-00002-of-*.safetensors")
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="lacks model-00002-of"):
        delvm_from_huggingface(tmp_path)
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"model-00002-of-.*\.safetensors is damaged"):
        delvm_from_huggingface(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps(dict(weight_map={"lm_head.weight": "../../secret.bin"})))
    with pytest.raises(ValueError, match="expected the name of a file in the same folder"):
        delvm_from_huggingface(tmp_path)


def test_a_folder_that_is_not_such_an_export_is_refused(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        delvm_from_huggingface(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"is not JSON \(Expecting property"):
        delvm_from_huggingface(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(dict(hidden_size=3)))
    with pytest.raises(ValueError, match=r"lacks \['num_hidden_layers',"):
        delvm_from_huggingface(tmp_path)


def test_weights_of_another_shape_are_refused(exported, tmp_path):
    _, folder = exported
    shutil.copytree(folder, tmp_path / "export")
    path = tmp_path / "export" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(intermediate_size=128)))
    with pytest.raises(ValueError, match=r"shape \(backbone\.layers\.0\.mlp"):
        delvm_from_huggingface(tmp_path / "export")


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        (dict(rope_theta=None, rope_parameters=None), 10000.0),
        (dict(rope_theta=None, rope_parameters=dict(rope_type=None, rope_theta=None)), 10000.0),
        (dict(rope_theta=None, rope_parameters=None, rotary=dict(base=None, type="origin")), 10000.0),
        (dict(rope_theta=None, rope_parameters=None, rotary=dict(base=50000, type="dynamic")), 50000),
        (dict(rope_theta=None, rope_parameters=dict(rope_theta=2000.0), rotary=dict(base=3000)), 2000.0),
        (dict(rope_theta=1000.0, rope_parameters=None), 1000.0),
    ],
)
def test_the_base_of_positions_is_read_wherever_it_stands_and_null_is_the_default(exported, tmp_path, changes, base):
    _, folder = exported
    shutil.copytree(folder, tmp_path / "export")
    path = tmp_path / "export" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8-sig")
    assert delvm_from_huggingface(tmp_path / "export").backbone.rope_base == base
    path.write_text(json.dumps(json.loads(path.read_bytes()) | dict(rotary=dict(type="linear"))))
    with pytest.raises(ValueError, match="scaled rotary positions"):
        delvm_from_huggingface(tmp_path / "export")
