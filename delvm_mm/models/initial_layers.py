"""Weights of a deeper model for a shallower one: some of its layers, and everything else as it is."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from delvm_mm.checkpoints.io import load_state_dict

__all__ = ["choose_layers", "read_initial_weights"]

_OF_LAYER = re.compile(r"(backbone\.layers\.)(\d+)(\..*)")
_KEYS = {"type", "checkpoint", "prefix", "layers", "map_location"}


def read_initial_weights(init_cfg: Mapping[str, Any], num_layers: int) -> dict[str, Tensor]:
    """Read what ``dict(type='Pretrained', checkpoint=..., layers=...)`` names, without a tokenizer.

    Args:
        init_cfg: ``checkpoint``: path of a checkpoint, or of a model folder such as 'delvm_mm://mini'; and maybe
            ``layers``, which of its layers to take, and ``prefix``, only keys that start with this, without it.
            ``map_location`` is MMEngine's: weights are read onto the CPU.
        num_layers: Of the model to fill.

    Returns:
        Names and tensors, layers counted anew from 0.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or wants to run code, or ``layers`` do not fit it or the model.
    """
    if "checkpoint" not in init_cfg or set(init_cfg) - _KEYS:
        raise ValueError(
            f"init_cfg of a DeLVM has the keys {sorted(init_cfg)}, expected 'type' and 'checkpoint', and maybe "
            "'layers' and 'prefix'"
        )
    source = init_cfg["checkpoint"]
    weights = load_state_dict(source, init_cfg.get("prefix") or "")
    weights = {name: value for name, value in weights.items() if not name.startswith("tokenizer.")}
    return choose_layers(weights, init_cfg.get("layers"), num_layers, source)


def choose_layers(
    weights: Mapping[str, Tensor], layers: Sequence[int] | None, num_layers: int, source: str | Path
) -> dict[str, Tensor]:
    """The weights of a :class:`DeLVM` with some of its layers alone, as Sanh et al. (2019) began DistilBERT.

    Args:
        weights: Of a model of any depth.
        layers: Layer of ``weights`` -> of each layer of the result, counted from 0, negative from the end. None takes
            all.
        num_layers: How many the result must have.
        source: Where the weights are from, for the message.

    Returns:
        Names and tensors; tensors are shared with ``weights``.

    Raises:
        ValueError: A layer is not there, they are not ``num_layers``, or ``weights`` have none.
    """
    depth = 1 + max((int(found[2]) for found in map(_OF_LAYER.fullmatch, weights) if found), default=-1)
    if not depth:
        raise ValueError(
            f"{source} holds no layer of a DeLVM, whose names begin with 'backbone.layers.0.': its first are "
            f"{list(weights)[:3]}; give init_cfg.checkpoint a checkpoint of one, or init_cfg.prefix"
        )
    taken = list(range(depth)) if layers is None else list(layers) if isinstance(layers, Sequence) else [layers]
    wrong = [layer for layer in taken if type(layer) is not int or not -depth <= layer < depth]
    if wrong or len(taken) != num_layers:
        problem = f"{wrong[0]!r} is none of them" if wrong else f"these are {len(taken)}, the model has {num_layers}"
        raise ValueError(
            f"init_cfg.layers is {layers}, and {source} has {depth} layers: {problem}. Name one layer of it, from 0 to "
            f"{depth - 1}, for each of the model's {num_layers}"
        )
    own: dict[int, list[tuple[str, str, Tensor]]] = {}
    chosen = {}
    for name, value in weights.items():
        if found := _OF_LAYER.fullmatch(name):
            own.setdefault(int(found[2]), []).append((found[1], found[3], value))
        else:
            chosen[name] = value
    for number, layer in enumerate(taken):
        chosen |= {f"{before}{number}{after}": value for before, after, value in own.get(layer % depth, ())}
    return chosen
