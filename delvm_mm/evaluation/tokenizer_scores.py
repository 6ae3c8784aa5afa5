"""A tokenizer's own score: what is left of images and of labels that went through it, and how it uses its codes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delvm_mm.codecs.base import META_KEYS
from delvm_mm.codecs.mapping import ORIGINAL_KEYS, TILE_KEY
from delvm_mm.evaluation.metrics.reconstruction_metric import ReconstructionMetric
from delvm_mm.evaluation.prompt_evaluator import VisionPromptEvaluator
from delvm_mm.models.tokenizers.images import to_float, to_uint8


@dataclass
class TaskScores:
    """Of one tokenizer on the queries of one task.

    Attributes:
        ceilings: Results of the task's metrics for true label images after tokenizer and back.
        reconstruction: ``PSNR`` (dB) and ``SSIM`` of the images themselves, ``LPIPS`` where there are weights.
        counts: How often each code was written, in images and labels together.
        tokens: Of images and labels, (2N) x (h·w), images first.
        flat: Of :func:`flat_label_scores`, at the size of the first label.
        panels: For the first samples image, reconstruction, label and its reconstruction, uint8 H x W x 3.
    """

    ceilings: dict[str, float]
    reconstruction: dict[str, float]
    counts: np.ndarray
    tokens: np.ndarray
    flat: dict[str, float]
    panels: list[tuple[np.ndarray, ...]] = field(default_factory=list)


@torch.no_grad()
def score_task(
    tokenizer: nn.Module,
    samples: Sequence[dict],
    evaluator: VisionPromptEvaluator,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    batch_size: int = 16,
    num_panels: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> TaskScores:
    """Send the images and labels of a task through a tokenizer and score what comes back.

    Args:
        tokenizer: With ``encode``, ``decode``, ``grid_of`` and ``num_embeddings``; in eval mode.
        samples: Results dicts after ``DrawLabel``: ``img``, ``label``, ``annotation``.
        evaluator: The task's, with ``ceiling=False``: what it takes for predictions are the labels that came back.
        perceptual: Distances N of images N x 3 x H x W in [0, 1], such as ``LPIPS``.
        batch_size: Images at a time.
        num_panels: Samples of which images are kept.
        progress: Called with (samples done, samples in all) after each batch.

    Returns:
        Scores, the use of the codebook and the tokens.

    Raises:
        ValueError: A sample has no label, or the tokenizer cannot take its size.
    """
    metric = ReconstructionMetric(channels=("rgb",))
    counts, distances, panels = np.zeros(tokenizer.num_embeddings, np.int64), [], []
    tokens: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    evaluator.dataset_meta = dict(getattr(samples, "metainfo", {}))
    device = next(tokenizer.parameters()).device
    done = 0
    for batch in _batches(samples, batch_size):
        returned = []
        for kind, key in enumerate(("img", "label")):
            images = torch.stack([torch.from_numpy(sample[key]).permute(2, 0, 1) for _, sample in batch])
            images = to_float(images.to(device))
            codes = tokenizer.encode(images)
            decoded = tokenizer.decode(codes, tokenizer.grid_of(*images.shape[2:]))
            codes = codes.cpu().numpy()
            counts += np.bincount(codes.ravel(), minlength=len(counts))
            tokens[kind].extend(codes)
            returned.append(to_uint8(decoded))
            if key == "img" and perceptual is not None:
                distances.extend(perceptual(decoded, images).tolist())
        for (number, sample), image, label in zip(batch, *returned, strict=True):
            metric.process(None, [{"image": sample["img"], "reconstruction": image}])
            fields = {key: sample[key] for key in (*META_KEYS, *ORIGINAL_KEYS, TILE_KEY) if key in sample}
            fields |= {"sample_idx": sample.get("sample_idx", number), "annotation": sample["annotation"]}
            fields |= {"query_image": sample["img"], "query_ceiling_image": image}
            evaluator.process([{**fields, "pred_image": label}])
            if len(panels) < num_panels:
                panels.append((sample["img"], image, sample["label"], label))
        if progress is not None:
            progress(done := done + len(batch), len(samples))
    reconstruction = metric.compute_metrics(metric.results)
    if distances:
        reconstruction["LPIPS"] = float(np.mean(distances))
    ceilings = evaluator.evaluate(size=len(samples))
    flat = flat_label_scores(tokenizer, *samples[0]["label"].shape[:2])
    return TaskScores(ceilings, reconstruction, counts, np.array(tokens[0] + tokens[1]), flat, panels)


@torch.no_grad()
def flat_label_scores(tokenizer: nn.Module, height: int, width: int) -> dict[str, float]:
    """Whether labels of nothing and of everything can be said: black and white images, through the tokenizer.

    Tried are the image itself and, for each code that it has, an image of that code alone.

    Args:
        tokenizer: With ``encode``, ``decode`` and ``grid_of``.
        height: Of the labels, in pixels.
        width: Of the labels, in pixels.

    Returns:
        'empty label' and 'full label': percent of these images that come back with no value above 15, and with none
        below 240.
    """
    device = next(tokenizer.parameters()).device
    grid = tokenizer.grid_of(height, width)
    scores = {}
    for name, level in (("empty label", 0.0), ("full label", 1.0)):
        codes = tokenizer.encode(torch.full((1, 3, height, width), level, device=device))
        alone = codes.unique()[:, None].expand(-1, codes.shape[1])
        back = to_uint8(tokenizer.decode(torch.cat([codes, alone]), grid))
        good = [image.max() < 16 if level == 0 else image.min() > 239 for image in back]
        scores[name] = 100.0 * float(np.mean(good))
    return scores


def codebook_scores(counts: np.ndarray) -> dict[str, float]:
    """``codebook usage``, percent of codes that were written at all, and ``perplexity``, 1 to K.

    Args:
        counts: How often each of the K codes was written.

    Returns:
        These two.
    """
    shares = counts[counts > 0] / counts.sum()
    return {
        "codebook usage": 100.0 * float((counts > 0).mean()),
        "perplexity": float(np.exp(-(shares * np.log(shares)).sum())),
    }


def _batches(samples: Sequence[dict], size: int) -> Iterator[list[tuple[int, dict]]]:
    batch: list[tuple[int, dict]] = []
    for number in range(len(samples)):
        sample = samples[number]
        if missing := [key for key in ("img", "label", "annotation") if key not in sample]:
            raise ValueError(f"sample {number} lacks {', '.join(missing)}: its pipeline must end with DrawLabel")
        if batch and batch[0][1]["img"].shape != sample["img"].shape:
            yield batch
            batch = []
        batch.append((number, sample))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
