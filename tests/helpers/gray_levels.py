"""A tokenizer and clips whose tokens can be computed by hand, and stores of numbered clips."""

from pathlib import Path

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from delvm_mm.stores import TokenStore, TokenStoreWriter


class GrayLevelTokenizer(nn.Module):
    """Token of each 4x4 patch = its mean gray level, 0..15: what is tokenized can be computed by hand."""

    num_embeddings = 16
    downsample_factor = 4
    fingerprint = "gray-levels"

    def __init__(self):
        super().__init__()
        self.batch_sizes = []

    def encode(self, images):
        self.batch_sizes.append(len(images))
        levels = nn.functional.avg_pool2d(images.mean(1), 4) * 15
        return levels.round().long().flatten(1)


class NumberedClips(Dataset):
    """Clip i: two 8x8 images of gray level i and i + 1 of 15; 2 x 2 tokens each with GrayLevelTokenizer."""

    def __init__(self, count, task="seg", fail_at=None, noise=False):
        self.count, self.task, self.fail_at, self.noise = count, task, fail_at, noise

    def __len__(self):
        return self.count

    def __getitem__(self, clip):
        if clip == self.fail_at:
            raise ValueError(f"clip {clip} cannot be read")
        levels = torch.tensor([clip % 15, (clip + 1) % 15])
        if self.noise:
            levels = torch.from_numpy(np.random.randint(0, 15, 2))
        images = (levels * 17).to(torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 8).contiguous()
        return {"inputs": images, "data_samples": BaseDataElement(metainfo={"task": self.task, "sample_idx": clip})}


def write_numbered_store(
    folder, name="store", clips=10, k=2, grid=(2, 2), offset=0, shard_clips=4, finish=True, fresh=True, **settings
) -> Path:
    """Write a store whose clip i has k*tokens times the token offset + i."""
    if not fresh and (folder / name).exists():
        return folder / name
    tokens = grid[0] * grid[1]
    defaults = {"num_embeddings": 1000, "tokenizer_fingerprint": "tok-a", "task": "seg"}
    writer = TokenStoreWriter(
        folder / name, clip_shape=(k, tokens), grid=grid, shard_clips=shard_clips, **(defaults | settings)
    )
    writer.add(np.broadcast_to(np.arange(offset, offset + clips)[:, None, None], (clips, k, tokens)))
    if finish:
        writer.finish()
    return TokenStore(folder / name).path
