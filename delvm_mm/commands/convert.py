"""Convert a model to a Hugging Face folder (the default), a GGUF file, or a model folder; it finds out what SRC is.

    delvm convert work_dirs/run/iter_1000.pth exported --config configs/run.py
    delvm convert published/mini-1a2b3c4d mini.gguf --to gguf --dtype q8_0
    delvm convert internlm_ckpt/1000 models/delvm --to folder --tokenizer weights/vqgan-f16-8192-laion

SRC is an MMEngine checkpoint (with --config), a folder of shards (with --config), a model folder, a Hugging Face
export, or a folder with the parts of an InternLM checkpoint. What it cannot read it refuses, and writes nothing.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction

from delvm_mm.apis.images import list_sources, read_prompt_folder
from delvm_mm.apis.model_card import ModelCard
from delvm_mm.apis.model_folder import check_target, save_model
from delvm_mm.apis.model_sources import KINDS, Source, kind_of, load_source
from delvm_mm.datasets import read_image
from delvm_mm.engine.launch import user_errors
from delvm_mm.models import save_as_gguf, save_as_huggingface
from delvm_mm.models.gguf_export import GGUF_TYPES

TARGETS = ("huggingface", "gguf", "folder")
TORCH_TYPES = dict(f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SRC", help="checkpoint or folder to read")
    parser.add_argument("out", metavar="DST", help="folder, or with --to gguf file, to write")
    parser.add_argument("--to", choices=TARGETS, default="huggingface")
    parser.add_argument("--config", help="of an MMEngine checkpoint or its shards")
    parser.add_argument("--tokenizer", metavar="DIR", help="the tokenizer's folder; a model folder has its own")
    parser.add_argument(
        "--dtype", choices=GGUF_TYPES, help="of the written weights; by default as they are (GGUF: f32)"
    )
    parser.add_argument("--max-positions", type=int, default=2048, help="context of an InternLM checkpoint (2048)")
    parser.add_argument("--license", default="other", help="of a model folder: identifier, such as apache-2.0")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="settings that override the config's")
    return parser


def write_folder(source: Source, out: Path, dtype: torch.dtype | None, license: str) -> None:
    """Write a model folder with the tasks of a config, and the prompts and queries of a model folder."""
    tasks = source.config.get("tasks") or {}
    prompts = {
        name: [tuple(map(read_image, pair)) for pair in read_prompt_folder(task["prompt"])]
        for name, task in tasks.items()
        if "prompt" in task
    }
    queries = {
        name: [read_image(path) for path in list_sources(task["queries"])]
        for name, task in tasks.items()
        if "queries" in task
    }
    save_model(
        source.model,
        out,
        size=source.config.get("size"),
        tasks={name: task["evaluator"]["codec"] for name, task in tasks.items()},
        prompts=prompts,
        queries=queries,
        card=ModelCard(name=out.name, license=license),
        dtype=dtype,
    )


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    out = Path(args.out)
    if args.dtype == "q8_0" and args.to != "gguf":
        raise ValueError("--dtype q8_0 is for --to gguf")
    if args.to == "folder":
        check_target(out)
    elif args.to == "gguf" and out.suffix != ".gguf":
        raise ValueError(f"{out}: with --to gguf, name a file that ends with .gguf")
    print(f"{args.source}: {KINDS[kind_of(args.source)]}", flush=True)
    source = load_source(args.source, args.config, args.tokenizer, args.max_positions, args.cfg_options)
    dtype = TORCH_TYPES.get(args.dtype)
    if args.to == "gguf":
        save_as_gguf(source.model, out, args.dtype or "f32")
    elif args.to == "huggingface":
        save_as_huggingface(source.model, out, dtype)
    else:
        write_folder(source, out, dtype, args.license)
    files = [path for path in (out.rglob("*") if out.is_dir() else [out]) if path.is_file()]
    model = source.model
    parameters = sum(weight.numel() for part in (model.backbone, model.head) for weight in part.parameters())
    size = sum(path.stat().st_size for path in files)
    print(
        f"{out}: {args.to}, decoder and head of {parameters:,} parameters, {model.num_embeddings} ids, {size:,} bytes"
    )


if __name__ == "__main__":
    main()
