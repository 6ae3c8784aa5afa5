"""The schedule from bidirectional to causal attention in training."""

import pytest

from delvm_mm.engine import SoftCausalHook
from helpers.tiny_classifier import Recorder, classifier, run

pytest.importorskip("mmpretrain")


def test_attention_goes_from_bidirectional_to_causal_over_the_given_epochs(tmp_path):
    recorder = Recorder()
    run(tmp_path, SoftCausalHook(begin=1, end=3), recorder, model=classifier(attention="soft"), epochs=4)
    expected = [1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0, 0]
    assert recorder.shares == pytest.approx(expected, abs=1e-6)


def test_a_resumed_run_goes_on_with_the_schedule(tmp_path):
    hook = SoftCausalHook(end=8, by_epoch=False)
    run(tmp_path, hook, model=classifier(attention="soft"), epochs=1)
    recorder = Recorder()
    run(tmp_path, hook, recorder, model=classifier(attention="soft"), epochs=2, resume=True)
    assert recorder.shares == pytest.approx([5 / 8, 4 / 8, 3 / 8])


def test_a_schedule_without_anything_to_blend_is_refused(tmp_path):
    with pytest.raises(ValueError, match="attention='soft'"):
        run(tmp_path, SoftCausalHook(end=1))
    with pytest.raises(ValueError, match="0 <= begin < end"):
        SoftCausalHook(begin=2, end=2)
