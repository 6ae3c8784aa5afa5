"""F-measure of edges against distances of all pairs of pixels."""

import numpy as np
import pytest

from delvm_mm.evaluation import EdgeMetric


def lines(*rows, side=40, level=255, thickness=1):
    image = np.zeros((side, side, 3), np.uint8)
    for row in rows:
        image[row : row + thickness] = level
    return image


def score(*pairs, **arguments):
    metric = EdgeMetric(**arguments)
    samples = [dict(pred_img=dict(data=prediction), gt_img=dict(data=truth)) for prediction, truth in pairs]
    metric.process(None, samples)
    return {key.removeprefix("edges/"): value for key, value in metric.evaluate(len(samples)).items()}


def brute(prediction, truth, reach):
    """Right, drawn, found and true pixels, by the distance of every pair."""
    drawn, true = (np.argwhere(image.mean(2) >= 128) for image in (prediction, truth))
    distances = np.sqrt(((drawn[:, None] - true[None]) ** 2).sum(2))
    return (distances.min(1) <= reach).sum(), len(drawn), (distances.min(0) <= reach).sum(), len(true)


def test_lines_by_hand():
    # One of two lines is found, one pixel off, and one is drawn where none is.
    assert score((lines(11, 30), lines(10, 20))) == dict(Fscore=50, Precision=50, Recall=50)
    assert score((lines(12), lines(10)))["Fscore"] == 0, "two pixels are too far at 40"
    assert score((lines(12), lines(10)), tolerance=0.04)["Fscore"] == 100
    thick = score((lines(9, thickness=3), lines(10)))
    assert thick == dict(Fscore=100, Precision=100, Recall=100), "thick edges within the tolerance cost nothing"
    assert score((lines(), lines(10))) == dict(Fscore=0, Precision=pytest.approx(np.nan, nan_ok=True), Recall=0)
    assert np.isnan(score((lines(), lines()))["Fscore"])


def test_the_level_is_chosen_for_the_whole_set():
    faint = (lines(10, level=70) + lines(25, level=40), lines(10))
    strong = (lines(10, 30) + lines(20, level=70), lines(10, 30))
    # From 64 on: right 1 of 1 and 2 of 3 lines; from 96 on: 0 of 0 and 2 of 2, of 3 true ones.
    result = score(faint, strong)
    assert result["Precision"] == pytest.approx(75) and result["Recall"] == 100
    assert score(faint, strong, levels=[96]) == dict(
        Precision=100, Recall=pytest.approx(200 / 3), Fscore=pytest.approx(80)
    )


def test_counts_are_those_of_all_pairs():
    random = np.random.default_rng(0)
    pairs = [[(random.random((48, 48, 1)) < 0.04).repeat(3, 2).astype(np.uint8) * 255 for _ in range(2)] for _ in "abc"]
    for tolerance in (0.0075, 0.03, 0.05):
        reach = max(1, tolerance * np.hypot(48, 48))
        right, drawn, found, true = np.sum([brute(*pair, reach) for pair in pairs], axis=0)
        wanted = 2 * (right / drawn) * (found / true) / (right / drawn + found / true)
        assert score(*pairs, tolerance=tolerance)["Fscore"] == pytest.approx(100 * wanted)


def test_bad_input_is_refused():
    with pytest.raises(
        ValueError, match=r"EdgeMetric reads pred_img.data and gt_img.data of a data sample, and 'gt_img' is missing"
    ):
        EdgeMetric().process(None, [dict(pred_img=dict(data=lines(1)))])
    with pytest.raises(ValueError, match="cannot compare"):
        score((lines(1), lines(1, side=20)))
    for arguments, message in ((dict(tolerance=1), "tolerance is 1"), (dict(levels=[0]), "levels are")):
        with pytest.raises(ValueError, match=message):
            EdgeMetric(**arguments)
