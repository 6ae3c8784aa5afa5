"""Pages of the API: every public name of every module, a page for each part of the package."""

import re
from pathlib import Path

PARTS = {
    "apis": "Answering images from Python; model folders.",
    "models": "The model: embedding, decoder, head; weights of other libraries in and out.",
    "models/backbones": "The LLaMA stack, for tokens and for patches.",
    "models/losses": "Next-token loss in chunks, distillation losses.",
    "models/tokenizers": "Images to tokens and back.",
    "generation": "Writing tokens: cache, decoder, sampling.",
    "codecs": "Annotations drawn as images, and read back.",
    "datasets": "Sentences, prompts and their samplers.",
    "datasets/readers": "Data sets as their authors laid them out.",
    "datasets/transforms": "What happens to images and annotations before they are tokenized.",
    "datasets/procedural": "Built-in scenes, drawn from a seed.",
    "stores": "Token stores and teacher stores on disk.",
    "precompute": "Jobs that run a model over data once.",
    "evaluation": "Scores, tokenizer ceilings and trivial answers.",
    "visualization": "Panels and overlays.",
    "engine": "Loops, wrappers and what the tools share.",
    "engine/hooks": "What happens beside training.",
    "engine/distillation": "Teachers, online and offline.",
    "checkpoints": "Files that are never half written; checkpoints.",
    "pretrained": "Weights that the package carries.",
    "webui": "The page.",
    "commands": "What the tools and `delvm` run.",
    "": "What everything else stands on: registries, data samples, toolboxes.",
}


def api_pages(root: Path) -> dict[str, str]:
    """Pages of the API.

    Args:
        root: Root of the repository.

    Returns:
        Place on the site -> Markdown that mkdocstrings fills.

    Raises:
        RuntimeError: A folder of the package is on no page.
    """
    package, taken, pages = root / "delvm_mm", set(), {}
    for part in sorted(PARTS, key=lambda part: -part.count("/") if part else 9):  # the deeper first
        files = [path for path in sorted((package / part).rglob("*.py")) if path not in taken]
        if not part:
            files = [path for path in files if path.parent == package]
        taken.update(files)
        name = ".".join(["delvm_mm", *filter(None, part.split("/"))])
        lines = [f"# {name}", "", PARTS[part], ""]
        for path in files:
            if path.name != "__init__.py" or re.search(r"^def [a-z]", path.read_text("utf-8"), re.MULTILINE):
                module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
                lines += [f"::: {module}", ""]
        pages[f"reference/api/{part.replace('/', '_') or 'delvm_mm'}.md"] = "\n".join(lines)
    modules = [
        path for path in sorted((root / "delvm").glob("*.py")) if path.name not in ("__init__.py", "__main__.py")
    ]
    lines = ["# delvm", "", "The command line, which imports nothing that may be missing.", ""]
    pages["reference/api/delvm.md"] = "\n".join([*lines, *(f"::: delvm.{path.stem}\n" for path in modules)])
    left = [path for path in package.rglob("*.py") if path not in taken]
    if left:
        raise RuntimeError(f"on no page of the API: {left[0].parent}; add it to PARTS of {__file__} and to mkdocs.yml")
    return pages
