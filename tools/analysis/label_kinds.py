"""Which task's labels an image is like: :class:`LabelKinds`."""

from collections.abc import Mapping

import numpy as np

UNSEEN = 0.1
ONE_CODE = 0.99
NONE = "none"


class LabelKinds:
    """Tells labels of several tasks apart by the codes of the tokenizer that they are made of.

    Naive Bayes, where a code that comes n times in an image counts as log(1 + n) (Rennie et al., 2003): else how much
    of an image is background would say more than what is drawn on it.

    Args:
        labels: Task -> counts of each code in some of its labels, N x K.

    Raises:
        ValueError: There are fewer than two tasks, or one is named 'none'.

    Example:
        >>> kinds = LabelKinds({"masks": np.array([[8, 1, 0]]), "edges": np.array([[8, 0, 1]])})
        >>> kinds.of(np.array([[7, 0, 2], [5, 4, 0], [9, 0, 0]]))
        ['edges', 'masks', 'none']
    """

    def __init__(self, labels: Mapping[str, np.ndarray]) -> None:
        if len(labels) < 2 or NONE in labels:
            raise ValueError(f"tasks are {list(labels)}, expected two or more to tell apart, none of them '{NONE}'")
        self.tasks = [*labels]
        # A code that no label has is not impossible.
        counts = np.stack([np.log1p(each).sum(0) for each in labels.values()]) + UNSEEN
        self._log_shares = np.log(counts / counts.sum(1, keepdims=True))

    def of(self, counts: np.ndarray) -> list[str]:
        """The task whose labels most probably have these codes, of each image.

        Args:
            counts: Of each code in the images, N x K.

        Returns:
            N names; 'none' where one code fills the image, which labels of any task may do.
        """
        nearest = (np.log1p(counts) @ self._log_shares.T).argmax(1)
        is_empty = counts.max(1) >= ONE_CODE * counts.sum(1)
        return [NONE if empty else self.tasks[number] for number, empty in zip(nearest, is_empty, strict=True)]


def count_codes(tokens: np.ndarray, num_codes: int) -> np.ndarray:
    """How often each code comes in each image.

    Args:
        tokens: int, N x T.
        num_codes: Codes K of the codebook.

    Returns:
        N x K.
    """
    return np.stack([np.bincount(row, minlength=num_codes) for row in tokens])
