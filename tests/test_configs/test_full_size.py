"""The published sizes, counted without memory for their weights."""

import pytest
import torch
from mmengine.config import Config

from delvm_mm.models import DeLVM
from delvm_mm.registry import MODELS
from helpers import ROOT


@pytest.mark.parametrize(
    ("name", "parameters"), [("llama80m", 91_331_328), ("llama300m", 291_181_568), ("llama1b", 1_147_545_600)]
)
def test_full_size_configs_have_the_published_number_of_trainable_parameters(name, parameters):
    cfg = Config.fromfile(ROOT / f"configs/delvm/{name}.py").model
    # 64 inputs of the codebook embedding and the untied head are counted; the frozen codebook is not.
    cfg.tokenizer = None
    cfg.embedding.update(num_embeddings=8192, codebook_dims=64)
    cfg.head.update(num_embeddings=8192)
    with torch.device("meta"):
        model = MODELS.build(cfg)
    assert isinstance(model, DeLVM)
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == parameters


def test_the_7b_decoder_has_the_number_of_parameters_of_llama_7b():
    cfg = Config.fromfile(ROOT / "configs/delvm/llama7b.py").model.backbone
    with torch.device("meta"):
        decoder = MODELS.build(cfg)
    # Touvron et al. (2023): 6 738 415 616, of which two tables of 32 000 x 4096 are no part of the decoder; the biases
    # of four projections are ours.
    published = 6_738_415_616 - 2 * 32_000 * 4096
    assert sum(parameter.numel() for parameter in decoder.parameters()) == published + 32 * 4 * 4096
    assert decoder.with_cp
