"""Data sets of mmseg and mmpose as readers: their task, their label maps, and the order of their channels."""

import json

import mmcv
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from delvm_mm.datasets import BGRToRGB, DrawLabel, LoadAnnotations, LoadImage, PackClip, SetTask
from delvm_mm.registry import DATASETS
from helpers.layouts_people import write_coco_pose

BLUE = (0, 0, 255)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope("delvm_mm"):
        yield


@pytest.fixture
def blue(tmp_path):
    path = tmp_path / "blue.png"
    Image.new("RGB", (4, 2), BLUE).save(path)
    return {"img_path": str(path), "gt_seg_map": np.ones((2, 4), np.uint8)}


def save_map(path, values, mode=None):
    Image.fromarray(np.array(values, np.uint8 if mode is None else mode)).save(path)
    return {"seg_map_path": str(path)}


@pytest.mark.parametrize("loader", ["mmcv.transforms", "mmpose.datasets.transforms"])
@pytest.mark.parametrize("last", [PackClip(("img",)), DrawLabel(dict(type="ForegroundMaskCodec"))])
def test_bgr_of_a_toolbox_is_refused_and_can_be_turned(blue, loader, last):
    module = pytest.importorskip(loader)
    load = module.LoadImage() if "mmpose" in loader else module.LoadImageFromFile()
    with pytest.raises(ValueError, match=r"'img' of .*blue\.png .* does not say that it is RGB.*BGRToRGB"):
        last(load(dict(blue)))
    turned = BGRToRGB()(load(dict(blue)))
    assert (turned["img"] == BLUE).all()
    last(turned)
    with pytest.raises(ValueError, match="is RGB already"):
        BGRToRGB()(LoadImage()(dict(blue)))


def test_arrays_that_a_data_set_brings_itself_are_rgb(blue):
    image = np.full((2, 4, 3), BLUE, np.uint8)
    assert PackClip(("img",))(dict(img=image))["inputs"][0, :, 0, 0].tolist() == list(BLUE)
    assert LoadImage()(dict(blue))["img"][0, 0].tolist() == list(BLUE) != mmcv.imread(blue["img_path"])[0, 0].tolist()


@pytest.mark.parametrize(
    "of_dataset, arguments, expected",
    [
        ({}, {"label_map": {1: 1, 2: 0, 3: 255}}, [1, 0, 255, 255]),
        ({}, {"label_map": {"1": "1", "2": "0", "3": "7"}}, [1, 0, 7, 255]),
        ({"reduce_zero_label": True}, {}, [0, 1, 2, 255]),
        ({"reduce_zero_label": True, "label_map": {0: 255, 1: 4}}, {}, [255, 4, 2, 255]),
        ({"reduce_zero_label": True}, {"reduce_zero_label": False}, [1, 2, 3, 255]),
        ({"label_map": {1: 2, 2: 1}}, {"label_map": {1: 0, 2: 1, 3: 1}}, [1, 0, 1, 255]),
    ],
)
def test_label_maps_are_applied_in_turn_and_255_stays(tmp_path, of_dataset, arguments, expected):
    results = save_map(tmp_path / "a.png", [[1, 2, 3, 255]]) | of_dataset
    assert LoadAnnotations(**arguments)(results)["gt_seg_map"].tolist() == [expected]


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("label_map", [None, {0: 2, 1: 255, 2: 0}])
def test_label_maps_of_the_data_set_are_applied_as_mmseg_does(tmp_path, reduce, label_map):
    theirs = pytest.importorskip("mmseg.datasets.transforms").LoadAnnotations()
    values = np.random.default_rng(0).choice([0, 1, 2, 3, 255], (5, 7))
    results = save_map(tmp_path / "a.png", values) | {"reduce_zero_label": reduce, "label_map": label_map}
    results["seg_fields"] = []
    expected = theirs(dict(results))["gt_seg_map"]
    assert np.array_equal(LoadAnnotations()(dict(results))["gt_seg_map"], expected)


def test_values_of_any_depth_are_read(tmp_path):
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1").save(tmp_path / "bit.png")
    save_map(tmp_path / "deep.png", [[0, 300, 2]], np.uint16)
    save_map(tmp_path / "equal.png", np.repeat([[[0], [1], [2]]], 3, 2))
    for name, expected in (("palette", [0, 1, 2]), ("bit", [0, 1, 1]), ("deep", [0, 300, 2]), ("equal", [0, 1, 2])):
        results = LoadAnnotations()({"seg_map_path": str(tmp_path / f"{name}.png")})
        assert results["gt_seg_map"].tolist() == [expected], name


def test_what_is_no_label_map_is_named(tmp_path):
    save_map(tmp_path / "color.png", [[[1, 2, 3]]])
    save_map(tmp_path / "white.png", [[0, 255]])
    save_map(tmp_path / "four.png", [[0, 4]])
    (tmp_path / "text.png").write_text("no image")
    for name, arguments, message in (
        ("color", {}, r"color\.png is a color image"),
        ("white", {}, r"white\.png holds 0 and 255 alone.*label_map=\{0: 0, 255: 1\}"),
        ("four", {"label_map": {0: 0, 1: 1}}, r"four\.png holds the values \[4\], label_map names \[0, 1\]"),
        ("text", {}, r"text\.png cannot be read as a label map"),
    ):
        with pytest.raises(ValueError, match=message):
            LoadAnnotations(**arguments)({"seg_map_path": str(tmp_path / f"{name}.png")})
    with pytest.raises(FileNotFoundError, match=r"no label map at .*gone\.png"):
        LoadAnnotations()({"seg_map_path": str(tmp_path / "gone.png")})
    with pytest.raises(ValueError, match="LoadAnnotations: label_map is "):
        LoadAnnotations(label_map={"a": 1})


def test_an_mmseg_data_set_gives_clips_by_config_alone(tmp_path):
    pytest.importorskip("mmseg.datasets")
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (4, 2), BLUE).save(tmp_path / "images" / "a.png")
    save_map(tmp_path / "maps" / "a.png", [[1, 2, 3, 1], [2, 2, 2, 2]])
    dataset = DATASETS.build(
        dict(
            type="mmseg.BaseSegDataset",
            data_root=str(tmp_path),
            data_prefix=dict(img_path="images", seg_map_path="maps"),
            img_suffix=".png",
            pipeline=[
                dict(type="LoadImage"),
                dict(type="LoadAnnotations", label_map={1: 1, 2: 0, 3: 255}),
                dict(type="SetTask", task="seg"),
                dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec")),
            ],
        )
    )
    sample = dataset[0]
    assert sample["task"] == "seg" and (sample["img"] == BLUE).all()
    assert sample["label"][..., 0].tolist() == [[255, 0, 0, 255], [0, 0, 0, 0]]
    assert sample["annotation"].tolist() == [[1, 0, 255, 1], [0, 0, 0, 0]], "what is ignored stays ignored"


@pytest.fixture
def poses(tmp_path):
    pytest.importorskip("mmpose.datasets")
    path = write_coco_pose(tmp_path)

    def build(edit=lambda content: None, kind="CocoDataset"):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
        return DATASETS.build(
            dict(
                type=f"mmpose.{kind}",
                data_root=str(tmp_path),
                ann_file="annotations/person_keypoints_train2017.json",
                data_prefix=dict(img="train2017/"),
                pipeline=[
                    dict(type="LoadImage"),
                    dict(type="CropPerson"),
                    dict(type="ResizeShortSide", size=64),
                    dict(type="SetTask", task="pose"),
                    dict(type="DrawLabel", codec=dict(type="SkeletonCodec", radius=2, thickness=1)),
                    dict(type="PackClip"),
                ],
            )
        )

    return build


@pytest.mark.filterwarnings("ignore")
def test_an_mmpose_data_set_gives_clips_by_config_alone(poses):
    clip = poses()[0]
    assert clip["inputs"].shape == (2, 3, 64, 64) and clip["data_samples"].task == "pose"
    assert clip["inputs"][1].any()


@pytest.mark.filterwarnings("ignore")
def test_animals_and_other_orders_of_mmpose_are_refused(poses):
    with pytest.raises(ValueError, match=r"\(ap10k\) has the keypoints L_Eye, .*CocoPoseDataset"):
        poses(kind="AP10KDataset")[0]

    def turn(content):
        content["categories"][0]["keypoints"].reverse()

    with pytest.raises(ValueError, match=r"\(coco\) has the keypoints right_ankle, "):
        poses(turn)[0]
    with pytest.raises(ValueError, match="shows macaque, expected a person"):
        poses(lambda content: content.update(categories=[{"id": 1, "name": "macaque"}]))[0]


def test_a_task_is_a_name():
    assert SetTask("seg")({}) == {"task": "seg"}
    with pytest.raises(ValueError, match="SetTask: task is ''"):
        SetTask("")
