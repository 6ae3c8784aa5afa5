"""What the processor at hand can do."""

import functools

import torch


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Whether a device multiplies in bfloat16 no slower than in float32.

    CPUs without the instructions (AVX-512, AMX) have it emulated: it took 80 times as long as float32 where it was
    measured, an EPYC with AVX2 only.

    Args:
        device: Type of a device, such as 'cpu' or 'cuda'.
    """
    if device != "cpu":
        return True
    # PyTorch asks oneDNN by an operator that is no public interface; the instruction set says nearly the same.
    if hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
