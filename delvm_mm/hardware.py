"""Which device there is, and what it can do."""

import functools

import torch
from mmengine.device import get_device


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device that was asked for, by default the one that MMEngine trains on: a GPU if there is one.

    Returns:
        The device.

    Raises:
        ValueError: There is no such device.
    """
    try:
        chosen = torch.device(device or get_device())
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # what torch raises differs from kind to kind
        cause = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(
            f"device {device!r} cannot be used ({cause}): expected one of this machine, such as {get_device()!r}"
        ) from error
    return chosen


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Whether a device multiplies in bfloat16 no slower than in float32.

    CPUs without the instructions (AVX-512, AMX) have it emulated: it took 80 times as long as float32 where it was
    measured, an EPYC with AVX2 only.

    Args:
        device: Type of a device, such as 'cpu' or 'cuda'.

    Returns:
        True for all devices but the CPUs without.
    """
    if device != "cpu":
        return True
    # PyTorch asks oneDNN by an operator that is no public interface; the instruction set says nearly the same.
    if hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def autocast_dtype(device: str) -> torch.dtype | None:
    """The type that autocast multiplies in on a kind of device, such as 'cuda'; None where autocast is off."""
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == "cpu":  # torch 2.3 and before
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
