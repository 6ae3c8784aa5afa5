"""COCO keypoints as pycocotools reads them, and what happens where an annotation is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS
from delvm_mm.datasets import CenterCrop, DrawLabel, LoadImage, ResizeShortSide
from delvm_mm.datasets.readers.coco_pose import CocoPoseDataset
from helpers.layouts_names import COMPOSED, DECOMPOSED, turn_by_exif
from helpers.layouts_people import write_coco_pose


@pytest.fixture
def coco(tmp_path):
    return write_coco_pose(tmp_path)


@pytest.fixture
def damage(coco):
    """Change the annotation file; gives the data set of single people."""

    def change(edit, **arguments):
        content = json.loads(coco.read_text())
        edit(content)
        coco.write_text(json.dumps(content))
        return CocoPoseDataset(coco.parents[1], **({"per_person": True} | arguments))

    return change


def test_a_sample_is_an_image_with_its_people_as_pycocotools_has_them(coco, capsys):
    dataset = CocoPoseDataset(coco.parents[1])
    assert capsys.readouterr().out == "", "pycocotools is kept quiet"
    oracle = COCO(coco)
    assert len(dataset) == 3, "the last of the four images shows nobody"
    for sample in dataset:
        people = [oracle.anns[number] for number in sample["id"]]
        wanted = oracle.getAnnIds(sample["img_id"], iscrowd=False)
        assert [person["id"] for person in people] == wanted
        triples = np.array([person["keypoints"] for person in people], float).reshape(-1, 17, 3)
        assert np.array_equal(sample["keypoints"], triples[..., :2])
        assert np.array_equal(sample["keypoints_visible"], triples[..., 2] > 0)
        assert sample["keypoints"].dtype == sample["keypoints_visible"].dtype == np.float32
        boxes = np.array([person["bbox"] for person in people])
        assert np.allclose(sample["bbox"], np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]))
        assert np.allclose(sample["area"], [person["area"] for person in people])
        assert sample["img_path"].endswith(oracle.imgs[sample["img_id"]]["file_name"]) and sample["task"] == "pose"


def test_every_person_can_be_a_sample(coco):
    images, people = (CocoPoseDataset(coco.parents[1], per_person=single) for single in (False, True))
    numbers = [number for sample in images for number in sample["id"]]
    assert [sample["id"] for sample in people] == numbers and len(numbers) > len(images)
    assert all(sample["keypoints"].shape == (1, 17, 2) and sample["bbox"].shape == (1, 4) for sample in people)


def test_people_with_few_keypoints_and_crowds_are_left_out(damage):
    def keep_two_keypoints(content):
        person = content["annotations"][0]
        person["keypoints"] = [30, 30, 1, 40, 40, 2] + [0] * 45
        content["annotations"][1]["keypoints"] = [0] * 51

    people = damage(keep_two_keypoints)
    ids = [sample["id"] for sample in people]
    crowds = [person["id"] for person in people._open().anns.values() if person["iscrowd"]]
    assert 200000 in ids and 200001 not in ids and crowds and not {*crowds} & {*ids}
    assert people[0]["keypoints_visible"].sum() == 2, "hidden (1) and seen (2) keypoints are both visible"
    assert 200000 not in [sample["id"] for sample in damage(lambda content: None, min_keypoints=3)]


def test_a_keypoint_a_little_outside_is_not_visible_and_one_far_outside_is_damage(damage, coco):
    """The images are 96 x 72: a tenth of the longer side is 9.6 pixels beyond the border at -0.5 or 95.5."""

    def place(x, y=20):
        def edit(content):
            content["annotations"][0]["keypoints"][:6] = [x, y, 2, 50, 20, 2]

        return edit

    assert damage(place(95))[0]["keypoints_visible"][0, :2].tolist() == [1, 1]
    for x, y in ((96, 20), (105, 20), (-10, 20), (20, 72), (20, 81)):
        sample = damage(place(x, y))[0]
        assert sample["keypoints_visible"][0, :2].tolist() == [0, 1], (x, y)
    for x, y in ((106, 20), (-11, 20), (20, 82), (20, -11)):
        dataset = damage(place(x, y))
        with pytest.raises(
            ValueError, match=r"person_keypoints_train2017\.json: annotation 200000: labeled keypoint 0"
        ):
            dataset[0]
    assert dataset[1]["id"] != 200000, "the others can still be read"


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda person: person.update(image_id=5), "is of image 5, for which 'images' has no entry"),
        (lambda person: person.update(keypoints=[1, 2, 2] * 16), r"keypoints: got .* expected 51 numbers"),
        (lambda person: person.update(keypoints=[[1, 2, 2]] * 16 + [[1]]), "expected 51 numbers"),
        (lambda person: person.update(keypoints=["1"] * 51), "expected 51 numbers"),
        (lambda person: person.update(keypoints=None), "expected 51 numbers"),
        (lambda person: person.pop("keypoints"), "expected 51 numbers"),
        (lambda person: person["keypoints"].__setitem__(0, float("nan")), "expected finite numbers"),
        (lambda person: person["keypoints"].__setitem__(0, float("inf")), "expected finite numbers"),
        (lambda person: person["keypoints"].__setitem__(0, 10**400), "expected 51 numbers"),
        (lambda person: person["keypoints"].__setitem__(2, 7), "expected 0, 1 or 2"),
        (lambda person: person.update(bbox=[1, 2, 3]), "bbox: got .* expected 4 numbers"),
        (lambda person: person.update(bbox=[1, 2, 0, 5]), "expected a size above 0"),
        (lambda person: person.update(bbox=[1, 2, float("nan"), 5]), "bbox: got .* expected finite"),
        (lambda person: person.update(area="large"), "area: got .* expected 1 numbers"),
    ],
)
def test_a_damaged_annotation_is_named_when_it_is_read_and_only_then(damage, edit, message):
    dataset = damage(lambda content: edit(content["annotations"][0]))
    broken = [number for number in range(len(dataset)) if _fails(dataset, number)]
    assert len(broken) == 1 and len(dataset) > 2
    with pytest.raises(ValueError, match=message) as caught:
        dataset[broken[0]]
    assert "person_keypoints_train2017.json: annotation 200000" in str(caught.value)


def _fails(dataset, number):
    try:
        dataset[number]
    except (ValueError, OSError):
        return True
    return False


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "no readable JSON"),
        ("[]", "no COCO annotation file"),
        ("{}", "no COCO annotation file"),
        ('{"images": [{"id": 1}], "annotations": [{"id": 3}]}', "no COCO annotation file .*image_id"),
        ('{"images": [{"id": 1}], "annotations": []}', "has no person with 1 labeled keypoints"),
        ('{"images": [{"id": 1}], "annotations": [{"id": 3, "image_id": 1}]}', "has no keypoints"),
    ],
)
def test_a_broken_annotation_file_stops_the_constructor(coco, content, message):
    coco.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        CocoPoseDataset(coco.parents[1])
    assert str(coco) in str(caught.value)


def test_missing_files_and_bad_arguments_are_named(coco):
    with pytest.raises(FileNotFoundError, match=r"val2017\.json"):
        CocoPoseDataset(coco.parents[1], ann_file="annotations/person_keypoints_val2017.json")
    with pytest.raises(FileNotFoundError, match="val2017: expected the images of COCO; check"):
        CocoPoseDataset(coco.parents[1], img_dir="val2017")
    with pytest.raises(ValueError, match="min_keypoints"):
        CocoPoseDataset(coco.parents[1], min_keypoints=0)


def test_images_of_another_size_than_the_file_says_are_refused(coco):
    dataset = CocoPoseDataset(coco.parents[1])
    path = dataset[1]["img_path"]
    Image.open(path).resize((48, 36)).save(path)
    with pytest.raises(ValueError, match="48x36 pixels, where 'images' says 96x72"):
        dataset[1]


def test_a_damaged_image_is_left_to_the_one_who_reads_it(coco):
    dataset = CocoPoseDataset(coco.parents[1], pipeline=[LoadImage()])
    path = Path(dataset[0]["img_path"])
    for content in (b"", b"no image"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"\d{12}\.jpg"):
            dataset[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"\d{12}\.jpg"):
        dataset[0]


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_an_id_that_is_there_twice_is_refused_by_file_and_id(damage, part):
    def repeat(content):
        content[part].append(dict(content[part][0], file_name="another.jpg"))

    number = {"images": 1000, "annotations": 200000, "categories": 1}[part]
    with pytest.raises(ValueError, match=rf"person_keypoints_train2017\.json: {part} have ids, and {number} is there"):
        damage(repeat)


def test_keypoints_are_ordered_by_the_names_that_the_category_gives_them(coco, damage):
    """With two names that COCO does not have, without the nose, and in another order."""
    expected = CocoPoseDataset(coco.parents[1], per_person=True)[0]
    names = ["neck", *reversed(COCO_KEYPOINTS[1:]), "top of the head"]

    def reorder(content):
        content["categories"][0]["keypoints"] = [name.upper().replace("_", " ") for name in names]
        for person in content["annotations"]:
            of_name = dict(zip(COCO_KEYPOINTS, np.reshape(person["keypoints"], (17, 3)).tolist(), strict=True))
            person["keypoints"] = [value for name in names for value in of_name.get(name, [1, 1, 2])]

    sample = damage(reorder)[0]
    assert np.array_equal(sample["keypoints"][:, 1:], expected["keypoints"][:, 1:])
    assert np.array_equal(sample["keypoints_visible"][:, 1:], expected["keypoints_visible"][:, 1:])
    assert not sample["keypoints_visible"][:, 0].any() and not sample["keypoints"][:, 0].any()


def ap10k(content):
    """As AP-10K has it: 17 keypoints too, of an animal and in another order."""
    sides = [f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "elbow", "front_paw")]
    sides += [f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "back_paw")]
    names = ["left_eye", "right_eye", "nose", "neck", "root_of_tail", *sides]
    content["categories"].append({"id": 8, "name": "dog", "supercategory": "Canidae", "keypoints": names})


def test_animals_are_no_people(damage):
    def all_dogs(content):
        ap10k(content)
        for person in content["annotations"]:
            person["category_id"] = 8

    with pytest.raises(ValueError, match=r"train2017\.json has keypoints of 8 \(dog\) alone, which are not people"):
        damage(all_dogs)


def test_animals_among_people_are_left_out(damage):
    def one_dog(content):
        ap10k(content)
        content["annotations"][0]["category_id"] = 8

    ids = [sample["id"] for sample in damage(one_dog)]
    assert ids and 200000 not in ids


@pytest.mark.parametrize(
    "names, message",
    [
        (["left eye", "Left_Eye"], "category 1: keypoints left_eye are named twice"),
        (["head", "tail"], "category 1 names none of COCO's keypoints"),
    ],
)
def test_names_of_keypoints_that_say_nothing_are_refused(damage, names, message):
    with pytest.raises(ValueError, match=message):
        damage(lambda content: content["categories"][0].update(keypoints=names))


def test_a_category_that_is_not_listed_is_named(damage):
    dataset = damage(lambda content: content["annotations"][0].update(category_id=3))
    with pytest.raises(ValueError, match=r"annotation 200000 is of category 3, expected one of 'categories', \[1\]"):
        dataset[0]


def test_the_samples_go_through_a_pipeline_to_skeletons_on_the_people(shared):
    """COCO's own images: something is drawn wherever a wrist is visible after resizing and cropping."""
    codec = {"type": "SkeletonCodec", "radius": 4, "thickness": 2}
    dataset = CocoPoseDataset(
        shared / "samples/coco",
        ann_file="test_coco.json",
        img_dir=".",
        per_person=True,
        pipeline=[LoadImage(), ResizeShortSide(256), CenterCrop(256), DrawLabel(codec)],
    )
    people = json.loads((shared / "samples/coco/test_coco.json").read_text())["annotations"]
    assert len(dataset) == sum(person["num_keypoints"] > 0 and not person["iscrowd"] for person in people)
    wrist = COCO_KEYPOINTS.index("left_wrist")
    seen = [sample for sample in dataset if sample["keypoints_visible"][0, wrist]]
    assert seen
    for sample in seen:
        x, y = sample["keypoints"][0, wrist].round().astype(int)
        assert sample["label"][y, x].tolist() != [0, 0, 0]


def test_sizes_of_before_an_exif_orientation_are_named_as_such(coco):
    dataset = CocoPoseDataset(coco.parents[1])
    turn_by_exif(dataset.get_data_info(0)["img_path"])
    with pytest.raises(ValueError, match=r"where 'images' says \d+x\d+\. Its EXIF orientation.* turns it by a quarter"):
        dataset[0]
    assert "EXIF" not in _error(CocoPoseDataset(coco.parents[1]), 1, coco, width=7)


def _error(dataset, number, coco, **changes):
    """What a sample says whose entry in ``images`` is changed."""
    content = json.loads(coco.read_text())
    for image in content["images"]:
        image.update(changes)
    coco.write_text(json.dumps(content))
    with pytest.raises(ValueError) as error:
        CocoPoseDataset(dataset.data_root)[number]
    return str(error.value)


def test_sizes_as_text_are_named_as_such(coco):
    message = _error(CocoPoseDataset(coco.parents[1]), 0, coco, width="64")
    assert "gives width '64' and height" in message and "as text: expected whole numbers" in message


@pytest.mark.parametrize("forms", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_file_is_found_whatever_form_its_accents_have(coco, forms):
    content = json.loads(coco.read_text())
    named, on_disk = forms
    first = content["images"][0]
    path = coco.parents[1] / "train2017" / first["file_name"]
    path.rename(path.with_name(f"{on_disk}.jpg"))
    first["file_name"] = f"{named}.jpg"
    coco.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())  # with the mark of Windows' editors
    (sample,) = [
        sample
        for sample in CocoPoseDataset(coco.parents[1], pipeline=[dict(type="LoadImage")])
        if sample["img_id"] == first["id"]
    ]
    assert sample["img"].shape[:2] == (first["height"], first["width"])
