"""The devices that a test runs on: the CPU, so that its body cannot rot, and a GPU where there is one."""

import os

import pytest
import torch

# cuBLAS reads it when it is first used; without it PyTorch refuses its products where algorithms must be deterministic.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def exact_float32():
    """Products and convolutions in float32 proper: TensorFloat-32 has ten bits."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    yield
    for place, value in zip(places, before, strict=True):
        place.allow_tf32 = value
