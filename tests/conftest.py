"""Fixtures of all tests."""

import lzma
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from delvm_mm.quiet import WARNINGS
from delvm_mm.registry import MODELS
from helpers import ROOT
from helpers.gray_levels import GrayLevelTokenizer, NumberedClips, write_numbered_store
from helpers.small_vqgan import write_small_vqgan
from helpers.tiny_run import make_run_folder


def pytest_configure(config):
    for action, message, category, module in WARNINGS:
        config.addinivalue_line("filterwarnings", f"{action}:{message}:{category.__name__}:{module}")


def pytest_runtest_setup(item):
    for marker in item.iter_markers("gpu"):
        needed, there = (*marker.args, 1)[0], torch.cuda.device_count()
        if there < needed:
            pytest.skip(f"needs {needed} GPU{'s' * (needed > 1)}, there {'is' if there == 1 else 'are'} {there}")


@pytest.fixture(autouse=True)
def default_scope():
    """As in every config here; a runner of an earlier test leaves its own scope behind."""
    init_default_scope("delvm_mm")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of sample images that may lie beside the checkout; skips where it is missing."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder of sample images at {folder}")
    return folder


@pytest.fixture(scope="session")
def golden(tmp_path_factory) -> Path:
    """The golden vectors of ``data/golden`` with their weights unpacked."""
    folder = tmp_path_factory.mktemp("golden")
    shutil.copytree(ROOT / "tests" / "data" / "golden", folder, dirs_exist_ok=True)
    for packed in folder.rglob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    return folder


@dataclass(frozen=True)
class TinyModel:
    """Files of a random model of 32 px images, 8 x 8 tokens each, and a context of 8 images."""

    config: str
    weights: str
    tokenizer: str


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> TinyModel:
    folder = tmp_path_factory.mktemp("tiny_model")
    write_small_vqgan(folder / "tokenizer")
    model = dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained=str(folder / "tokenizer")),
        # Large deviations, so that what is written varies with what was read.
        backbone=dict(
            type="LLaMA", arch=dict(embed_dims=32, num_layers=2, num_heads=4), max_positions=512, init_std=0.5
        ),
        embedding=dict(type="CodebookEmbedding", init_std=1.0),
        head=dict(type="NextTokenHead", init_std=0.5),
    )
    codecs = dict(
        seg=dict(type="ForegroundMaskCodec"),
        pose=dict(type="SkeletonCodec", radius=2, thickness=1),
        derain=dict(type="RestorationCodec"),
    )
    tasks = {task: dict(evaluator=dict(type="VisionPromptEvaluator", codec=codec)) for task, codec in codecs.items()}
    Config(dict(default_scope="delvm_mm", model=model, tasks=tasks)).dump(str(folder / "config.py"))
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), folder / "model.pth")
    return TinyModel(*(str(folder / name) for name in ("config.py", "model.pth", "tokenizer")))


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A folder with ``student.py``, ``teacher.py``, ``teacher.pth``, a tokenizer and stores; the working directory."""
    monkeypatch.chdir(tmp_path)
    make_run_folder(tmp_path)
    return tmp_path


@pytest.fixture
def tokenizer():
    return GrayLevelTokenizer()


@pytest.fixture
def numbered_clips():
    return NumberedClips


@pytest.fixture
def make_store(tmp_path):
    """Write a store whose clip i has k*tokens times the token offset + i."""
    return partial(write_numbered_store, tmp_path)
