"""Convert tokenizers between openMUSE's layout, which this package uses, diffusers' VQModel and taming-transformers.

LlamaGen's are read, too.

    delvm convert-tokenizer amused-256/vqvae weights/amused
    delvm convert-tokenizer last.ckpt weights/vqgan-f16-16384 --from taming
    delvm convert-tokenizer vq_ds16_c2i.pt weights/llamagen16
    delvm convert-tokenizer weights/mine exported/vqvae --to diffusers

openMUSE and diffusers have folders, taming-transformers has a .ckpt file (its .yaml is written beside it, not read).
"""

import argparse

LAYOUTS = ("openmuse", "diffusers", "taming")
SOURCES = (*LAYOUTS, "llamagen")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder or .ckpt file to read")
    parser.add_argument("out", help="folder or .ckpt file to write")
    parser.add_argument("--from", dest="source_layout", choices=SOURCES, help="by default told from what is there")
    parser.add_argument("--to", dest="out_layout", choices=LAYOUTS, default="openmuse")
    parser.add_argument(
        "--pixels",
        choices=["unit", "symmetric"],
        help="what diffusers' or taming's tokenizer was trained on: [0, 1] (as aMUSEd; the default for diffusers) or "
        "[-1, 1] (as taming's and LlamaGen's; their default)",
    )
    parser.add_argument(
        "--resolution", type=int, default=256, help="side of its training images, a name for where attention is"
    )
    return parser
