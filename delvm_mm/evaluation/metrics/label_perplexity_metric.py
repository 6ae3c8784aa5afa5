"""Perplexity of the label that a prompt asks for: :class:`LabelPerplexityMetric`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from delvm_mm.evaluation.metrics.token_metric import entropy
from delvm_mm.registry import METRICS


@METRICS.register_module()
class LabelPerplexityMetric(BaseMetric):
    """How well the tokens of the last image are foretold, by the protocol of LVM (Bai et al., CVPR 2024).

    Each data sample has ``token_nll`` (negative log-likelihoods in nats of all tokens but the first), ``tokens`` and
    ``clip_shape`` (images of a clip and tokens of an image), as :class:`DeLVM` gives them for prompts with their
    answer. Results:

    * ``perplexity``: exp(mean negative log-likelihood of the last image's tokens) of each sample, then the mean over
      samples;
    * ``loss``: the mean negative log-likelihood itself, in nats, over all of them;
    * ``unigram_perplexity``: exp of the entropy with which codes occur in all last images together: that of an answer
      which knows nothing else. A model has to be below it.

    Args:
        collect_device: ``'cpu'`` or ``'gpu'``: where results of several processes are brought together.
        prefix: Put before the names of the results, with a slash.
    """

    def __init__(self, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the last image of each sample.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            ValueError: A field is missing.
        """
        for sample in data_samples:
            if missing := [key for key in ("token_nll", "tokens", "clip_shape") if key not in sample]:
                raise ValueError(
                    f"LabelPerplexityMetric reads token_nll, tokens and clip_shape of a data sample, and "
                    f"{' and '.join(missing)} is missing: feed the model prompts with their answer, answered=True"
                )
            number = int(sample["clip_shape"][1])
            nll = torch.as_tensor(sample["token_nll"]).flatten()[-number:]
            codes = torch.as_tensor(sample["tokens"]).flatten()[-number:].cpu().numpy()
            self.results.append({"loss": float(nll.double().mean()), "codes": np.unique(codes, return_counts=True)})

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over samples.

        Args:
            results: Mean loss and counted codes of each sample.

        Returns:
            See the class.
        """
        if not results:
            return {}
        losses = np.array([result["loss"] for result in results])
        return {
            "perplexity": float(np.exp(losses).mean()),
            "loss": float(losses.mean()),
            "unigram_perplexity": float(np.exp(entropy([result["codes"] for result in results]))),
        }
