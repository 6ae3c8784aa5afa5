"""Pictures that come again are tokenized once."""

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor, nn


class TokenMemo:
    """Tokens of the pictures encoded last, found again by the pictures' bytes.

    A prompt is shown with every query, and its pictures are most of what an evaluation would encode.

    Args:
        max_pictures (int): How many to remember; 256 tokens are 2 KiB. Defaults to 4096.
    """

    def __init__(self, max_pictures: int = 4096) -> None:
        self.max_pictures = max_pictures
        self._tokens: OrderedDict[tuple, Tensor] = OrderedDict()
        self._fingerprint: str | None = None

    def __reduce__(self) -> tuple:
        return TokenMemo, (self.max_pictures,)

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, tokenizer: nn.Module, pictures: Tensor) -> Tensor:
        """Tokens of pictures N x 3 x H x W, as ``tokenizer.encode`` gives them: int64, N x (h·w)."""
        if self._fingerprint != tokenizer.fingerprint:
            self._tokens.clear()
            self._fingerprint = tokenizer.fingerprint
        keys = [self._key(picture) for picture in pictures]
        first: dict[tuple, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        new = [key for key in first if key not in self._tokens]
        if new:
            encoded = tokenizer.encode(pictures[[first[key] for key in new]])
            self._tokens.update(zip(new, encoded, strict=True))
        tokens = torch.stack([self._tokens[key] for key in keys]).to(pictures.device)
        for key in first:
            self._tokens.move_to_end(key)
        while len(self._tokens) > self.max_pictures:
            self._tokens.popitem(last=False)
        return tokens

    @staticmethod
    def _key(picture: Tensor) -> tuple:
        content = picture.detach().contiguous().view(torch.uint8).cpu().numpy()
        return picture.dtype, tuple(picture.shape), hashlib.blake2b(content, digest_size=32).digest()
