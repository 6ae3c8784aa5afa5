"""Sentences from images: the tokens of a store with augmented copies, another copy in every epoch."""

import pytest
import torch
from mmengine.dataset import Compose
from torch.utils.data import DataLoader

from delvm_mm.datasets import ImageSentenceDataset, SentenceSampler, VisualSentenceDataset
from delvm_mm.models import VQGAN
from delvm_mm.precompute import tokenize_clips
from delvm_mm.registry import DATASETS
from helpers.small_vqgan import SMALL_VQGAN

CLIP = 2 * 64  # an image and its label, 8 x 8 tokens each


@pytest.fixture(scope="module")
def vqgan():
    torch.manual_seed(0)
    tokenizer = VQGAN(**SMALL_VQGAN).eval()
    with torch.no_grad():  # random codes lie far from what the encoder writes, and most images would be one code
        tokenizer.quantize.embedding.weight.copy_(torch.randn_like(tokenizer.quantize.embedding.weight) * 0.2)
    return tokenizer


def scenes(task="seg", length=5, **settings):
    """Scenes with noise that is another one in each copy."""
    pipeline = [
        dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec" if task == "seg" else "RestorationCodec")),
        dict(type="AddNoise", std=(20, 60)),
        dict(type="PackClip", factor=4),
    ]
    return dict(type="ProceduralScenes", task=task, size=32, seed=0, length=length, pipeline=pipeline, **settings)


def test_epochs_are_the_augmented_copies_of_a_store(vqgan, tmp_path):
    store = tokenize_clips(DATASETS.build(scenes()), vqgan, tmp_path / "s", seed=3, num_augmented_copies=3)
    dataset = ImageSentenceDataset([scenes()], vqgan, context=2 * CLIP, seed=3)
    assert len(dataset) == 2 and dataset.sentence_length == 2 * CLIP and dataset.tasks == ["seg"]
    written = set()
    for index in range(6):
        sentence = dataset[index]
        assert sentence["data_samples"].epoch == index // 2
        assert tuple(sentence["data_samples"].clip_shape) == (2, 64)
        _, _, epoch, clips = dataset._place(index)
        expected = torch.cat([torch.from_numpy(store.read([epoch * 5 + clip]).astype("int64")) for clip in clips])
        # The last bits of a convolution depend on the size of the batch, and at the border a code on them.
        assert (sentence["inputs"] == expected).float().mean() > 0.99
        written.add(tuple(sentence["inputs"].tolist()))
    assert len(written) == 6


def test_a_store_of_the_same_clips_agrees_in_all_that_a_model_is_told(vqgan, tmp_path):
    tokenize_clips(DATASETS.build(scenes()), vqgan, tmp_path / "s")
    stored = VisualSentenceDataset([tmp_path / "s"], context=2 * CLIP)
    online = ImageSentenceDataset(scenes(), vqgan, context=2 * CLIP)
    assert online.metainfo == stored.metainfo
    assert online.sentences_per_store == stored.sentences_per_store


def test_workers_and_the_sampler_see_the_same_sentences(vqgan):
    dataset = ImageSentenceDataset([scenes(), scenes("derain", 7)], vqgan, context=2 * CLIP)
    sampler = SentenceSampler(dataset, scheme="resample")
    indices = [index for index, _ in zip(sampler, range(8), strict=False)]
    assert max(indices) >= len(dataset), "the second epoch is reached"
    loader = DataLoader(dataset, batch_size=2, sampler=indices, num_workers=1, collate_fn=list)
    read = [sentence["inputs"] for batch in loader for sentence in batch]
    assert torch.equal(torch.stack(read), torch.stack([dataset[index]["inputs"] for index in indices]))


@pytest.mark.parametrize(
    ("datasets", "context", "message"),
    [
        ([], 256, "datasets is empty: expected at least one data set of clips"),
        ([scenes(length=1)], 2 * CLIP, r"ProceduralScenes has 1 clips, one sentence of context 256 needs 2"),
        ([scenes()], CLIP - 1, "context 127 is shorter than one clip of ProceduralScenes: 2 images x 64 tokens"),
        ([scenes() | dict(pipeline=[])], 256, "pipeline must end with PackClip"),
        ([scenes(), scenes() | dict(size=64)], 512, "stores disagree in grid"),
    ],
)
def test_what_makes_no_sentences_is_named(vqgan, datasets, context, message):
    with pytest.raises(ValueError, match=message):
        ImageSentenceDataset(datasets, vqgan, context=context)


def test_a_clip_of_another_size_is_named(vqgan):
    dataset = ImageSentenceDataset([scenes()], vqgan, context=2 * CLIP)
    dataset.stores[0].dataset.pipeline = Compose([lambda results: dict(inputs=torch.zeros(3, 2, 2))])
    with pytest.raises(ValueError, match="has no uint8 'inputs' of k x 3 x H x W"):
        dataset[0]
