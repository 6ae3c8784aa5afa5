"""Rows of a batch that share prompts, cut into parts whose keys and values fit into a bound of memory."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from delvm_mm.generation.cache import KVCache

Key = bytes | None


@dataclass
class Part:
    """Rows that are decoded together.

    Attributes:
        rows: Which rows of the batch, those of one prompt side by side.
        prompts: Each prompt and how many rows continue it; None for no shared prompt.
    """

    rows: list[int] = field(default_factory=list)
    prompts: list[tuple[Key, int]] = field(default_factory=list)

    def add(self, row: int, key: Key) -> None:
        """Append a row, next to the others of its prompt."""
        self.rows.append(row)
        if self.prompts and self.prompts[-1][0] == key:
            self.prompts[-1] = key, self.prompts[-1][1] + 1
        else:
            self.prompts.append((key, 1))


def split_batch(
    keys: Sequence[Key],
    row_bytes: int,
    prompt_bytes: int,
    max_bytes: int,
    one_prompt: bool = False,
    group_size: int = 1,
) -> list[Part]:
    """Cut a batch into parts that fit into ``max_bytes``.

    Args:
        keys: The prompt of each row, or None.
        row_bytes: What a row's own keys and values take.
        prompt_bytes: What those of a prompt take; None takes nothing.
        max_bytes: The bound.
        one_prompt: Whether a part is limited to rows of one prompt. Defaults to False.
        group_size: How many rows in turn are a group, which stays in one part: the prompts of an ensemble. Defaults
            to 1; with more, ``one_prompt`` needs rows without prompts.

    Returns:
        Parts, which together have each row once.

    Raises:
        ValueError: If not even one row, or group, fits.
    """
    if group_size > 1:
        return _split_groups(keys, row_bytes, prompt_bytes, max_bytes, group_size)
    least = row_bytes + (prompt_bytes if any(key is not None for key in keys) else 0)
    if least > max_bytes:
        raise ValueError(
            f"keys and values of one sequence take {least} bytes and max_cache_bytes is {max_bytes}; raise it, or use "
            "a shorter prompt or a smaller dtype"
        )
    order: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        order.setdefault(key, []).append(row)
    parts, free = [], 0
    for key, rows in order.items():
        is_new = True
        for row in rows:
            cost = row_bytes + (prompt_bytes if is_new and key is not None else 0)
            if cost > free or (one_prompt and is_new):
                parts.append(Part())
                free, cost = max_bytes, row_bytes + (prompt_bytes if key is not None else 0)
            parts[-1].add(row, key)
            free, is_new = free - cost, False
    return parts


def _split_groups(
    keys: Sequence[Key], row_bytes: int, prompt_bytes: int, max_bytes: int, group_size: int
) -> list[Part]:
    def cost(rows: Sequence[int]) -> int:
        return len(rows) * row_bytes + len({keys[row] for row in rows} - {None}) * prompt_bytes

    parts: list[list[int]] = []
    for start in range(0, len(keys), group_size):
        group = list(range(start, start + group_size))
        if cost(group) > max_bytes:
            raise ValueError(
                f"keys and values of an ensemble of {group_size} sequences take {cost(group)} bytes and "
                f"max_cache_bytes is {max_bytes}; raise it, or use a smaller ensemble, shorter prompts or a smaller "
                "dtype"
            )
        if not parts or cost(parts[-1] + group) > max_bytes:
            parts.append([])
        parts[-1] += group
    return [_part_of(keys, rows) for rows in parts]


def _part_of(keys: Sequence[Key], rows: Sequence[int]) -> Part:
    order: dict[Key, list[int]] = {}
    for row in rows:
        order.setdefault(keys[row], []).append(row)
    part = Part()
    for key, of_key in order.items():
        for row in of_key:
            part.add(row, key)
    return part


class PromptStore:
    """Keys and values of the prompts seen last, up to a number of bytes; the least recently used go first."""

    def __init__(self) -> None:
        self._caches: OrderedDict[bytes, KVCache] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._caches

    @property
    def nbytes(self) -> int:
        """Bytes of all prompts kept."""
        return sum(cache.nbytes for cache in self._caches.values())

    def get(self, key: bytes, compute: Callable[[], KVCache]) -> KVCache:
        """The cache of a prompt, computed if it is not kept."""
        if key not in self._caches:
            self._caches[key] = compute()
        self._caches.move_to_end(key)
        return self._caches[key]

    def shrink(self, max_bytes: int, keep: Sequence[bytes] = ()) -> None:
        """Forget prompts until the others take at most ``max_bytes``; those of ``keep`` stay and do not count."""
        others = [key for key in self._caches if key not in set(keep)]
        total = sum(self._caches[key].nbytes for key in others)
        for key in others:
            if total <= max_bytes:
                return
            total -= self._caches.pop(key).nbytes
