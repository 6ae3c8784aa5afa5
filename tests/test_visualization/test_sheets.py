import itertools

import numpy as np
import pytest

from delvm_mm.visualization.sheets import draw_row

PAPER = (245, 245, 245)


def flat(value, size=(40, 80)):
    return np.full((*size, 3), value, np.uint8)


def test_images_of_a_group_stand_closer_than_groups():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 0, 90)]
    one, two, three, four = ((str(color), flat(color)) for color in colors)
    row = draw_row([[one, two], [three], [], [four]], tile_size=80)
    line = row[-20]
    # 40 x 80 pixels are enlarged twice, and stand in their order.
    spans = [np.flatnonzero((line == color).all(-1)) for color in colors]
    assert [len(span) for span in spans] == [160] * 4
    gaps = [after[0] - before[-1] - 1 for before, after in itertools.pairwise(spans)]
    assert gaps == [2, 10, 10]
    assert spans[0][0] == row.shape[1] - 1 - spans[-1][-1] == 6


def test_rows_have_captions_and_a_title_if_wanted():
    plain = draw_row([[("", flat(0))]])
    named = draw_row([[("image", flat(0))]])
    titled = draw_row([[("", flat(0))]], title="a/b.png")
    assert plain.shape == named.shape and (named[:-170] < 100).any() and not (plain[:-170] < 100).any()
    assert titled.shape[0] > plain.shape[0] and titled.shape[1] == plain.shape[1]


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ([[], []], ValueError, "no image to draw"),
        ([[("a", flat(0)), ("b", flat(0, (40, 40)))]], ValueError, r"'b' has \(40, 40, 3\), 'a' has \(40, 80, 3\)"),
        ([[("a", flat(0)[..., 0])]], ValueError, "'a' of a row must have shape H x W x 3"),
        ([[("a", flat(0).astype(float))]], TypeError, "'a' of a row must be a uint8 array of H x W x 3, got float64"),
        ([[("a", [1, 2])]], TypeError, "got list"),
    ],
)
def test_wrong_images_are_refused_by_their_caption(groups, error, message):
    with pytest.raises(error, match=message):
        draw_row(groups)
