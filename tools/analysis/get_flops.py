"""Print the parameters and FLOPs of a classification config's model, counted by MMEngine's analysis."""

import argparse

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import nn

from delvm_mm.engine.complexity import count_complexity
from delvm_mm.engine.launch import load_config, user_errors


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model in its scope."""
    init_default_scope(cfg.get("default_scope") or "delvm_mm")
    model = dict(cfg.model)
    if cfg.get("data_preprocessor") is not None:
        model.setdefault("data_preprocessor", cfg.data_preprocessor)
    return MODELS.build(model)


@user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of a classification config")
    parser.add_argument("--shape", type=int, nargs="+", help="side, or height and width, in pixels; the config's")
    args = parser.parse_args()
    cfg = load_config(args.config, needed=("model",))
    model = build_model(cfg)
    sides = args.shape or getattr(getattr(model, "backbone", model), "img_size", 224)
    sides = [sides] if isinstance(sides, int) else list(sides)
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError(f"--shape is {sides}, expected a side, or height and width, in pixels")
    shape = (3, sides[0], sides[-1])
    info = count_complexity(model, shape)
    table = Table("operator", "G multiply-adds")
    for name, count in sorted(info["by_operator"].items(), key=lambda item: -item[1]):
        table.add_row(name, f"{count / 1e9:.3f}")
    table.add_section()
    table.add_row("all", f"{info['flops'] / 1e9:.3f}")
    Console().print(table)
    print(f"input {shape}, parameters {info['params'] / 1e6:.2f} M, FLOPs {info['flops'] / 1e9:.2f} G (multiply-adds)")


if __name__ == "__main__":
    main()
