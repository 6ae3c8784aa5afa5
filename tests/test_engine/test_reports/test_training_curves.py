"""``curves.png``: what is drawn of the log of a training, and where."""

import json

import numpy as np
import pytest
from PIL import Image

from delvm_mm.engine.reports.training_curves import collect_curves, draw_curves, write_curves

STEPS = [
    dict(lr=0.1, base_lr=0.1, time=1.0, data_time=0.1, loss=3.0, loss_kd=1.0, step=10, iter=10, **{"share/seg": 1.0}),
    dict(lr=0.2, base_lr=0.1, time=1.0, data_time=0.1, loss=2.0, loss_kd=0.5, step=20, iter=20, **{"share/seg": 1.0}),
    {"step": 20, "seg/mIoU": 50.0, "seg/ceiling/mIoU": 90.0, "seg/trivial/nothing/mIoU": 30.0, "token/loss": 2.5},
]


@pytest.fixture
def folder(tmp_path):
    """A work folder with the log of two runs, of which the second has gone on from step 10."""
    again = [dict(loss=1.0, step=20, iter=20), dict(loss=float("nan"), step=30, iter=30)]
    for run, records in (("20260101_000000", STEPS), ("20260102_000000", again)):
        (tmp_path / run / "vis_data").mkdir(parents=True)
        lines = [json.dumps(record) for record in records]
        (tmp_path / run / "vis_data" / "scalars.json").write_text("\n".join(lines) + '\n{"loss": 0.5, "st')
    return tmp_path


def test_what_has_one_unit_stands_in_one_diagram():
    curves = collect_curves(STEPS)
    assert {title: list(lines) for title, lines in curves.items()} == {
        "learning rate": ["lr"],
        "loss": ["loss", "loss_kd", "token/loss"],
        "mIoU": ["seg/mIoU", "seg/ceiling/mIoU"],
    }
    assert curves["loss"]["loss"] == [(10, 3.0), (20, 2.0)]


def test_of_a_step_that_two_runs_have_logged_the_later_counts(folder):
    written = write_curves(folder)
    assert written == folder / "curves.png"
    image = np.asarray(Image.open(written))
    from delvm_mm.engine.tool_runs import training_records

    curves = collect_curves(training_records(folder))
    assert curves["loss"]["loss"] == [(10, 3.0), (20, 1.0)]
    assert np.array_equal(image, draw_curves(curves, folder.name))


def test_lines_are_drawn_and_lie_where_values_are():
    image = draw_curves({"loss": {"loss": [(0, 0.0), (100, 1.0)]}})
    blue = np.argwhere((image[..., 2] > 150) & (image[..., 0] < 80))
    left, right = blue[blue[:, 1].argmin()], blue[blue[:, 1].argmax()]
    assert left[0] > right[0] + image.shape[0] / 3  # it rises, and rows are counted from above


def test_more_diagrams_make_a_larger_image():
    def curves(number):
        return {str(title): {"a": [(0, 1.0), (1, 2.0)]} for title in range(number)}

    one, four, many = (draw_curves(curves(number)).shape for number in (1, 4, 20))
    assert four[1] == 3 * one[1] and four[0] > one[0] and many[0] > four[0]


def test_nothing_is_written_where_there_is_no_curve(tmp_path):
    assert write_curves(tmp_path) is None
    (tmp_path / "run" / "vis_data").mkdir(parents=True)
    (tmp_path / "run" / "vis_data" / "scalars.json").write_text('{"loss": 1.0, "step": 10}\n')
    assert write_curves(tmp_path) is None
    assert not (tmp_path / "curves.png").exists()
