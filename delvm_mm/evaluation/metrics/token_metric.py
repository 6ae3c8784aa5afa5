"""How well next tokens are predicted: :class:`TokenMetric`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from delvm_mm.registry import METRICS


@METRICS.register_module()
class TokenMetric(BaseMetric):
    """Loss, accuracy and perplexity of next-token prediction, over all sentences and for each task.

    All tokens weigh the same, whatever sentence they stand in. Each data sample has

    - ``token_nll``: L - 1 negative log-likelihoods (nats) of the tokens from the second on;
    - ``token_correct``: L - 1 booleans, whether the most likely token was the right one;
    - ``task`` (optional): name of the sentence's task;
    - ``tokens`` (optional): the sentence, L codes;
    - ``clip_shape`` (optional): images in a clip and tokens of an image.

    Results: ``loss`` (mean negative log-likelihood, nats), ``accuracy`` (%), ``perplexity`` (exp(loss)), and, where
    every sentence brings its ``tokens``, ``unigram_entropy`` (nats): the loss of a model that knows how often each
    code occurs among the predicted tokens and nothing else. What a model's loss is below it comes from context.
    With ``clip_shape`` the same for the last image of each clip alone, the label, as ``label/loss`` and so on.
    Results of one task are named ``<task>/loss``, ``<task>/label/loss`` and so on.

    Args:
        collect_device: ``'cpu'`` or ``'gpu'``: where results of several processes are brought together.
        prefix: Put before the names of the results, with a slash.
    """

    default_prefix = "token"

    def __init__(self, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Sum up each sentence of a batch.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            ValueError: A field is missing or lengths disagree.
        """
        for data_sample in data_samples:
            missing = {"token_nll", "token_correct"} - set(data_sample)
            if missing:
                raise ValueError(
                    "TokenMetric reads token_nll and token_correct of a data sample, and "
                    f"{' and '.join(sorted(missing))} is missing: feed it sentences (VisualSentenceDataset), predicted "
                    "by DeLVM in mode 'predict'"
                )
            nll = torch.as_tensor(data_sample["token_nll"]).flatten()
            correct = torch.as_tensor(data_sample["token_correct"]).flatten()
            if len(nll) != len(correct):
                raise ValueError(f"{len(nll)} values of token_nll, but {len(correct)} of token_correct")
            parts = {"": slice(None)}
            if "clip_shape" in data_sample:
                parts["label/"] = _of_last_image(len(nll) + 1, data_sample["clip_shape"])[1:]
            tokens = _check_tokens(data_sample.get("tokens"), len(nll))
            # One small record for each sentence: MMEngine drops the sentences that padded an uneven shard by count.
            self.results.append(
                {
                    "task": data_sample.get("task"),
                    "parts": {
                        name: {
                            "nll": float(nll[part].double().sum()),
                            "correct": int(correct[part].sum()),
                            "count": len(nll[part]),
                            "codes": None if tokens is None else np.unique(tokens[1:][part], return_counts=True),
                        }
                        for name, part in parts.items()
                    },
                }
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Divide sums over sentences by the number of predicted tokens.

        Args:
            results: Sums of each sentence.

        Returns:
            See the class; empty where no token was predicted.
        """
        metrics = _summarize(results)
        for task in sorted({record["task"] for record in results} - {None}):
            of_task = _summarize([record for record in results if record["task"] == task])
            metrics.update({f"{task}/{name}": value for name, value in of_task.items()})
        return metrics


def _of_last_image(length: int, clip_shape: Sequence[int]) -> np.ndarray:
    """Which tokens of a sentence belong to the last image of their clip: to the label, where clips are pairs."""
    num_images, tokens = clip_shape
    return np.arange(length) // tokens % num_images == num_images - 1


def _check_tokens(tokens: Any, num_predicted: int) -> np.ndarray | None:
    if tokens is None:
        return None
    tokens = torch.as_tensor(tokens).flatten().cpu().numpy()
    if len(tokens) != num_predicted + 1:
        raise ValueError(f"a sentence of {len(tokens)} tokens has {len(tokens) - 1} predictions, got {num_predicted}")
    return tokens


def _summarize(results: list[dict]) -> dict[str, float]:
    summary = {}
    for part in dict.fromkeys(name for record in results for name in record["parts"]):
        records = [record["parts"][part] for record in results if part in record["parts"]]
        count = sum(record["count"] for record in records)
        if count == 0:
            continue
        loss = sum(record["nll"] for record in records) / count
        summary[f"{part}loss"] = loss
        summary[f"{part}accuracy"] = 100 * sum(record["correct"] for record in records) / count
        summary[f"{part}perplexity"] = float(np.exp(loss))
        if all(record["codes"] is not None for record in records):
            summary[f"{part}unigram_entropy"] = entropy([record["codes"] for record in records])
    return summary


def entropy(counted: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Entropy in nats of codes that were counted sentence by sentence, or image by image: of all together."""
    codes, counts = (np.concatenate(column) for column in zip(*counted, strict=True))
    _, which = np.unique(codes, return_inverse=True)
    share = np.bincount(which.reshape(-1), weights=counts) / counts.sum()
    return float(-(share * np.log(share)).sum())
