"""Sets up and runs the training of ``delvm train``."""

from contextlib import nullcontext
from pathlib import Path

from mmengine.config import Config
from torch import nn

from delvm_mm.checkpoints.resume import alone_in, decide_start
from delvm_mm.commands.parsers import parse_run_arguments
from delvm_mm.commands.parsers.train import make_parser
from delvm_mm.engine.hooks import ResumedScheduleHook
from delvm_mm.engine.launch import (
    build_runner,
    check_precision,
    check_weights_fit,
    load_config,
    set_up_distributed,
    use_safe_checkpoints,
    user_errors,
)
from delvm_mm.engine.launchers import is_first_process
from delvm_mm.engine.reports.training_curves import write_curves
from delvm_mm.engine.unwrap import unwrap_model
from delvm_mm.registry import type_name


def use_autocast(cfg: Config, path: str) -> None:
    """Make every ``OptimWrapper`` of a config an ``AutocastOptimWrapper``."""
    wrappers = [cfg.optim_wrapper]
    if "optimizer" not in cfg.optim_wrapper:  # one for each part of the model
        wrappers = [part for part in cfg.optim_wrapper.values() if isinstance(part, dict)]
    for wrapper in wrappers:
        if (name := type_name(wrapper)) not in ("", "OptimWrapper"):
            raise ValueError(f"--amp replaces an OptimWrapper, {path} has {name}; leave --amp out")
        wrapper.type = "delvm_mm.AutocastOptimWrapper"  # in whatever scope the config is


def train(cfg: Config, load_from: str | None) -> None:
    """Build the runner of a config and train; ``load_from`` are the weights where there is nothing to resume from."""
    runner = build_runner(cfg)
    runner.register_hook(ResumedScheduleHook())
    checkpoint = decide_start(runner, load_from)
    if checkpoint and isinstance(runner.model, nn.Module):  # a FlexibleRunner builds its model later
        check_weights_fit(unwrap_model(runner.model), checkpoint)
    runner.train()


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = parse_run_arguments(make_parser(), arguments)
    cfg = load_config(args.config, args.cfg_options, needed=("model", "train_dataloader", "train_cfg", "optim_wrapper"))
    set_up_distributed(cfg, args.launcher)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    if args.amp:
        use_autocast(cfg, args.config)
    check_precision(cfg)
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise ValueError(f"--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size")
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    load_from = cfg.get("load_from")
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume

    use_safe_checkpoints()
    # Of several processes the first keeps the folder for all.
    first = is_first_process(cfg.launcher)
    with alone_in(cfg.work_dir) if first else nullcontext():
        train(cfg, load_from)
        if first and (curves := write_curves(Path(cfg.work_dir))):
            print(f"curves: {curves}")


if __name__ == "__main__":
    main()
