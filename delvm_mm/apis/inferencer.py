"""``DeLVMInferencer``: prompt a model with a few images, from Python."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from torch import Tensor

from delvm_mm.apis.answer_stages import AnswerStages, Result, writer_of
from delvm_mm.apis.answers import Answer
from delvm_mm.apis.generating import GRAY, ImageGenerator
from delvm_mm.apis.images import ImageReader, ImageSource, ModelImage, check_pairs, list_sources
from delvm_mm.apis.model_loading import build_model, find_config, task_codecs
from delvm_mm.apis.options import AnswerOptions
from delvm_mm.codecs import LabelCodec
from delvm_mm.hardware import choose_device
from delvm_mm.models import DeLVM
from delvm_mm.models.prompt_ensemble import PromptEnsemble, answer_fields
from delvm_mm.registry import TASK_UTILS
from delvm_mm.visualization import draw_overlay, draw_panel

__all__ = ["DeLVMInferencer"]

Images = ImageSource | Iterable[ImageSource]
Prompt = Sequence[tuple[ImageSource, ImageSource]] | str | os.PathLike


class DeLVMInferencer(AnswerStages):
    """Prompt a :class:`DeLVM`: show it (image, annotation) pairs and a query, and it draws the query's annotation.

    Every image is resized by its short side and cut out at the center to the model's size (256 px, 96 px for 'mini');
    with ``fit='pad'`` all of it is seen. ``crop`` of each prediction says how to map back. Arrays are uint8 RGB.

    All ways of asking take the options of :class:`AnswerOptions` by name (``temperature``, ``seed``, ``batch_size``,
    ``out_dir``, ``show``, ``on_error``, ...) and return a dict of lists:

    * ``predictions``: dicts of ``name``, ``path``, ``task``, ``image`` (uint8, S x S x 3), ``tokens``, what the
      task's codec read (``mask``, uint8 S x S; or ``keypoints`` 1 x 17 x 2 in COCO's order, ``keypoint_scores`` 1 x 17
      ...), the same in pixels of the query's file (``image_original``, ``mask_original``, ``keypoints_original``), what
      was read drawn over the query (``overlay``, uint8 S x S x 3, where panels are drawn and it is no image itself),
      ``crop`` (``original_size`` and ``box``, the part that was seen; ``scale`` and ``offset``) and ``seconds``;
    * ``visualization``: panels, uint8 H x W x 3;
    * ``skipped``: dicts of ``name`` and ``reason``, with ``on_error='skip'``.

    Args:
        model: A model folder that :func:`save_model` wrote; 'mini', the model that the package carries;
            'quickstart' (or 'from_scratch' or 'mini_long'), the model that ``make quickstart`` trains; the path of a
            config; a config; a built :class:`DeLVM`; or None where ``weights`` has its own.
        weights: A checkpoint (what a run has saved holds its config), or a folder with a Hugging Face export. Model
            folders and 'mini' have their own.
        device: Such as 'cpu' or 'cuda:0'. Defaults to the best that there is.
        tokenizer: The tokenizer's folder (or config, or module) in place of the config's; needed with an export.
        size: Side of the model's images in pixels. Defaults to the config's ``size``, or the tokenizer's resolution.
        cfg_options: Dotted keys and values that override the config's.
        show_progress: Whether several images get a progress bar.

    Raises:
        FileNotFoundError: If a file is missing, or the quick start has not been run.
        ValueError: If the weights do not fit, or ``size`` does not fit the tokenizer.

    Example:
        >>> inferencer = DeLVMInferencer(model="mini")  # doctest: +SKIP
        >>> result = inferencer("photo.jpg", prompt=[("a.png", "a_mask.png"), ("b.png", "b_mask.png")], task="seg")
        ... # doctest: +SKIP
        >>> result["predictions"][0]["mask"].shape  # doctest: +SKIP
        (96, 96)
    """

    def __init__(
        self,
        model: str | os.PathLike | dict | Config | DeLVM | None = None,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        tokenizer: Any = None,
        size: int | None = None,
        cfg_options: dict[str, Any] | None = None,
        show_progress: bool = True,
    ) -> None:
        init_default_scope("delvm_mm")
        self._built = model if isinstance(model, DeLVM) else None
        self._tokenizer = tokenizer
        cfg, weights = (Config(), None) if self._built is not None else find_config(model, weights, cfg_options)
        super().__init__(
            model=cfg,
            weights=weights,
            device=str(choose_device(device)),
            scope="delvm_mm",
            show_progress=show_progress,
        )
        size = size or cfg.get("size") or self.model.tokenizer.config["resolution"]
        self.generator = ImageGenerator(self.model, size)
        self.pipeline = ImageReader(size)

    @property
    def size(self) -> int:
        """Side S of the model's images in pixels."""
        return self.generator.size

    @property
    def tasks(self) -> list[str]:
        """Names that ``task`` may have: the config's tasks, and those of the paper."""
        return list(task_codecs(self.cfg, self.size))

    def codec(self, task: str | dict | LabelCodec | None) -> LabelCodec | None:
        """The codec that reads a task's answers.

        Returns:
            None where no task is named.

        Raises:
            ValueError: If there is no such task.
        """
        if task is None or isinstance(task, LabelCodec):
            return task
        if isinstance(task, str):
            codecs = task_codecs(self.cfg, self.size)
            if task not in codecs:
                raise ValueError(f"there is no task '{task}'; expected one of {list(codecs)}, or a codec's config")
            task = codecs[task]
        return TASK_UTILS.build(task)

    def own_prompt(self, task: str) -> str | None:
        """The folder of prompt pairs that a model folder has for a task; None where it has none."""
        return self._settings(task).get("prompt")

    def _settings(self, task: str | dict | LabelCodec | None) -> dict[str, Any]:
        """What the config says of a task; nothing of one that has no name."""
        return (self.cfg.get("tasks") or {}).get(task, {}) if isinstance(task, str) else {}

    def ensemble(self, task: str | dict | LabelCodec | None = None) -> PromptEnsemble | None:
        """Behind which prompts queries are answered unless options say otherwise.

        Args:
            task: Whose ``ensemble`` in the config is meant, where the model has none of its own.

        Returns:
            None for one prompt of all pairs.

        Raises:
            ValueError: It is not one.
        """
        return self.model.ensemble or PromptEnsemble.of(self._settings(task).get("ensemble"))

    def sampler(self, task: str | dict | LabelCodec | None = None) -> dict[str, Any]:
        """How tokens are chosen unless options say otherwise: arguments of a :class:`TokenSampler`.

        Args:
            task: Whose ``sampler`` in the config goes before the model's own.

        Returns:
            Those that are set.
        """
        return self.model.sampler | dict(self._settings(task).get("sampler") or {})

    def __call__(
        self, query: Images, prompt: Prompt = (), task: str | dict | LabelCodec | None = None, **options: Any
    ) -> Result:
        """Answer queries, all with the same prompt.

        Args:
            query: An image (path, array, PIL), a list of them, or a folder of image files.
            prompt: (image, annotation) pairs, or a folder with ``<name>_img.png`` and ``<name>_label.png``. Without,
                the one that a model folder has for ``task``.
            task: Read the answers as masks, keypoints, ...: a name in :attr:`tasks`, a codec, or its config (a
                drawing is to be read with the sizes it was drawn with).
            **options: See :class:`AnswerOptions`.

        Returns:
            dict[str, list]: See the class; panels are prompt | query | answer | what was read, over the query.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If an image is damaged, the prompt is empty, does not fit the context or does not make the
                ensemble, or an option is out of range.
        """
        return _merge(self.iterate(query, prompt, task, **options))

    def iterate(
        self, query: Images, prompt: Prompt = (), task: str | dict | LabelCodec | None = None, **options: Any
    ) -> Iterator[Result]:
        """Like calling the inferencer, a batch at a time: for folders whose answers would not fit into memory.

        Args:
            query: See :meth:`__call__`.
            prompt: See :meth:`__call__`.
            task: See :meth:`__call__`.
            **options: See :class:`AnswerOptions`.

        Yields:
            dict[str, list]: What :meth:`__call__` returns, of one batch.
        """
        chosen = AnswerOptions.of(options)
        if isinstance(prompt, Sequence) and not len(prompt) and isinstance(task, str):
            prompt = self.own_prompt(task) or prompt
        pairs = [
            self.pipeline.pair(*pair, f"pair {n}", chosen.fit) for n, pair in enumerate(check_pairs(prompt), start=1)
        ]
        shown = [image.pixels for pair in pairs for image in pair]
        codec = self.codec(task)
        name = task if isinstance(task, str) or task is None else type(codec).__name__
        ensemble = self.ensemble(task) if chosen.ensemble is None else PromptEnsemble.of(chosen.ensemble)
        sampler = chosen.sampler(self.sampler(task))
        prompts = self.generator.prompts(shown, ensemble)
        prompts = prompts if ensemble is None else prompts[: ensemble.num_prompts(sampler)]

        def write(batch: list[ModelImage]) -> list[Answer]:
            begin = time.perf_counter()
            queries = self.generator.encode([image.pixels for image in batch])
            one_answer = ensemble is None or ensemble.writes_one
            tokens = self.generator.answer(prompts, queries, sampler, chosen.on_token, one_answer)
            return self._answers(batch, tokens, begin, chosen, name, codec, queries=queries, ensemble=ensemble)

        def draw(answer: Answer) -> np.ndarray:
            captions = dict(prediction="answer", truth=f"read as {name}")
            return draw_panel(shown, answer.source.pixels, answer.image, answer.overlay, captions=captions)

        yield from self._batches(list_sources(query), write, draw, chosen)

    def complete(self, image: Images, keep: float = 0.5, **options: Any) -> Result:
        """Finish images from their first rows of tokens.

        Args:
            image: An image, a list of them, or a folder.
            keep: Part of the rows to keep, between 0 and 1, rounded to whole rows of tokens: at least one and not all.
                It is shown as the tokenizer keeps it.
            **options: See :class:`AnswerOptions`.

        Returns:
            dict[str, list]: See the class; predictions also have ``kept_rows``, the pixel rows that were given.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If ``keep`` leaves nothing to keep or to write, or an image is damaged.
        """
        chosen = AnswerOptions.of(options)
        rows = self.generator.rows_to_keep(keep)
        pixels = rows * self.size // self.generator.grid[0]
        sampler = chosen.sampler(self.model.sampler)

        def write(batch: list[ModelImage]) -> list[Answer]:
            begin = time.perf_counter()
            tokens = self.generator.encode([image.pixels for image in batch])
            tokens = self.generator.complete(tokens, rows, sampler, chosen.on_token)
            return self._answers(batch, tokens, begin, chosen, notes=dict(kept_rows=pixels))

        def draw(answer: Answer) -> np.ndarray:
            given = answer.source.pixels.copy()
            given[pixels:] = GRAY
            captions = dict(query="given", prediction="completed", truth="original")
            return draw_panel([], given, answer.image, answer.source.pixels, captions=captions)

        return _merge(self._batches(list_sources(image, "image"), write, draw, chosen))

    def continue_frames(self, frames: Images, n: int = 1, **options: Any) -> Result:
        """Predict the next frames of a video.

        Frames are written into the context until it is full; from then on each new one sees the last ones that fit
        (7 of 8). How many of the given ones none will see is logged.

        Args:
            frames: Images in order, all of one size, or a folder of them (in the order of the numbers in names).
            n: How many frames to write, at least 1.
            **options: See :class:`AnswerOptions`; ``on_token`` counts over all frames. Files are called
                ``frame_<number>``, counted on from the given ones.

        Returns:
            dict[str, list]: See the class, one prediction a frame, with ``frames_seen`` and ``frames_dropped``: how
            many earlier frames (given or written) it saw, and how many were too long ago.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If ``n`` is not at least 1, frames differ in size, or one is damaged.
        """
        chosen = AnswerOptions.of(options)
        if n < 1:
            raise ValueError(f"n is {n}; expected at least one frame to predict")
        sources = list_sources(frames, "frames")
        boxes = [None] * len(sources) if chosen.bbox is None else [*chosen.boxes(1)] * len(sources)  # one for all
        given = [
            self.pipeline(frame, f"frame {k}", chosen.fit, box)
            for k, (frame, box) in enumerate(zip(sources, boxes, strict=True), start=1)
        ]
        _check_one_size(given)
        limit = self.generator.max_images - 1
        if len(given) > limit:
            unseen = f"the first {len(given) - limit} of {len(given)} frames are not seen"
            print_log(f"the context holds {limit} frames and the next one: {unseen}", "current", 30)
        begin = time.perf_counter()
        tokens = self.generator.encode([frame.pixels for frame in given[-limit:]])
        sampler = chosen.sampler(self.model.sampler)
        tokens, seen = self.generator.continue_frames(tokens, n, sampler, chosen.on_token)
        answers = self._answers(given[-1:] * n, tokens, begin, chosen)
        for before, answer in enumerate(answers, start=len(given)):
            shown = seen[before - len(given)]
            answer.name = f"frame_{before + 1:04d}"
            answer.notes = dict(frames_seen=shown, frames_dropped=before - shown)

        def draw(answer: Answer) -> np.ndarray:
            captions = dict(query="last frame", prediction="predicted")
            return draw_panel([], given[-1].pixels, answer.image, title=answer.name, captions=captions)

        return self._finish(given, answers, draw, chosen, writer_of(chosen))

    def _answers(
        self,
        sources: Sequence[ModelImage],
        tokens: Tensor,
        begin: float,
        chosen: AnswerOptions,
        task: str | None = None,
        codec: LabelCodec | None = None,
        notes: dict[str, Any] | None = None,
        queries: Tensor | None = None,
        ensemble: PromptEnsemble | None = None,
    ) -> list[Answer]:
        """Answers of tokens N x T, or N x A x T of A to a query; a ``codec`` needs ``queries``, tokens N x T."""
        tokens = tokens.view(len(tokens), -1, tokens.shape[-1])
        images, rows = self.generator.decode(tokens.flatten(0, 1)), tokens.cpu()
        reads_query = codec is not None and codec.reads_query
        tokenized = self.generator.decode(queries) if reads_query else [None] * len(rows)
        seconds = (time.perf_counter() - begin) / len(rows)
        answers = []
        for number, (source, of_query) in enumerate(zip(sources, rows, strict=True)):
            start = number * len(of_query)
            fields = answer_fields(of_query, images[start : start + len(of_query)], ensemble)
            shown = dict(query_image=source.pixels, query_ceiling_image=tokenized[number])
            decoded = codec.decode_answer(fields | shown) if codec else None
            image, row = fields["pred_image"], fields["pred_tokens"].numpy()
            image = image if codec is None else codec.image_of(fields, decoded)
            answer = Answer(source, image, row, seconds, task, decoded, dict(notes or {}), original=chosen.original)
            if codec and chosen.draws:
                answer.overlay = draw_overlay(source.pixels, decoded, codec)
            answers.append(answer)
        return answers

    def _init_model(self, cfg: Config, weights: str | None, device: str = "cpu") -> DeLVM:
        if self._built is not None:
            return self._built.to(device).eval()
        return build_model(cfg, weights, self._tokenizer, device)


def _check_one_size(frames: list[ModelImage]) -> None:
    for frame in frames[1:]:
        if frame.original_size != frames[0].original_size:
            (width, height), (first_width, first_height) = frame.original_size, frames[0].original_size
            raise ValueError(
                f"{frame.path or frame.name} is {width}x{height}, {frames[0].path or frames[0].name} "
                f"{first_width}x{first_height}; frames of a video have one size"
            )


def _merge(results: Iterable[Result]) -> Result:
    merged: Result = dict(predictions=[], visualization=[], skipped=[])
    for result in results:
        for key in merged:
            merged[key] += result[key]
    return merged
