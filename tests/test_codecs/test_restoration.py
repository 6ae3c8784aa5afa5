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


def test_detail_gives_back_what_the_tokenizer_lost_of_the_query():
    rng = np.random.default_rng(0)
    answer, query, tokenized = rng.integers(60, 190, (3, 8, 8, 3), np.uint8)
    fields = dict(pred_image=answer, query_image=query, query_ceiling_image=tokenized)
    for detail in (0, 0.25, 0.5, 1):
        by_hand = answer.astype(float) + detail * (query.astype(float) - tokenized)
        read = RestorationCodec(detail=detail).decode_answer(fields)
        assert read.dtype == np.uint8
        np.testing.assert_allclose(read, by_hand.clip(0, 255), atol=0.5)
    # An answer of the query's own tokens is the query itself; values stay in range.
    whole = RestorationCodec(detail=1)
    np.testing.assert_array_equal(whole.decode_answer({**fields, "pred_image": tokenized}), query)
    bright = dict(pred_image=np.full_like(answer, 250), query_image=query + 60, query_ceiling_image=query)
    assert (whole.decode_answer(bright) == 255).all()
    np.testing.assert_array_equal(whole.image_of(fields, whole.decode_answer(fields)), whole.decode_answer(fields))
    # Of an ensemble, the mean answer.
    both = {**fields, "pred_images": np.stack([answer, tokenized]), "combine": "mean"}
    mean = (answer.astype(float) + tokenized) / 2 + query - tokenized
    np.testing.assert_allclose(whole.decode_answer(both), mean.clip(0, 255), atol=1)
    assert not RestorationCodec().reads_query and whole.reads_query


def test_detail_without_the_query_or_out_of_range_is_refused():
    answer = np.zeros((4, 4, 3), np.uint8)
    for fields in ({}, dict(query_image=answer), dict(query_image=answer, query_ceiling_image=answer[:2])):
        with pytest.raises(ValueError, match=r"RestorationCodec\.detail is 0\.5, which needs query_image and"):
            RestorationCodec(detail=0.5).decode_answer(dict(pred_image=answer, **fields))
    for detail in (-0.1, 1.5, "half", True):
        with pytest.raises(ValueError, match=r"RestorationCodec\.detail is .*, expected a number from 0 to 1"):
            RestorationCodec(detail=detail)
