"""The page of scores: what stands in it, in which order, and that it needs nothing else."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from delvm_mm.engine.reports.score_report import Answer, TaskScores, render_report, worst_first

METRICS = {
    "seg/mIoU": 50.0,
    "seg/ceiling/mIoU": 90.0,
    "seg/trivial/nothing/mIoU": 50.0,
    "seg/trivial/last_label/mIoU": 40.0,
    "seg/images_per_s": 2.0,
}


def answers(scores, metric="mIoU"):
    panel = np.full((10, 20, 3), 7, np.uint8)
    return [Answer(index, f"{index}.png", {metric: score}, panel) for index, score in enumerate(scores)]


class Tags(HTMLParser):
    """Which elements are open when the page ends, and which were closed in the wrong order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.wrong = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open[-1] != tag:
            self.wrong.append(tag)
        self.open.pop()


def test_the_page_is_whole_and_loads_nothing():
    task = TaskScores("seg", METRICS, answers=answers([1.0, 2.0]), classes={"IoU": {"cat": (30.0, 5)}})
    page = render_report("Scores", {"model": "m"}, [task])
    tags = Tags(page)
    assert (tags.open, tags.wrong) == ([], [])
    assert not re.search(r"(src|href)=[\"'](?!data:|#)|url\(|<script|@import", page)


def test_scores_stand_beside_ceiling_and_trivial_answers_and_those_not_beaten_are_marked():
    page = render_report("Scores", {}, [TaskScores("seg", METRICS)])
    cells = re.findall(r"<td( class=beaten)?>(?:(?!</td>).)*</td>", page)
    assert "<td class=best>50</td><td>90</td><td class=beaten>50</td><td>40</td>" in page
    assert sum(map(bool, cells)) == 1
    assert "the model is no better than an image of the background alone in mIoU, 50 against 50." in page


@pytest.mark.parametrize(
    ("metric", "order"), [("mIoU", [2, 0, 1]), ("EPE", [1, 0, 2]), ("strangeness", [0, 1, 2])], ids=str
)
def test_the_worst_come_first_whichever_way_a_metric_counts(metric, order):
    assert [answer.index for answer in worst_first(answers([5.0, 9.0, 1.0], metric))] == order


def test_answers_without_a_score_come_last_and_equal_ones_in_their_order():
    given = [Answer(0, "", {}), Answer(1, "", {"PCK": 0.5}), Answer(2, "", {"PCK": 0.5}), Answer(3, "", {"PCK": 0.1})]
    assert [answer.index for answer in worst_first(given)] == [3, 1, 2, 0]


def test_panels_are_in_the_page_pixel_by_pixel():
    rng = np.random.default_rng(0)
    panels = [rng.integers(0, 255, (10, 20, 3), np.uint8) for _ in range(2)]
    given = [Answer(index, "", {"PCK": float(index)}, panel) for index, panel in enumerate(panels)]
    page = render_report("Scores", {}, [TaskScores("pose", {}, answers=given[::-1])])
    shown = [base64.b64decode(code) for code in re.findall(r"data:image/png;base64,([\w+/=]+)", page)]
    assert all(np.array_equal(Image.open(io.BytesIO(file)), panel) for file, panel in zip(shown, panels, strict=True))


def test_classes_are_listed_from_the_worst():
    classes = {"IoU": {"cat": (70.0, 5), "dog": (10.0, 5), "none": (float("nan"), 0)}}
    page = render_report("Scores", {}, [TaskScores("seg", {}, classes=classes)])
    assert page.index("dog") < page.index("cat") < page.index(">none<")
    assert "width:120px" in page and "width:17px" in page


def test_names_cannot_put_anything_into_the_page():
    named = [Answer(0, "<script>alert(1)</script>\udcff", {"PCK": 1.0})]
    page = render_report("<b>", {"<i>": "&"}, [TaskScores("<u>", {}, answers=named)])
    assert not re.search("<script|<b>&|<i>|<u>", page)
    page.encode()
