"""Tokenize the datasets of a config into token stores; run again after a stop, it continues where it was.

The config defines::

    tokenizer = "vqgan-f16-8192-laion"  # a folder, or dict(type="VQGAN", ...)
    stores = [dict(dataset=dict(type=..., pipeline=[..., dict(type="PackClip")]), out="data/tokens/seg"), ...]
    tokenization = dict(batch_clips=16, num_workers=4, precision="bfloat16")  # optional: for all stores

A store may also have ``task`` (for data sets that do not know theirs), ``source``, ``seed``, ``num_augmented_copies``
and ``shard_clips``, which its index notes. Several processes share the work:
``torchrun --nproc_per_node 8 --no-python delvm tokenize CONFIG``.
"""

import argparse

from mmengine.config import DictAction


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file with 'tokenizer' and 'stores'")
    parser.add_argument("--device", help="where to encode, e.g. cuda:0 or cpu; by default a GPU if there is one")
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="an image or annotation that cannot be read ends the run (default), or is left out and listed",
    )
    parser.add_argument("--stores", nargs="+", metavar="OUT", help="only these stores: 'out', or how it ends")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config entries: key=value")
    return parser
