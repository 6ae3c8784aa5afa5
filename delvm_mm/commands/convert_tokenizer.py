"""Reads and writes the tokenizers of ``delvm convert-tokenizer``."""

import json
from pathlib import Path

from delvm_mm.checkpoints.io import load_checkpoint
from delvm_mm.commands.parsers.convert_tokenizer import make_parser
from delvm_mm.engine.launch import user_errors
from delvm_mm.models import VQGAN
from delvm_mm.models.tokenizers.conversion import (
    save_as_diffusers,
    save_as_taming,
    vqgan_from_diffusers,
    vqgan_from_taming,
)
from delvm_mm.models.tokenizers.llamagen import is_llamagen, vqgan_from_llamagen, weights_in
from delvm_mm.pretrained import resolve_shipped


def layout_of(source: str) -> str:
    """What a path holds: a file is taming's or LlamaGen's, a folder says in its ``config.json``."""
    if Path(source).is_file():
        weights = weights_in(load_checkpoint(source))
        return "llamagen" if isinstance(weights, dict) and is_llamagen(weights) else "taming"
    config = Path(resolve_shipped(source)) / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{source} is neither a .ckpt file nor a folder with a config.json")
    try:
        return "diffusers" if json.loads(config.read_bytes())["_class_name"] == "VQModel" else "openmuse"
    except (ValueError, KeyError, TypeError):
        return "openmuse"  # which says what is wrong with it


def read(source: str, layout: str, pixels: str | None, resolution: int) -> VQGAN:
    if layout == "openmuse":
        if pixels is not None:
            raise ValueError("--pixels is for diffusers and taming; an openMUSE folder says it in its config.json")
        return VQGAN.from_pretrained(source)
    reader = dict(diffusers=vqgan_from_diffusers, taming=vqgan_from_taming, llamagen=vqgan_from_llamagen)[layout]
    symmetric = pixels == "symmetric" if pixels else layout != "diffusers"
    return reader(source, symmetric_pixels=symmetric, resolution=resolution)


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    if args.resolution < 1:
        raise ValueError(f"--resolution must be positive, got {args.resolution}")
    vqgan = read(args.source, args.source_layout or layout_of(args.source), args.pixels, args.resolution)
    if args.out_layout == "taming" and Path(args.out).suffix != ".ckpt":
        raise ValueError(f"{args.out}: taming-transformers has files, name one that ends with .ckpt")
    save = dict(openmuse=VQGAN.save_pretrained, diffusers=save_as_diffusers, taming=save_as_taming)[args.out_layout]
    save(vqgan, args.out)
    parameters = sum(parameter.numel() for parameter in vqgan.parameters())
    print(
        f"{args.out}: {parameters:,} parameters, {vqgan.num_embeddings} codes, 1 token for {vqgan.downsample_factor} x "
        f"{vqgan.downsample_factor} pixels, fingerprint {vqgan.fingerprint}"
    )
    if args.out_layout != "taming" and vqgan.symmetric_pixels:
        print(f"  note: it works on images in [-1, 1], which {args.out_layout} does not feed by itself")
    if args.out_layout == "taming" and not vqgan.symmetric_pixels:
        print("  note: it works on images in [0, 1], where taming-transformers feeds [-1, 1]")


if __name__ == "__main__":
    main()
