"""Collects what a report shows of a test: the score of every answer alone, of classes, and panels of the worst."""

from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from delvm_mm.engine.hooks.panel_hook import codec_of, panel_of
from delvm_mm.engine.reports.score_report import Answer, TaskScores, worst_first
from delvm_mm.evaluation import VisionPromptEvaluator
from delvm_mm.evaluation.class_scores import ClassScores
from delvm_mm.registry import HOOKS
from delvm_mm.structures import DataSample

__all__ = ["ReportHook"]


@HOOKS.register_module()
class ReportHook(Hook):
    """During testing with a :class:`VisionPromptEvaluator`, keep what a report shows; with others there is nothing.

    Args:
        max_panels: Of each task, of the worst answers. Defaults to 16.

    Attributes:
        collected: What was collected, of one test after the other.
    """

    priority = "LOW"

    def __init__(self, max_panels: int = 16) -> None:
        self.max_panels = max_panels
        self.collected: list[TaskScores] = []
        self._answers: list[Answer] = []
        self._classes: ClassScores | None = None

    def before_test_epoch(self, runner: Runner) -> None:
        """Begin anew, as each task is tested for itself."""
        self._answers, self._classes = [], ClassScores(_meta(runner))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: list[DataSample] | None = None
    ) -> None:
        """Score each answer of a batch alone; panels of all but the worst are forgotten again."""
        evaluator = runner.test_evaluator
        if not isinstance(evaluator, VisionPromptEvaluator):
            return
        for sample in outputs:
            scores = evaluator.score_alone(sample)
            self._classes.add(evaluator.fields_of(sample), scores)
            name = str(sample.get("img_path", None) or sample.get("name", None) or "")
            self._answers.append(Answer(int(sample.sample_idx), name, scores, panel_of(sample, evaluator.codec)))
        self._answers = _worst_keep_panels(self._answers, self.max_panels)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Bring together what all processes have."""
        parts = all_gather_object((self._answers, self._classes))
        answers = {answer.index: answer for part, _ in parts for answer in part}
        whole = ClassScores(_meta(runner))
        whole.merge([classes for _, classes in parts])
        kept = _worst_keep_panels(list(answers.values()), self.max_panels)
        task = getattr(runner.test_evaluator, "prefix", None) or "test"
        self.collected.append(TaskScores(task, metrics or {}, answers=kept, classes=whole.tables()))


def _meta(runner: Runner) -> dict[str, Any]:
    codec = codec_of(runner)
    return {} if codec is None else codec.dataset_meta


def _worst_keep_panels(answers: list[Answer], number: int) -> list[Answer]:
    return [
        answer if place < number or answer.panel is None else Answer(answer.index, answer.name, answer.scores)
        for place, answer in enumerate(worst_first(answers))
    ]
