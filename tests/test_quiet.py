import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from helpers import ROOT

FORBIDDEN = (
    "Failed to search registry",
    "Could not import OneDL",
    "MultiScaleDeformableAttention",
    "FileClient",
    "HardDiskBackend",
    "requires_grad=False",
    "paramwise_options",
    "Initialized by",
    "torch.Size",
    "Warning:",
)


def run(*command):
    environment = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_training_shows_nothing_that_a_user_cannot_act_on_and_its_log_file_has_it(run_folder):
    options = ["train_cfg.max_iters=2"]
    options += ["optim_wrapper.optimizer.weight_decay=0.1", "optim_wrapper.paramwise_cfg.norm_decay_mult=0"]
    shown = run(ROOT / "tools/train.py", "student.py", "--work-dir", "run", "--cfg-options", *options)
    assert "Iter(train)" in shown and [words for words in FORBIDDEN if words in shown] == []
    (log,) = Path("run").glob("*/*.log")
    text = log.read_text()
    assert "backbone.norm.weight - torch.Size([32])" in text
    assert "tokenizer.encoder.conv_in.weight is skipped since its requires_grad=False" in text


def test_toolboxes_are_imported_without_a_word():
    pytest.importorskip("mmpretrain")
    assert run("-c", "import delvm_mm, mmpretrain.datasets, mmcv.cnn.bricks.transformer") == ""


def test_other_warnings_of_the_same_kind_are_shown():
    code = "import delvm_mm, warnings; warnings.warn('Fail to import a file')"
    assert "UserWarning: Fail to import a file" in run("-c", code)
    with pytest.warns(UserWarning, match="Fail to import a file"):
        warnings.warn("Fail to import a file", stacklevel=1)
