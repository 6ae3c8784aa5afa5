"""The README of a model folder: a model card with front matter, in Hugging Face's form."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from delvm_mm.evaluation.trivial_answers import TRIVIAL_ANSWERS, higher_is_better, split_result
from delvm_mm.models import DeLVM

__all__ = ["ModelCard"]

# Names of data sets on the Hub; other names in ``datasets`` would be refused there.
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_DRAWN_AS = {
    "ForegroundMaskCodec": "a mask of the foreground",
    "SkeletonCodec": "a skeleton",
    "KeypointDiscsCodec": "keypoints, a disc each",
    "RestorationCodec": "the restored image",
    "RandomColorMaskCodec": "masks, each in a color of its own",
    "SemanticMaskCodec": "classes, a color each",
}


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model folder says of itself.

    Attributes:
        name: Of the model.
        license: Identifier, such as 'apache-2.0'.
        training_data: What it was trained on, a line each, with its license; names on the Hub, such as
            'org/name', are also listed as ``datasets``.
        results: Task -> metrics, as ``delvm test --out`` writes them.
        description: Text for the head of the page.
    """

    name: str
    license: str = "other"
    training_data: Sequence[str] = ()
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    description: str = ""

    def text(self, model: DeLVM, tasks: Mapping[str, Mapping[str, Any]], size: int | None) -> str:
        """The whole file.

        Args:
            model: For its sizes and its tokenizer's fingerprint.
            tasks: Name -> config of the codec.
            size: Side of its images in pixels.

        Returns:
            Markdown, with front matter in YAML.
        """
        front = yaml.safe_dump(self.front_matter(model), sort_keys=False, allow_unicode=True, width=1000)
        parts = [f"---\n{front}---\n\n# {self.name}", self.description.strip(), *self._body(model, tasks, size)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def front_matter(self, model: DeLVM) -> dict[str, Any]:
        """The head of the file, in the Hub's keys, and ``training_data`` and ``tokenizer_fingerprint`` beside them."""
        front: dict[str, Any] = dict(
            license=self.license,
            library_name="delvm_mm",
            pipeline_tag="image-to-image",
            tags=["delvm", "visual-prompting", "in-context-learning", "image-segmentation", "image-restoration"],
        )
        if datasets := [name for name in self.training_data if _HUB_NAME.fullmatch(name)]:
            front["datasets"] = datasets
        scores = self._scores()
        if scores:
            front["metrics"] = sorted({metric for _, metric, values in scores if "" in values})
        front["training_data"] = list(self.training_data)
        front["tokenizer_fingerprint"] = None if model.tokenizer is None else model.tokenizer.fingerprint
        if scores:
            front["model-index"] = [dict(name=self.name, results=self._model_index())]
        return front

    def _model_index(self) -> list[dict[str, Any]]:
        results = []
        for task in self.results:
            metrics = [
                dict(type=metric, name=metric, value=float(values[""]))
                for name, metric, values in self._scores()
                if name == task and "" in values
            ]
            if metrics:
                results.append(
                    dict(
                        task=dict(type="image-to-image", name=task),
                        dataset=dict(type=task, name=task),
                        metrics=metrics,
                    )
                )
        return results

    def _scores(self) -> list[tuple[str, str, dict[str, float]]]:
        """Task, metric, and whose value is which: '' the model's, 'ceiling', names of trivial answers."""
        scores: dict[tuple[str, str], dict[str, float]] = {}
        for task, metrics in self.results.items():
            for key, value in metrics.items():
                whose, metric = split_result(key, task)
                if isinstance(value, int | float) and metric != "images_per_s":
                    scores.setdefault((task, metric), {})[whose] = value
        return [(task, metric, values) for (task, metric), values in scores.items()]

    def _body(self, model: DeLVM, tasks: Mapping[str, Mapping[str, Any]], size: int | None) -> list[str]:
        backbone = model.backbone
        parts = (model.embedding, backbone, model.head)
        parameters = sum(weight.numel() for part in parts for weight in part.parameters())
        shape = (
            f"A causal decoder of {parameters:,} parameters: {backbone.num_layers} layers of width "
            f"{backbone.embed_dims} with {backbone.num_heads} heads, {model.num_embeddings} ids, a context of "
            f"{model.max_positions} tokens."
        )
        if model.tokenizer is not None:
            shape += f" Its tokenizer, in `tokenizer/`, has the fingerprint `{model.tokenizer.fingerprint}`."
        if size is not None:
            shape += f" Images are {size} x {size} pixels."
        return [
            "It is shown pairs of an image and its annotation, and draws the annotation of one more image.",
            f"## Model\n\n{shape}",
            _tasks_section(tasks),
            "## Use\n\n" + _use(next(iter(tasks), None)),
            self._scores_section(),
            "## Training data\n\n" + ("\n".join(f"- {line}" for line in self.training_data) or "Not stated."),
            f"## License\n\n{self.license}",
        ]

    def _scores_section(self) -> str:
        scores = self._scores()
        if not scores:
            return ""
        known = ("", "ceiling", *TRIVIAL_ANSWERS)
        columns = [whose for whose in known if any(whose in values for _, _, values in scores)]
        titles = [whose.replace("_", " ") or "score" for whose in columns]
        rows = [["task", "metric", *titles], ["---"] * (len(titles) + 2)]
        for task, metric, values in scores:
            shown = [f"{values[whose]:.4g}" if whose in values else "" for whose in columns]
            arrow = {True: " ↑", False: " ↓", None: ""}[higher_is_better(metric)]
            rows.append([task, metric + arrow, *shown])
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        text = "Ceiling: the truth through the tokenizer. The others are trivial answers, which a score has to beat."
        return f"## Scores\n\n{table}\n\n{text}"


def _tasks_section(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    if not tasks:
        return ""
    lines = [f"- `{name}`: {_DRAWN_AS.get(codec['type'], codec['type'])}" for name, codec in tasks.items()]
    return "## Tasks\n\n" + "\n".join(lines)


def _use(task: str | None) -> str:
    if task is None:
        call = 'inferencer("photo.jpg", prompt=[("a.png", "a_label.png"), ("b.png", "b_label.png")])'
    else:
        call = (
            f'inferencer("photo.jpg", task="{task}")  # with the folder\'s own prompt, or prompt=[(image, label), ...]'
        )
    code = f'from delvm_mm.apis import DeLVMInferencer\n\ninferencer = DeLVMInferencer("path/of/this/folder")\n{call}'
    return f"```python\n{code}\n```"
