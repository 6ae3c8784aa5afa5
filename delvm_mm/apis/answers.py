"""What a model answered: the image, what a codec read from it, and the files that keep both."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from delvm_mm.apis.images import ModelImage
from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.codecs.mapping import map_boxes_back
from delvm_mm.structures import DataSample
from delvm_mm.visualization import write_image

__all__ = ["Answer", "AnswerWriter"]


@dataclass
class Answer:
    """One image that a model wrote.

    Attributes:
        source: What was asked about.
        image: uint8, S x S x 3, RGB.
        tokens: int64, the tokens of the image.
        seconds: Time it took; of a batch, its share.
        task: Name of the task, None without one.
        decoded: What the task's codec read from the image.
        notes: More to keep with it, plain values.
        original: Whether predictions also have it at the size of the query's file.
        overlay: What was read, drawn over the query (uint8, S x S x 3); None where nobody looks at panels, or the
            image itself is the answer.
        name: Of its files; the name of the source unless given.
    """

    source: ModelImage
    image: np.ndarray
    tokens: np.ndarray
    seconds: float
    task: str | None = None
    decoded: Any = None
    notes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    original: bool = True
    overlay: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.name = self.name or self.source.name

    def fields(self) -> dict[str, Any]:
        """The structured prediction: ``mask``, ``keypoints`` and so on, in pixels of the model's image.

        ``mask_original``, ``keypoints_original`` and so on are the same in pixels of the query's file.

        Returns:
            Name -> value; empty where the image itself is the answer.
        """
        decoded = self.decoded
        if isinstance(decoded, dict):
            fields = {key: value for key, value in decoded.items() if key != "img_shape"}
            if "keypoints" in fields:
                fields["keypoints_original"] = self.source.to_original(fields["keypoints"]).astype(np.float32)
            if "bboxes" in fields:
                width, height = self.source.original_size
                fields["bboxes_original"] = map_boxes_back(fields["bboxes"], self.source.affine, (height, width))
            for name in ("instance_map", "foreground"):
                if name in fields and self.original:
                    fields[f"{name}_original"] = self.source.image_to_original(fields[name])
            return fields
        if not isinstance(decoded, np.ndarray):
            return {} if decoded is None else dict(decoded=decoded)
        if decoded.ndim == 3:  # restoration: the image is the prediction
            return {}
        if decoded.dtype.kind not in "bui":
            return dict(decoded=decoded)
        return dict(mask=decoded) | (
            dict(mask_original=self.source.image_to_original(decoded)) if self.original else {}
        )

    def _image_original(self) -> dict[str, np.ndarray]:
        return dict(image_original=self.source.image_to_original(self.image)) if self.original else {}

    def prediction(self) -> dict[str, Any]:
        """Everything about the answer, arrays as arrays."""
        return dict(
            name=self.name,
            path=self.source.path,
            task=self.task,
            image=self.image,
            **self._image_original(),
            tokens=self.tokens,
            **self.fields(),
            **({} if self.overlay is None else dict(overlay=self.overlay)),
            crop=self.source.crop(),
            seconds=self.seconds,
            **self.notes,
        )

    def data_sample(self) -> DataSample:
        """The same as OpenMMLab passes it around: ``pred_image``, ``pred_tokens`` and the structured fields."""
        metainfo = dict(name=self.name, img_path=self.source.path, task=self.task, **self.source.crop(), **self.notes)
        return DataSample(
            metainfo=metainfo,
            pred_image=self.image,
            pred_tokens=self.tokens,
            query_image=self.source.pixels,
            **{f"pred_{key}": value for key, value in self._image_original().items()},
            **self.fields(),
        )


class AnswerWriter:
    """Writes answers into a folder, file by file as they come.

    * ``images/<name>.png``: what the model wrote, at its size;
    * ``original/<name>.png``: the same at the size of the query's file, black where that was not seen;
    * ``predictions/<name>.json``: the structured prediction, where the image was cut out, time; masks are COCO's RLE;
    * ``masks/<name>.png``: a mask in black and white, for tasks that have one;
    * ``vis/<name>.png``: prompt | query | answer.

    A file is there whole or not at all. Of queries with the same name the second is called ``<name>_2``, and so on;
    files of an earlier run are replaced.

    Args:
        out_dir: The folder; made if it is missing.

    Raises:
        OSError: It cannot be written to.
    """

    def __init__(self, out_dir: str | os.PathLike) -> None:
        self.out_dir = Path(out_dir)
        if self.out_dir.exists() and not self.out_dir.is_dir():
            raise NotADirectoryError(f"{self.out_dir} is a file; give a folder for the answers")
        self._used: set[str] = set()

    def write(self, answer: Answer, panel: np.ndarray | None) -> None:
        """Write one answer and its panel (uint8 H x W x 3, or None)."""
        name = self._free_name(answer.name)
        self._image("images", name, answer.image)
        content = {key: value for key, value in answer.prediction().items() if key not in ("tokens", "overlay")}
        content["image"] = f"images/{name}.png"
        if "image_original" in content:
            self._image("original", name, content["image_original"])
            content["image_original"] = f"original/{name}.png"
        if "mask" in content:
            self._image("masks", name, (content["mask"] != 0).astype(np.uint8) * 255)
        for end in ("", "_original"):
            for key in (f"mask{end}", f"foreground{end}"):
                if key in content:
                    content[key] = mask_to_rle(content[key] != 0)
            if f"instance_map{end}" in content:
                instances = np.asarray(content.pop(f"instance_map{end}"))
                numbers = np.unique(instances[instances > 0])
                content[f"masks{end}"] = [mask_to_rle(instances == number) for number in numbers]
        if panel is not None:
            self._image("vis", name, panel)
        text = json.dumps(content, default=_plain, indent=1)
        write_atomically(self._path("predictions", f"{name}.json"), (text + "\n").encode())

    def _image(self, folder: str, name: str, image: np.ndarray) -> None:
        write_image(self._path(folder, f"{name}.png"), image)

    def _free_name(self, name: str) -> str:
        number, free = 1, name
        while free in self._used:
            number += 1
            free = f"{name}_{number}"
        self._used.add(free)
        return free

    def _path(self, folder: str, name: str) -> Path:
        (self.out_dir / folder).mkdir(parents=True, exist_ok=True)
        return self.out_dir / folder / name


def mask_to_rle(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H x W, bool) as COCO's run lengths, with the counts as text; ``pycocotools.mask.decode`` reads it."""
    from pycocotools import mask as coco_mask  # only tasks with masks need it

    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=list(rle["size"]), counts=rle["counts"].decode())


def _plain(value: Any) -> Any:
    """Arrays and numpy's numbers as JSON knows them."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64).round(3).tolist() if value.dtype.kind == "f" else value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
