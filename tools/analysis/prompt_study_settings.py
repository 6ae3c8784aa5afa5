"""The ways of prompting that prompt_study.py compares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

PARTS = ("pairs", "selection", "order", "ensembles", "controls")
MOST_PAIRS = 7
MOST_ORDERS = 6
DIVERSITY = 0.5


class TaskFacts(NamedTuple):
    """What decides which settings a task has: pairs that fit, pairs it is scored with, and what its data know."""

    max_pairs: int
    num_pairs: int
    num_support: int
    has_classes: bool
    reads_classes: bool


@dataclass(frozen=True)
class Setting:
    """One way of prompting: a row of a table.

    Attributes:
        part: The table, a name of :data:`PARTS`.
        name: The row.
        num_pairs: Pairs of a query, those of all prompts of an ensemble together.
        selection: 'random', 'class' or 'nearest'.
        features: With 'nearest', 'codes', 'encoder' or 'backbone'.
        diversity: With 'nearest', as of :class:`VisionPromptDataset`.
        same_class: With 'nearest', as of :class:`VisionPromptDataset`.
        ensemble: Arguments of a :class:`PromptEnsemble`.
        control: Of a :class:`PromptControlDataset`.
        x: With "pairs", the place on the axis.
        same_answers: Settings that combine the answers of this one in another way.
        is_base: Whether ceiling and trivial answers are scored with it.
    """

    part: str
    name: str
    num_pairs: int
    selection: str = "random"
    features: str | None = None
    diversity: float = 0.0
    same_class: bool = False
    ensemble: Any = None
    control: str | None = None
    x: int | None = None
    same_answers: tuple["Setting", ...] = ()
    is_base: bool = False

    @property
    def is_random(self) -> bool:
        """Whether seeds choose its prompts."""
        return self.selection != "nearest" and self.control != "no_prompt"

    @property
    def asked(self) -> tuple:
        """All that decides a score."""
        ensemble = None if self.ensemble is None else tuple(sorted(self.ensemble.items()))
        choice = (self.num_pairs, self.selection, self.features, self.diversity, self.same_class)
        return (*choice, ensemble, self.control, self.is_base)

    def with_pairs(self, num_pairs: int) -> "Setting":
        """The same with another number of pairs."""
        return replace(self, num_pairs=num_pairs)


def settings_of(
    facts: TaskFacts, parts: Sequence[str], ensembles: Sequence[int], others: bool, backbone: str | None
) -> list[Setting]:
    """The settings of a task.

    Args:
        facts: Of the task.
        parts: Which to have, of :data:`PARTS`.
        ensembles: Numbers of prompts.
        others: Whether there is another task, whose prompts can be shown.
        backbone: Name of a network whose features also choose.

    Returns:
        The first is the one that all others are compared with: as many pairs as the task is scored with, drawn at
        random.
    """
    pairs, most = facts.num_pairs, facts.max_pairs
    base = Setting("base", _random_pairs(pairs), pairs, x=pairs, is_base=True)
    chosen = [base]
    if "pairs" in parts:
        chosen.append(Setting("pairs", "no pair", 1, control="no_prompt", x=0))
        chosen += [
            Setting("pairs", _random_pairs(count), count, x=count)
            for count in range(1, min(most, MOST_PAIRS, facts.num_support - 1) + 1)
            if count != pairs
        ]
    if "selection" in parts:
        chosen += _selections(facts, backbone)
    if "order" in parts and pairs > 1:
        orders = min(MOST_ORDERS, math.factorial(pairs))
        chosen += [
            Setting("order", "the same random pairs in reverse", pairs, control="reversed"),
            Setting("order", f"{orders} orders, mean distribution", pairs, ensemble=dict(size=orders, vary="order")),
            Setting("order", "nearest by encoder, nearest last", pairs, "nearest", "encoder"),
            Setting("order", "nearest by encoder, nearest first", pairs, "nearest", "encoder", control="reversed"),
        ]
    if "ensembles" in parts:
        chosen += _ensembles(facts, ensembles)
    if "controls" in parts:
        if pairs > 1:
            chosen.append(Setting("controls", "labels shuffled among the pairs", pairs, control="shuffled_labels"))
        if others:
            chosen.append(Setting("controls", "pairs of another task", pairs, control="other_task"))
        chosen.append(Setting("controls", "no prompt", 1, control="no_prompt"))
    return chosen


def _selections(facts: TaskFacts, backbone: str | None) -> list[Setting]:
    pairs = facts.num_pairs
    chosen = [Setting("selection", "random pairs of the class", pairs, "class")] if facts.has_classes else []
    chosen += [
        Setting("selection", "nearest by codes", pairs, "nearest", "codes"),
        Setting("selection", "nearest by encoder", pairs, "nearest", "encoder"),
        Setting("selection", "nearest by encoder, diverse", pairs, "nearest", "encoder", DIVERSITY),
    ]
    if facts.has_classes:
        chosen.append(Setting("selection", "nearest by encoder, of the class", pairs, "nearest", "encoder", 0.0, True))
    if backbone is not None:
        chosen.append(Setting("selection", f"nearest by {backbone}", pairs, "nearest", "backbone"))
    return chosen


def _ensembles(facts: TaskFacts, sizes: Sequence[int]) -> list[Setting]:
    pairs = facts.num_pairs
    sizes = [size for size in sizes if size * pairs < facts.num_support]
    shown = f"prompts of {pairs} pair{'s' * (pairs > 1)}"
    chosen = [
        Setting("ensembles", f"{size} {shown}, mean distribution", size * pairs, ensemble=dict(size=size))
        for size in sizes
    ]
    if sizes:
        size = max(sizes)

        def answers(combine: str, *others: Setting) -> Setting:
            ensemble = dict(size=size, combine=combine)
            name = f"{size} {shown}, " + ("mean answer" if combine == "mean" else "majority of the answers")
            return Setting("ensembles", name, size * pairs, ensemble=ensemble, same_answers=others)

        vote = (answers("vote"),) if facts.reads_classes else ()
        chosen += [answers("mean", *vote), *vote]
        few = min(sizes)  # of many the last ones would be near no more
        name = f"{few} {shown}, nearest by encoder, mean distribution"
        chosen.append(Setting("ensembles", name, few * pairs, "nearest", "encoder", ensemble=dict(size=few)))
    return chosen


def _random_pairs(count: int) -> str:
    return f"{count} random pair{'s' * (count > 1)}"
