"""What version 0.1 wrote, before modules were moved, still loads and gives the same numbers.

``data/written_by_0_1`` was made with 0.1's ``tools/tokenize_dataset.py``, ``tools/train.py`` (four steps, checkpoints
at the second and fourth) and ``cache_teacher`` (top 4 of 32 codes) from ``config.py``; ``expected.npz`` holds what that
version computed from the files.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.engine.distillation.cache_fits import check_cache_fits
from delvm_mm.engine.launch import load_weights, use_safe_checkpoints
from delvm_mm.registry import MODELS
from delvm_mm.stores import TeacherCache, TokenStore

FOLDER = Path(__file__).parent / "data" / "written_by_0_1"


@pytest.fixture
def expected(tmp_path, monkeypatch):
    """What 0.1 computed; the working directory has a copy of its files."""
    shutil.copytree(FOLDER, tmp_path / FOLDER.name)
    monkeypatch.chdir(tmp_path)
    return np.load(FOLDER / "expected.npz")


@pytest.fixture
def config(expected):
    return Config.fromfile(FOLDER / "config.py")


@pytest.fixture
def model(config):
    init_default_scope("delvm_mm")
    model = MODELS.build(config.model).eval()
    load_weights(model, f"{config.folder}/iter_4.pth")
    return model


def sentences(config):
    dataset = VisualSentenceDataset([f"{config.folder}/tokens"], context=256, assembly="fixed", seed=0)
    return dataset, torch.stack([dataset[index]["inputs"] for index in range(len(dataset))])


def test_a_token_store_has_the_same_clips_and_sentences(config, expected):
    store = TokenStore(f"{config.folder}/tokens")
    store.verify()
    np.testing.assert_array_equal(np.stack([store[clip] for clip in range(len(store))]), expected["tokens"])
    np.testing.assert_array_equal(sentences(config)[1].numpy(), expected["sentences"])


def test_a_checkpoint_gives_the_same_logits_tokens_and_images(config, expected, model):
    tokens = sentences(config)[1]
    with torch.no_grad():
        np.testing.assert_allclose(model(tokens)[:, ::16].numpy(), expected["logits"], atol=1e-5)
    np.testing.assert_array_equal(model.generate(tokens[:, :192], 32).numpy(), expected["greedy"])
    images = model.tokenizer.decode(tokens[0].view(-1, 64)[:2])
    np.testing.assert_allclose(images.numpy(), expected["images"], atol=1e-3)  # written as float16


def test_a_teacher_cache_is_accepted_and_holds_what_the_checkpoint_says(config, model):
    dataset, tokens = sentences(config)
    cache = TeacherCache(f"{config.folder}/teacher_cache")
    cache.verify()
    check_cache_fits(cache, dataset, model.num_embeddings, model.tokenizer.fingerprint)
    codes, log_probs, _ = cache.read(range(len(dataset)))
    with torch.no_grad():
        wanted = model(tokens)[:, :-1].log_softmax(-1)
    torch.testing.assert_close(log_probs, wanted.gather(2, codes), atol=5e-3, rtol=0)  # written as float16


def test_a_run_is_resumed_and_ends_with_the_same_weights(config):
    config.resume, config.load_from, config.work_dir = True, f"{config.folder}/iter_2.pth", "resumed"
    use_safe_checkpoints()
    Runner.from_cfg(config).train()
    resumed, unbroken = (
        torch.load(path, weights_only=False)["state_dict"]
        for path in ("resumed/iter_4.pth", f"{config.folder}/iter_4.pth")
    )
    assert resumed.keys() == unbroken.keys()
    for key, value in unbroken.items():
        torch.testing.assert_close(resumed[key], value, atol=1e-6, rtol=1e-5)
