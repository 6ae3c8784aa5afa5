"""Prompt a model from the shell: show it pairs of image and label, and let it label other images.

    delvm prompt --prompt DIR --query PATH [PATH ...] --out DIR     answer queries
    delvm prompt --model DIR --task NAME --query PATH --out DIR     the same with the prompt of a model folder
    delvm prompt complete PATH [PATH ...] --keep 0.5 --out DIR      finish images from their first rows
    delvm prompt frames PATH [PATH ...] --num 4 --out DIR           predict the next frames of a video

DIR of --prompt holds pairs <name>_img.png and <name>_label.png. A PATH is an image or a folder of images. The output
folder gets images/, predictions/ (JSON), vis/ (panels) and, where the task has them, masks/.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.engine.launch import user_errors

COMMANDS = ("complete", "frames")
VARIATIONS, COMBINATIONS = ("pairs", "order"), ("distributions", "mean", "vote")


def parse_args(arguments: list[str]) -> argparse.Namespace:
    command = arguments[0] if arguments and arguments[0] in COMMANDS else "prompt"
    args = make_parser(command).parse_args(arguments[1:] if command in COMMANDS else arguments)
    args.command = command
    return args


def make_parser(command: str = "prompt") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name + (f" {command}" if command in COMMANDS else ""),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command == "prompt":
        parser.add_argument("--prompt", metavar="DIR", help="folder with the pairs; a model folder may have its own")
        parser.add_argument("--query", required=True, nargs="+", metavar="PATH", help="images or folders to answer")
        parser.add_argument("--task", help="read the answers as this task: seg, pose, derain, or another of the config")
        parser.add_argument(
            "--ensemble", type=int, metavar="N", help="answer behind N prompts that are made of the pairs"
        )
        parser.add_argument(
            "--vary", choices=VARIATIONS, help="what differs between them: they share the pairs (default), or the order"
        )
        parser.add_argument(
            "--combine",
            choices=COMBINATIONS,
            help="write one answer from the mean of their distributions (default), or combine their answers",
        )
    else:
        what = dict(complete="images or folders to finish", frames="frames in order, or their folder")
        parser.add_argument("paths", nargs="+", metavar="PATH", help=what[command])
    if command == "complete":
        parser.add_argument("--keep", type=float, default=0.5, help="part of the rows to keep (0.5)")
    if command == "frames":
        parser.add_argument("--num", type=int, default=1, help="how many frames to predict (1)")
    add_common_arguments(parser, several=command != "frames")
    return parser


def add_common_arguments(parser: argparse.ArgumentParser, several: bool) -> None:
    """Arguments of all commands; ``several`` are those of commands that go through images one by one."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the answers")
    parser.add_argument("--model", help="'mini' (by default), 'quickstart', 'mini_long', a model folder, or a config")
    parser.add_argument("--weights", help="checkpoint of the config, or folder of a Hugging Face export")
    parser.add_argument("--tokenizer", metavar="DIR", help="the tokenizer's folder, in place of the config's")
    parser.add_argument("--size", type=int, help="side of the model's images in pixels")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU if there is one")
    parser.add_argument(
        "--fit", choices=["crop", "pad"], default="crop", help="cut out the center (default), or pad: all is seen"
    )
    parser.add_argument(
        "--bbox", type=float, nargs=4, metavar=("X1", "Y1", "X2", "Y2"), help="part of the query to look at, in pixels"
    )
    parser.add_argument("--temperature", type=float, help="0: always the most probable token; by default the model's")
    parser.add_argument("--top-k", type=int, help="draw among the k most probable tokens")
    parser.add_argument("--top-p", type=float, help="draw among the tokens that reach this probability together")
    parser.add_argument("--seed", type=int, help="of the draws")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="settings that override the config's")
    parser.add_argument("--show", action="store_true", help="show each panel in a window")
    if several:
        parser.add_argument("--batch-size", type=int, default=8, help="images that are written together (8)")
        parser.add_argument("--on-error", choices=["stop", "skip"], default="stop", help="at a damaged image")


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
    args = parse_args(sys.argv[1:] if arguments is None else arguments)
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
