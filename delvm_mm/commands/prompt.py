"""Answers what ``delvm prompt`` is asked."""

import argparse
import time
from typing import Any

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.commands.parsers.prompt import make_parser
from delvm_mm.engine.launch import user_errors


def answer(args: argparse.Namespace, inferencer: DeLVMInferencer) -> tuple[int, list[dict[str, str]]]:
    """Run the command; returns how many images were written and which were skipped."""
    names = ("temperature", "top_k", "top_p", "seed", "show", "batch_size", "on_error", "fit", "bbox")
    options: dict[str, Any] = {name: getattr(args, name) for name in names if hasattr(args, name)}
    options |= dict(out_dir=args.out, return_vis=False)
    if args.command == "complete":
        results = [inferencer.complete(args.paths, keep=args.keep, **options)]
    elif args.command == "frames":
        frames = args.paths[0] if len(args.paths) == 1 else args.paths
        results = [inferencer.continue_frames(frames, n=args.num, **options)]
    else:
        if args.prompt is None and (args.task is None or inferencer.own_prompt(args.task) is None):
            raise ValueError("give --prompt DIR, or --task with one that the model folder has a prompt for")
        options["ensemble"] = ensemble_of(args)
        results = inferencer.iterate(args.query, args.prompt or (), args.task, **options)
    written, skipped = 0, []
    for result in results:
        written += len(result["predictions"])
        skipped += result["skipped"]
    return written, skipped


def ensemble_of(args: argparse.Namespace) -> dict[str, Any] | None:
    """Arguments of the ensemble that is asked for.

    Returns:
        None for none.

    Raises:
        ValueError: How it is made is given, and not its size.
    """
    given = dict(size=args.ensemble, vary=args.vary, combine=args.combine)
    given = {name: value for name, value in given.items() if value is not None}
    if given and args.ensemble is None:
        raise ValueError(f"--{next(iter(given))} is of an ensemble: give its number of prompts, such as --ensemble 4")
    return given or None


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    inferencer = DeLVMInferencer(
        args.model or ("mini" if args.weights is None else None),
        args.weights,
        device=args.device,
        tokenizer=args.tokenizer,
        size=args.size,
        cfg_options=args.cfg_options,
    )
    begin = time.perf_counter()
    written, skipped = answer(args, inferencer)
    seconds = time.perf_counter() - begin
    for one in skipped:
        print(f"skipped {one['name']}: {one['reason']}")
    if not written:
        raise ValueError(f"none of {len(skipped)} images could be read")
    skips = f", {len(skipped)} skipped" if skipped else ""
    print(f"{written} images in {args.out}{skips} ({seconds:.1f} s, {written / seconds:.2f} images/s)")


if __name__ == "__main__":
    main()
