"""Vocabularies with more ids than the tokenizer has codes, as LVM's: 8192 codes and 100 special ids."""

import json

import numpy as np
import pytest
import torch

from delvm_mm.apis import DeLVMInferencer, load_model, save_model
from delvm_mm.models import VQGAN, DeLVM, delvm_from_huggingface, save_as_huggingface

CODES, SPECIAL, BOS = 8192, 100, 8192


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return VQGAN(
        resolution=32, hidden_channels=8, channel_mult=(1, 1, 1, 2), num_res_blocks=1, z_channels=8, norm_num_groups=4,
        num_embeddings=CODES, quantized_embed_dim=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of LVM's shape, small, that writes special ids nearly always if it is let; no biases, as LVM's."""
    torch.manual_seed(1)
    size = dict(num_embeddings=CODES + SPECIAL)
    model = DeLVM(
        None,
        dict(
            type="LLaMA", arch=dict(embed_dims=32, num_layers=2, num_heads=4), max_positions=129, qkv_bias=False,
            norm_eps=1e-6, init_std=0.5,
        ),
        dict(type="TokenEmbedding", init_std=1.0, **size),
        dict(type="NextTokenHead", init_std=0.5, **size),
    )  # fmt: skip
    with torch.no_grad():
        model.head.projection.weight[CODES:] *= 50
    return save_as_huggingface(model, tmp_path_factory.mktemp("lvm") / "export")


@pytest.fixture(scope="module")
def images():
    return list(np.random.RandomState(0).randint(0, 256, (6, 32, 32, 3), dtype=np.uint8))


def test_an_lvm_prompts_through_the_inferencer_and_never_writes_a_special_id(folder, tokenizer, images):
    plain = delvm_from_huggingface(folder)  # without a tokenizer every id is a code
    model = delvm_from_huggingface(folder, tokenizer, bos_token=BOS)
    assert (model.num_codes, model.num_special_ids, model.num_embeddings) == (CODES, SPECIAL, CODES + SPECIAL)
    inferencer = DeLVMInferencer(model, device="cpu", size=32, show_progress=False)
    assert inferencer.generator.max_images == 8 and inferencer.generator.tokens_per_image == 16
    prompt = [(images[0], images[1]), (images[2], images[3])]
    result = inferencer(images[4:], prompt)
    sentence = torch.cat(
        [tokenizer.encode(torch.from_numpy(image).permute(2, 0, 1)[None] / 255) for image in images[:5]]
    )
    sentence = torch.cat([torch.tensor([[BOS]]), sentence.view(1, -1)], 1)
    assert plain.generate(sentence, 16).max() >= CODES, "it would write them"
    expected = greedy_among_codes(plain, sentence, 16)
    assert result["predictions"][0]["tokens"].tolist() == expected
    written = [result, inferencer(images[4], prompt, temperature=5.0, seed=0), inferencer.complete(images[0], 0.5),
               inferencer.continue_frames(images[:3], n=7)]  # fmt: skip
    for one in written:
        assert all(prediction["tokens"].max() < CODES for prediction in one["predictions"])


def greedy_among_codes(model, tokens, count):
    """Token by token without a cache, as ``suppress_tokens=range(8192, 8292)`` of LVM's inference does."""
    with torch.no_grad():
        for _ in range(count):
            tokens = torch.cat([tokens, model(tokens)[:, -1:, :CODES].argmax(-1)], 1)
    return tokens[0, -count:].tolist()


def test_predict_puts_the_beginning_of_sentence_first(folder, tokenizer, images):
    model = delvm_from_huggingface(folder, tokenizer, bos_token=BOS)
    pixels = torch.from_numpy(np.stack(images[:5])).permute(0, 3, 1, 2)[None] / 255
    (sample,) = model(pixels, mode="predict")
    sentence = torch.cat([torch.tensor([[BOS]]), tokenizer.encode(pixels[0]).view(1, -1)], 1)
    assert sample.pred_tokens.tolist() == greedy_among_codes(model, sentence, 16)


def test_a_beginning_of_sentence_is_read_from_the_config_where_it_is_a_special_id(folder, tokenizer, tmp_path):
    assert delvm_from_huggingface(folder, tokenizer).bos_token is None
    save_as_huggingface(delvm_from_huggingface(folder, tokenizer, bos_token=BOS), tmp_path / "with_bos")
    assert delvm_from_huggingface(tmp_path / "with_bos", tokenizer).bos_token == BOS
    path = tmp_path / "with_bos" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(bos_token_id=1)))  # LlamaConfig's default: a code
    assert delvm_from_huggingface(tmp_path / "with_bos", tokenizer).bos_token is None


def test_a_model_folder_keeps_them(folder, tokenizer, tmp_path):
    model = delvm_from_huggingface(folder, tokenizer, bos_token=BOS)
    loaded = load_model(save_model(model, tmp_path / "folder"))
    assert (loaded.num_special_ids, loaded.bos_token) == (SPECIAL, BOS)
    tokens = torch.randint(CODES, (1, 40))
    assert torch.equal(loaded.generate(loaded.with_bos(tokens), 20), model.generate(model.with_bos(tokens), 20))


def test_another_tokenizer_is_not_taken_for_special_ids(folder):
    small = VQGAN(
        resolution=32, hidden_channels=8, channel_mult=(1, 2), num_res_blocks=1, z_channels=8, norm_num_groups=4,
        num_embeddings=4096, quantized_embed_dim=8,
    )  # fmt: skip
    with pytest.raises(ValueError, match="has a vocabulary of 8292, the tokenizer has 4096 codes"):
        delvm_from_huggingface(folder, small)
    assert delvm_from_huggingface(folder, small, num_special_ids=4196).num_codes == 4096
    with pytest.raises(ValueError, match="bos_token is 5, expected one of the 4196 special ids"):
        delvm_from_huggingface(folder, small, num_special_ids=4196, bos_token=5)
    with pytest.raises(ValueError, match="codebook sizes differ"):
        delvm_from_huggingface(folder, small, num_special_ids=3)


def test_training_with_special_ids_reads_them_and_learns_codes(tokenizer):
    config = dict(
        tokenizer=tokenizer, backbone=dict(type="LLaMA", arch=dict(embed_dims=16, num_layers=1, num_heads=2)),
        embedding=dict(type="TokenEmbedding"), head=dict(type="NextTokenHead"), num_special_ids=2, bos_token=8193,
    )  # fmt: skip
    model = DeLVM(**config)
    losses = model.loss(model.with_bos(torch.randint(CODES, (2, 20))))
    losses["loss_ce"].backward()
    assert model.embedding.weight.grad[8193].abs().sum() > 0
    for wrong, message in ((-1, "num_special_ids is -1"), (True, "num_special_ids is True")):
        with pytest.raises(ValueError, match=message):
            DeLVM(**config | dict(num_special_ids=wrong))
