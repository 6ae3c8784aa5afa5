"""Guesses at the next tokens of an image that cost the model nothing: what lies above, to the left, in other images.

Speculative decoding (Leviathan et al., 2023, arXiv 2211.17192) with the plane as the draft model. Label images are
mostly flat and much like the labels of the prompt; what of this holds for an image is counted while it is written.
"""

from dataclasses import dataclass

MAX_DRAFT = 16  # tokens
LABELS = 3  # how many labels of the prompt are looked at, the last first
# Counts of an agreement are halved here, so that what held in one part of an image is forgotten in another.
FORGET = 64
# What is believed of an agreement that was never seen, and with how many observations' weight.
PRIOR, PRIOR_WEIGHT = 0.3, 0.5


@dataclass(frozen=True)
class ImageLayout:
    """Where images lie in a sequence: one behind the other, row by row.

    Attributes:
        rows: Of tokens in an image.
        columns: Of tokens in an image.
        skip: Tokens before the first image, such as a beginning of sentence.
    """

    rows: int
    columns: int
    skip: int = 0

    @property
    def area(self) -> int:
        """Tokens of an image."""
        return self.rows * self.columns


class Drafter:
    """Drafts of one sequence.

    Each neighbor of the next token (left, above, above to the right, the same place in the image before and in the
    last labels, what followed the same left and above) votes for its own token. How often the token was right that had
    exactly these votes is counted, at first on the labels of the prompt; the vote with the best count is the draft.

    Args:
        tokens: Of the sequence so far.
        layout: Where its images lie. Images and labels are taken to alternate, which videos do not mind.
    """

    def __init__(self, tokens: list[int], layout: ImageLayout) -> None:
        self._layout = layout
        self._tokens = tokens[layout.skip :]
        area = layout.area
        self._back = [area, *(2 * area * k for k in range(1, LABELS + 1))]
        self._counts: dict[int, tuple[float, float]] = {}  # votes, as bits -> right, all
        self._followed: dict[tuple[int, ...], int] = {}  # neighbors -> the token that came last
        current = len(self._tokens) // area
        for image in range(current % 2, current, 2):
            for place in range(image * area, (image + 1) * area):
                self._learn(place, self._tokens[place])

    @classmethod
    def of_rows(cls, rows: list[list[int]], layout: ImageLayout) -> list["Drafter"]:
        """One for each row; those behind the same labels learn from them once."""
        known: dict[tuple[int, ...], Drafter] = {}
        drafters = []
        for row in rows:
            labels = tuple(row[: max(0, (len(row) - layout.skip) // layout.area - 1) * layout.area + layout.skip])
            if labels in known:
                drafters.append(known[labels]._for_sequence(row))
            else:
                known[labels] = cls(row, layout)
                drafters.append(known[labels])
        return drafters

    def _for_sequence(self, tokens: list[int]) -> "Drafter":
        other = object.__new__(Drafter)
        other._layout, other._back = self._layout, self._back
        other._tokens = tokens[self._layout.skip :]
        other._counts, other._followed = self._counts.copy(), self._followed.copy()
        return other

    def append(self, token: int) -> None:
        """A token was written; learn from it."""
        self._learn(len(self._tokens), token)
        self._tokens.append(token)

    def propose(self, most: int, least_probability: float) -> tuple[list[int], float]:
        """The next tokens, as far as all of them together are right with a probability.

        Args:
            most: Tokens, at most.
            least_probability: In (0, 1]; the draft ends before the token with which it would be less.

        Returns:
            Up to ``most`` tokens, often none; and how many of them are expected to be right.
        """
        tokens, length, probability, expected = self._tokens, len(self._tokens), 1.0, 0.0
        for place in range(length, length + min(most, MAX_DRAFT)):
            best, best_chance = -1, 0.0
            for token, votes in self._votes(place)[0].items():
                chance = self._chance(votes)
                if chance > best_chance:
                    best, best_chance = token, chance
            probability *= best_chance
            if probability < least_probability:
                break
            tokens.append(best)
            expected += probability
        draft = tokens[length:]
        del tokens[length:]
        return draft, expected

    def _chance(self, votes: int) -> float:
        right, total = self._counts.get(votes, (0.0, 0.0))
        return (right + PRIOR * PRIOR_WEIGHT) / (total + PRIOR_WEIGHT)

    def _learn(self, place: int, truth: int) -> None:
        votes, keys = self._votes(place)
        for token, bits in votes.items():
            right, total = self._counts.get(bits, (0.0, 0.0))
            if total >= FORGET:
                right, total = right / 2, total / 2
            self._counts[bits] = right + (token == truth), total + 1
        for key in keys:
            self._followed[key] = truth

    def _votes(self, place: int) -> tuple[dict[int, int], tuple[tuple[int, ...], ...]]:
        # Token -> the neighbors that vote for it, as bits; and the neighborhoods that may have been seen before.
        tokens, columns = self._tokens, self._layout.columns
        row, column = divmod(place % self._layout.area, columns)
        votes: dict[int, int] = {}
        left = above = label = -1
        if column:
            left = tokens[place - 1]
            votes[left] = 1
        if row:
            above = tokens[place - columns]
            votes[above] = votes.get(above, 0) | 2
            if column < columns - 1:
                token = tokens[place - columns + 1]
                votes[token] = votes.get(token, 0) | 4
        bit = 8
        for back in self._back:
            if back > place:
                break
            token = tokens[place - back]
            votes[token] = votes.get(token, 0) | bit
            bit <<= 1
        if place >= self._back[1]:
            label = tokens[place - self._back[1]]
        keys = (left, above), (left, above, label)
        bit = 8 << len(self._back)
        for key in keys:
            token = self._followed.get(key)
            if token is not None:
                votes[token] = votes.get(token, 0) | bit
            bit <<= 1
        return votes, keys
