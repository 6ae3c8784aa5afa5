import copy
import os
import pickle

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from delvm_mm.checkpoints.io import load_checkpoint, load_into, load_state_dict


class _Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class _ReachesForGlobals:
    """Tries to get at code through an allowed class and ``getattr``."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "__init__")


class _Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return {"loss": self.layer(torch.stack(list(inputs))).square().mean()}


@pytest.mark.parametrize("name", ["w.bin", "w.pt", "w.pth"])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_give_their_tensors_on_cpu(tmp_path, name, legacy):
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}
    torch.save(weights, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    loaded = load_state_dict(tmp_path / name)
    assert list(loaded) == ["a", "b"]
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_safetensors_give_their_tensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    weights = {"a": torch.randn(2, 3)}
    safetensors.save_file(weights, tmp_path / "model.safetensors")
    assert torch.equal(load_state_dict(tmp_path / "model.safetensors")["a"], weights["a"])


def test_prefix_picks_one_part_and_is_removed(tmp_path):
    torch.save({"state_dict": {"vqgan.a": torch.ones(1), "head.a": torch.zeros(1)}}, tmp_path / "w.pth")
    assert load_state_dict(tmp_path / "w.pth", prefix="vqgan.") == {"a": torch.ones(1)}
    with pytest.raises(ValueError, match=r"no weights that start with 'other\.'.*vqgan\.a"):
        load_state_dict(tmp_path / "w.pth", prefix="other.")


def test_checkpoint_of_an_mmengine_run_is_read_with_weights_only(tmp_path):
    runner = Runner(
        model=_Net(),
        work_dir=str(tmp_path),
        train_dataloader=torch.utils.data.DataLoader([{"inputs": torch.ones(2)} for _ in range(4)], batch_size=2),
        train_cfg={"by_epoch": False, "max_iters": 2},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.1}},
        param_scheduler={"type": "CosineAnnealingLR", "T_max": 2, "by_epoch": False},
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 2, "by_epoch": False}},
        cfg=Config({}),
        experiment_name=tmp_path.name,
    )
    runner.train()
    path = tmp_path / "iter_2.pth"
    assert set(load_state_dict(path)) == {"layer.weight", "layer.bias"}
    content = load_checkpoint(path)
    assert content["meta"]["mmengine_version"].startswith(mmengine.__version__)
    history = content["message_hub"]["log_scalars"]["train/loss"]
    expected = runner.message_hub.get_scalar("train/loss")
    np.testing.assert_array_equal(history.data[0], expected.data[0])
    assert history.mean() == expected.mean()
    assert "state" in content["optimizer"]


def test_numpy_values_beside_the_weights_are_read(tmp_path):
    meta = {"sigmas": np.arange(3, dtype=np.float32), "best": np.float64(0.5)}
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": meta}, tmp_path / "w.pth")
    read = load_checkpoint(tmp_path / "w.pth")["meta"]
    np.testing.assert_array_equal(read["sigmas"], meta["sigmas"])
    assert read["best"] == 0.5


def _plain_pickle(protocol):
    return lambda content, path: path.write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.mark.parametrize("save", [torch.save, _plain_pickle(2), _plain_pickle(4)], ids=["torch", "pickle2", "pickle4"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(tmp_path, save):
    marker = tmp_path / "ran"
    save({"meta": _Evil(marker)}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth was refused, nothing in it was executed") as error:
        load_state_dict(tmp_path / "evil.pth")
    assert "weights_only" not in str(error.value)
    assert not marker.exists()
    assert save is not torch.save or "mkdir" in str(error.value)


def test_getattr_of_a_checkpoint_reaches_nothing_but_statistics(tmp_path):
    torch.save({"a": torch.ones(1), "meta": _ReachesForGlobals()}, tmp_path / "sly.pth")
    with pytest.raises(ValueError, match=r"sly\.pth was refused.*getattr"):
        load_state_dict(tmp_path / "sly.pth")


def test_reading_leaves_torchs_allow_list_as_it_was(tmp_path):
    before = set(torch.serialization.get_safe_globals())  # their order is that of a set, which may change
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    load_state_dict(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        load_state_dict(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_called_damaged(tmp_path, name, kept):
    weights = {"a": torch.randn(100, 100)}
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors.torch").save_file(weights, tmp_path / name)
    else:
        torch.save(weights, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        load_state_dict(tmp_path / name)


def test_what_is_no_weight_file_is_named_for_what_it_is(tmp_path):
    path = tmp_path / "w.bin"
    path.write_text("hello, I am not a checkpoint")
    with pytest.raises(ValueError, match=r"w\.bin is damaged, cut short or not a file of weights"):
        load_state_dict(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(ValueError, match=r"w\.bin is a Git LFS pointer"):
        load_state_dict(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(ValueError, match="expected a dict of weights, it holds a list"):
        load_state_dict(path)
    torch.save({"epoch": 3, "model": {}}, path)
    with pytest.raises(ValueError, match="'epoch' is a int"):
        load_state_dict(path)
    with pytest.raises(ValueError, match="is a folder without"):
        load_state_dict(tmp_path)


def test_load_into_names_missing_unexpected_and_misshaped_keys_and_copies_nothing():
    module = nn.ModuleDict({"first": nn.Linear(2, 3), "second": nn.Linear(3, 1)})
    before = copy.deepcopy(module.state_dict())
    weights = {"first.weight": torch.ones(3, 4), "first.bias": torch.ones(3), "third.weight": torch.ones(1)}
    with pytest.raises(ValueError) as error:
        load_into(module, weights, "w.pth")
    message = str(error.value)
    assert "w.pth" in message
    assert "2 missing in the file (second.weight, second.bias)" in message
    assert "1 unexpected in the file (third.weight)" in message
    assert "first.weight: (3, 4) in the file, (3, 2) in the model" in message
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_load_into_without_strict_takes_what_fits_by_name_but_no_other_shape():
    module = nn.Linear(2, 3)
    load_into(module, {"bias": torch.ones(3), "other": torch.ones(1)}, "w.pth", strict=False)
    assert torch.equal(module.bias.detach(), torch.ones(3))
    with pytest.raises(ValueError, match="another shape"):
        load_into(module, {"bias": torch.ones(4)}, "w.pth", strict=False)


def test_a_config_where_a_checkpoint_is_expected_is_called_one(tmp_path):
    # Its first letter is the first of a pickle that imports something.
    (tmp_path / "teacher.py").write_text("custom_hooks = []\n")
    with pytest.raises(ValueError, match=r"teacher\.py is a config, where a checkpoint is expected"):
        load_checkpoint(tmp_path / "teacher.py")
