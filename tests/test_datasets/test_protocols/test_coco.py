"""COCO-20i: the class split, the draws, the masks."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from delvm_mm.datasets import CocoEpisodes
from helpers.layouts_protocols import write_coco_instances

MASK = dict(type="ForegroundMaskCodec")


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco_instances(tmp_path_factory.mktemp("coco"))


def test_classes_and_draws_are_those_of_the_public_code(coco):
    content = json.loads((coco / "annotations/instances_val2014.json").read_text())
    ids = sorted(each["id"] for each in content["categories"])
    files = {each["id"]: each["file_name"] for each in content["images"]}
    shown = {
        number: sorted(
            files[each["image_id"]]
            for each in content["annotations"]
            if each["category_id"] == ids[number] and not each["iscrowd"]
        )
        for number in range(80)
    }
    dataset = CocoEpisodes(coco, codec=MASK, size=16, num_pairs=2, num_queries=100)
    state = np.random.get_state()
    for fold in range(4):
        of_fold = dataset.episodes[100 * fold : 100 * fold + 100]
        np.random.seed(0)
        for episode in of_fold:
            number = np.random.choice([fold + 4 * step for step in range(20)], 1, replace=False)[0]
            query = np.random.choice(shown[number], 1, replace=False)[0]
            supports = []
            while len(supports) < 2:
                name = np.random.choice(shown[number], 1, replace=False)[0]
                if name != query:
                    supports.append(name)
            assert episode.query["class_id"] == number and episode.query["img_path"].endswith(str(query))
            assert [pair["img_path"].rpartition("/")[2] for pair in episode.supports] == supports
        assert {each.query["fold"] for each in of_fold} == {fold}
    np.random.set_state(state)


def test_a_mask_is_of_one_class_and_its_crowds_are_not_scored(coco):
    content = json.loads((coco / "annotations/instances_val2014.json").read_text())
    dataset = CocoEpisodes(coco, codec=MASK, size=16, folds=1, num_queries=3)
    for episode in dataset.episodes:
        sample = dataset.read(episode.query)
        (outline,) = [
            each["segmentation"][0]
            for each in content["annotations"]
            if each["image_id"] == episode.query["img_id"] and not each["iscrowd"]
        ]
        drawn = Image.new("L", sample["img"].shape[1::-1])
        ImageDraw.Draw(drawn).polygon(outline, fill=1)
        # Pillow fills the last row and column of a polygon too.
        assert abs(int(drawn.histogram()[1]) - int((sample["gt_seg_map"] == 1).sum())) <= sum(drawn.size)
        assert 255 not in sample["gt_seg_map"], "the crowd here is of another class"
        entry = episode.query | dict(class_id=(episode.query["class_id"] + 1) % 80)
        crowd = dataset.read(entry)["gt_seg_map"]
        assert (crowd == 255).sum() == 5 and crowd.sum() == 5 * 255


def test_bad_input_is_refused(coco, tmp_path):
    with pytest.raises(ValueError, match=r"3 pairs are asked for, but class thing\d+ of .* has 2 images besides"):
        CocoEpisodes(coco, codec=MASK, num_pairs=3)
    with pytest.raises(FileNotFoundError, match="no annotation file at"):
        CocoEpisodes(tmp_path, codec=MASK)
    with pytest.raises(FileNotFoundError, match=r"images of this protocol, of which \d+ are missing"):
        CocoEpisodes(coco, img_dir="gone", codec=MASK, num_queries=2)
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations/instances_val2014.json"
    path.write_text(json.dumps(dict(images=[], annotations=[dict(id=1, image_id=1, category_id=1)], categories=[])))
    with pytest.raises(ValueError, match="no file of COCO's instances"):
        CocoEpisodes(tmp_path, codec=MASK)
    content = json.loads((coco / "annotations/instances_val2014.json").read_text())
    content["annotations"] = [each for each in content["annotations"] if each["category_id"] != 1]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no image of thing0, classes of fold 0"):
        CocoEpisodes(tmp_path, codec=MASK)
