"""Stores of a config are named whole or by how their folders end."""

import pytest

from delvm_mm.stores.selection import select_stores

FOLDERS = ["data/tokens/train/seg", "data/tokens/train/pose", "data/tokens/val/seg"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(None, FOLDERS), (["seg"], FOLDERS[::2]), (["val/seg"], FOLDERS[2:]), ([FOLDERS[1], "pose"], FOLDERS[1:2])],
)
def test_an_ending_names_all_stores_that_have_it(names, chosen):
    assert select_stores(FOLDERS, names) == chosen


@pytest.mark.parametrize("name", ["eg", "train", ""])
def test_what_is_no_ending_is_refused(name):
    with pytest.raises(ValueError, match=r"--stores: there is no .* in the config, which has"):
        select_stores(FOLDERS, [name])
