import json
import shutil

import numpy as np
import pytest
import torch

from delvm_mm.models import delvm_from_huggingface
from helpers.random_llama import random_llama

pytest.importorskip("transformers")


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


def test_a_folder_that_is_not_such_an_export_is_refused(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        delvm_from_huggingface(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        delvm_from_huggingface(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(dict(hidden_size=3)))
    with pytest.raises(ValueError, match="lacks"):
        delvm_from_huggingface(tmp_path)


def test_weights_of_another_shape_are_refused(exported, tmp_path):
    _, folder = exported
    shutil.copytree(folder, tmp_path / "export")
    path = tmp_path / "export" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(intermediate_size=128)))
    with pytest.raises(ValueError, match="mlp"):
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
