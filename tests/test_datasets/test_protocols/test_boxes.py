"""Single-object detection: which images, which draws, and the score again by hand."""

import cv2
import numpy as np
import pytest
import torchvision
from PIL import Image

from delvm_mm.codecs import SquashedCodec
from delvm_mm.datasets import BoxEpisodes
from delvm_mm.datasets.protocols.boxes import read_voc_boxes
from delvm_mm.evaluation import VisionPromptEvaluator
from helpers.layouts_protocols import write_voc_annotation, write_voc_boxes

BOX = dict(type="BoxCodec")


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return write_voc_boxes(tmp_path_factory.mktemp("boxes"), number=24)


def kept(voc, split):
    """Names and classes of the images with one object below a fifth, read without the reader."""
    result = []
    for name in (voc / f"ImageSets/Main/{split}.txt").read_text().split():
        text = (voc / f"Annotations/{name}.xml").read_text()

        def number(key, text=text):
            return int(text.split(f"<{key}>")[1].split("<")[0])

        area = (number("xmax") - number("xmin") + 1) * (number("ymax") - number("ymin") + 1)
        if text.count("<object>") == 1 and area < 0.2 * number("width") * number("height"):
            result.append((name, text.split("<name>")[1].split("<")[0]))
    return result


def test_queries_have_one_small_object_and_draws_are_those_of_the_public_code(voc):
    queries, supports = kept(voc, "val"), kept(voc, "train")
    assert 5 < len(queries) < 24 - 6
    dataset = BoxEpisodes(voc, codec=BOX, size=16)
    state = np.random.get_state()
    np.random.seed(0)
    wanted = []
    for name, label in queries:
        assert np.random.choice([label]) == label
        indices = np.arange(len(supports))
        np.random.shuffle(indices)
        first = next(index for index in indices if supports[index][1] == label)
        wanted.append((name, supports[first][0]))
    np.random.set_state(state)
    own = [(each.query["img_id"], each.supports[0]["img_id"]) for each in dataset.episodes]
    assert own == wanted
    more = BoxEpisodes(voc, codec=BOX, num_pairs=3, num_queries=4)
    assert [each.supports[0]["img_id"] for each in more.episodes] == [support for _, support in wanted[:4]]
    assert all(len({pair["img_id"] for pair in each.supports}) == 3 for each in more.episodes)


def test_a_label_is_the_filled_box(voc):
    dataset = BoxEpisodes(voc, codec=BOX, size=16)
    entry = dataset.read(dataset.episodes[0].query)
    (box,) = entry["bbox"]
    text = (voc / f"Annotations/{entry['img_id']}.xml").read_text()
    x1, y1, x2, y2 = (int(text.split(f"<{key}>")[1].split("<")[0]) for key in ("xmin", "ymin", "xmax", "ymax"))
    assert box.tolist() == [x1 - 1, y1 - 1, x2, y2], "VOC counts from 1, both ends included"
    drawn = dataset.codec.encode(dataset.codec.annotation_of(entry))
    assert (drawn[y1 - 1 : y2, x1 - 1 : x2] == 255).all() and drawn.sum() == 255 * 3 * (x2 - x1 + 1) * (y2 - y1 + 1)


def test_scores_are_those_by_hand(voc):
    codec = SquashedCodec(BOX, 111, interpolation="bilinear")
    dataset = BoxEpisodes(voc, codec=codec, size=16, interpolation="bilinear")
    evaluator = VisionPromptEvaluator(codec, dict(type="FoldIoUMetric"), ceiling=False, trivial=False)
    resize = torchvision.transforms.Resize((111, 111))
    random, wanted = np.random.default_rng(0), []
    for index, episode in enumerate(dataset.episodes):
        answer = random.integers(0, 256, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        sample = dataset[index]["data_samples"]
        sample.pred_image = answer
        evaluator.process([sample])
        image = np.zeros(np.array(Image.open(episode.query["img_path"])).shape, np.uint8)
        for x1, y1, x2, y2 in np.array(episode.query["boxes"], int):
            image[y1:y2, x1:x2] = 255
        truth = np.array(resize(Image.fromarray(image)))[..., 0] >= 128
        white = (np.array(resize(Image.fromarray(answer))).astype(float).sum(2) > 1.5 * 255).astype(np.uint8)
        count, labels = cv2.connectedComponents(white)
        filled = np.zeros_like(truth)
        if count > 1:
            largest = 1 + np.argmax([(labels == number).sum() for number in range(1, count)])
            rows, columns = np.nonzero(labels == largest)
            filled[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        wanted.append(100 * (truth & filled).sum() / (truth | filled).sum())
    assert evaluator.evaluate(len(wanted)) == {"IoU": pytest.approx(np.mean(wanted))} and np.mean(wanted) > 1


def test_listed_supports_belong_to_the_queries_one_by_one(voc, tmp_path):
    queries = kept(voc, "val")
    train = (voc / "ImageSets/Main/train.txt").read_text().split()
    path = tmp_path / "supports.txt"
    path.write_text("\n".join(train[: len(queries)]) + "\n")
    dataset = BoxEpisodes(voc, supports=path, pairing="listed", codec=BOX)
    assert [each.supports[0]["img_id"] for each in dataset.episodes] == train[: len(queries)]
    path.write_text("\n".join(train[: len(queries) - 1]) + "\n")
    message = rf"names {len(queries) - 1} supports, but .*val.txt has {len(queries)} images"
    with pytest.raises(ValueError, match=message):
        BoxEpisodes(voc, supports=path, pairing="listed", codec=BOX)
    with pytest.raises(ValueError, match="one pair for each query, num_pairs is 2"):
        BoxEpisodes(voc, supports=path, pairing="listed", codec=BOX, num_pairs=2)


def test_bad_input_is_refused(voc, tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("2010_000000__03\ngone__03\n")
    with pytest.raises(FileNotFoundError, match=r"names 2 images, of which 1 are missing: .*gone.jpg;"):
        BoxEpisodes(voc, queries=path, codec=BOX)
    path.write_text("2010_000003\n")
    with pytest.raises(ValueError, match=r"names no image with exactly one object below 0.2"):
        BoxEpisodes(voc, queries=path, codec=BOX)
    path.write_text("2009_000000\n")
    with pytest.raises(ValueError, match=r"1 pairs are asked for, but .*some.txt has 0 images of class bicycle"):
        BoxEpisodes(voc, supports=path, codec=BOX)
    for arguments, message in ((dict(pairing="near"), "'near'"), (dict(max_area=0), "max_area is 0")):
        with pytest.raises(ValueError, match=message):
            BoxEpisodes(voc, codec=BOX, **arguments)
    (tmp_path / "Annotations").mkdir()
    write_voc_annotation(tmp_path, "odd", ["unicorn"], [(1, 1, 5, 5)], (20, 20))
    write_voc_annotation(tmp_path, "empty", [], [], (20, 20))
    for name in ("odd", "empty"):
        with pytest.raises(ValueError, match=f"{name}.xml is no annotation of VOC 2012"):
            read_voc_boxes(tmp_path / f"Annotations/{name}.xml")
