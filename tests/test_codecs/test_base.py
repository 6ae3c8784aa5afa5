"""What all codecs have in common: an answer that can be looked at, whatever it was read from."""

import numpy as np
import pytest

from delvm_mm.codecs import (
    BoxCodec,
    DepthCodec,
    ForegroundMaskCodec,
    KeypointDiscsCodec,
    RandomColorMaskCodec,
    RestorationCodec,
    SemanticMaskCodec,
    SkeletonCodec,
    SquashedCodec,
)

HALF = np.zeros((96, 96), np.uint8)
HALF[20:70, 30:60] = 1
PERSON = dict(
    keypoints=np.random.default_rng(0).uniform(12, 84, (1, 17, 2)).astype(np.float32),
    keypoints_visible=np.ones((1, 17), np.float32),
    img_shape=(96, 96),
)
ANSWERS = [
    (ForegroundMaskCodec(), HALF),
    (SemanticMaskCodec(classes=("ground", "thing"), palette=((0, 0, 0), (255, 0, 0))), HALF),
    (RandomColorMaskCodec(), dict(instance_map=HALF.astype(np.int32), seed=0)),
    (DepthCodec(min_depth=1, max_depth=10), np.full((96, 96), 4, np.float32)),
    (BoxCodec(), dict(bboxes=np.float32([[30, 20, 60, 70]]), img_shape=(96, 96))),
    (SkeletonCodec(radius=3, thickness=1), PERSON),
    (KeypointDiscsCodec(radius=5, spacing=5, grid=4), PERSON),
    (RestorationCodec(), np.full((96, 96, 3), 90, np.uint8)),
]


@pytest.mark.parametrize(("codec", "annotation"), ANSWERS, ids=lambda value: type(value).__name__)
def test_one_answer_is_shown_as_written_and_several_as_they_were_read(codec, annotation):
    written = codec.encode(annotation)
    answer = dict(pred_image=written, pred_images=None)
    assert codec.image_of(answer, codec.decode_answer(answer)) is written
    # Three draws, of which one sees nothing: shown is a clear drawing of what was read, not a blur of the three.
    several = np.stack([written, np.zeros_like(written), written])
    answer = dict(pred_image=np.rint(several.mean(0)).astype(np.uint8), pred_images=several, combine="mean")
    shown = codec.image_of(answer, codec.decode_answer(answer))
    assert shown.dtype == np.uint8 and shown.shape == written.shape
    if not isinstance(codec, RestorationCodec | DepthCodec | RandomColorMaskCodec | SemanticMaskCodec | SkeletonCodec):
        assert (
            np.abs(shown.astype(int) - written).mean() < 4 < np.abs(answer["pred_image"].astype(int) - written).mean()
        )


def test_what_was_read_at_another_size_is_shown_as_written():
    codec, mask = SquashedCodec(dict(type="ForegroundMaskCodec"), size=32), HALF
    written = codec.encode(mask)
    answer = dict(pred_image=written, pred_images=np.stack([written] * 2), combine="mean")
    assert codec.image_of(answer, codec.decode_answer(answer)) is written
