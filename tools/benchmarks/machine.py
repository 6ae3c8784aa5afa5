"""What machine a figure was measured on, in one line."""

import os
import platform
from pathlib import Path

import numpy as np
import torch


def machine(device: str = "cpu") -> str:
    """Processor or GPU, cores, threads and versions.

    Args:
        device: 'cpu', or a CUDA device.
    """
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    gpu = f"{torch.cuda.get_device_name(device)}, " if device.startswith("cuda") else ""
    return (
        f"{gpu}{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    )


def resident(field: str) -> int:
    """Bytes of this process's memory.

    Args:
        field: 'VmRSS', what it has now, or 'VmHWM', the most since /proc/self/clear_refs was written.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0
