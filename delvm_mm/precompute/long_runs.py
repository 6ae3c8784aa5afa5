"""What tools that run for days share: joining the processes of ``torchrun``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch


@contextmanager
def processes_of_torchrun() -> Iterator[str | None]:
    """Join the processes that ``torchrun`` started; the GPU of this one, if there are GPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "RANK" not in os.environ:
        yield None
        return
    # The processes only tell each other that they are there; one may be ready days before another.
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
    gpus = torch.cuda.device_count()
    yield f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % gpus}" if gpus else None
    torch.distributed.destroy_process_group()
