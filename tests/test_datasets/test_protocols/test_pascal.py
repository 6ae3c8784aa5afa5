"""Bar et al.'s queries and few-shot episodes: drawn again in the words of the public code, and scored again."""

import numpy as np
import pytest
import torchvision
from PIL import Image

from delvm_mm.codecs import ForegroundMaskCodec, SquashedCodec
from delvm_mm.datasets import NearestPascalEpisodes, PascalEpisodes
from delvm_mm.datasets.image_features import ImageFeatures
from delvm_mm.evaluation import VisionPromptEvaluator
from helpers.layouts_protocols import write_voc_with_lists

MASK = dict(type="ForegroundMaskCodec")


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return write_voc_with_lists(tmp_path_factory.mktemp("protocol"), images_of_class=4)


def episodes(voc, **arguments):
    arguments = dict(codec=MASK, size=16) | arguments
    return PascalEpisodes(voc[0], voc[1], **arguments)


def drawn_again(lines, shots, number):
    """Query and supports of each episode: numpy's global stream, seeded with 0 for each fold."""
    pairs = [line.split("__") for line in lines]
    by_class = {}
    for name, label in pairs:
        by_class.setdefault(label, []).append(name)
    state = np.random.get_state()
    np.random.seed(0)
    result = []
    for index in range(number):
        query, label = pairs[index % len(pairs)]
        supports = []
        while len(supports) < shots:
            name = np.random.choice(by_class[label], 1, replace=False)[0]
            if name != query:
                supports.append(str(name))
        result.append((query, supports))
    np.random.set_state(state)
    return result


@pytest.mark.parametrize("shots", [1, 3])
def test_draws_are_those_of_the_public_code_over_the_wrap_round(voc, shots):
    dataset = episodes(voc, num_pairs=shots)
    assert len(dataset) == 4000
    for fold in range(4):
        lines = (voc[1] / f"fold{fold}.txt").read_text().split()
        own = [
            (each.query["img_id"], [support["img_id"] for support in each.supports])
            for each in dataset.episodes[1000 * fold : 1000 * (fold + 1)]
        ]
        assert own == drawn_again(lines, shots, 1000)
        assert [query for query, _ in own[:20]] == [query for query, _ in own[20:40]], "the list comes round"
        assert [pairs for _, pairs in own[:20]] != [pairs for _, pairs in own[20:40]], "and the draws go on"
    if shots == 3:
        assert any(len(set(pairs)) < 3 for _, pairs in own), "a pair may come twice"


def test_the_published_lists_have_the_published_draws(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("delvm_mm.datasets.protocols.pascal.require_files", lambda *_: None)
    lists = shared / "protocols" / "pascal" / "val"
    dataset = PascalEpisodes(tmp_path, lists, codec=MASK)
    for fold, number in enumerate((346, 451, 725, 346)):
        lines = (lists / f"fold{fold}.txt").read_text().split()
        assert len(lines) == number
        own = [each.query["img_id"] for each in dataset.episodes[1000 * fold : 1000 * fold + 1000]]
        again = drawn_again(lines, 1, 1000)
        assert own == [query for query, _ in again] and own[number] == lines[0].split("__")[0]
        supports = [each.supports[0]["img_id"] for each in dataset.episodes[1000 * fold : 1000 * fold + 1000]]
        assert supports == [pairs[0] for _, pairs in again]


def test_a_look_at_the_first_queries_sees_the_same(voc):
    whole, short = episodes(voc, folds=2), episodes(voc, folds=2, num_queries=25)
    assert short.episodes == whole.episodes[:25]
    assert [each.query["fold"] for each in episodes(voc, folds=(3, 1), num_queries=2).episodes] == [3, 3, 1, 1]


def test_a_sample_shows_pairs_and_query_squashed(voc):
    dataset = episodes(voc, num_pairs=2, size=24)
    sample = dataset[7]
    episode = dataset.episodes[7]
    shown = sample["inputs"].permute(0, 2, 3, 1).numpy()
    files = [episode.supports[0]["img_path"], episode.supports[1]["img_path"], episode.query["img_path"]]
    for image, path in zip(shown[::2], files, strict=True):
        wanted = torchvision.transforms.Resize((24, 24), torchvision.transforms.InterpolationMode.BICUBIC)(
            Image.open(path)
        )
        assert np.array_equal(image, np.array(wanted))
    labels = np.array(Image.open(episode.query["seg_map_path"]))
    truth = sample["data_samples"]
    assert np.array_equal(truth.annotation, labels == episode.query["class_id"]) and 255 in labels
    assert truth.fold == 0 and truth.class_id == episode.query["class_id"] and truth.sample_idx == 7
    assert truth.prompt == episode.positions and len(truth.prompt_images) == 4
    answered = episodes(voc, num_pairs=2, size=24, answered=True)[7]["inputs"]
    assert np.array_equal(answered[:5], sample["inputs"])
    assert np.array_equal(answered[5].permute(1, 2, 0), truth.label_image)


def score(dataset, codec, over, answers):
    evaluator = VisionPromptEvaluator(codec, dict(type="FoldIoUMetric", over=over), ceiling=False, trivial=False)
    for index, answer in enumerate(answers):
        sample = dataset[index]["data_samples"]
        sample.pred_image = answer
        evaluator.process([sample])
    return evaluator.evaluate(len(answers))


def test_scores_of_bar_are_those_by_hand(voc):
    """Squashed to 111, border as background, rounded, mean over queries, then over folds."""
    codec = SquashedCodec(MASK, 111)
    dataset = episodes(voc, codec=codec, num_queries=23)
    random = np.random.default_rng(0)
    answers = [random.integers(0, 256, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(len(dataset))]
    resize = torchvision.transforms.Resize((111, 111), torchvision.transforms.InterpolationMode.BICUBIC)
    of_query = []
    for episode, answer in zip(dataset.episodes, answers, strict=True):
        labels = np.array(Image.open(episode.query["seg_map_path"]))
        labels[labels != episode.query["class_id"]] = 0
        labels[labels == episode.query["class_id"]] = 255
        truth = np.array(resize(Image.fromarray(labels))) >= 128
        given = np.array(resize(Image.fromarray(answer))).astype(float)
        ours = ((given - 255) ** 2).sum(2) < (given**2).sum(2)
        of_query.append(100 * (truth & ours).sum() / (truth | ours).sum())
    of_fold = [np.mean(of_query[23 * fold : 23 * fold + 23]) for fold in range(4)]
    scores = score(dataset, codec, "queries", answers)
    assert scores == {"IoU": pytest.approx(np.mean(of_fold))} | {
        f"IoU_fold{fold}": pytest.approx(of_fold[fold]) for fold in range(4)
    }


def test_few_shot_scores_are_those_by_hand(voc):
    """400 px, nearest truth, border ignored, sums over a class, mean over classes; foreground and background."""
    codec = SquashedCodec(MASK, 400, truth="nearest")
    dataset = episodes(voc, codec=codec, num_queries=21, border="ignored", folds=(0, 2))
    random = np.random.default_rng(1)
    answers = [random.integers(0, 256, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(len(dataset))]
    sums = {}
    for episode, answer in zip(dataset.episodes, answers, strict=True):
        labels = np.array(Image.open(episode.query["seg_map_path"]))
        places = [np.floor(np.arange(400) * side / 400).astype(int) for side in labels.shape]
        labels = labels[np.ix_(*places)]
        counts, truth = labels != 255, labels == episode.query["class_id"]
        ours = np.array(Image.fromarray(answer).resize((400, 400), Image.Resampling.BICUBIC)).mean(2) > 127.5
        own = sums.setdefault(episode.query["fold"], {}).setdefault(episode.query["class_id"], np.zeros(4))
        own += [
            (truth & ours & counts).sum(), ((truth | ours) & counts).sum(),
            (~truth & ~ours & counts).sum(), ((~truth | ~ours) & counts).sum(),
        ]  # fmt: skip
    wanted = {"mIoU": [], "FB-IoU": []}
    for of_class in sums.values():
        assert len(of_class) == 5
        wanted["mIoU"].append(100 * np.mean([own[0] / own[1] for own in of_class.values()]))
        both = sum(of_class.values())
        wanted["FB-IoU"].append(100 * np.mean([both[0] / both[1], both[2] / both[3]]))
    scores = score(dataset, codec, "classes", answers)
    for name, (first, second) in wanted.items():
        assert scores[name] == pytest.approx((first + second) / 2)
        assert scores[f"{name}_fold0"] == pytest.approx(first) and scores[f"{name}_fold2"] == pytest.approx(second)
    plain = score(episodes(voc, codec=codec, num_queries=21, folds=(0, 2)), codec, "classes", answers)
    assert plain["mIoU"] != pytest.approx(scores["mIoU"]), "the border makes a difference here"


def test_bad_lists_are_refused(voc, tmp_path):
    root, _ = voc
    lists = tmp_path / "lists"
    lists.mkdir()

    def refused(line, kind, message, **arguments):
        (lists / "fold1.txt").write_text(line)
        with pytest.raises(kind, match=message):
            PascalEpisodes(root, lists, folds=1, codec=MASK, **arguments)

    refused("2008_010000__01\n", ValueError, r"class 1 is not of fold 1, which has \[6, 7, 8, 9, 10\]")
    refused("2008_010000\n", ValueError, "has the line '2008_010000'")
    refused("2008_010000__21\n", ValueError, "has the line '2008_010000__21'")
    refused("", ValueError, "fold1.txt is empty")
    gone = "".join(f"gone_{number}__06\n" for number in range(7))
    refused(
        gone, FileNotFoundError, r"names 7 images, of which 7 are missing: .*gone_0.jpg, .*gone_4.jpg, \.\.\.; copy"
    )
    one = "2008_010000__06\n2008_010001__07\n2008_010005__06\n"
    refused(one, ValueError, "1 pairs are asked for, but class car of .*fold1.txt has 0 images besides 2008_010001")
    refused(one, ValueError, "2 pairs are asked for, but class bus .* has 1 images besides", num_pairs=2)
    with pytest.raises(FileNotFoundError, match=r"no list at .*fold0\.txt"):
        PascalEpisodes(root, lists, folds=0, codec=MASK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(folds=(0, 4)), r"folds are \(0, 4\)"), (dict(folds=(1, 1)), "each once"), (dict(border="no"), "'no'"),
        (dict(num_pairs=0), "num_pairs is 0"), (dict(seed=-1), "seed is -1"), (dict(num_queries=0), "num_queries is 0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(voc, arguments, message):
    with pytest.raises(ValueError, match=message):
        episodes(voc, **arguments)


def test_a_label_map_of_another_size_is_named(tmp_path):
    voc = write_voc_with_lists(tmp_path, images_of_class=2)
    dataset = episodes(voc, num_queries=1)
    path = dataset.episodes[0].query["seg_map_path"]
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"\.png is a label map of 8x9 pixels, its image .*\.jpg has"):
        dataset[0]
    assert isinstance(dataset.codec, ForegroundMaskCodec)


class MeanColors(ImageFeatures):
    """Images are alike whose mean colors are near."""

    fingerprint = "mean colors"

    def extract(self, images):
        return images.float().mean((2, 3))

    def likeness(self, features, of):
        return -np.linalg.norm(features - of, axis=1)


@pytest.mark.parametrize("same_class", [False, True])
def test_nearest_pairs_are_those_of_all_distances(voc, same_class):
    root, lists = voc
    dataset = NearestPascalEpisodes(
        root, lists, lists, MeanColors("cpu"), same_class, codec=MASK, size=16, num_pairs=2, folds=(1, 2)
    )
    assert len(dataset) == 40 and dataset.choice["same_class"] == same_class

    def color(name):
        image = Image.open(root / "JPEGImages" / f"{name}.jpg").resize((16, 16), Image.Resampling.BICUBIC)
        return np.array(image).mean((0, 1))

    for fold, episodes_of_fold in ((1, dataset.episodes[:20]), (2, dataset.episodes[20:])):
        lines = [line.split("__") for line in (lists / f"fold{fold}.txt").read_text().split()]
        for (query, label), episode in zip(lines, episodes_of_fold, strict=True):
            others = [name for name, other in lines if name != query and (not same_class or other == label)]
            nearest = sorted(others, key=lambda name, query=query: np.linalg.norm(color(name) - color(query)))[:2]
            assert episode.query["img_id"] == query and episode.query["fold"] == fold
            assert [pair["img_id"] for pair in episode.supports] == nearest[::-1], "the most alike comes last"
    short = NearestPascalEpisodes(root, lists, lists, MeanColors("cpu"), codec=MASK, size=16, num_queries=3)
    assert [each.query["fold"] for each in short.episodes] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    with pytest.raises(ValueError, match=r"4 pairs are asked for, but .*fold0.txt has 3 images of class aeroplane"):
        NearestPascalEpisodes(root, lists, lists, MeanColors("cpu"), True, codec=MASK, size=16, num_pairs=4)
