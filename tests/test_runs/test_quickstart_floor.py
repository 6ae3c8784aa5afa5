"""The recipe of the quick start from scratch, shortened: after so few steps it is better than a stated floor."""

import pytest

from delvm_mm.engine.tool_runs import training_records
from helpers import ROOT
from helpers.tools_in_process import run_here

MINI = ROOT / "configs" / "mini"
CLIPS = [f"stores.{number}.dataset.length={length}" for number, length in enumerate([120] * 3 + [16] * 3)]
STEPS, WARMUP = 55, 10
LEAST_GAIN = 0.35  # measured: 0.57, and 0.69 after 90 steps
SHORT = [
    f"train_cfg.max_iters={STEPS}",
    f"train_cfg.val_interval={STEPS}",
    f"param_scheduler.0.end={WARMUP}",
    f"param_scheduler.1.begin={WARMUP}",
    f"param_scheduler.1.end={STEPS}",
    "default_hooks.validation_panels=None",
    "optim_wrapper.type=OptimWrapper",  # in float32 on every processor
    "randomness.seed=0",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_student_of_a_few_steps_knows_more_of_labels_than_how_often_codes_come(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_here([ROOT / "tools/tokenize_dataset.py", MINI / "tokens.py", "--cfg-options", *CLIPS])
    run_here([ROOT / "tools/train.py", MINI / "student.py", "--cfg-options", *SHORT], tmp_path / "log")
    records = training_records(tmp_path / "work_dirs/from_scratch/student")
    (scores,) = (record for record in records if "token/loss" in record)
    # In nats. Whoever knows only how often each code comes has the entropy; the task alone is worth 0.53 nats of it.
    gained = scores["token/label/unigram_entropy"] - scores["token/label/loss"]
    assert gained > LEAST_GAIN, scores
    assert scores["token/seg/label/loss"] < scores["token/seg/label/unigram_entropy"], "masks follow from images"
    assert scores["token/label/accuracy"] > 30
