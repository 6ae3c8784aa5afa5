"""Few-shot episodes of FSS-1000, drawn again in the words of the public code."""

import numpy as np
import pytest
from PIL import Image

from delvm_mm.datasets import FSSEpisodes
from helpers.layouts_protocols import write_fss

MASK = dict(type="ForegroundMaskCodec")


@pytest.fixture(scope="module")
def fss(tmp_path_factory):
    return write_fss(tmp_path_factory.mktemp("fss"))


@pytest.mark.parametrize("shots", [1, 5])
def test_draws_are_those_of_the_public_code(fss, shots):
    root, path = fss
    dataset = FSSEpisodes(root, path, codec=MASK, size=16, num_pairs=shots)
    state = np.random.get_state()
    np.random.seed(0)
    wanted = []
    for name in sorted(path.read_text().split()):
        for query in sorted(file.name for file in (root / name).glob("*.jpg")):
            supports = []
            while len(supports) < shots:
                support = f"{np.random.choice(range(1, 11), 1, replace=False)[0]}.jpg"
                if support != query:
                    supports.append(str(root / name / support))
            wanted.append((str(root / name / query), supports))
    np.random.set_state(state)
    own = [(each.query["img_path"], [pair["img_path"] for pair in each.supports]) for each in dataset.episodes]
    assert own == wanted and len(own) == 30 and own[1][0].endswith("abacus/10.jpg")
    assert [each.query["class_id"] for each in dataset.episodes[::10]] == [760, 761, 762], "test.txt is the third part"
    assert FSSEpisodes(root, path, codec=MASK, num_pairs=shots, num_queries=13).episodes == dataset.episodes[:13]


def test_a_mask_begins_at_128(fss):
    sample = FSSEpisodes(*fss, codec=MASK, size=16)[4]["data_samples"]
    mask = np.array(Image.open(sample.img_path.replace(".jpg", ".png")).convert("L"))
    assert np.array_equal(sample.annotation, mask >= 128) and sample.annotation.any() and sample.class_name == "abacus"


def test_bad_input_is_refused(fss, tmp_path):
    root, path = fss
    with pytest.raises(ValueError, match=r"10 pairs are asked for, but class abacus of .* has 9 images besides 1"):
        FSSEpisodes(root, path, codec=MASK, num_pairs=10)
    (tmp_path / "test.txt").write_text("abacus\nunicorn\n")
    with pytest.raises(FileNotFoundError, match=r"names 20 images \(ten of each class\), of which 10 are missing"):
        FSSEpisodes(root, tmp_path / "test.txt", codec=MASK)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        FSSEpisodes(tmp_path / "gone", path, codec=MASK)
