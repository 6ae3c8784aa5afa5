"""Reads and writes the models of ``delvm convert``."""

from pathlib import Path

import torch

from delvm_mm.apis.images import list_sources, read_prompt_folder
from delvm_mm.apis.model_card import ModelCard
from delvm_mm.apis.model_folder import check_target, save_model
from delvm_mm.apis.model_sources import KINDS, Source, kind_of, load_source
from delvm_mm.commands.parsers.convert import make_parser
from delvm_mm.datasets import read_image
from delvm_mm.engine.launch import user_errors
from delvm_mm.models import save_as_gguf, save_as_huggingface

TORCH_TYPES = dict(f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16)


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
