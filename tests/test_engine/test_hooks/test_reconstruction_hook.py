"""Reconstructions during training; a run that draws them is in ``test_runs/test_tokenizer_training.py``."""

import pytest

from delvm_mm.engine import ReconstructionHook


def test_reconstructions_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0 and 8"):
        ReconstructionHook(interval=0)
