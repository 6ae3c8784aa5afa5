"""Every config here works: those of models train a step, those of stores write them, those of tasks score a model."""

import itertools
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from delvm_mm.commands.test import test_tasks as score_tasks
from delvm_mm.commands.tokenize import tokenize_stores
from delvm_mm.engine.launch import build_runner, load_config, set_up_distributed, use_safe_checkpoints
from delvm_mm.precompute import cache_teacher
from delvm_mm.registry import DATASETS, MODELS, type_name
from delvm_mm.stores import TokenStore
from helpers import ROOT
from helpers.layouts import COPIES, write_both_mpii, write_coco, write_lspet, write_pets
from helpers.layouts_people import write_voc
from helpers.layouts_restoration import write_image_folder, write_pairs
from helpers.shrunk import ARCH, CONTEXT, shrink, write_tokenizer, write_what_is_read

CONFIGS = ROOT / "configs"
NUMBERS = itertools.count()


KEYS = {
    path.relative_to(CONFIGS).with_suffix("").as_posix(): set(Config.fromfile(path))
    for path in CONFIGS.rglob("*.py")
    if "_base_" not in path.as_posix()
}
TRAINED = sorted(name for name, keys in KEYS.items() if {"model", "train_cfg"} <= keys)
STORES = sorted(name for name, keys in KEYS.items() if "stores" in keys)
TASKS = sorted(path.stem for path in (CONFIGS / "_base_" / "tasks").glob("*.py"))


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    """What takes longer than a step: each reader collects garbage."""
    monkeypatch.setattr("mmengine.dataset.base_dataset.gc.collect", lambda: 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small copy of every data set."""
    folder = tmp_path_factory.mktemp("data")
    for name, (place, write, _) in COPIES.items():
        if name not in ("coco_pose", "mpii", "pascal5i", "images"):
            write(folder / place)
    write_coco(folder / "coco", 6, 256)
    write_both_mpii(folder / "mpii", 6, 256)
    for split in ("train", "val"):
        write_image_folder(folder / "images" / split)
    write_voc(folder, 20, 20, num_sbd=5, size=64, class_of=lambda number: (number % 20 + 1, 1 + number % 5))
    write_pets(folder / "pets", 8)
    for split in ("train", "heldout"):
        write_image_folder(folder / "photos" / split)
    write_lspet(folder / "lspet", 6)
    write_image_folder(folder / "bsds_clean")
    write_pairs(folder / "rain100L", suffix=".png")
    return folder


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    """A working directory where ``data/`` has the copies; gives the tokenizer's fingerprint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for path in data.iterdir():
        (tmp_path / "data" / path.name).symlink_to(path)
    return write_tokenizer()


class Watch(Hook):
    """Which weights a training has moved."""

    def before_train(self, runner):
        self.before = self._weights(runner)

    def after_train(self, runner):
        after = self._weights(runner)
        self.moved = [name for name, value in after.items() if not torch.equal(value, self.before[name])]

    def _weights(self, runner):
        return {
            name: getattr(value, "_local_tensor", value).detach().clone()
            for name, value in runner.model.named_parameters()
            if value.requires_grad
        }


def small(name):
    """A config as the tools read it, shrunk."""
    cfg = shrink(load_config(str(CONFIGS / f"{name}.py")))
    cfg.experiment_name, cfg.log_level = f"small_{next(NUMBERS)}", "ERROR"
    return cfg


def prepare_deepspeed(cfg):
    """DeepSpeed is not here: its runner with MMEngine's own strategy, and the wrapper that this one wants."""
    cfg.strategy = dict(type="SingleDeviceStrategy")
    cfg.optim_wrapper.type = "OptimWrapper"


def write_teacher_cache(cfg):
    """What ``tools/cache_teacher.py`` would have written of the sentences of the config."""
    sentences = DATASETS.build(cfg.train_dataloader.dataset)
    teacher = MODELS.build(cfg.model)
    cache_teacher(sentences, teacher, cfg.default_hooks.distillation.teacher.cache, top_k=8, device="cpu")


@pytest.fixture
def one_process(monkeypatch):
    """What torchrun tells a process that is alone; the group ends with the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key, value in dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=port).items():
        monkeypatch.setenv(key, str(value))
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRAINED)
def test_a_model_trains_a_step(name, data, place, one_process):
    cfg = small(name)
    if cfg.get("default_scope") == "mmpretrain":
        pytest.importorskip("mmpretrain")
    if type_name(cfg.get("strategy")) == "DeepSpeedStrategy":
        prepare_deepspeed(cfg)
    write_what_is_read(cfg, place, data / "stores")
    if cfg.default_hooks.get("distillation") and "cache" in cfg.default_hooks.distillation.teacher:
        write_teacher_cache(cfg)
    if type_name(cfg.get("model_wrapper_cfg")) == "FullyShardedDeLVM":
        set_up_distributed(cfg, "pytorch")
    use_safe_checkpoints()
    runner, watch = build_runner(cfg), Watch()
    runner.register_hook(watch)
    runner.train()
    assert runner.iter == 1
    assert watch.moved, "the step changed no weight"
    logged = {key: history.current() for key, history in runner.message_hub.log_scalars.items()}
    assert np.isfinite(logged["train/loss"])
    if cfg.get("val_dataloader"):
        scores = {key: value for key, value in logged.items() if key.startswith("val/") and "time" not in key}
        assert scores and np.isfinite(list(scores.values())).all()
    assert any(Path(cfg.work_dir).glob("*_1*")), "no checkpoint"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", STORES)
def test_a_config_of_stores_writes_them(name, place):
    if "lmdb" in name:
        pytest.importorskip("lmdb")
    cfg = small(name)
    cfg.tokenization = dict(cfg.get("tokenization", {}), num_workers=0)
    tokenize_stores(cfg, device="cpu")
    for store in cfg.stores:
        written = TokenStore(store.out)
        dataset = DATASETS.build(store.dataset)
        assert len(written) == len(dataset) * store.get("num_augmented_copies", 1) > 0
        assert written.clip_shape == (len(dataset[0]["inputs"]), 16)
        assert written.index["task"] == dataset[0]["data_samples"].task


def score(tasks):
    """Scores of an untrained model."""
    cfg = Config(dict(default_scope="delvm_mm", work_dir="scores", experiment_name=f"small_{next(NUMBERS)}"))
    cfg.model = dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained="tokenizer"),
        backbone=dict(type="LLaMA", arch=ARCH, max_positions=CONTEXT),
        embedding=dict(type="CodebookEmbedding"),
        head=dict(type="NextTokenHead"),
    )
    cfg.tasks, cfg.log_level = tasks, "ERROR"
    for task in cfg.tasks.values():
        query = task.dataloader.dataset.query
        reader = query.get("dataset", query)
        reader.update(dict(length=2) if type_name(reader) == "ProceduralScenes" else dict(indices=2))
    return score_tasks(shrink(cfg), None, list(tasks))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*TASKS, "zoo", "real"])
def test_tasks_score_a_model(name, place):
    if name in ("zoo", "real"):
        tasks = Config.fromfile(CONFIGS / name / "_base_tasks.py").tasks
    else:
        tasks = Config(
            dict(tasks={name: Config.fromfile(CONFIGS / "_base_" / "tasks" / f"{name}.py")[f"{name}_task"]})
        ).tasks
    results = score(tasks)
    assert list(results) == list(tasks)
    for task, scores in results.items():
        own = {
            key.removeprefix(f"{task}/") for key in scores if not key.startswith((f"{task}/ceiling", f"{task}/trivial"))
        }
        own -= {"images_per_s", "prompt"}
        assert own and {f"{task}/ceiling/{key}" for key in own} <= set(scores)


def test_no_config_is_forgotten():
    assert len(TRAINED) >= 39 and len(STORES) >= 17 and len(TASKS) >= 6
    others = {name for name in KEYS if not name.startswith("protocols/")} - set(TRAINED) - set(STORES)
    assert all(name.rsplit("/", 1)[-1].startswith("_base") for name in others), others
