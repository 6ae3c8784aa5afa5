"""Settings of the page that say what the model sees of an image; no browser needed."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.webui.uploads import UploadError, UploadLimits, read_box

pytest.importorskip("gradio")
from delvm_mm.webui.gallery import gallery_html
from delvm_mm.webui.page import NO_TASK, Page, _enlarge


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A wide query, and a pair."""
    folder = tmp_path_factory.mktemp("uploads")
    rng = np.random.default_rng(0)
    for name, shape in (("query", (40, 90, 3)), ("image", (40, 40, 3)), ("label", (40, 40, 3))):
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def page(tiny_model, folder):
    inferencer = DeLVMInferencer(tiny_model.config, tiny_model.weights, device="cpu", show_progress=False)
    return Page({"tiny": inferencer}, UploadLimits(folder), folder)


def answer(page, folder, whole, bbox, compare=False):
    """What the page shows, one after the other."""
    image, label, query = ({"path": str(folder / f"{name}.png")} for name in ("image", "label", "query"))
    more = page.slots - 1
    uploads = [image, label, *[None] * 2 * more]
    with contextlib.closing(
        page._answer_or_raise(
            ("tiny", NO_TASK, 0, 1, 0, whole, bbox, compare, True, *[False] * more, *uploads, query), "session"
        )
    ) as steps:
        return [*steps]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("bbox", "box"), [("", None), (" 50, 4 90 40", (50, 4, 90, 40))])
def test_the_answer_is_of_what_the_settings_let_the_model_see(page, folder, whole, bbox, box):
    (inferencer,) = page.inferencers.values()
    pair = (str(folder / "image.png"), str(folder / "label.png"))
    fit = "pad" if whole else "crop"
    result = inferencer(str(folder / "query.png"), [pair], fit=fit, bbox=box, temperature=0.0)
    expected = _enlarge(result["predictions"][0]["image"])
    np.testing.assert_array_equal(answer(page, folder, whole, bbox)[-1][0], expected)


def test_without_the_prompt_it_shows_what_follows_the_query_alone(page, folder):
    (inferencer,) = page.inferencers.values()
    query = str(folder / "query.png")
    (alone,) = inferencer.continue_frames([query], temperature=0.0)["predictions"]
    (answered,) = inferencer(query, [(str(folder / "image.png"), str(folder / "label.png"))], temperature=0.0)[
        "predictions"
    ]
    *_, last = answer(page, folder, False, "", compare=True)
    np.testing.assert_array_equal(last[4], _enlarge(alone["image"]))
    apart = np.abs(answered["image"].astype(int) - alone["image"]).mean()
    assert apart > 1 and f"answers are {apart:.1f} of 255 apart: that is what the prompt does" in last[2]


def test_the_gallery_has_a_card_of_each_model_with_its_tasks(page):
    (inferencer,) = page.inferencers.values()
    shown = gallery_html({"a<b": inferencer}, {"a<b": page.examples["tiny"]})
    assert shown.count("<article>") == 1 and "<h3>a&lt;b</h3>" in shown
    assert shown.count("<img ") == 2 * len(page.examples["tiny"])
    assert all(f"<figcaption>{task}</figcaption>" in shown for task in ("seg", "pose", "derain"))
    assert "images of 32 px, 64 tokens each" in shown


def test_the_choices_show_the_model_different_images(page, folder):
    (inferencer,) = page.inferencers.values()
    seen = [
        inferencer.pipeline(str(folder / "query.png"), fit=fit, bbox=bbox).pixels
        for fit, bbox in (("crop", None), ("pad", None), ("crop", (50, 4, 90, 40)), ("pad", (50, 4, 90, 40)))
    ]
    assert all((one != other).any() for number, one in enumerate(seen) for other in seen[:number])


@pytest.mark.parametrize("text", ["1 2 3", "a, b, c, d", "1, 2, 3, nan", "1e999 0 1 1", 5, "0," * 200])
def test_a_box_that_is_none_is_refused(text):
    with pytest.raises(UploadError, match=r"The part of the query is .*: give four numbers, x1, y1, x2, y2") as refused:
        read_box(text)
    assert len(str(refused.value)) < 250


def test_a_box_outside_the_query_is_refused_without_a_path_of_the_server(page, folder):
    with pytest.raises(ValueError, match="expected x1, y1, x2, y2 in its pixels, of which there are 90x40") as refused:
        answer(page, folder, False, "200 0 300 40")
    assert str(folder) not in str(refused.value)
