"""Prompts: which pairs stand before which query, and what the evaluator finds in the sample."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from delvm_mm.datasets import VisionPromptDataset
from delvm_mm.datasets.image_features import ImageFeatures
from delvm_mm.registry import DATASETS
from helpers.layouts_people import write_voc


@DATASETS.register_module()
class LabeledGrays(Dataset):
    """Sample i: an image of gray level offset + i, its label of gray level 255 - i."""

    def __init__(self, count=10, offset=0, size=4, task="seg"):
        self.count, self.offset, self.size, self.task, self.reads = count, offset, size, task, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        shape = (self.size, self.size, 3)
        return {
            "img": np.full(shape, self.offset + index, np.uint8),
            "label": np.full(shape, 255 - index, np.uint8),
            "annotation": index,
            "task": self.task,
            "sample_idx": index,
            "img_path": f"{self.offset + index}.png",
        }


def levels(sample):
    assert (sample["inputs"] == sample["inputs"][:, :1, :1, :1]).all()
    return sample["inputs"][:, 0, 0, 0].tolist()


def test_a_sample_is_the_pairs_then_the_query():
    dataset = VisionPromptDataset(LabeledGrays(), LabeledGrays(5, offset=100), prompt_indices=[7, 2, 4])
    sample = dataset[3]
    assert sample["inputs"].dtype == torch.uint8 and sample["inputs"].shape == (7, 3, 4, 4)
    assert levels(sample) == [7, 248, 2, 253, 4, 251, 103]
    element = sample["data_samples"]
    assert element.metainfo == {"task": "seg", "sample_idx": 3, "img_path": "103.png", "prompt": (7, 2, 4)}
    assert element.annotation == 3 and (element.label_image == 252).all() and (element.query_image == 103).all()
    assert element.prompt_images.shape == (6, 4, 4, 3) and element.prompt_images.dtype == np.uint8
    assert len(dataset) == 5
    with pytest.raises(IndexError):
        dataset[5]


def test_fixed_shows_all_queries_the_same_pairs_and_reads_them_once():
    support = LabeledGrays()
    dataset = VisionPromptDataset(support, LabeledGrays(6), seed=1)
    prompts = {sample["data_samples"].prompt for sample in dataset}
    assert len(prompts) == 1 and len(set(prompts.pop())) == 3 and support.reads == 3
    assert len({VisionPromptDataset(support, LabeledGrays(6), seed=s).prompt_indices for s in range(5)}) > 1


def test_random_depends_on_seed_and_query_only():
    def prompts(order, seed=0):
        dataset = VisionPromptDataset(LabeledGrays(), LabeledGrays(6), selection="random", seed=seed)
        return {i: dataset[i]["data_samples"].prompt for i in order}

    assert prompts(range(6)) == prompts([5, 3, 1, 0, 2, 4]) != prompts(range(6), seed=1)
    assert len(set(prompts(range(6)).values())) > 1


@pytest.mark.parametrize("as_config", [True, False])
def test_a_query_never_sees_its_own_pair(as_config):
    clips = {"type": "LabeledGrays", "count": 4} if as_config else LabeledGrays(4)
    dataset = VisionPromptDataset(clips, clips, selection="random")
    assert len(dataset) == 4
    for index in range(4):
        assert sorted(dataset[index]["data_samples"].prompt) == [i for i in range(4) if i != index]
    fixed = VisionPromptDataset(clips, clips, prompt_indices=[0, 2, 3])
    assert [sample["data_samples"].sample_idx for sample in fixed] == [1]


@pytest.mark.parametrize("selection", ["fixed", "random"])
def test_workers_change_nothing(selection):
    config = {
        "type": "VisionPromptDataset",
        "support": {"type": "LabeledGrays"},
        "query": {"type": "LabeledGrays", "count": 6, "offset": 100},
        "selection": selection,
    }
    alone, shared = ([*DataLoader(DATASETS.build(config), batch_size=None, num_workers=n)] for n in (0, 2))
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_pairs": 11}, "num_pairs is 11, but the support dataset has 10 clips"),
        ({"num_pairs": 0}, "at least 1"),
        ({"selection": "best"}, "'fixed' or 'random'"),
        ({"seed": -1}, "seed"),
        ({"prompt_indices": [1, 2]}, "must be 3 different numbers"),
        ({"prompt_indices": [1, 2, 2]}, "must be 3 different numbers"),
        ({"prompt_indices": [1, 2, 10]}, "not all in the support dataset of 10"),
        ({"prompt_indices": [1, 2, 3], "selection": "random"}, "needs selection='fixed'"),
        ({"query": LabeledGrays(0)}, "query dataset is empty"),
    ],
)
def test_bad_arguments_say_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        VisionPromptDataset(**({"support": LabeledGrays(), "query": LabeledGrays(5)} | arguments))


def test_a_dataset_used_for_both_needs_one_clip_more():
    clips = LabeledGrays(3)
    with pytest.raises(ValueError, match="3 clips, one of which is the query"):
        VisionPromptDataset(clips, clips)


def test_images_that_do_not_fit_together_are_named():
    for query in (LabeledGrays(size=8), LabeledGrays(task="pose")):
        with pytest.raises(ValueError, match=r"support clip \d .* query 0 "):
            VisionPromptDataset(LabeledGrays(), query)[0]
    with pytest.raises(ValueError, match="sample 0 of the query dataset lacks img, label, annotation"):
        VisionPromptDataset(LabeledGrays(), [{"task": "seg"}])[0]


@pytest.mark.parametrize(
    "task, codec", [("seg", "ForegroundMaskCodec"), ("pose", "SkeletonCodec"), ("derain", "RestorationCodec")]
)
def test_every_task_of_the_procedural_scenes_makes_prompts(task, codec):
    scenes = {
        "type": "ProceduralScenes",
        "task": task,
        "size": 64,
        "length": 4,
        "pipeline": [{"type": "DrawLabel", "codec": {"type": codec}}],
    }
    dataset = VisionPromptDataset(scenes, scenes | {"start": 100}, num_pairs=2)
    sample = dataset[1]
    assert sample["inputs"].shape == (5, 3, 64, 64) and sample["data_samples"].task == task
    drawn = dataset.query.pipeline.transforms[0].codec.encode(sample["data_samples"].annotation)
    assert np.array_equal(drawn, sample["data_samples"].label_image)


class ClassGrays(LabeledGrays):
    """Sample i shows image ``images[i]`` (its name and gray level) under class ``classes[i]``."""

    def __init__(self, images, classes, names_images=True):
        super().__init__(len(images))
        self.images, self.class_ids = images, classes
        if names_images:
            self.img_paths = [f"{image}.png" for image in images]

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        sample["img"][:] = self.images[index]
        number = self.class_ids[index]
        return sample | {
            "img_path": f"{self.images[index]}.png",
            "class_id": number,
            "class_name": f"class {number}",
            "img_id": self.images[index],
            "id": 100 + index,
        }


def test_class_shows_pairs_of_the_querys_class():
    support = ClassGrays(range(12), [number % 3 for number in range(12)])
    query = ClassGrays(range(100, 106), [0, 1, 2, 0, 1, 2])
    prompts = {}
    for seed in (0, 1):
        dataset = VisionPromptDataset(support, query, selection="class", seed=seed)
        assert len(dataset) == 6
        prompts[seed] = [sample["data_samples"].prompt for sample in dataset]
        for number, prompt in enumerate(prompts[seed]):
            assert len(set(prompt)) == 3 and {support.class_ids[i] for i in prompt} == {number % 3}
        assert [dataset[i]["data_samples"].prompt for i in (3, 0)] == [prompts[seed][i] for i in (3, 0)]
    assert prompts[0] != prompts[1] and prompts[0][0] != prompts[0][3], "by seed and query"


def test_the_sample_says_class_and_numbers_of_the_query():
    support = ClassGrays(range(9), [0, 1, 2] * 3)
    element = VisionPromptDataset(support, ClassGrays([50], [1]), selection="class")[0]["data_samples"]
    for key, value in (("class_id", 1), ("class_name", "class 1"), ("img_id", 50), ("id", 100), ("img_path", "50.png")):
        assert element.metainfo[key] == value == element.to_dict()[key]


@pytest.mark.parametrize("selection", ["class", "random"])
@pytest.mark.parametrize("as_one", [True, False])
def test_a_query_never_sees_its_own_image_under_another_label(selection, as_one):
    """Four images with two objects each of one class: a query has three other images, six clips, to be shown."""
    images, classes = [0, 0, 1, 1, 2, 2, 3, 3], [5] * 8
    query = ClassGrays(images, classes)
    support = query if as_one else ClassGrays(images, classes)
    dataset = VisionPromptDataset(support, query, selection=selection, num_pairs=6)
    for number, sample in enumerate(dataset):
        own = {2 * (number // 2), 2 * (number // 2) + 1}
        assert sorted(sample["data_samples"].prompt) == sorted({*range(8)} - own)
    with pytest.raises(ValueError, match=r"query 3 \(1\.png.*\) can be shown 6 pairs of other images, expected 7"):
        VisionPromptDataset(support, query, selection=selection, num_pairs=7)[3]


def test_images_of_a_fixed_prompt_are_no_queries_where_their_names_are_known():
    images, classes = [0, 0, 1, 1, 2, 2, 3, 3], [1, 2] * 4
    both = [ClassGrays(images, classes), ClassGrays(images, classes)]
    dataset = VisionPromptDataset(*both, num_pairs=2, prompt_indices=[0, 5])
    assert dataset.query_indices.tolist() == [2, 3, 6, 7]
    same = VisionPromptDataset(both[0], both[0], num_pairs=2, prompt_indices=[0, 5])
    assert same.query_indices.tolist() == [2, 3, 6, 7]
    nameless = ClassGrays(images, classes, names_images=False)
    assert len(VisionPromptDataset(nameless, nameless, num_pairs=2, prompt_indices=[0, 5])) == 6


@pytest.mark.parametrize(
    "support, query, message",
    [
        (LabeledGrays(9), ClassGrays([0], [1]), "of the support dataset, and LabeledGrays has none"),
        (ClassGrays(range(9), [1] * 9), LabeledGrays(2), "of the query dataset, and LabeledGrays has none"),
        (ClassGrays(range(9), [1] * 8), ClassGrays([0], [1]), "each of its 9 samples, .* has 8"),
        (ClassGrays(range(9), [1] * 7 + [2] * 2), ClassGrays([0, 1], [1, 2]), r"too few .* \{2: 2\}"),
        (ClassGrays(range(9), [1] * 9), ClassGrays([0, 1], [1, 3]), r"too few .* \{3: 0\}"),
    ],
)
def test_class_selection_says_what_is_missing(support, query, message):
    with pytest.raises(ValueError, match=message):
        VisionPromptDataset(support, query, selection="class")
    with pytest.raises(ValueError, match="with 'class' the pairs are drawn"):
        VisionPromptDataset(LabeledGrays(), LabeledGrays(), selection="class", prompt_indices=[1, 2, 3])


def test_one_dataset_for_both_needs_a_clip_more_of_each_class():
    clips = ClassGrays(range(7), [1, 1, 1, 1, 2, 2, 2])
    with pytest.raises(ValueError, match=r"too few .* \{2: 3\}, one of which is the query"):
        VisionPromptDataset(clips, clips, selection="class")


def test_samples_of_unknown_class_neither_stop_the_dataset_nor_are_shown():
    """They are damaged: reading them says so, as one query's error."""

    class Damaged(ClassGrays):
        def __getitem__(self, index):
            if self.class_ids[index] < 0:
                raise ValueError(f"{self.images[index]}.png is damaged")
            return super().__getitem__(index)

    support = Damaged(range(10, 15), [1, 1, -1, 1, -1])
    dataset = VisionPromptDataset(support, Damaged([0, 1], [-1, 1]), selection="class")
    with pytest.raises(ValueError, match=r"0\.png is damaged"):
        dataset[0]
    assert sorted(dataset[1]["data_samples"].prompt) == [0, 1, 3]


def test_a_fold_of_pascal_makes_prompts_of_the_querys_class(tmp_path):
    root = write_voc(tmp_path, 20, 6, class_of=lambda number: (number % 5 + 1,))
    pipeline = [
        {"type": "LoadImage"},
        {"type": "ResizeShortSide", "size": 32},
        {"type": "CenterCrop", "size": 32},
        {"type": "DrawLabel", "codec": {"type": "ForegroundMaskCodec"}},
    ]
    fold = {"type": "Pascal5iDataset", "data_root": str(root), "fold": 0, "pipeline": pipeline}
    dataset = VisionPromptDataset(fold | {"split": "train", "classes": "held_out"}, fold, selection="class")
    assert len(dataset) == 6
    for number, sample in enumerate(dataset):
        element = sample["data_samples"]
        assert element.class_id == number % 5 + 1
        assert {dataset.support.class_ids[index] for index in element.prompt} == {element.class_id}
        assert sample["inputs"].shape == (7, 3, 32, 32)


class Stripes:
    """Clips of 8x8 images of given gray levels, one a 4x4 patch: the tokens of GrayLevelTokenizer."""

    def __init__(self, *levels):
        self.levels = levels

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, number):
        gray = np.kron(np.array(self.levels[number]).reshape(2, 2), np.ones((4, 4)))
        image = np.repeat((gray * 17).astype(np.uint8)[..., None], 3, -1)
        return dict(img=image, label=image, annotation=number, task="seg", img_path=f"{self.levels[number]}")


def test_nearest_shows_the_pairs_with_most_codes_of_the_query_the_nearest_last(tokenizer):
    support = Stripes((0, 0, 0, 0), (1, 2, 9, 9), (1, 2, 3, 9), (4, 3, 2, 1), (1, 1, 1, 1))
    query = Stripes((1, 2, 3, 4), (0, 0, 0, 1))
    dataset = VisionPromptDataset(support, query, num_pairs=3, selection="nearest", tokenizer=tokenizer)
    # Codes in common with (1, 2, 3, 4): 0, 2, 3, 4, 1; with (0, 0, 0, 1): 3, 1, 1, 1, 1.
    assert [dataset[index]["data_samples"].prompt for index in range(2)] == [(1, 2, 3), (2, 1, 0)]
    assert dataset.choice == dict(
        selection="nearest",
        num_pairs=3,
        seed=0,
        prompt_indices=None,
        features="CodebookHistograms",
        same_class=False,
        diversity=0.0,
    )


def test_nearest_never_shows_the_query_itself(tokenizer):
    clips = Stripes((1, 2, 3, 4), (1, 2, 3, 5), (9, 9, 9, 9))
    dataset = VisionPromptDataset(clips, clips, num_pairs=2, selection="nearest", tokenizer=tokenizer)
    assert [dataset[index]["data_samples"].prompt for index in range(3)] == [(2, 1), (2, 0), (1, 0)]


def test_nearest_and_a_tokenizer_go_together(tokenizer):
    clips = Stripes((1, 2, 3, 4), (1, 2, 3, 5))
    for arguments in ({"selection": "nearest"}, {"selection": "random", "tokenizer": tokenizer}):
        with pytest.raises(ValueError, match="tokenizer is for selection='nearest'"):
            VisionPromptDataset(clips, clips, num_pairs=1, **arguments)


class Angles(ImageFeatures):
    """An image of gray level g is the direction of g degrees; alike by the cosine."""

    fingerprint = "angles"

    def extract(self, images):
        angle = images[:, 0, 0, 0].float().deg2rad()
        return torch.stack((angle.cos(), angle.sin()), 1)

    def likeness(self, features, of):
        return features @ of


def test_diverse_pairs_are_those_of_an_independent_greedy_search():
    grays = np.random.RandomState(0).randint(0, 180, 12).tolist()
    support, query, weight = ClassGrays(grays, [0] * 12), ClassGrays([90, 20], [0, 0]), 0.6
    dataset = VisionPromptDataset(
        support, query, num_pairs=5, selection="nearest", features=Angles("cpu"), diversity=weight
    )

    def cosine(a, b):
        return np.cos(np.deg2rad(a - b))

    for index, level in enumerate((90, 20)):
        chosen = []
        while len(chosen) < 5:
            rest = [n for n in range(12) if n not in chosen]
            gain = [
                (1 - weight) * cosine(grays[n], level)
                - weight * max((cosine(grays[n], grays[c]) for c in chosen), default=0)
                for n in rest
            ]
            chosen.append(rest[int(np.argmax(gain))])
        assert dataset[index]["data_samples"].prompt == tuple(chosen[::-1])
        plain = VisionPromptDataset(support, query, num_pairs=5, selection="nearest", features=Angles("cpu"))
        assert set(plain[index]["data_samples"].prompt) != set(chosen)


def test_an_image_that_may_not_be_shown_does_not_count_as_shown():
    # The query's own image stands first in the order, under another label; it must not push its neighbors away.
    support, query = ClassGrays([90, 89, 60, 0], [0] * 4), ClassGrays([90], [0])
    dataset = VisionPromptDataset(
        support, query, num_pairs=1, selection="nearest", features=Angles("cpu"), diversity=0.9
    )
    assert dataset[0]["data_samples"].prompt == (1,)


def test_the_nearest_can_be_of_the_class_of_the_query_alone():
    support, query = ClassGrays([90, 80, 70, 10], [0, 1, 1, 0]), ClassGrays([88], [1])
    arguments = dict(num_pairs=2, selection="nearest", features=Angles("cpu"))
    assert VisionPromptDataset(support, query, **arguments)[0]["data_samples"].prompt == (1, 0)
    same = VisionPromptDataset(support, query, same_class=True, **arguments)
    assert same[0]["data_samples"].prompt == (2, 1)
    with pytest.raises(ValueError, match="selection='nearest' with same_class needs class_ids"):
        VisionPromptDataset(LabeledGrays(), LabeledGrays(), same_class=True, **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(selection="random", diversity=0.5), "diversity is for selection='nearest', and selection is 'random'"),
        (dict(selection="class", same_class=True), "same_class is for"),
        (dict(selection="nearest", features=Angles("cpu"), diversity=1), "diversity is 1, expected 0"),
        (dict(selection="nearest", features=Angles("cpu"), tokenizer="folder"), "got tokenizer and features"),
        (dict(selection="nearest"), "got none of them"),
    ],
)
def test_arguments_that_do_not_go_together_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        VisionPromptDataset(LabeledGrays(), LabeledGrays(), **arguments)


def test_the_choice_of_a_fixed_prompt_names_its_pairs():
    clips = Stripes((1, 2, 3, 4), (1, 2, 3, 5), (9, 9, 9, 9))
    dataset = VisionPromptDataset(clips, clips, num_pairs=1, prompt_indices=[2])
    assert dataset.choice == dict(selection="fixed", num_pairs=1, seed=0, prompt_indices=[2])
