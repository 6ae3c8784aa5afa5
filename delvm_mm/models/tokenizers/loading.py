"""Building a frozen tokenizer from what a config or a user gives."""

import logging
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from delvm_mm.registry import MODELS, type_name


def load_tokenizer(tokenizer: str | Path | dict[str, Any] | nn.Module) -> nn.Module:
    """Build a frozen tokenizer in eval mode.

    Args:
        tokenizer: A checkpoint folder, or ``'delvm_mm://mini_tokenizer'``, which the
            package carries; ``dict(type='VQGAN', pretrained=folder)``; a config such as ``dict(type='VQGAN', ...,
            init_cfg=dict(type='Pretrained', checkpoint=...))``, which has random weights without ``init_cfg`` and says
            so; or a tokenizer. ``pretrained=None`` gives random weights of the default shape.

    Returns:
        Without gradients.

    Raises:
        FileNotFoundError: If the folder or a file in it is missing.
        ValueError: If it is none of these, ``pretrained`` stands beside other arguments, or the weights do not fit.
    """
    if isinstance(tokenizer, str | Path):
        tokenizer = dict(pretrained=str(tokenizer))
    if isinstance(tokenizer, dict):
        config = {"type": "VQGAN", **tokenizer}
        folder = config.pop("pretrained", None)
        if folder is not None:
            if set(config) != {"type"}:
                raise ValueError(
                    f"a tokenizer with 'pretrained' is read from its folder; remove {sorted(set(config) - {'type'})}"
                )
            cls = MODELS.get(config["type"]) if isinstance(config["type"], str) else config["type"]
            if not hasattr(cls, "from_pretrained"):
                raise ValueError(f"there is no tokenizer '{type_name(config)}'; expected 'VQGAN'")
            tokenizer = cls.from_pretrained(folder)
        else:
            tokenizer = MODELS.build(config)
            if config.get("init_cfg"):
                tokenizer.init_weights()
            else:
                print_log(
                    "the tokenizer has RANDOM weights: give pretrained=folder or init_cfg", "current", logging.WARNING
                )
    if not isinstance(tokenizer, nn.Module):
        raise ValueError(f"tokenizer must be a folder, a config dict or a module, got {type(tokenizer).__name__}")
    return tokenizer.requires_grad_(False).eval()
