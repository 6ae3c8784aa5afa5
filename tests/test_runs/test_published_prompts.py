"""The authors' prompts and queries through ``DeLVM.predict``: real images, random weights."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from delvm_mm.datasets import read_image
from delvm_mm.models import DeLVM


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DeLVM(
        tokenizer=dict(
            type="VQGAN", resolution=256, hidden_channels=8, channel_mult=(1, 1, 1, 2, 2), num_res_blocks=1,
            norm_num_groups=4, z_channels=8, num_embeddings=64, quantized_embed_dim=8,
        ),
        backbone=dict(type="LLaMA", arch=dict(embed_dims=32, num_layers=2, num_heads=4), max_positions=2048),
        embedding=dict(type="CodebookEmbedding"),
        head=dict(type="NextTokenHead"),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("task", ["seg", "pose", "derain"])
def test_three_pairs_and_a_query_are_answered_with_an_image(model, shared, task):
    folder = shared / "samples" / f"{task}_prompt"
    paths = [folder / f"{pair:06d}_{kind}.png" for pair in range(3) for kind in ("img", "label")]
    images = np.stack([read_image(path) for path in [*paths, shared / "samples/queries" / f"{task}_1.png"]])
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
    batch = model.data_preprocessor(dict(inputs=[inputs], data_samples=[BaseDataElement()]))
    (answer,) = model(**batch, mode="predict")
    assert answer.pred_image.shape == (256, 256, 3) and answer.pred_image.dtype == np.uint8
    assert answer.pred_tokens.shape == (256,)


def test_images_that_are_no_prompt_are_refused(model):
    with pytest.raises(ValueError, match=r"expected B x \(2P \+ 1\) x 3 x H x W"):
        model(torch.rand(4, 3, 32, 32), mode="predict")
