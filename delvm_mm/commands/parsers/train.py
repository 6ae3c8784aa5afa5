"""Train a model from a config: the tokenizer, a language model, or a student with distillation."""

import argparse

from delvm_mm.commands.parsers import add_run_arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path of the config")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from the newest whole checkpoint in the work folder, or from the one named",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision: bfloat16 by torch.autocast, on any device")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate to the actual batch size")
    parser.add_argument("--no-validate", action="store_true", help="do not validate during training")
    return add_run_arguments(parser)
