"""Checkpoints of InternLM's training framework: parts joined, golden logits, and what is refused."""

import shutil

import numpy as np
import pytest
import torch

from delvm_mm.models import VQGAN, delvm_from_huggingface, delvm_from_internlm
from helpers.internlm_parts import write_parts


@pytest.fixture(scope="module")
def reference(golden):
    return delvm_from_huggingface(golden / "llama_hf")


def assert_same_weights(model, reference):
    ours, theirs = model.state_dict(), reference.state_dict()
    assert ours.keys() == theirs.keys()
    assert not [name for name in theirs if not torch.equal(ours[name], theirs[name])]


@pytest.mark.parametrize(("tensor_parts", "stages"), [(1, 1), (2, 1), (4, 2)])
@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
def test_parts_are_joined_bit_by_bit(reference, tmp_path, tensor_parts, stages, split):
    folder = write_parts(reference, tmp_path / "parts", tensor_parts, stages, split)
    assert_same_weights(delvm_from_internlm(folder), reference)


def test_the_golden_checkpoint_gives_the_golden_logits_and_tokens(shared):
    folder = shared / "golden"
    vectors = {key: torch.from_numpy(value) for key, value in np.load(folder / "llama_hf/io.npz").items()}
    model = delvm_from_internlm(folder / "internlm_ckpt", resolution=32)
    with torch.no_grad():
        torch.testing.assert_close(model(vectors["input_ids"]), vectors["logits"], atol=1e-4, rtol=0)
    assert torch.equal(model.generate(vectors["input_ids"], 16), vectors["greedy"])
    assert model.embedding.projection.weight.shape == (64, 16), "codebook and projection stay apart"
    tokenizer = VQGAN.from_pretrained(folder / "vqgan")
    assert model.tokenizer.fingerprint == tokenizer.fingerprint
    assert torch.equal(model.embedding.codebook, tokenizer.codebook)
    assert_same_weights(delvm_from_internlm(folder / "internlm_ckpt", tokenizer=tokenizer), model)
    with torch.no_grad():
        tokenizer.post_quant_conv.bias.add_(1)
    with pytest.raises(ValueError, match=r"another tokenizer.*post_quant_conv\.bias differs"):
        delvm_from_internlm(folder / "internlm_ckpt", tokenizer=tokenizer)


def test_a_missing_part_is_named(reference, tmp_path):
    folder = write_parts(reference, tmp_path / "parts", 2, 2)
    (folder / "model_tp1_pp0.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model_tp1_pp0\.pt"):
        delvm_from_internlm(folder)
    (folder / "model_tp1_pp1.pt").unlink()  # now nothing says that there were two
    with pytest.raises(ValueError, match="a tensor-parallel part is missing"):
        delvm_from_internlm(folder)
    (folder / "model_config.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model_config\.pt"):
        delvm_from_internlm(folder)


def test_parts_that_do_not_belong_together_are_refused(reference, tmp_path):
    folder = write_parts(reference, tmp_path / "parts", 2)
    state = torch.load(folder / "model_tp1_pp0.pt", weights_only=True)
    state["model.blocks.0.norm1.weight"] += 1
    torch.save(state, folder / "model_tp1_pp0.pt")
    with pytest.raises(ValueError, match=r"parts of backbone\.layers\.0\.input_layernorm\.weight differ"):
        delvm_from_internlm(folder)
    shutil.copy(folder / "model_tp0_pp0.pt", folder / "model_tp0_pp1.pt")
    shutil.copy(folder / "model_tp1_pp0.pt", folder / "model_tp1_pp1.pt")
    with pytest.raises(ValueError, match="is in two pipeline stages"):
        delvm_from_internlm(folder)


def test_another_base_of_rotary_positions_is_refused(reference, tmp_path):
    folder = write_parts(reference, tmp_path / "parts")
    state = torch.load(folder / "model_tp0_pp0.pt", weights_only=True)
    state["model.blocks.0.mixer.rotary_emb.inv_freq"] = 500.0 ** (-torch.arange(8) / 8)
    torch.save(state, folder / "model_tp0_pp0.pt")
    with pytest.raises(ValueError, match=r"are not the frequencies of base 10000"):
        delvm_from_internlm(folder)
