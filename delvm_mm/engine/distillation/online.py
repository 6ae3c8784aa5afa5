"""Teachers of a DeLVM: one that reads the batch beside the student, and losses on the layers of both."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.engine.configs.files import read_config
from delvm_mm.models import DeLVM
from delvm_mm.models.losses.distillation import TeacherTerm
from delvm_mm.models.losses.extra_loss import ExtraLoss
from delvm_mm.registry import MODELS
from delvm_mm.structures import DataSample


class OnlineTeacher(ExtraLoss):
    """A frozen teacher that reads the student's batch.

    Args:
        model: The teacher, frozen; only its embedding, decoder and head are used.
        loss: ``loss(student_logits n x K, teacher_logits n x K)`` -> mean over the tokens.
        layers: Pairs of layers (student's, teacher's), counted from 0, negative from the
            end, whose outputs ``layer_loss`` compares. Defaults to none.
        layer_loss: ``loss(student B x L x C, teacher B x L x C')`` -> scalar.
        student: Needed with ``layers``.
        overlap: On CUDA, read the batch in a stream of its own beside the student. Defaults to False.

    Raises:
        ValueError: If a pair names a layer that is not there.

    Attributes:
        factor: Multiplies the loss on the logits; a schedule changes it.
    """

    def __init__(
        self,
        model: DeLVM,
        loss: nn.Module,
        layers: Sequence[tuple[int, int]] = (),
        layer_loss: nn.Module | None = None,
        student: DeLVM | None = None,
        overlap: bool = False,
    ) -> None:
        self.model, self.loss, self.layer_loss = model, loss, layer_loss
        self.overlap = overlap
        self.factor = 1.0
        self._stream: torch.cuda.Stream | None = None
        self._features: Tensor | None = None
        self._student_outputs: dict[int, Tensor] = {}
        self._teacher_outputs: dict[int, Tensor] = {}
        self._handles = []
        for number, (ours, theirs) in enumerate(layers):
            for layer, outputs in (
                (_layer(student, ours, "student"), self._student_outputs),
                (_layer(model, theirs, "teacher"), self._teacher_outputs),
            ):
                self._handles.append(layer.register_forward_hook(_keep(outputs, number)))

    def prepare(self, tokens: Tensor, data_samples: list[DataSample] | None) -> None:
        """Let the teacher read the batch."""
        if not (self.overlap and tokens.is_cuda):
            self._features = self._read(tokens)
            return
        self._stream = self._stream or torch.cuda.Stream(tokens.device)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._features = self._read(tokens)
        tokens.record_stream(self._stream)

    def logit_terms(self) -> list[TeacherTerm]:
        """The distance between the teacher's logits and the student's."""
        features, self._features = self._features, None
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)
            features.record_stream(torch.cuda.current_stream())
        return [TeacherTerm(self.loss, features, self.model.head, self.factor)]

    def scalar_losses(self) -> dict[str, Tensor]:
        """The distance between layers, the mean over their pairs."""
        if not self._student_outputs:
            return {}
        values = [
            self.layer_loss(self._student_outputs[number], self._teacher_outputs[number])
            for number in sorted(self._student_outputs)
        ]
        self._student_outputs.clear()
        self._teacher_outputs.clear()
        return dict(loss_layers=torch.stack(values).mean())

    def close(self) -> None:
        """Take the hooks off the layers."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _read(self, tokens: Tensor) -> Tensor:
        return self.model.backbone(self.model.embedding(tokens))[:, :-1].flatten(0, 1)


def build_teacher(cfg: str | os.PathLike | Mapping[str, Any], checkpoint: str | None, student: DeLVM) -> DeLVM:
    """Build a teacher, load its weights and check that it has the student's codes.

    Args:
        cfg: Path of a config, or a config, whose ``model`` is a :class:`DeLVM`.
        checkpoint: Path of its weights; None leaves it at its random weights, with a warning.
        student: Its tokenizer serves both.

    Returns:
        Frozen, in eval mode, on the student's device.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the weights do not fit, or vocabulary, context or tokenizer differ.
    """
    name = "the teacher's config"
    if isinstance(cfg, str | os.PathLike):
        name = f"the teacher's config {cfg}"
        if not os.path.exists(cfg):
            raise FileNotFoundError(f"{name} does not exist; set DistillationHook.teacher.cfg")
        cfg = read_config(os.fspath(cfg))
    weights = _load_weights(checkpoint, student)
    # The student's own tokenizer serves both; weights trained with another one are refused when they are loaded.
    if "model" not in cfg:
        raise ValueError(f"{name} has no 'model'")
    teacher = MODELS.build({**cfg["model"], "tokenizer": student.tokenizer, "init_cfg": None})
    if not isinstance(teacher, DeLVM):
        raise ValueError(f"{name} builds a {type(teacher).__name__}, expected a DeLVM")
    if teacher.num_embeddings != student.num_embeddings:
        raise ValueError(
            f"{name} has a vocabulary of {teacher.num_embeddings}, the student's is {student.num_embeddings}; "
            "distillation compares the same codes"
        )
    if teacher.max_positions < student.max_positions:
        raise ValueError(
            f"{name} has a context of {teacher.max_positions} tokens, the student's is {student.max_positions}; "
            "the teacher must read the same sentences"
        )
    if weights is None:
        print_log("DistillationHook: the teacher has RANDOM weights (checkpoint=None)", "current", 30)
    else:
        weights.setdefault("tokenizer_digest", teacher.tokenizer_digest)
        load_into(teacher, weights, source=checkpoint)
        _check_codebook(teacher, student, checkpoint)
    return teacher.to(next(student.parameters()).device).requires_grad_(False).eval()


def _load_weights(checkpoint: str | None, student: DeLVM) -> dict[str, Tensor] | None:
    if checkpoint is None:
        return None
    weights = load_state_dict(checkpoint)
    weights = {key: value for key, value in weights.items() if not key.startswith("tokenizer.")}
    head = weights.get("head.projection.weight")
    if head is not None and head.shape[0] != student.num_embeddings:
        raise ValueError(
            f"the teacher's checkpoint {checkpoint} has a vocabulary of {head.shape[0]}, the student's is "
            f"{student.num_embeddings}; distillation compares the same codes"
        )
    return weights


def _check_codebook(teacher: DeLVM, student: DeLVM, checkpoint: str) -> None:
    ours, theirs = (getattr(model.embedding, "codebook", None) for model in (student, teacher))
    if ours is not None and theirs is not None and not torch.equal(ours.cpu(), theirs.cpu()):
        raise ValueError(
            f"the teacher's checkpoint {checkpoint} holds another codebook than the student's tokenizer; train both "
            "with the same tokenizer"
        )


def _layer(model: DeLVM, index: int, name: str) -> nn.Module:
    layers = model.backbone.layers
    if not -len(layers) <= index < len(layers):
        raise ValueError(f"layers.pairs names layer {index} of the {name}, which has {len(layers)}")
    return layers[index]


def _keep(outputs: dict[int, Tensor], number: int) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[number] = output

    return hook
