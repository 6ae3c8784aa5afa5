"""Score a model on the tasks of its config, by the toolboxes' own metrics, beside ceiling and trivial answers.

A config without a model, such as those of configs/protocols/ and configs/_base_/tasks/, takes that of the checkpoint.
A config without tasks, such as a classifier's, is scored on its ``test_dataloader`` by its ``test_evaluator``.
"""

import argparse

from delvm_mm.commands.parsers import add_run_arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="path of the config")
    parser.add_argument("checkpoint", help="path of the weights, or a model folder; 'none' scores the untrained model")
    parser.add_argument("--task", nargs="+", help="tasks to score, all of the config's by default")
    parser.add_argument("--show-dir", help="write panels prompt | query | prediction | truth into this folder")
    parser.add_argument("--max-panels", type=int, default=16, help="panels of each task (16 by default)")
    parser.add_argument(
        "--prompt-seeds",
        nargs="+",
        type=int,
        metavar="SEED",
        help="choose the prompts by each of these seeds; scores are means with their standard deviation",
    )
    parser.add_argument("--out", help="write the results into this JSON file")
    parser.add_argument(
        "--html",
        metavar="REPORT",
        help="write a page that needs nothing else: tables, scores of classes, and panels, the worst answers first",
    )
    return add_run_arguments(parser)
