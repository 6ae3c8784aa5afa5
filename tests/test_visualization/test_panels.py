import numpy as np
import pytest

from delvm_mm.visualization import draw_panel, stack_panels


def flat(value, size=(64, 64)):
    return np.full((*size, 3), value, np.uint8)


def count(panel, value):
    return int((panel == value).all(-1).sum())


def test_every_image_appears_enlarged_without_blur():
    colors = [(10, 200, 30), (200, 10, 30), (30, 10, 200), (90, 0, 90), (0, 90, 90), (90, 90, 0)]
    images = [flat(color) for color in colors]
    panel = draw_panel(images[:2], *images[2:], tile_size=160)
    assert panel.dtype == np.uint8 and panel.ndim == 3 and panel.flags.writeable
    # 64 px are enlarged three times, to 192, the first whole multiple of 160 or more.
    assert [count(panel, color) for color in colors] == [192 * 192] * 6
    # Left to right in the order of the arguments, at the middle of the row of images.
    row = [tuple(pixel) for pixel in panel[-100].tolist()]
    assert sorted(colors, key=row.index) == colors


def test_large_images_keep_their_size():
    panel = draw_panel([], flat((1, 2, 3), (200, 300)))
    assert count(panel, (1, 2, 3)) == 200 * 300


def test_parts_that_there_are_none_of_take_no_room():
    query = flat(7)
    widths = [
        draw_panel([], query).shape[1],
        draw_panel([], query, query).shape[1],
        draw_panel([], query, query, query).shape[1],
        draw_panel([query, query], query, query, query).shape[1],
    ]
    assert widths == sorted(set(widths))


def test_captions_and_title_are_written():
    plain = draw_panel([], flat(0), flat(0))
    named = draw_panel([], flat(0), flat(0), captions=dict(prediction="IoU 0.83"))
    titled = draw_panel([], flat(0), flat(0), title="seg 000012")
    assert plain.shape == named.shape and (plain != named).any()
    assert titled.shape[0] > plain.shape[0]
    assert (titled[: titled.shape[0] - plain.shape[0]] < 100).any()  # dark ink in the new line


def test_a_long_title_does_not_widen_the_panel():
    assert draw_panel([], flat(0), title="x" * 1000).shape[1] == draw_panel([], flat(0)).shape[1]


def test_text_is_drawn_with_a_pillow_that_cannot_scale_its_font(monkeypatch):
    from PIL import ImageFont

    small = ImageFont.load_default()

    def load_default(*args, **kwargs):
        if args or kwargs:
            raise TypeError("load_default() takes no arguments")
        return small

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    assert (draw_panel([], flat(255))[:20] < 100).any()


def test_stacked_panels_are_filled_up_to_the_widest():
    one, two = draw_panel([], flat(3)), draw_panel([], flat(4), flat(5))
    sheet = stack_panels([one, two])
    assert sheet.shape == (one.shape[0] + two.shape[0], two.shape[1], 3)
    assert (sheet[: one.shape[0], : one.shape[1]] == one).all() and (sheet[one.shape[0] :] == two).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(prompt_images=[flat(0)], query=flat(0)), ValueError, "pairs"),
        (dict(prompt_images=[], query=flat(0), truth=flat(0, (32, 32))), ValueError, "'truth' has"),
        (dict(prompt_images=[], query=flat(0)[..., 0]), ValueError, "H x W x 3"),
        (dict(prompt_images=[], query=flat(0).astype(np.float32)), TypeError, "float32"),
        (dict(prompt_images=[], query=flat(0), captions=dict(answer="?")), ValueError, "answer"),
    ],
)
def test_wrong_images_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        draw_panel(**arguments)


def test_there_is_something_to_stack():
    with pytest.raises(ValueError, match="to stack: expected at least one"):
        stack_panels([])
