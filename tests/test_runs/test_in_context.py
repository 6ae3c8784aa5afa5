"""A trained DeLVM reads from its prompt what to do: one query, two prompts, two answers."""

import pytest
import torch

from delvm_mm.registry import MODELS

CODES, IMAGE, PAIRS = 8, 2, 2
SENTENCE = 2 * IMAGE * (PAIRS + 1)


def label(images, task):
    """The label of images of tokens, in codes of the task's own as masks and skeletons have: in order, or opposite."""
    return CODES + images if task == "copy" else 3 * CODES - 1 - images


def sentences(count, task, generator):
    """``count x SENTENCE`` tokens: pairs of an image and its label, one after another."""
    images = torch.randint(CODES, (count, PAIRS + 1, IMAGE), generator=generator)
    return torch.stack([images, label(images, task)], dim=2).flatten(1)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    arch = dict(embed_dims=64, num_layers=2, num_heads=4)
    model = MODELS.build(
        dict(
            type="delvm_mm.DeLVM",
            tokenizer=dict(
                type="VQGAN", resolution=16, hidden_channels=8, channel_mult=(1, 2), num_res_blocks=1, z_channels=8,
                num_embeddings=3 * CODES, quantized_embed_dim=16, norm_num_groups=4,
            ),
            backbone=dict(type="LLaMA", arch=arch, max_positions=SENTENCE, init_std=0.05),
            embedding=dict(type="CodebookEmbedding", init_std=1.0),
            head=dict(type="NextTokenHead"),
        )
    )  # fmt: skip
    torch.nn.init.normal_(model.tokenizer.quantize.embedding.weight)  # codes that differ
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, betas=(0.9, 0.95))
    steps = 250
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        batch = torch.cat([sentences(32, task, generator) for task in ("copy", "opposite")])
        loss = sum(value for name, value in model(batch, mode="loss").items() if "loss" in name)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def test_the_prompt_decides_what_becomes_of_the_same_query(trained):
    generator = torch.Generator().manual_seed(2)
    queries = torch.randint(CODES, (200, IMAGE), generator=generator)
    right = {}
    for task in ("copy", "opposite"):
        prompts = sentences(200, task, generator)[:, : 2 * IMAGE * PAIRS]
        answers = trained.generate(torch.cat([prompts, queries], dim=1), IMAGE)
        right[task] = (answers == label(queries, task)).all(1).float().mean().item()
    assert min(right.values()) >= 0.95, right
