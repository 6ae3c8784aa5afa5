"""Images that come again are tokenized once."""

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor, nn


class TokenMemo:
    """Tokens of the images encoded last, found again by the images' bytes.

    A prompt is shown with every query, and its images are most of what an evaluation would encode.

    Args:
        max_images: How many to remember; 256 tokens are 2 KiB. Defaults to 4096.
    """

    def __init__(self, max_images: int = 4096) -> None:
        self.max_images = max_images
        self._tokens: OrderedDict[tuple, Tensor] = OrderedDict()
        self._fingerprint: str | None = None

    def __reduce__(self) -> tuple:
        return TokenMemo, (self.max_images,)

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, tokenizer: nn.Module, images: Tensor) -> Tensor:
        """Tokens of images N x 3 x H x W, as ``tokenizer.encode`` gives them: int64, N x (h·w)."""
        if self._fingerprint != tokenizer.fingerprint:
            self._tokens.clear()
            self._fingerprint = tokenizer.fingerprint
        keys = self._keys(images)
        first: dict[tuple, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        new = [key for key in first if key not in self._tokens]
        if new:
            where = torch.tensor([first[key] for key in new]).to(images.device, non_blocking=True)
            encoded = tokenizer.encode(images[where])
            self._tokens.update(zip(new, encoded, strict=True))
        tokens = torch.stack([self._tokens[key] for key in keys]).to(images.device)
        for key in first:
            self._tokens.move_to_end(key)
        while len(self._tokens) > self.max_images:
            self._tokens.popitem(last=False)
        return tokens

    @staticmethod
    def _keys(images: Tensor) -> list[tuple]:
        contents = images.detach().contiguous().view(torch.uint8).cpu().numpy()  # together: one wait for the device
        kind = images.dtype, tuple(images.shape[1:])
        return [(*kind, hashlib.blake2b(content, digest_size=32).digest()) for content in contents]
