"""Checkpoints written atomically: a file is complete, or what it was before."""

import difflib
import errno
import inspect
import os
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from delvm_mm.checkpoints.files import delete, put_in_place, write_atomically
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, but no moment is a bad one to be killed.

    A checkpoint is written under another name (``.iter_1000.pth.tmp``) and gets its own once it is on the disk; only
    then ``last_checkpoint`` names it, and only then the oldest is removed, for which the disk needs room for one more
    than ``max_keep_ckpts``. On other than local file systems it is MMEngine's hook unchanged.

    ``save_best`` knows that PCK, PSNR and SSIM are better when they are greater; of other scores that
    :class:`TaskValLoop` gives, ``rule='greater'`` says so.

    Args:
        **kwargs: As for :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: If there is no such argument, which MMEngine's hook finds out at the first checkpoint.
    """

    _default_greater_keys = [*CheckpointHook._default_greater_keys, "PCK", "PSNR", "SSIM"]

    def __init__(self, **kwargs: Any) -> None:
        known = {
            name
            for name, parameter in inspect.signature(CheckpointHook.__init__).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        } - {"self"}
        for name in set(kwargs) - known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean '{close[0]}'?" if close else f", only {sorted(known)}"
            raise ValueError(f"SafeCheckpointHook has no argument '{name}'{meant}")
        super().__init__(**kwargs)

    def save_now(self, runner: Runner) -> None:
        """Save the step that has just been made, unless that was done; to be called by hooks after this one."""
        if self.last_step != runner.iter + 1:
            self._save_checkpoint(runner)

    def before_train(self, runner: Runner) -> None:
        """Find the folder."""
        super().before_train(runner)
        self.last_step = runner.iter

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        self.last_step = runner.iter + 1
        if not isinstance(self.file_backend, LocalBackend):
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated = self._number_outdated_by(step, runner)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        temporary = os.path.join(self.out_dir, f".{name}.tmp")
        if is_main_process():
            delete(temporary)
        try:
            runner.save_checkpoint(
                self.out_dir,
                os.path.basename(temporary),
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            barrier()  # sharded checkpoints are folders that all processes write to
            if is_main_process():
                put_in_place(temporary, self.last_ckpt)
                write_atomically(os.path.join(runner.work_dir, "last_checkpoint"), os.fsencode(self.last_ckpt))
        except OSError as error:
            delete(temporary)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "make room and go on with --resume" if full else "see to that and go on with --resume"
            raise OSError(
                f"cannot save {self.last_ckpt}: {error.strerror or error}; earlier checkpoints are kept: {advice}"
            ) from error
        if outdated is not None and is_main_process():
            delete(os.path.join(self.out_dir, self.filename_tmpl.format(outdated)))

    def _number_outdated_by(self, step: int, runner: Runner) -> int | None:
        """Note that there will be a checkpoint of this step; the number of one that is then to be removed."""
        if self.max_keep_ckpts < 1 or step in self.keep_ckpt_ids:
            return None
        outdated = self.keep_ckpt_ids.popleft() if len(self.keep_ckpt_ids) == self.max_keep_ckpts else None
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        return outdated
