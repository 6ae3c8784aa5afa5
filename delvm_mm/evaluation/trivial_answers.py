"""Answers that need no model, which a score has to beat to mean something."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from delvm_mm.codecs.base import LabelCodec

TRIVIAL_ANSWERS = {
    "nothing": "an image of the background alone",
    "last_label": "the label shown last",
    "mean_label": "the mean of the labels shown",
    "prior": "the mean of up to 100 labels of the data set that prompts are from",
    "input": "the query itself",
    "input_tokenized": "the query through the tokenizer",
}
"""Name in results, as in ``seg/trivial/last_label/mIoU``, and what it is."""

# In the last part of a metric's name, as mmseg, mmpose, mmpretrain and this package give them.
_LOWER = re.compile(r"loss|perplexity|EPE|NME|LPIPS|FID|MAE|MSE|MPJPE|[Ee]rror|[Rr]el\b|rmse|log10|silog")
_HIGHER = re.compile(
    r"IoU|[Aa]cc|Dice|Fscore|Precision|precision|Recall|recall|PCK|AUC|PSNR|SSIM|\bm?A[PR]\b|top\d|\bd[123]\b"
)


def higher_is_better(metric: str) -> bool | None:
    """Which way a metric counts, by its name, such as ``coco/AP`` or ``restoration/PSNR``; None if it is not known."""
    name = metric.rpartition("/")[2]
    if _LOWER.search(name):
        return False
    return True if _HIGHER.search(name) else None


def trivial_predictions(codec: LabelCodec, sample: Mapping[str, Any], prior: Any = None) -> dict[str, Any]:
    """What a codec reads from the answers that need no model.

    Args:
        codec: The task's.
        prior: What the codec reads from the mean of many labels, which is the same for all samples.
        sample: With ``prompt_images`` (uint8 2K x H x W x 3: image and label in turns), ``query_image`` and
            ``query_ceiling_image`` (uint8 H x W x 3).

    Returns:
        Name of :data:`TRIVIAL_ANSWERS` -> prediction. Without ``prompt_images`` none; 'input' and
        'input_tokenized' only where the label is an image of the query's kind (``codec.restores``).
    """
    if sample.get("prompt_images") is None or not len(sample["prompt_images"]):
        return {}
    labels = np.asarray(sample["prompt_images"])[1::2]
    answers = {
        "nothing": codec.decode(np.full(labels.shape[1:], codec.background, np.uint8)),
        "last_label": codec.decode(np.ascontiguousarray(labels[-1])),
        "mean_label": codec.decode_mean(labels),
    }
    if prior is not None:
        answers["prior"] = prior
    if codec.restores:
        if sample.get("query_image") is not None:
            answers["input"] = codec.decode(np.asarray(sample["query_image"]))
        if sample.get("query_ceiling_image") is not None:
            answers["input_tokenized"] = codec.decode_answer(as_answer(sample, "query_ceiling_image"))
    return answers


def as_answer(sample: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The sample as if a model had written the image under ``key``, for :meth:`LabelCodec.decode_answer`."""
    return {**sample, "pred_image": np.asarray(sample[key]), "pred_images": None}


def split_result(key: str, prefix: str | None = None) -> tuple[str, str]:
    """Part a result's name into whose it is and the metric.

    Args:
        key: Such as ``seg/trivial/nothing/mIoU``.
        prefix: The evaluator's, such as ``seg``.

    Returns:
        ``''`` (the model), ``'ceiling'`` or a name of :data:`TRIVIAL_ANSWERS`, and such as ``mIoU``.
    """
    name = key.removeprefix(f"{prefix}/") if prefix else key
    if name.startswith("ceiling/"):
        return "ceiling", name.removeprefix("ceiling/")
    if name.startswith("trivial/"):
        _, answer, metric = name.split("/", 2)
        return answer, metric
    return "", name


def best_trivial_answers(results: Mapping[str, Any], prefix: str | None = None) -> dict[str, tuple[str, float]]:
    """The best answer without a model in each metric.

    Args:
        results: Of a :class:`VisionPromptEvaluator`.
        prefix: The evaluator's, the name of the task.

    Returns:
        Metric -> name in :data:`TRIVIAL_ANSWERS`, and its score; those metrics alone of which it is known which way
        they count.
    """
    answers: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        whose, metric = split_result(key, prefix)
        # COCO says -1 where there is nothing of a kind to score.
        if whose in TRIVIAL_ANSWERS and isinstance(value, int | float) and not math.isnan(value) and value != -1:
            answers.setdefault(metric, {})[whose] = value
    best = {}
    for metric, scores in answers.items():
        if (higher := higher_is_better(metric)) is not None:
            name = (max if higher else min)(scores, key=scores.__getitem__)
            best[metric] = name, scores[name]
    return best


def defeats(results: Mapping[str, Any], prefix: str | None = None) -> list[str]:
    """A sentence for each metric in which a trivial answer is as good as the model, naming the best such answer.

    Args:
        results: Of a :class:`VisionPromptEvaluator`.
        prefix: The evaluator's, the name of the task.

    Returns:
        Sentences, none where the model is better everywhere.
    """
    best, sentences = best_trivial_answers(results, prefix), []
    for key, model in results.items():
        whose, metric = split_result(key, prefix)
        if whose or metric not in best or not isinstance(model, int | float):
            continue
        name, value = best[metric]
        if model != value and (model > value if higher_is_better(metric) else model < value):
            continue
        verb = "is no better than" if model == value else "loses to"
        task = f"{prefix}: " if prefix else ""
        sentences.append(f"{task}the model {verb} {TRIVIAL_ANSWERS[name]} in {metric}, {model:.4g} against {value:.4g}")
    return sentences
