"""Last step of a pipeline: a results dict becomes what a loader batches."""

from collections.abc import Sequence

import numpy as np
import torch

from delvm_mm.datasets.transforms.base import BaseTransform
from delvm_mm.registry import TRANSFORMS
from delvm_mm.structures import DataSample

__all__ = ["PackClip", "PackTokens", "clip_images", "require_rgb", "sample_name"]

CHANNEL_ORDER = "img_channel_order"
"""Field of results that says how the channels of ``img`` stand: 'rgb' from everything in this package."""

CLIP_META_KEYS = ("task", "sample_idx", "img_path", "name", "img_shape", "ori_shape")


@TRANSFORMS.register_module()
class PackClip(BaseTransform):
    """Pack the images of a clip: ``dict(inputs=uint8 tensor k x 3 x H x W, data_samples=DataSample)``.

    Args:
        keys: Fields in the order of the clip; a field holds an image H x W x 3 or several, n x H x W x 3.
        factor: Downsampling factor of the tokenizer. If given, sizes that do not divide are refused here, where the
            file is known, and not in the model.
        meta_keys: Fields that go into the data sample's metainfo where they are there.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("img", "label"),
        factor: int | None = None,
        meta_keys: Sequence[str] = CLIP_META_KEYS,
    ) -> None:
        if factor is not None and factor < 1:
            raise ValueError(f"PackClip: factor must be at least 1, got {factor}")
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.factor = factor
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack the clip."""
        images = clip_images(results, self.keys, "PackClip")
        height, width = images.shape[1:3]
        if self.factor is not None and (height % self.factor or width % self.factor):
            raise ValueError(
                f"{sample_name(results)} has images of {height}x{width} (height x width), which the tokenizer's "
                f"factor {self.factor} does not divide: resize or crop to multiples of {self.factor}"
            )
        inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return {"inputs": inputs, "data_samples": _data_sample(results, self.meta_keys)}


@TRANSFORMS.register_module()
class PackTokens(BaseTransform):
    """Pack the tokens that ``VQGANTokenize`` made: ``dict(inputs=LongTensor k*tokens, data_samples=...)``.

    Args:
        meta_keys: Fields that go into the data sample's metainfo where they are there.
    """

    def __init__(self, meta_keys: Sequence[str] = CLIP_META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack the tokens."""
        if "tokens" not in results:
            raise ValueError(
                f"PackTokens needs 'tokens' in the results, which have {sorted(results)}: use VQGANTokenize"
            )
        inputs = torch.from_numpy(results["tokens"].reshape(-1))
        return {"inputs": inputs, "data_samples": _data_sample(results, self.meta_keys)}


def clip_images(results: dict, keys: Sequence[str], owner: str) -> np.ndarray:
    """The images of a clip in one array.

    Args:
        results: The dict that passes through a pipeline.
        keys: Its fields in the order of the clip, H x W x 3 or n x H x W x 3 each, uint8.
        owner: Name of the transform, for messages.

    Returns:
        uint8 array k x H x W x 3.

    Raises:
        ValueError: A field is missing or is no image, or sizes differ.
    """
    if "img" in keys:
        require_rgb(results, owner)
    parts = []
    for key in keys:
        if key not in results:
            raise ValueError(
                f"{owner} needs {key!r} in the results of {sample_name(results)}, which have {sorted(results)}"
            )
        part = np.asarray(results[key])
        if part.ndim not in (3, 4) or part.shape[-1] != 3 or part.dtype != np.uint8:
            raise ValueError(
                f"{owner}: {key!r} of {sample_name(results)} is {part.dtype} of shape {part.shape}, "
                "expected RGB uint8 H x W x 3 or n x H x W x 3"
            )
        parts.append(part if part.ndim == 4 else part[None])
    shapes = {key: part.shape[1:3] for key, part in zip(keys, parts, strict=True)}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{owner}: the images of {sample_name(results)} differ in height x width: {shapes}")
    return np.concatenate(parts)


def require_rgb(results: dict, owner: str) -> None:
    """Check that ``img`` was not loaded by a toolbox, whose loaders give BGR.

    Those note ``ori_shape`` and nothing about channels. An array that a data set brings itself is taken for RGB.

    Args:
        results: The dict that passes through a pipeline.
        owner: Name of the transform, for messages.

    Raises:
        ValueError: It was, and was not turned.
    """
    order = results.get(CHANNEL_ORDER, "unknown" if "ori_shape" in results else "rgb")
    if "img" in results and order != "rgb":
        raise ValueError(
            f"{owner}: 'img' of {sample_name(results)} comes from a loader that does not say that it is RGB (its "
            f"{CHANNEL_ORDER} is {order!r}); LoadImageFromFile of mmcv and mmseg and LoadImage of mmpose give BGR: "
            "load with dict(type='LoadImage'), put dict(type='BGRToRGB') behind the other, or set "
            f"results['{CHANNEL_ORDER}'] = 'rgb' where it is"
        )


def _data_sample(results: dict, meta_keys: Sequence[str]) -> DataSample:
    return DataSample(metainfo={key: results[key] for key in meta_keys if key in results})


def sample_name(results: dict) -> str:
    """What messages call the sample: its file, or its number where there is no file."""
    return str(results.get("img_path") or results.get("name") or f"sample {results.get('sample_idx', '(no name)')}")
