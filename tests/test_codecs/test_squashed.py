"""Answers and truth at a protocol's size, against torchvision, PyTorch and rounding by hand."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from delvm_mm.codecs import BoxCodec, ForegroundMaskCodec, RestorationCodec, SquashedCodec
from delvm_mm.datasets import Squash


def random_mask(number, ignore=False):
    random = np.random.default_rng(number)
    height, width = random.integers(150, 400, 2)
    rows, columns = np.mgrid[:height, :width]
    mask = (np.sin(rows / random.uniform(5, 40)) + np.cos(columns / random.uniform(5, 40)) > 0.4).astype(np.uint8)
    if ignore:
        mask[: height // 5] = 255
    return mask


def rounded(image):
    """Whether each pixel is nearer to white than to black, by the distance of its three channels."""
    values = image.astype(float)
    return ((values - 255) ** 2).sum(2) < (values**2).sum(2)


@pytest.mark.parametrize(("name", "mode"), [("bicubic", 3), ("bilinear", 2)])
def test_truth_and_answer_are_squashed_and_rounded(name, mode):
    codec = SquashedCodec(ForegroundMaskCodec(), 111, interpolation=name)
    resize = torchvision.transforms.Resize((111, 111), torchvision.transforms.InterpolationMode([
        "nearest", "nearest-exact", "bilinear", "bicubic"][mode]))  # fmt: skip
    for number in range(20):
        mask, answer = random_mask(number), np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        fields = codec.to_fields(mask, codec.decode(answer))
        # As the public code: a gray image of 0 and 255, resized by Pillow.
        truth = rounded(np.array(resize(Image.fromarray(mask * 255)))[..., None].repeat(3, 2))
        assert np.array_equal(fields["gt_sem_seg"]["data"][0], truth)
        assert np.array_equal(fields["pred_sem_seg"]["data"][0], rounded(np.array(resize(Image.fromarray(answer)))))


def test_nearest_truth_is_that_of_pytorch_and_keeps_what_is_ignored():
    codec = SquashedCodec(dict(type="ForegroundMaskCodec"), 400, truth="nearest")
    for number in range(10):
        mask = random_mask(number, ignore=True)
        wanted = torch.nn.functional.interpolate(torch.tensor(mask)[None, None].float(), (400, 400), mode="nearest")
        fields = codec.to_fields(mask, codec.decode(codec.encode(mask)))
        assert np.array_equal(fields["gt_sem_seg"]["data"], wanted[0].numpy()) and wanted.max() == 255
        assert fields["pred_sem_seg"]["data"].max() == 1, "what is ignored is drawn as background"
    with pytest.raises(ValueError, match="annotations that are a map"):
        SquashedCodec(BoxCodec(), 8, truth="nearest").to_fields(dict(bboxes=[], img_shape=(4, 4)), None)


def test_the_drawing_itself_has_all_right():
    mask = random_mask(3)
    codec = SquashedCodec(ForegroundMaskCodec())
    fields = codec.to_fields(mask, codec.decode(codec.encode(mask)))
    assert np.array_equal(fields["gt_sem_seg"]["data"], fields["pred_sem_seg"]["data"])
    image = np.random.default_rng(0).integers(0, 256, (111, 111, 3), np.uint8)
    fields = SquashedCodec(RestorationCodec()).to_fields(image, image)
    assert np.array_equal(fields["gt_img"]["data"], image), "at its size nothing is resampled"


def test_it_is_what_the_codec_is():
    codec = SquashedCodec(dict(type="ForegroundMaskCodec", foreground=(255, 0, 0)))
    assert codec.palette[1] == (255, 0, 0) and codec.dataset_meta["classes"][1] == "foreground" and not codec.restores
    assert SquashedCodec(RestorationCodec()).restores


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(dict(size=0), "size is 0"), (dict(interpolation="area"), "'area'"), (dict(truth="mean"), "'mean'")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SquashedCodec(ForegroundMaskCodec(), **arguments)


def test_squash_resizes_image_and_label_and_leaves_the_annotation():
    mask = random_mask(1)
    image = np.random.default_rng(1).integers(0, 256, (*mask.shape, 3), np.uint8)
    results = Squash(32)(dict(img=image, label=ForegroundMaskCodec().encode(mask), annotation=mask))
    assert results["img"].shape == results["label"].shape == (32, 32, 3) and results["annotation"] is mask
    wanted = np.array(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(results["img"], wanted), "the aspect ratio is not kept, and nothing is cut off"
    with pytest.raises(ValueError, match=r"label of .*put it behind DrawLabel"):
        Squash(32)(dict(img=image))


def test_detail_of_the_query_is_given_back_at_the_squashed_size():
    rng = np.random.default_rng(0)
    answer, query, tokenized = (np.full((16, 24, 3), value, np.uint8) for value in rng.integers(90, 150, 3))
    codec = SquashedCodec(dict(type="RestorationCodec", detail=1), size=8)
    read = codec.decode_answer(dict(pred_image=answer, query_image=query, query_ceiling_image=tokenized))
    assert read.shape == (8, 8, 3)
    assert (read == answer[0, 0].astype(int) + query[0, 0] - tokenized[0, 0]).all()
