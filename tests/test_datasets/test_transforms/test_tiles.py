"""CropTile: where tiles lie, and what it refuses."""

import numpy as np
import pytest

from delvm_mm.datasets import CropTile


def sample(view, shape=(37, 53)):
    rows, columns = np.indices(shape)
    return dict(img=np.stack([rows, columns, rows], -1).astype(np.uint8), view=view, img_path="a.png")


@pytest.mark.parametrize(("grid", "overlap"), [((1, 1), 0.0), ((2, 2), 0.2), ((3, 2), 0.5), ((2, 5), 0.0)])
def test_tiles_cover_the_image_and_overlap_as_asked(grid, overlap):
    tile, covered = CropTile(grid, overlap), np.zeros((37, 53), int)
    for view in range(grid[0] * grid[1]):
        results = tile(sample(view))
        left, top, right, lower = results["tile"]["box"]
        assert results["img"].shape == (lower - top, right - left, 3)
        assert results["img"][0, 0].tolist() == [top, left, top], "the pixels are those of the box"
        assert results["affine"].tolist() == [[1, 0, -left], [0, 1, -top]]
        covered[top:lower, left:right] += 1
    assert covered.min() == 1
    if overlap == 0:
        assert covered.max() == 1
    # all tiles of a row are as wide, to a pixel: side / (n - (n - 1) overlap)
    side = 53 / (grid[1] - (grid[1] - 1) * overlap)
    assert abs(right - left - side) <= 1


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match=r"a\.png is view 4 .*num_views=4"):
        CropTile((2, 2))(sample(4))
    with pytest.raises(ValueError, match="is view None"):
        CropTile((2, 2))(dict(img=np.zeros((9, 9, 3), np.uint8)))
    with pytest.raises(ValueError, match="comes after a transform that moved the image"):
        CropTile((2, 2))(dict(sample(0), affine=np.eye(2, 3)))
    for arguments in (dict(grid=(0, 2)), dict(grid=(1, 2, 3)), dict(overlap=1.0)):
        with pytest.raises(ValueError, match="CropTile: "):
            CropTile(**arguments)
