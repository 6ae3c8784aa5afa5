"""The stages that every answer goes through: read a batch, answer it, draw panels, write and lay out."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import numpy as np
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.visualization import Visualizer

from delvm_mm.apis.answers import Answer, AnswerWriter
from delvm_mm.apis.images import ImageSource, ModelImage
from delvm_mm.apis.options import AnswerOptions
from delvm_mm.progress import progress_of

Result = dict[str, list]


class AnswerStages(BaseInferencer):
    """MMEngine's stages of an inferencer, for answers of a :class:`DeLVM`; what is asked is up to subclasses."""

    preprocess_kwargs = {"on_error", "skipped", "fit", "boxes"}  # as the base class has them
    forward_kwargs = {"write"}
    visualize_kwargs = {"draw", "show"}
    postprocess_kwargs = {"writer"}

    def preprocess(
        self,
        inputs: list[ImageSource],
        batch_size: int = 8,
        on_error: str = "stop",
        skipped: list | None = None,
        fit: str = "crop",
        boxes: Sequence[Sequence[float] | None] | None = None,
    ) -> Iterator[list[ModelImage]]:
        """Read images, a batch at a time; damaged ones stop the run, or are left out and noted in ``skipped``."""
        batch: list[ModelImage] = []
        for number, (source, box) in enumerate(zip(inputs, boxes or [None] * len(inputs), strict=True), start=1):
            name = f"query_{number:04d}"
            try:
                batch.append(self.pipeline(source, name, fit, box))
            except (ValueError, TypeError, OSError) as error:
                if on_error == "stop":
                    raise
                print_log(f"skipped: {error}", "current", 30)
                named = os.fspath(source) if isinstance(source, str | os.PathLike) else name
                skipped.append(dict(name=named, reason=str(error)))
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def forward(self, inputs: list[ModelImage], write: Callable[[list[ModelImage]], list[Answer]]) -> list[Answer]:
        """Answer one batch."""
        return write(inputs)

    def visualize(
        self,
        inputs: list[ModelImage],
        preds: list[Answer],
        show: bool = False,
        draw: Callable[[Answer], np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """Draw a panel of each answer, and show it if asked to."""
        panels = [draw(answer) for answer in preds]
        if show:
            self.visualizer = self.visualizer or Visualizer()
            for panel, answer in zip(panels, preds, strict=True):
                self.visualizer.show(panel, win_name=answer.name)
        return panels

    def postprocess(
        self,
        preds: list[Answer],
        visualization: Sequence[np.ndarray | None],
        return_datasample: bool = False,
        writer: AnswerWriter | None = None,
    ) -> Result:
        """Write answers out, and lay them out as they are returned."""
        if writer is not None:
            for answer, panel in zip(preds, visualization, strict=True):
                writer.write(answer, panel)
        return dict(
            predictions=[answer.data_sample() if return_datasample else answer.prediction() for answer in preds],
            visualization=[panel for panel in visualization if panel is not None],
            skipped=[],
        )

    def _batches(
        self,
        sources: list[ImageSource],
        write: Callable[[list[ModelImage]], list[Answer]],
        draw: Callable[[Answer], np.ndarray],
        options: AnswerOptions,
    ) -> Iterator[Result]:
        writer, skipped = writer_of(options), []
        boxes = options.boxes(len(sources))
        shown = self.show_progress and len(sources) > 1
        with progress_of("images", "images") if shown else nullcontext(_nothing) as show:
            done = 0
            show(done, len(sources))
            for batch in self.preprocess(sources, options.batch_size, options.on_error, skipped, options.fit, boxes):
                result = self._finish(batch, self.forward(batch, write), draw, options, writer)
                done += len(batch)
                show(done + len(skipped), len(sources))
                yield result
        if skipped:
            yield dict(predictions=[], visualization=[], skipped=skipped)

    def _finish(
        self,
        batch: list[ModelImage],
        answers: list[Answer],
        draw: Callable[[Answer], np.ndarray],
        options: AnswerOptions,
        writer: AnswerWriter | None,
    ) -> Result:
        panels = self.visualize(batch, answers, options.show, draw) if options.draws else [None] * len(answers)
        result = self.postprocess(answers, panels, options.return_datasamples, writer)
        return result if options.return_vis else result | dict(visualization=[])

    def _init_pipeline(self, cfg: Config) -> None:
        return None  # it needs the size, see __init__

    def _init_collate(self, cfg: Config) -> Callable:
        return list

    def _init_visualizer(self, cfg: Config) -> None:
        return None  # a training's writes into its work_dir


def _nothing(done: int, total: int) -> None:
    """Progress that is not to be shown."""


def writer_of(options: AnswerOptions) -> AnswerWriter | None:
    """What writes the answers, None where they are only returned."""
    return None if options.out_dir is None else AnswerWriter(options.out_dir)
