"""MPII in mmpose's JSON: positions from 0, COCO's order, boxes and head sizes as mmpose has them."""

import json
import re

import numpy as np
import pytest
from scipy.io import savemat

from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS, MPII_KEYPOINTS
from delvm_mm.datasets import DrawLabel, LoadImage
from delvm_mm.datasets.readers.mpii import MpiiDataset
from helpers.layouts_people import write_mpii

VAL = {"ann_file": "annotations/mpii_val.json"}
HEADS = {"head_boxes": "annotations/mpii_gt_val.mat"}


@pytest.fixture
def mpii(tmp_path):
    write_mpii(tmp_path)
    return tmp_path


@pytest.fixture
def damage(mpii):
    """Change the annotation file; gives the data set."""

    def change(edit, **arguments):
        path = mpii / VAL["ann_file"]
        people = json.loads(path.read_text())
        edit(people)
        path.write_text(json.dumps(people))
        return MpiiDataset(mpii, **(VAL | arguments))

    return change


def test_positions_count_from_0_and_joints_are_in_cocos_order(mpii):
    person = json.loads((mpii / VAL["ann_file"]).read_text())[0]
    sample = MpiiDataset(mpii, **VAL)[0]
    body = [(number, COCO_KEYPOINTS.index(name)) for number, name in enumerate(MPII_KEYPOINTS) if name]
    assert len(body) == 12
    for joint, of_coco in body:
        seen = person["joints_vis"][joint]
        assert sample["keypoints_visible"][0, of_coco] == seen
        if seen:
            assert np.allclose(sample["keypoints"][0, of_coco], np.array(person["joints"][joint]) - 1)
    assert not sample["keypoints_visible"][0, :5].any() and not sample["keypoints"][0, :5].any(), "the face"
    # By hand: the box is 200 x scale, its center 15 x scale lower; one Matlab pixel is taken off.
    (x, y), scale = person["center"], person["scale"]
    box = [x - 1 - 100 * scale, y - 1 - 85 * scale, x - 1 + 100 * scale, y - 1 + 115 * scale]
    assert np.allclose(sample["bbox"], [box]) and np.allclose(sample["area"], 0.53 * (200 * scale) ** 2)
    assert sample["img_path"] == str(mpii / "images" / person["image"]) and sample["img_id"] == 15601
    assert "head_size" not in sample and sample["task"] == "pose"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("of_samples", [False, True])
def test_boxes_heads_and_keypoints_are_mmposes(mpii, of_samples, request):
    """Keypoints are mmpose's less the one that it (unlike HRNet) does not take off."""
    mmpose = pytest.importorskip("mmpose.datasets.datasets.body.mpii_dataset")
    if of_samples:
        folder = request.getfixturevalue("shared") / "samples/mpii"
        files, heads = {"ann_file": "test_mpii.json", "img_dir": "."}, {}
    else:
        folder, files, heads = mpii, VAL | {"img_dir": "images"}, HEADS
    ours = MpiiDataset(folder, **files, **heads)
    theirs = mmpose.MpiiDataset(
        data_root=str(folder),
        ann_file=files["ann_file"],
        data_prefix={"img": files["img_dir"]},
        headbox_file=str(folder / HEADS["head_boxes"]) if heads else None,
        test_mode=True,
    )
    assert len(ours) == len(theirs) > 3
    body = [(number, COCO_KEYPOINTS.index(name)) for number, name in enumerate(MPII_KEYPOINTS) if name]
    joints, of_coco = np.array(body).T
    for sample, expected in zip(ours, (theirs.get_data_info(number) for number in range(len(theirs))), strict=True):
        assert sample["img_id"] == expected["img_id"] and sample["id"] == expected["id"]
        assert np.allclose(sample["bbox"], expected["bbox"], atol=1e-3)
        assert np.allclose(sample["area"], expected["area"], rtol=1e-4)
        seen = sample["keypoints_visible"][0, of_coco] > 0
        assert np.array_equal(seen, expected["keypoints_visible"][0, joints] > 0)
        moved = sample["keypoints"][0, of_coco] + 1
        assert np.allclose(moved[seen], expected["keypoints"][0, joints][seen])
        if heads:
            assert np.allclose(sample["head_size"], expected["head_size"][0])


def test_head_size_is_06_of_the_diagonal(mpii):
    people = json.loads((mpii / VAL["ann_file"]).read_text())
    boxes = np.zeros((2, 2, len(people)))
    boxes[1, :, 1] = 30, 40  # a diagonal of 50
    savemat(mpii / HEADS["head_boxes"], {"headboxes_src": boxes})
    dataset = MpiiDataset(mpii, **VAL, **HEADS)
    assert dataset[1]["id"] == 1 and dataset[1]["head_size"].tolist() == [30]


def test_an_image_can_be_a_sample_with_all_its_people(mpii):
    people = json.loads((mpii / VAL["ann_file"]).read_text())
    dataset = MpiiDataset(mpii, **VAL, **HEADS, per_person=False)
    assert len(dataset) == 4 < len(people)
    assert [number for sample in dataset for number in sample["id"]] == list(range(len(people)))
    assert all(len(sample["keypoints"]) == len(sample["id"]) == len(sample["head_size"]) for sample in dataset)


def test_people_without_position_or_keypoints_are_left_out(damage):
    def edit(people):
        people[0]["center"] = [-1, -1]
        people[2]["joints_vis"] = [int(number in (6, 7, 8, 9)) for number in range(16)]  # none that COCO has

    assert [sample["id"] for sample in damage(edit)][:2] == [1, 3]


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda person: person.update(joints=[[1, 2]] * 15), "joints: got .* expected 32 numbers"),
        (lambda person: person.pop("joints"), "joints: got None"),
        (lambda person: person.update(joints_vis=[1] * 15), "joints_vis: got .* expected 16 numbers"),
        (lambda person: person.update(joints_vis="1" * 16), "joints_vis: got .* expected 16 numbers"),
        (lambda person: person["joints"].__setitem__(0, [float("nan"), 3]), "expected finite numbers"),
        (lambda person: person.update(center=[3]), "center: got .* expected 2 numbers"),
        (lambda person: person.update(scale=0), "scale is 0"),
        (lambda person: person.update(scale=None), r"scale: got \[None\]"),
        (lambda person: person.pop("image"), "has no 'image'"),
        (lambda person: person.update(joints=[[500, 500]] * 16, joints_vis=[1] * 16), "labeled keypoint .* outside"),
        (lambda person: person.clear(), "has no 'image'"),
    ],
)
def test_a_damaged_person_is_named_when_it_is_read_and_only_then(damage, edit, message):
    dataset = damage(lambda people: edit(people[1]))
    samples, errors = [], []
    for number in range(len(dataset)):
        try:
            samples.append(dataset[number])
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) == 1 and samples
    assert re.search(message, errors[0])
    assert "mpii_val.json: annotation 1" in errors[0]


def test_what_concerns_all_people_stops_the_constructor(mpii, damage):
    with pytest.raises(FileNotFoundError, match=r"mpii_train\.json"):
        MpiiDataset(mpii)
    with pytest.raises(FileNotFoundError, match=r"heads\.mat"):
        MpiiDataset(mpii, **VAL, head_boxes="heads.mat")
    boxes = mpii / HEADS["head_boxes"]
    boxes.write_bytes(boxes.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"mpii_gt_val\.mat cannot be read"):
        MpiiDataset(mpii, **VAL, **HEADS)
    savemat(boxes, {"headboxes_src": np.zeros((2, 2, 3))})
    with pytest.raises(ValueError, match=r"shape \(2, 2, 3\).* belongs to mpii_val.json"):
        MpiiDataset(mpii, **VAL, **HEADS)
    (mpii / "images").rename(mpii / "photographs")
    with pytest.raises(FileNotFoundError, match="images: expected the images of MPII; check"):
        MpiiDataset(mpii, **VAL)
    with pytest.raises(ValueError, match="the test set has no keypoints"):
        damage(lambda people: [person.pop("joints") for person in people])
    (mpii / VAL["ann_file"]).write_text("[{")
    with pytest.raises(ValueError, match=r"mpii_val\.json is no readable JSON"):
        MpiiDataset(mpii, **VAL)


def test_the_samples_go_through_a_pipeline(shared):
    pipeline = [LoadImage(), DrawLabel({"type": "SkeletonCodec"})]
    dataset = MpiiDataset(shared / "samples/mpii", "test_mpii.json", ".", pipeline=pipeline)
    assert len(dataset) == 5
    assert all(sample["label"].shape == sample["img"].shape and sample["label"].any() for sample in dataset)


def test_a_person_that_is_listed_again_is_named_when_it_is_read(damage):
    dataset = damage(lambda people: people.append(dict(people[0])), head_boxes=None)
    last = len(dataset) - 1
    with pytest.raises(ValueError, match=rf"annotation {last} is person 0 again"):
        dataset[last]


def test_two_images_with_one_number_are_refused(damage):
    def rename(people):
        people[-1]["image"] = "more/" + people[0]["image"]

    with pytest.raises(ValueError, match=r"mpii_val\.json: image ids .* 15601 is there more than once"):
        damage(rename)
