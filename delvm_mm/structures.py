"""The data sample: what a data set, the model, the evaluator and the visualizers say to each other about one sample."""

from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor


class DataSample(BaseDataElement):
    """One sentence, prompt, clip or answer. Every field is optional; which there are is said by who makes it.

    Images are uint8 and RGB: H x W x 3, or 2P x H x W x 3 for a prompt of P pairs.

    ===================  ===============================================================================================
    field                meaning
    ===================  ===============================================================================================
    **metainfo**
    ``task``             Name of the task, such as 'seg'.
    ``img_path``         File of the image; ``name`` where it has none.
    ``img_id``, ``id``   Numbers of the image and the annotation in their data set.
    ``class_id``         Number of the object's class; its name is ``class_name``.
    ``fold``             Part of a protocol that holds out the class.
    ``sample_idx``       Number of the sample in its data set.
    ``prompt``           Positions of the prompt's pairs in the support set.
    ``sentence``         Number of a sentence in its data set.
    ``epoch``            In which the sentence was put together.
    ``clip_shape``       Images of a clip and tokens of an image, (k, n).
    **data**
    ``annotation``       The query's, as its codec's ``annotation_of`` gave it.
    ``ori_annotation``   The same before the image was resized, for scores at its size; ``ori_shape`` is that size,
                         ``affine`` takes its pixels to those of ``query_image``.
    ``tile``             Of an image that is answered in several: which one this is, see ``CropTile``.
    ``query_image``      Image that the prompt asks about.
    ``prompt_images``    Image and label of each pair, by turns.
    ``label_image``      The query's annotation, drawn.
    ``pred_image``       What the model drew.
    ``pred_tokens``      The same before decoding: int64, h·w.
    ``pred_images``      What it drew behind each of E prompts, E x H x W x 3; ``combine`` says how they become one
                         answer, and ``pred_image`` is their mean.
    ``ceiling_image``    ``label_image`` through the tokenizer and back: the best that any model could draw.
    ``tokens``           A sentence that the model scored: int64, L.
    ``token_nll``        Negative log-likelihood of each token but the first, in nats: float32, L - 1.
    ``token_correct``    Whether it was the most likely one: bool, L - 1.
    ``image``            Input of a tokenizer in training; its ``reconstruction`` stands beside it.
    ===================  ===============================================================================================

    Answers of :class:`~delvm_mm.apis.DeLVMInferencer` have the fields of their codec too, such as ``pred_sem_seg``.

    Examples:
        >>> import torch
        >>> sample = DataSample(metainfo=dict(task="seg"), token_nll=torch.zeros(3))
        >>> sample.task, len(sample.token_nll)
        ('seg', 3)
    """

    annotation: Any
    query_image: np.ndarray
    prompt_images: np.ndarray
    label_image: np.ndarray
    pred_image: np.ndarray
    pred_images: np.ndarray
    combine: str
    pred_tokens: Tensor | np.ndarray
    ceiling_image: np.ndarray
    tokens: Tensor
    token_nll: Tensor
    token_correct: Tensor
    image: np.ndarray
    reconstruction: np.ndarray

    def set_metainfo(self, metainfo: dict[str, Any]) -> None:
        """Set the metainfo as it is: the deep copy of MMEngine's would cost more than reading a sentence."""
        if not isinstance(metainfo, dict):
            raise TypeError(f"metainfo is a {type(metainfo).__name__}, expected a dict")
        for name, value in metainfo.items():
            self.set_field(value, name, field_type="metainfo", dtype=None)
