"""Makes the model folder of ``delvm publish``."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from delvm_mm.apis.model_card import ModelCard
from delvm_mm.apis.model_folder import check_target, save_model
from delvm_mm.apis.model_loading import build_model
from delvm_mm.checkpoints.files import put_in_place, temporary_beside
from delvm_mm.checkpoints.io import load_checkpoint, load_into
from delvm_mm.commands.parsers.publish import make_parser
from delvm_mm.engine.launch import load_config, user_errors
from delvm_mm.models.answering import floating_dtype
from delvm_mm.models.delvm import DeLVM
from delvm_mm.registry import DATASETS

HASH_DIGITS = 8  # as OpenMMLab's model zoos have them


def choose_weights(model: DeLVM, checkpoint: dict[str, Any], source: str, which: str) -> str:
    """Put the weights of the last step into a model that has the averaged ones.

    MMEngine's ``EMAHook`` saves the averaged weights as ``state_dict`` and the trained ones as ``ema_state_dict``.

    Returns:
        What the model has now, in words.
    """
    if "ema_state_dict" not in checkpoint:
        if which == "last":
            return "the only weights"
        return "the weights (no averaged ones in the checkpoint)"
    if which == "averaged":
        return "the averaged weights"
    prefix = "module."
    last = {
        name.removeprefix(prefix): value
        for name, value in checkpoint["ema_state_dict"].items()
        if name.startswith(prefix) and not name.startswith(f"{prefix}tokenizer.")
    }
    kept = {name: value for name, value in model.state_dict().items() if name not in last}
    load_into(model, kept | last, source=source)
    return "the weights of the last step"


def tasks_of(cfg: Config, num_queries: int, with_prompts: bool) -> tuple[dict, dict, dict]:
    """Codecs, prompt pairs and queries of a config's tasks; the prompt is that of the first query."""
    codecs, prompts, queries = {}, {}, {}
    for name, task in (cfg.get("tasks") or {}).items():
        codecs[name] = task["evaluator"]["codec"].to_dict()
        if not with_prompts:
            continue
        try:
            dataset = DATASETS.build(task["dataloader"]["dataset"])
        except OSError as error:
            raise type(error)(
                f"the prompts of task '{name}' cannot be read ({error}); get the data, or use --no-prompts"
            ) from error
        images = np.asarray(dataset[0]["data_samples"].prompt_images)
        prompts[name] = list(zip(images[::2], images[1::2], strict=True))
        count = min(num_queries, len(dataset))
        queries[name] = [np.asarray(dataset[number]["data_samples"].query_image) for number in range(count)]
    return codecs, prompts, queries


def weights_hash(folder: Path) -> str:
    """The first digits of the SHA-256 of the weight files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("model*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()[:HASH_DIGITS]


def read_results(path: str | None) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"--results: {path} is not JSON ({error})") from error
    if not isinstance(results, dict) or not all(isinstance(metrics, dict) for metrics in results.values()):
        raise ValueError(f"--results: {path} is not what delvm test --out writes: task -> metrics")
    return results


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    out = Path(args.out)
    check_target(out)
    results = read_results(args.results)
    dtype = None if args.dtype is None else floating_dtype(args.dtype)
    cfg = load_config(args.config, args.cfg_options, needed=("model",))
    model = build_model(cfg, args.checkpoint, args.tokenizer, "cpu")
    chosen = choose_weights(model, load_checkpoint(args.checkpoint), args.checkpoint, args.weights)
    codecs, prompts, queries = tasks_of(cfg, args.queries, not args.no_prompts)
    card = ModelCard(
        name=out.name,
        license=args.license,
        training_data=args.training_data,
        results=results,
        description=args.description,
    )
    with temporary_beside(out) as temporary:
        save_model(
            model,
            temporary,
            size=cfg.get("size"),
            tasks=codecs,
            prompts=prompts,
            queries=queries,
            **{
                f"{kind}s": {name: task[kind] for name, task in (cfg.get("tasks") or {}).items() if task.get(kind)}
                for kind in ("sampler", "ensemble")
            },
            card=card,
            dtype=dtype,
        )
        digest = weights_hash(temporary)
        folder = out if args.exact_name else out.with_name(f"{out.name}-{digest}")
        check_target(folder)
        put_in_place(temporary, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {chosen}, {len(codecs)} tasks, {len(prompts)} with prompts, {size:,} bytes, hash {digest}")


if __name__ == "__main__":
    main()
