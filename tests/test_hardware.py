"""Which device work goes to."""

import pytest
import torch
from mmengine.device import get_device

from delvm_mm.hardware import choose_device


def test_the_default_is_the_device_that_mmengine_trains_on():
    assert choose_device() == choose_device(None) == torch.device(get_device())


def test_a_device_that_is_there_is_taken_as_asked_for():
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used .*: expected one of this machine"):
        choose_device(name)
