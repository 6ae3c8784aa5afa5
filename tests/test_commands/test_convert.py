"""``delvm convert``: the matrix of sources and targets, and what is refused without writing anything."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from delvm_mm.apis import load_model, save_model
from delvm_mm.apis.model_loading import build_model, find_config
from delvm_mm.checkpoints.sharded import REST, tensors_of, write_tensors
from delvm_mm.commands import convert as tool
from delvm_mm.commands.parsers.convert import DTYPES
from delvm_mm.models import delvm_from_huggingface, save_as_huggingface
from delvm_mm.models.gguf_export import GGUF_TYPES
from delvm_mm.models.huggingface_export import embedding_table
from helpers.internlm_parts import write_parts

transformers = pytest.importorskip("transformers")
SOURCES = ("mmengine", "sharded", "folder", "huggingface", "internlm")


@pytest.fixture(scope="module")
def model(tiny_model):
    """With biases that are not zero."""
    built = build_model(*find_config(tiny_model.config, tiny_model.weights), None, "cpu")
    torch.manual_seed(1)
    for name, parameter in built.named_parameters():
        if name.endswith("bias") and not name.startswith("tokenizer."):
            torch.nn.init.normal_(parameter, std=0.3)
    return built


@pytest.fixture(scope="module")
def sources(model, tiny_model, tmp_path_factory):
    """The same model in every form, and the arguments that each needs."""
    root = tmp_path_factory.mktemp("sources")
    torch.save(dict(state_dict=model.state_dict(), optimizer={}, meta={}), root / "iter_1.pth")
    (root / "iter_2.pth").mkdir()
    write_tensors(root / "iter_2.pth", tensors_of(model.state_dict(), {}))
    torch.save(dict(meta={}), root / "iter_2.pth" / REST)
    pixels = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    save_model(
        model, root / "folder", tasks=dict(seg=dict(type="ForegroundMaskCodec")),
        prompts=dict(seg=[(pixels[0], pixels[1])]), queries=dict(seg=[pixels[2]]),
    )  # fmt: skip
    save_as_huggingface(model, root / "huggingface")
    write_parts(delvm_from_huggingface(root / "huggingface"), root / "internlm", tensor_parts=2, stages=2)
    config = ["--config", tiny_model.config]
    return dict(
        mmengine=[str(root / "iter_1.pth"), config],
        sharded=[str(root / "iter_2.pth"), config],
        folder=[str(root / "folder"), []],
        huggingface=[str(root / "huggingface"), ["--tokenizer", tiny_model.tokenizer]],
        internlm=[str(root / "internlm"), ["--tokenizer", tiny_model.tokenizer, "--max-positions", "512"]],
    )


def same_weights(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_every_type_of_gguf_files_can_be_asked_for():
    assert DTYPES == GGUF_TYPES


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_runs_in_transformers_with_the_same_tokens(kind, sources, model, tmp_path, capsys):
    path, options = sources[kind]
    tool.main([path, str(tmp_path / "out"), *options])
    assert f"{path}: {tool.KINDS[kind]}" in capsys.readouterr().out
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.randint(32, (1, 100), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-4, rtol=0)
    # The config draws nothing by itself, so generate() without arguments is greedy.
    written = theirs.generate(tokens, max_new_tokens=256)[:, 100:]
    assert len(written.unique()) > 5 and torch.equal(written, model.generate(tokens, 256))


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_becomes_a_model_folder_bit_by_bit(kind, sources, model, tmp_path):
    path, options = sources[kind]
    tool.main([path, str(tmp_path / "out"), "--to", "folder", *options])
    loaded = load_model(tmp_path / "out")
    assert loaded.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert same_weights(loaded.backbone.state_dict(), model.backbone.state_dict())
    assert same_weights(loaded.head.state_dict(), model.head.state_dict())
    assert torch.equal(embedding_table(loaded), embedding_table(model))
    if kind == "folder":
        before = {file.relative_to(path): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}
        after = {file.relative_to(tmp_path / "out"): file.read_bytes() for file in (tmp_path / "out").rglob("*.*")
                 if file.is_file()}  # fmt: skip
        differ = {name.as_posix() for name in before if before[name] != after.get(name)}
        assert differ <= {"README.md"} and before.keys() == after.keys()


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_becomes_the_same_gguf(kind, sources, model, tmp_path):
    gguf = pytest.importorskip("gguf")
    path, options = sources[kind]
    tool.main([path, str(tmp_path / "out.gguf"), "--to", "gguf", *options])
    tensors = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    np.testing.assert_array_equal(tensors["token_embd.weight"], embedding_table(model).numpy())
    np.testing.assert_array_equal(tensors["output.weight"], model.head.projection.weight.detach().numpy())
    for number, layer in enumerate(model.backbone.layers):
        weight = layer.self_attn.k_proj.weight.detach().numpy().reshape(4, 2, 4, 32).swapaxes(1, 2).reshape(32, 32)
        np.testing.assert_array_equal(tensors[f"blk.{number}.attn_k.weight"], weight)


class Payload:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_bad_input_is_one_sentence_and_writes_nothing(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = sources["mmengine"][1]
    torch.save(dict(state_dict=Payload()), "evil.pth")
    shutil.copytree(sources["internlm"][0], "parts")
    Path("parts/model_tp1_pp1.pt").unlink()
    shutil.copytree(sources["huggingface"][0], "cut")
    Path("cut/model.safetensors").write_bytes(Path("cut/model.safetensors").read_bytes()[:-7])
    shutil.copytree(sources["huggingface"][0], "bert")
    Path("bert/config.json").write_text(json.dumps(dict(architectures=["BertModel"], model_type="bert")))
    Path("empty").mkdir()
    before = set(tmp_path.rglob("*"))
    mini = "delvm_mm://mini_tokenizer"
    cases = [
        ("lacks model_tp1_pp1.pt", ["parts", "out"]),
        ("is damaged", ["cut", "out"]),
        ("is the config of a BertModel", ["bert", "out"]),
        ("nothing in it was executed", ["evil.pth", "out", *config]),
        ("give its config, too", ["evil.pth", "out"]),
        ("is a folder of none of these", ["empty", "out"]),
        ("nothing is at", ["missing", "out"]),
        ("has a vocabulary of 32", [sources["huggingface"][0], "out", "--tokenizer", mini]),
        ("leave the config out", [sources["folder"][0], "out", *config]),
        ("ends with .gguf", [sources["folder"][0], "out", "--to", "gguf"]),
        ("q8_0 is for --to gguf", [sources["folder"][0], "out", "--dtype", "q8_0"]),
        ("is no model folder", [sources["folder"][0], "parts", "--to", "folder"]),
        ("is no export", [sources["folder"][0], "parts"]),
    ]
    for message, arguments in cases:
        with pytest.raises(SystemExit) as exit_of:
            tool.main(arguments)
        error = capsys.readouterr().err
        assert exit_of.value.code == 1 and message in error, (message, error)
        assert error.count("\n") == 2 and set(tmp_path.rglob("*")) == before, message
