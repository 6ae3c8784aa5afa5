import pickle

import numpy as np
import pytest
import torch

from delvm_mm.structures import DataSample


def test_metainfo_is_kept_as_given_and_apart_from_data():
    shape = [2, 64]
    sample = DataSample(metainfo=dict(task="seg", clip_shape=shape), token_nll=torch.ones(3))
    assert sample.clip_shape is shape
    assert set(sample.metainfo_keys()) == {"task", "clip_shape"} and set(sample.keys()) == {"token_nll"}
    with pytest.raises(AttributeError, match="already a metainfo field"):
        sample.task = "pose"


def test_a_worker_hands_it_over_whole():
    sample = pickle.loads(pickle.dumps(DataSample(metainfo=dict(sentence=3), pred_image=np.ones((2, 2, 3)))))
    assert isinstance(sample, DataSample) and sample.sentence == 3 and sample.pred_image.shape == (2, 2, 3)


def test_what_is_documented_is_not_there_until_it_is_set():
    sample = DataSample()
    assert "pred_image" in DataSample.__annotations__
    assert "pred_image" not in sample and sample.get("pred_image") is None


def test_other_metainfo_is_refused():
    with pytest.raises(TypeError, match="metainfo is a list, expected a dict"):
        DataSample(metainfo=["task"])
