"""Peak memory in the log of training."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from delvm_mm.engine import MemoryHook


def test_the_peak_memory_of_the_process_is_logged_where_there_is_no_cuda(monkeypatch):
    logged = {}
    runner = SimpleNamespace(iter=9, message_hub=SimpleNamespace(update_scalar=logged.__setitem__))
    MemoryHook(interval=10).after_train_iter(runner, 9)
    # The peak as Linux states it elsewhere, in KiB.
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        assert logged["train/memory"] == pytest.approx(int(fields["VmHWM"].split()[0]) / 1024, rel=0.02)
    assert logged["train/memory"] > 50  # PyTorch alone is larger
    runner.iter = 10
    logged.clear()
    MemoryHook(interval=10).after_train_iter(runner, 10)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    runner.iter = 19
    MemoryHook(interval=10).after_train_iter(runner, 19)
    assert logged == {}
