"""Writing several tokens a pass: drafts that the model checks, and the tokens that it would have written without.

Every token is chosen by the sampler from the model's own logits, with the random numbers of its place; a draft only
decides how many of them one pass reads.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from delvm_mm.generation.drafts import Drafter
from delvm_mm.generation.ensemble import OnToken, Sampler
from delvm_mm.generation.samplers import is_separable

# ``(tokens of each row, how many tokens of the answer lie before them) -> logits``, T x K, row by row.
Reader = Callable[[list[list[int]], list[int]], Tensor]

# A row waits for the slowest one when it is further ahead, so that the random numbers of few places are kept.
MAX_LEAD = 32
# Weights of the last pass: in means of what was written, and in that of what drafts would bring.
RECENT, STEADY = 0.1, 0.5
# Tokens that weigh as much as what drafters have expected so far, in judging whether they expect too many.
TRUST = 2.0


def write_with_drafts(
    logits: Tensor,
    drafters: Sequence[Drafter],
    read: Reader,
    sampler: Sampler,
    num_tokens: int,
    token_cost: float,
    drafting_cost: float = 0.0,
    on_token: OnToken | None = None,
) -> Tensor:
    """Write every row's answer.

    Args:
        logits: B x K of the first token.
        drafters: One a row; they have seen everything before the answer.
        read: Reads tokens and gives the logits of those that follow them.
        sampler: One whose choices :func:`is_separable`; for one row any.
        num_tokens: To write in each row.
        token_cost: What a token more in a pass costs, as a part of a pass with one.
        drafting_cost: What a pass with drafts costs beside their tokens, likewise.
        on_token: Called with (index, tokens B) when all rows have a token.

    Returns:
        int64, B x num_tokens.
    """
    batch = len(drafters)
    answers: list[list[int]] = [[] for _ in drafters]
    choices, worth = _Choices(sampler, batch, logits), _Worth(batch, token_cost, drafting_cost)
    drafts: list[list[int]] = [[] for _ in drafters]
    counts, expected, reported = [1] * batch, 0.0, 0
    while True:
        before = sum(map(len, answers))
        _take(logits, counts, drafts, answers, drafters, choices)
        slowest = min(map(len, answers))
        for index in range(reported, slowest if on_token is not None else 0):
            on_token(index, torch.tensor([answer[index] for answer in answers], device=logits.device))
        reported = slowest
        if slowest == num_tokens:
            return torch.tensor(answers, device=logits.device)
        choices.forget(slowest)
        worth.learn(counts, sum(map(len, answers)) - before, expected)
        drafts, counts, expected = _draft(answers, drafters, num_tokens, worth)
        rows = zip(answers, drafts, counts, strict=True)
        inputs = [[answer[-1], *draft] if count else [] for answer, draft, count in rows]
        logits = read(inputs, [len(answer) - 1 for answer in answers])


class _Worth:
    """Whether drafts bring more than they cost, in tokens that their time would bring otherwise (Dinkelbach, 1967)."""

    def __init__(self, batch: int, token_cost: float, drafting_cost: float) -> None:
        self._token_cost, self._drafting_cost = token_cost, drafting_cost
        self._rate = batch / self._cost(batch)
        self._right = self._expected = self._gain = 0.0

    @property
    def price(self) -> float:
        """Of a token more in a pass, in the tokens that a drafter expects to be right: it may expect too many."""
        return self._token_cost * self._rate * (self._expected + TRUST) / (self._right + TRUST)

    def learn(self, counts: list[int], written: int, expected: float) -> None:
        """A pass read so many tokens of each row and wrote so many; of its drafts so many were expected to be right."""
        reading = sum(count > 0 for count in counts)
        cost = self._cost(sum(counts)) + (self._drafting_cost if max(counts) > 1 else 0)
        self._rate += RECENT * (written / cost - self._rate)
        self._right = (1 - RECENT) * self._right + (written - reading if expected else 0)
        self._expected = (1 - RECENT) * self._expected + expected

    def pays(self, expected: float, drafted: int) -> bool:
        """Whether drafts of so many tokens pay, judged by those of the last passes, too."""
        trusted = (self._right + TRUST) / (self._expected + TRUST)
        gain = expected * trusted - self._token_cost * self._rate * drafted
        self._gain += STEADY * (gain - self._gain)
        return min(gain, self._gain) > self._drafting_cost * self._rate

    def _cost(self, tokens: int) -> float:
        return 1 + self._token_cost * (tokens - 1)


def _draft(
    answers: list[list[int]], drafters: Sequence[Drafter], num_tokens: int, worth: _Worth
) -> tuple[list[list[int]], list[int], float]:
    # Each row's draft, how many tokens are read of it (none of rows that are done or wait), and how many of the drafts
    # are expected to be right.
    slowest = min(map(len, answers))
    drafts: list[list[int]] = []
    total = 0.0
    for answer, drafter in zip(answers, drafters, strict=True):
        left = num_tokens - len(answer)
        is_reading = left > 0 and len(answer) <= slowest + MAX_LEAD
        draft, expected = drafter.propose(left - 1, worth.price) if is_reading else ([], 0.0)
        drafts.append(draft)
        total += expected
    if worth.pays(total, sum(map(len, drafts))):
        lead = MAX_LEAD
    else:  # rows come to the same place again, where a pass costs less
        drafts, total, lead = [[] for _ in drafters], 0.0, 0
    counts = [
        1 + len(draft) if len(answer) < num_tokens and len(answer) <= slowest + lead else 0
        for answer, draft in zip(answers, drafts, strict=True)
    ]
    return drafts, counts, total


def _take(
    logits: Tensor,
    counts: list[int],
    drafts: list[list[int]],
    answers: list[list[int]],
    drafters: Sequence[Drafter],
    choices: "_Choices",
) -> None:
    # Choose each row's tokens as far as its draft was right, and the one behind; all rows at once, token by token.
    firsts, first = [], 0
    for count in counts:
        firsts.append(first)
        first += count
    active, step = [row for row, count in enumerate(counts) if count], 0
    while active:
        places = [len(answers[row]) for row in active]
        chosen = choices(logits, [firsts[row] + step for row in active], active, places)
        right = []
        for row, token in zip(active, chosen, strict=True):
            answers[row].append(token)
            drafters[row].append(token)
            if step < len(drafts[row]) and drafts[row][step] == token:
                right.append(row)
        active, step = right, step + 1


class _Choices:
    """A sampler's choices, for rows that are at different places."""

    def __init__(self, sampler: Sampler, batch: int, logits: Tensor) -> None:
        self._sampler = sampler
        self._shape = batch, logits.shape[-1], logits.device
        self._separable = is_separable(sampler)
        self._noise: dict[int, Tensor | None] = {}
        self._drawn = 0
        self._greedy: tuple[Tensor, list[int]] | None = None

    def __call__(self, logits: Tensor, of: list[int], rows: list[int], places: list[int]) -> list[int]:
        """Tokens of the rows ``of`` of the logits, with the random numbers of ``rows`` at ``places``."""
        if not self._separable:
            return self._sampler(logits[of]).tolist()
        while self._drawn <= max(places):
            self._noise[self._drawn] = self._sampler.noise(*self._shape)
            self._drawn += 1
        if self._noise[places[0]] is None:
            if self._greedy is None or self._greedy[0] is not logits:
                self._greedy = logits, self._sampler.choose(logits, None).tolist()
            return [self._greedy[1][index] for index in of]
        noise = torch.stack([self._noise[place][row] for row, place in zip(rows, places, strict=True)])
        return self._sampler.choose(logits[of], noise).tolist()

    def forget(self, place: int) -> None:
        """Random numbers before a place are not needed any more."""
        for drawn in [drawn for drawn in self._noise if drawn < place]:
            del self._noise[drawn]
