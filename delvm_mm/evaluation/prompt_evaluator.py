"""Scores images that a model drew with the toolboxes' own metrics: :class:`VisionPromptEvaluator`."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from delvm_mm.codecs.base import META_KEYS
from delvm_mm.codecs.mapping import ORIGINAL_KEYS, TILE_KEY, map_prediction_back
from delvm_mm.evaluation.coco_fields import COCO_PERSON, coco_fields
from delvm_mm.evaluation.metric_building import build_metric, differing_arguments, no_annotation_files, quiet
from delvm_mm.evaluation.tiles import join_tiles
from delvm_mm.evaluation.trivial_answers import TRIVIAL_ANSWERS, as_answer, defeats, trivial_predictions
from delvm_mm.registry import EVALUATOR, TASK_UTILS


@EVALUATOR.register_module()
class VisionPromptEvaluator(Evaluator):
    """Reads the annotation back from each generated image and hands it, with the truth, to metrics.

    The metrics are any of MMEngine's, built from their configs and called unchanged: ``mmseg.IoUMetric``,
    ``mmpose.PCKAccuracy``, ``mmpose.CocoMetric``, ``RestorationMetric``. A second copy of them scores the *tokenizer
    ceiling*, the true label image encoded and decoded by the tokenizer, which is what a model that gets every
    token right draws: the difference of the two is what the language model lost. Further copies score the *trivial
    answers* of :data:`TRIVIAL_ANSWERS`, which a model has to beat; log and tools say where it does not.

    Each data sample has ``annotation`` (what ``codec.annotation_of`` gave for the query), ``pred_image`` (uint8
    H x W x 3, RGB) and, for the ceiling, ``ceiling_image`` (the same form). Trivial answers are scored where it has
    ``prompt_images``, as those of a :class:`VisionPromptDataset` do, and the prior where the data set's meta
    information has its ``support_labels``. Where an ensemble gave ``pred_images``, an answer
    for each prompt, they are combined as its ``combine`` says.

    Results are named ``<prefix>/<metric>``, ``<prefix>/ceiling/<metric>`` and ``<prefix>/trivial/<answer>/<metric>``,
    such as ``seg/mIoU``, ``seg/ceiling/mIoU`` and ``seg/trivial/last_label/mIoU``. Two metrics of one type with
    results of one name are told apart by the arguments in which they differ: ``PCK(thr=0.1)``, ``PCK(thr=0.2)``.

    Args:
        codec: What drew the labels; its ``dataset_meta`` is given to the metrics.
        metrics: The metrics, as of :class:`mmengine.evaluator.Evaluator`.
        ceiling: Whether to score the tokenizer ceiling too.
        trivial: Whether to score the trivial answers too.
        prefix: Name of the task, put before the names of all results.
        original: Whether to score in pixels of the original image: what was read is mapped back and compared with
            the annotation that ``KeepAnnotation`` kept. What the model did not see counts as background there. People
            that were cut out of one image (by ``img_id``) are one image to ``CocoMetric`` then, as it is published for
            top-down models; else each sample is an image of its own. What was read from the tiles of ``CropTile`` is
            put together, and an image is scored when all its tiles are answered.

    Raises:
        ImportError: A metric's toolbox is missing or cannot be imported.

    Example:
        >>> evaluator = VisionPromptEvaluator(
        ...     codec=dict(type="ForegroundMaskCodec"), metrics=dict(type="mmseg.IoUMetric"), prefix="seg"
        ... )
        >>> mask = np.array([[0, 1], [0, 1]], np.uint8)
        >>> drawn = evaluator.codec.encode(mask)
        >>> evaluator.process([dict(annotation=mask, pred_image=drawn, ceiling_image=drawn)])
        >>> evaluator.evaluate(size=1)
        {'seg/aAcc': 100.0, 'seg/mIoU': 100.0, 'seg/mAcc': 100.0, 'seg/ceiling/aAcc': 100.0, ...}
    """

    def __init__(
        self,
        codec: Any,
        metrics: dict | BaseMetric | Sequence[dict | BaseMetric],
        ceiling: bool = True,
        trivial: bool = True,
        prefix: str | None = None,
        original: bool = False,
    ) -> None:
        metrics = list(metrics) if isinstance(metrics, Sequence) else [metrics]
        super().__init__([build_metric(metric) for metric in metrics])
        self.ceiling_metrics = [build_metric(metric, own=True) for metric in metrics] if ceiling else []
        answers = TRIVIAL_ANSWERS if trivial else ()
        self.trivial_metrics = {name: [build_metric(metric, own=True) for metric in metrics] for name in answers}
        self._differences = differing_arguments(metrics)
        self._answered: set[str] = set()
        self._alone: list[BaseMetric] | None = None
        self._tiles: dict[int, dict[int, dict]] = {}
        self.codec = TASK_UTILS.build(codec) if isinstance(codec, dict) else codec
        self.ceiling = ceiling
        self.prefix = prefix
        self.original = original
        self.dataset_meta = {}

    @property
    def dataset_meta(self) -> dict:
        """Meta information given to the metrics: the data set's, where the codec does not have its own."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        # The runner sets the data set's. Where the two differ, the codec knows what its decoded fields mean.
        dataset_meta = dict(dataset_meta or {})
        self._support_labels, self._prior = dataset_meta.pop("support_labels", None), None
        self._dataset_meta = {**dataset_meta, **self.codec.dataset_meta}
        if "sigmas" in self._dataset_meta:  # keypoints: the categories that CocoMetric writes beside its annotations
            self._dataset_meta.setdefault("CLASSES", [{"id": COCO_PERSON, "name": "person"}])
        for metric in self._all_metrics():
            # A copy: CocoMetric may change it in place.
            with no_annotation_files():
                metric.dataset_meta = deepcopy(self._dataset_meta)

    def process(self, data_samples: Sequence[BaseDataElement | dict], data_batch: Any | None = None) -> None:
        """Decode the images of a batch and score them.

        Args:
            data_samples: See the class.
            data_batch: Handed to the metrics as it is.

        Raises:
            ValueError: A data sample has no annotation, or no image to score.
        """
        samples = [sample.to_dict() if isinstance(sample, BaseDataElement) else sample for sample in data_samples]
        if self.original:
            tiles = [sample for sample in samples if sample.get(TILE_KEY) is not None]
            for sample in tiles:
                self._keep_tile(sample)
            samples = [sample for sample in samples if sample.get(TILE_KEY) is None]
            if not samples:
                return
        # Decoding everything first: a bad sample leaves no metric ahead of the others.
        predictions = [self._fields(sample, "pred_image") for sample in samples]
        ceilings = [self._fields(sample, "ceiling_image") for sample in samples] if self.ceiling else []
        trivial = self._trivial_fields(samples) if self.trivial_metrics else {}
        self._process_fields(data_batch, predictions, ceilings, trivial)

    def _process_fields(
        self, data_batch: Any | None, predictions: list[dict], ceilings: list[dict], trivial: dict[str, list[dict]]
    ) -> None:
        for metric in self.metrics:
            metric.process(data_batch, predictions)
        for metric in self.ceiling_metrics:
            metric.process(data_batch, ceilings)
        for name, answers in trivial.items():
            self._answered.add(name)
            for metric in self.trivial_metrics[name]:
                metric.process(data_batch, answers)

    def _keep_tile(self, sample: dict) -> None:
        """Read the images of a tile; they are scored when those of the other tiles are there."""
        keys = {"pred_image": "", **({"ceiling_image": "ceiling"} if self.ceiling else {})}
        self._check_original(sample)
        read = {name: self._read(sample, key) for key, name in keys.items()}
        if self.trivial_metrics:
            read |= trivial_predictions(self.codec, sample, self._read_prior())
        kept = (*META_KEYS, *ORIGINAL_KEYS, TILE_KEY, "sample_idx")
        light = {key: sample[key] for key in kept if key in sample}
        number = sample[TILE_KEY]["number"]
        self._tiles.setdefault(int(sample["sample_idx"]) - number, {})[number] = dict(sample=light, read=read)

    def _score_tiles(self, size: int) -> int:
        """Score the images that were answered in tiles.

        Args:
            size: Number of samples in the whole data set.

        Returns:
            Number of images where there were tiles, else ``size``.

        Raises:
            ValueError: A tile is missing.
        """
        images: dict[int, dict[int, dict]] = {}
        for tiles in all_gather_object(self._tiles):
            for image, of_image in tiles.items():
                images.setdefault(image, {}).update(of_image)
        self._tiles = {}
        for image in sorted(images)[get_rank() :: get_world_size()]:
            tiles = [images[image][number] for number in sorted(images[image])]
            sample = tiles[0]["sample"]
            count = sample[TILE_KEY]["count"]
            if len(tiles) != count:
                raise ValueError(
                    f"{len(tiles)} of the {count} tiles of {sample.get('img_path') or image} were answered: expected "
                    "all; choose queries by whole images, not by tiles"
                )
            shape = tuple(sample["ori_shape"])
            fields = {}
            for name in tiles[0]["read"]:
                joined = join_tiles(
                    [tile["read"][name] for tile in tiles],
                    [tile["sample"]["affine"] for tile in tiles],
                    [tile["sample"][TILE_KEY]["box"] for tile in tiles],
                    shape,
                )
                fields[name] = [self._laid_out(sample, sample["ori_annotation"], joined, shape)]
            self._process_fields(None, fields.pop(""), fields.pop("ceiling", []), fields)
        return len(images) or size

    def evaluate(self, size: int) -> dict[str, float]:
        """Bring the results of all processes together and compute the metrics.

        Toolboxes print tables of their own (per class, per keypoint) while they do; a line in the log says whether the
        next ones are of the predictions or of the ceiling. Those of the trivial answers are left out, and where one of
        these is as good as the predictions, a warning says so.

        Args:
            size: Number of samples in the whole data set.

        Returns:
            See the class. The same in all processes.

        Raises:
            ValueError: Two metrics have a result of the same name and no arguments that differ.
        """
        size = self._score_tiles(size)
        name = f"{self.prefix}: " if self.prefix else ""
        if self.ceiling:
            print_log(f"{name}scores of the predictions", logger="current")
        results = self._merge(self.metrics, size)
        if self.ceiling:
            print_log(f"{name}scores of the tokenizer ceiling", logger="current")
            of_ceiling = self._merge(self.ceiling_metrics, size)
            results.update({f"ceiling/{key}": value for key, value in of_ceiling.items()})
        # All processes have to agree on what is scored, also one that had no sample.
        answered = set().union(*all_gather_object(self._answered))
        self._answered = set()
        with quiet():
            for answer in sorted(answered, key=list(TRIVIAL_ANSWERS).index):
                of_answer = self._merge(self.trivial_metrics[answer], size)
                results.update({f"trivial/{answer}/{key}": value for key, value in of_answer.items()})
        for metric in self._all_metrics():
            if hasattr(metric, "coco"):  # CocoMetric would compare the next samples with the truth of these
                metric.coco = None
        before = f"{self.prefix}/" if self.prefix else ""
        # Plain numbers, which JSON can write: some metrics give numpy's.
        results = {
            before + key: value.item() if isinstance(value, np.generic) else value for key, value in results.items()
        }
        for sentence in defeats(results, self.prefix):
            print_log(sentence, logger="current", level=logging.WARNING)
        return results

    def _all_metrics(self) -> Iterator[BaseMetric]:
        return chain(self.metrics, self.ceiling_metrics, *self.trivial_metrics.values())

    def score_alone(self, sample: BaseDataElement | dict) -> dict[str, float]:
        """What the metrics say of one sample alone; what they have processed is left as it is.

        Args:
            sample: See the class.

        Returns:
            Names as in :meth:`evaluate`, without the prefix. Left out are metrics that want more than one sample, and
            numbers that are none (of what the sample does not show).
        """
        if self._alone is None:
            self._alone = [build_metric(metric, own=True) for metric in self.metrics]
        sample = sample.to_dict() if isinstance(sample, BaseDataElement) else sample
        fields = self._fields(sample, "pred_image")
        results: list[dict[str, float]] = []
        with quiet():
            for metric in self._alone:
                metric.results.clear()
                metric.process(None, [fields])
                try:
                    values = metric.compute_metrics(metric.results)
                except (RuntimeError, ValueError):
                    values = {}
                if hasattr(metric, "coco"):
                    metric.coco = None
                results.append({f"{metric.prefix}/{key}" if metric.prefix else key: values[key] for key in values})
        return {key: float(value) for key, value in self._named(results).items() if np.isfinite(value)}

    def fields_of(self, sample: BaseDataElement | dict) -> dict[str, Any]:
        """What the metrics read of a sample's answer: ``pred_sem_seg`` and ``gt_sem_seg``, or whatever they need."""
        return self._fields(sample.to_dict() if isinstance(sample, BaseDataElement) else sample, "pred_image")

    def _merge(self, metrics: Sequence[BaseMetric], size: int) -> dict[str, Any]:
        """Results of all metrics; where two have one name, with the arguments in which they differ."""
        return self._named([metric.evaluate(size) for metric in metrics])

    def _named(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Results of each metric, put together."""
        counts = Counter(key for of_metric in results for key in of_metric)
        merged = {}
        for of_metric, differences in zip(results, self._differences, strict=True):
            for key, value in of_metric.items():
                name = f"{key}({differences})" if counts[key] > 1 and differences else key
                if name in merged:
                    raise ValueError(
                        f"two metrics have a result of the same metric name {name!r}: give one of them prefix='...'"
                    )
                merged[name] = value
        return merged

    def _trivial_fields(self, samples: Sequence[dict]) -> dict[str, list[dict]]:
        """Trivial answer -> what the metrics read of each sample."""
        fields: dict[str, list[dict]] = {}
        for sample in samples:
            for name, prediction in trivial_predictions(self.codec, sample, self._read_prior()).items():
                fields.setdefault(name, []).append(
                    self._metric_fields(sample, prediction, sample["pred_image"].shape[:2])
                )
        return fields

    def _fields(self, sample: dict, key: str) -> dict:
        """What the metrics read: the sample, and what the codec makes of the image under ``key`` and the truth."""
        return self._metric_fields(sample, self._read(sample, key), sample[key].shape[:2])

    def _read(self, sample: dict, key: str) -> Any:
        """What the codec reads from the image under ``key``."""
        self._check(sample, key)
        return self.codec.decode_answer(sample if key == "pred_image" else as_answer(sample, key))

    def _read_prior(self) -> Any:
        """What the codec reads from the mean of many labels, once for all samples; None where there are none."""
        if self._support_labels is not None:
            labels, self._support_labels = self._support_labels.read(), None
            self._prior = None if labels is None else self.codec.decode_mean(labels)
        return self._prior

    def _check(self, sample: dict, key: str) -> None:
        """Check that a sample has a truth and an image under ``key``."""
        for needed, advice in (
            ("annotation", "load the query with a VisionPromptDataset"),
            ("pred_image", "let DeLVM.predict answer it first"),
            ("ceiling_image", "let DeLVM.predict answer it first, or build the evaluator with ceiling=False"),
        ):
            if needed in (key, "annotation") and sample.get(needed) is None:
                name = sample.get("img_path") or sample.get("sample_idx")
                raise ValueError(f"data sample {name!r} has no {needed}, it has {sorted(sample)}: {advice}")

    def _check_original(self, sample: dict) -> None:
        """Check that a sample has what scores at the original's size need."""
        if missing := [name for name in ORIGINAL_KEYS if sample.get(name) is None]:
            raise ValueError(
                f"data sample {sample.get('img_path') or sample.get('sample_idx')!r} has no {', '.join(missing)}, "
                "which scores at the original's size need: put dict(type='KeepAnnotation', codec=...) behind what "
                "loads the query, before what resizes it"
            )

    def _metric_fields(self, sample: dict, prediction: Any, shape: tuple[int, ...]) -> dict:
        """What the metrics read: the sample, and the prediction beside the truth."""
        truth = sample["annotation"]
        if self.original:
            self._check_original(sample)
            truth, shape = sample["ori_annotation"], tuple(sample["ori_shape"])
            prediction = map_prediction_back(prediction, sample["affine"], shape)
        return self._laid_out(sample, truth, prediction, shape)

    def _laid_out(self, sample: dict, truth: Any, prediction: Any, shape: tuple[int, ...]) -> dict:
        """The sample, prediction and truth in the fields that the metrics read."""
        fields = self.codec.to_fields(truth=truth, prediction=prediction)
        fields = {**sample, **{name: _to_tensors(field) for name, field in fields.items()}}
        if "keypoints" in fields.get("gt_instances", ()) and "sample_idx" in sample:
            together = self.original and isinstance(sample.get("img_id"), int | np.integer)
            image = sample["img_id"] if together else sample["sample_idx"]
            many = getattr(self.codec, "max_people", 1) > 1
            fields.update(coco_fields(fields["gt_instances"], sample["sample_idx"], int(image), shape, many))
        return fields


def _to_tensors(field: Any) -> Any:
    """Turn the ``data`` of a field into a tensor: toolboxes keep pixels as tensors and instances as arrays."""
    if isinstance(field, dict) and isinstance(field.get("data"), np.ndarray):
        return {**field, "data": torch.from_numpy(np.ascontiguousarray(field["data"]))}
    return field
