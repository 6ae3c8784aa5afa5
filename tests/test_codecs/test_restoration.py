"""RestorationCodec: the clean image passes through, wrong images do not."""

import numpy as np
import pytest

from delvm_mm.codecs import RestorationCodec
from delvm_mm.registry import TASK_UTILS


def test_images_pass_unchanged_and_are_not_shared():
    codec, rng = TASK_UTILS.build(dict(type="RestorationCodec")), np.random.default_rng(0)
    for _ in range(100):
        clean = rng.integers(0, 256, (9, 7, 3), np.uint8)
        drawn = codec.encode(codec.annotation_of({"gt_img": clean}))
        np.testing.assert_array_equal(codec.decode(drawn), clean)
        assert not np.shares_memory(drawn, clean)


def test_fields_hold_both_images():
    truth, prediction = np.zeros((4, 5, 3), np.uint8), np.ones((4, 5, 3), np.uint8)
    fields = RestorationCodec().to_fields(truth, prediction)
    np.testing.assert_array_equal(fields["gt_img"]["data"], truth)
    np.testing.assert_array_equal(fields["pred_img"]["data"], prediction)


@pytest.mark.parametrize("method", ["encode", "decode"])
@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((4, 4), np.uint8), ValueError),
        (np.zeros((4, 4, 4), np.uint8), ValueError),
        (np.zeros((3, 8, 8), np.uint8), ValueError),
        (np.zeros((0, 4, 3), np.uint8), ValueError),
        (np.zeros((4, 4, 3), np.float32), TypeError),
        ("image.png", TypeError),
    ],
)
def test_what_is_not_an_rgb_image_is_refused(method, image, error):
    with pytest.raises(error, match="RestorationCodec"):
        getattr(RestorationCodec(), method)(image)


def test_sizes_that_differ_and_missing_fields_are_refused():
    codec = RestorationCodec()
    with pytest.raises(ValueError, match=r"the prediction \(4, 5, 3\); resize both"):
        codec.to_fields(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="RestorationCodec needs 'gt_img' in the results"):
        codec.annotation_of({"img": 0})
