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
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

COMMANDS = ("complete", "frames")
VARIATIONS, COMBINATIONS = ("pairs", "order", "draws"), ("distributions", "mean", "vote")


class PromptParser(argparse.ArgumentParser):
    """Reads the arguments of the command that the first one names, of those of ``COMMANDS``; ``command`` tells which.

    The command that most want has no name, which subparsers cannot do.
    """

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse what is given, by default this process's arguments."""
        args = list(sys.argv[1:] if args is None else args)
        if args and args[0] in COMMANDS:
            known, unknown = parser_of(args[0]).parse_args(args[1:], namespace), []
            known.command = args[0]
        else:
            known, unknown = super().parse_known_args(args, namespace)
            known.command = "prompt"
        return known, unknown


def make_parser() -> argparse.ArgumentParser:
    return parser_of("prompt")


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of one of ``COMMANDS``, or of 'prompt'."""
    kind = PromptParser if command == "prompt" else argparse.ArgumentParser
    parser = kind(
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
            "--vary",
            choices=VARIATIONS,
            help="what differs between them: they share the pairs (default), the order, or nothing but what is drawn",
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
    parser.add_argument("--model", help="'mini' (by default), 'quickstart', 'from_scratch', a model folder, a config")
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
