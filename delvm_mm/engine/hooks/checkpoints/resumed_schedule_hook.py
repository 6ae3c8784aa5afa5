"""A run that is resumed with another schedule goes on with that, not with the one in the checkpoint."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from delvm_mm.engine.resumed_schedule import changes_of, replay, take_schedule, take_settings
from delvm_mm.registry import HOOKS


@HOOKS.register_module()
class ResumedScheduleHook(Hook):
    """On resuming, compare the config's schedules with the checkpoint's, and go on with the config's.

    MMEngine restores the state of schedulers and of the optimizer whatever the config says: with a larger
    ``max_iters`` the learning rate stays at the old end, and a new learning rate, weight decay or warm-up has no
    effect. Here a schedule that has changed is brought to the resumed step as if the run had had it from the start,
    settings of the optimizer are the config's, and one line of the log says so. What has not changed stays as it was
    saved, bit for bit. ``delvm train`` adds this hook.

    Raises:
        ValueError: If a schedule that has changed depends on validations (``ReduceOnPlateauLR``), so that where it
            would stand cannot be known.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the config's schedules into the checkpoint, which is about to be restored."""
        owner = getattr(runner, "strategy", runner)  # FlexibleRunner has them there
        if not runner._resume or not isinstance(getattr(owner, "param_schedulers", None), list | dict):
            return
        saved_schedulers = checkpoint.get("param_schedulers") or []
        iters, epochs = _position(runner, checkpoint["meta"])
        found, states = [], {}
        for name, optim_wrapper, schedulers in _by_optimizer(owner.optim_wrapper, owner.param_schedulers):
            groups = _of(checkpoint.get("optimizer") or {}, name).get("param_groups", [])
            saved = _of(saved_schedulers, name)
            changes = changes_of(schedulers, saved)
            states[name] = saved
            if changes:
                _refuse_what_cannot_be_known(schedulers, changes)
                copies, replayed = replay(schedulers, optim_wrapper.param_groups, iters, epochs)
                new = [scheduler.state_dict() for scheduler in copies]
                if new == saved:  # a scheduler of somebody's own that keeps more than is known here
                    changes = []
                else:
                    states[name] = new
                    take_schedule(groups, replayed, schedulers)
            changes += take_settings(groups, optim_wrapper.param_groups)
            found += [f"{name}: {change}" if name else change for change in changes]
        if not found:
            return
        checkpoint["param_schedulers"] = states.get(None, states)
        runner.logger.warning(
            f"resuming at step {iters} with other settings than the checkpoint's: {'; '.join(found)}. The config's "
            "are used, as if the run had had them from the start"
        )


def _by_optimizer(optim_wrapper: Any, schedulers: list | dict) -> Iterator[tuple[str | None, Any, list]]:
    """Name (None for the only one), wrapper and schedulers of each optimizer."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        for name, wrapper in optim_wrapper.items():
            yield name, wrapper, schedulers[name]
    else:
        yield None, optim_wrapper, schedulers


def _of(saved: Any, name: str | None) -> Any:
    return saved if name is None else (saved.get(name, {}) if isinstance(saved, Mapping) else {})


def _position(runner: Runner, meta: Mapping[str, Any]) -> tuple[int, int]:
    """Steps and epochs that were made, as the schedules of now count them.

    Where epochs are what is configured (``convert_to_iter_based``), their length may be another than it was.

    Returns:
        Steps, epochs.
    """
    iters, epochs = meta["iter"], meta["epoch"]
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop) and epochs and _converts(runner.cfg.get("param_scheduler")):
        length = len(loop.dataloader)
        before = max(round(iters / epochs), 1)
        iters = iters if before == length else epochs * length
    return iters, epochs


def _converts(config: Any) -> bool:
    if isinstance(config, Mapping):
        return bool(config.get("convert_to_iter_based")) or any(map(_converts, config.values()))
    return isinstance(config, list | tuple) and any(map(_converts, config))


def _refuse_what_cannot_be_known(schedulers: list, changes: list[str]) -> None:
    names = [type(scheduler).__name__ for scheduler in schedulers if getattr(scheduler, "need_val_args", False)]
    if names:
        raise ValueError(
            f"the schedule is another than the checkpoint's ({'; '.join(changes)}), and where {names[0]} would stand "
            "depends on validations that are over: resume with the schedule of the checkpoint, or start a new run "
            "from its weights with --cfg-options load_from=FILE"
        )
