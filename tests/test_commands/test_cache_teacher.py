"""``delvm cache-teacher``: killed, shared by processes, and what it says to a user."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from delvm_mm.commands import cache_teacher as cache_teacher_tool
from delvm_mm.models import VQGAN
from delvm_mm.registry import DATASETS, MODELS
from delvm_mm.stores import TeacherCache, TokenStoreWriter
from helpers import ROOT
from helpers.killed_runs import contents, kill

TOOL = ROOT / "tools" / "cache_teacher.py"
TINY_VQGAN = dict(
    resolution=16,
    hidden_channels=8,
    channel_mult=(1, 2),
    num_res_blocks=1,
    z_channels=8,
    num_embeddings=24,
    quantized_embed_dim=8,
    norm_num_groups=4,
)


def model_of(embed_dims):
    return dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained="tokenizer"),
        backbone=dict(type="LLaMA", arch=dict(embed_dims=embed_dims, num_layers=1, num_heads=2), max_positions=64),
        embedding=dict(type="CodebookEmbedding", init_std=1.0),
        head=dict(type="NextTokenHead", init_std=1.0),
    )


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The working folder: ``teacher.py``, ``teacher.pth``, ``student.py`` and 48 sentences of 64 tokens."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tokenizer = VQGAN(**TINY_VQGAN)
    tokenizer.save_pretrained("tokenizer")
    writer = TokenStoreWriter(
        "store",
        clip_shape=(2, 16),
        grid=(4, 4),
        num_embeddings=24,
        tokenizer_fingerprint=tokenizer.fingerprint,
        task="seg",
    )
    writer.add(np.random.RandomState(0).randint(24, size=(96, 2, 16)))
    writer.finish()
    torch.save(dict(state_dict=MODELS.build(model_of(32)).state_dict(), meta={}), "teacher.pth")
    dataset = dict(type="VisualSentenceDataset", stores=["store"], context=64)
    loader = dict(batch_size=4, sampler=dict(type="SentenceSampler"), dataset=dataset)
    Config(dict(model=model_of(32), train_dataloader=loader)).dump("teacher.py")
    hook = dict(
        type="DistillationHook",
        teacher=dict(cfg="teacher.py", checkpoint="teacher.pth"),
        loss=dict(type="LogitsKLLoss", temperature=2.0),
    )
    loader = loader | dict(dataset=dataset | dict(assembly="fixed"))
    Config(dict(model=model_of(16), train_dataloader=loader, custom_hooks=[hook])).dump("student.py")
    return tmp_path


def start(*arguments, processes=1):
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [*launcher, str(TOOL), *arguments],
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(TOOL.parents[1])),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_killed_runs_and_several_processes_end_with_the_same_bytes(work):
    command = ["student.py", "teacher.pth", "--top-k", "8", "--batch", "2", "--shard-sentences", "2", "--device", "cpu"]
    whole = start(*command, "--out", "whole")
    output = whole.communicate()[0]
    assert whole.returncode == 0, output
    assert "whole: 48 sentences of 64 tokens, top 8 of 24 codes" in output

    rounds = random.Random(0)
    for processes in (1, 2):
        killed = start(*command, "--out", "killed", processes=processes)
        shards = len(list(work.glob("killed/shard-*.npy"))) + rounds.randint(1, 6)
        while killed.poll() is None and len(list(work.glob("killed/shard-*.npy"))) < shards:
            time.sleep(0.002)
        kill(killed.pid)
        killed.communicate()
    assert not TeacherCache("killed").complete, "it has to be killed before its end"
    last = start(*command, "--out", "killed", "--launcher", "pytorch", processes=2)
    output = last.communicate()[0]
    assert last.returncode == 0 and "by an earlier run" in output, output
    assert contents("killed") == contents("whole")
    TeacherCache("killed").verify()


@pytest.fixture
def tool(work, monkeypatch):
    return cache_teacher_tool.main


def test_a_config_of_the_teacher_is_enough(tool, work, capsys):
    tool(["teacher.py", "teacher.pth", "--top-k", "4", "--cfg-options", "work_dir=here"])
    output = capsys.readouterr().out
    assert "assembly='random'. A cache is of 'fixed' sentences" in output and "student's config" in output
    cache = TeacherCache("here/teacher_cache")
    assert cache.complete and cache.top_k == 4 and cache.temperature == 1.0 and len(cache) == 48
    size = sum(Path("here/teacher_cache", shard["file"]).stat().st_size for shard in cache.index["shards"])
    assert f"{size / 48 / 64:.1f} bytes a token" in output
    tool(["teacher.py", "teacher.pth", "--top-k", "4", "--cfg-options", "work_dir=here"])
    assert "finished before, nothing to do" in capsys.readouterr().out


def test_a_config_of_the_student_names_teacher_and_temperature(tool, work, capsys):
    options = ["--top-k", "24", "--dtype", "float32", "--shard-sentences", "100"]
    tool(["student.py", "teacher.pth", "--out", "cache", *options])
    assert "assembly" not in capsys.readouterr().out
    cache = TeacherCache("cache")
    assert cache.temperature == 2.0
    teacher = MODELS.build(Config.fromfile("teacher.py").model)
    teacher.load_state_dict(torch.load("teacher.pth", weights_only=True)["state_dict"])
    dataset = Config.fromfile("student.py").train_dataloader.dataset
    tokens = torch.stack([DATASETS.build(dataset)[number]["inputs"] for number in (0, 47)])
    with torch.no_grad():
        expected = (teacher(tokens)[:, :-1] / 2).log_softmax(-1)
    codes, log_probs, _ = cache.read([0, 47])
    torch.testing.assert_close(log_probs, expected.gather(-1, codes), rtol=0, atol=1e-5)
    tool(["student.py", "teacher.pth", "--out", "other", "--temperature", "3", *options])
    assert TeacherCache("other").temperature == 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.py", "teacher.pth"], "no config at gone.py"),
        (["teacher.py", "gone.pth"], "gone.pth"),
        (["teacher.py", "student.py"], "student.py"),
        (["teacher.py", "teacher.pth", "--cfg-options", "model.backbone.arch.embed_dims=16"], "teacher.pth do not fit"),
        (["teacher.py", "teacher.pth", "--top-k", "25"], "top_k must be from 1 to the vocabulary of 24"),
        (
            ["teacher.py", "teacher.pth", "--cfg-options", "train_dataloader.dataset.type=CachedDataset"],
            "expected a VisualSentenceDataset",
        ),
        (["teacher.py", "teacher.pth", "--launcher", "pytorch"], "torchrun did not start this process"),
    ],
)
def test_bad_input_gives_one_clear_error_and_leaves_nothing(tool, work, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_of:
        tool([*arguments, "--out", "cache"] if "--cfg-options" not in arguments else ["--out", "cache", *arguments])
    assert exit_of.value.code == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not Path("cache").exists()


def test_settings_of_an_earlier_run_are_not_mixed(tool, work, capsys):
    tool(["teacher.py", "teacher.pth", "--out", "cache", "--top-k", "4"])
    before = contents("cache")
    with pytest.raises(SystemExit):
        tool(["teacher.py", "teacher.pth", "--out", "cache", "--top-k", "8"])
    assert "top_k is 4, now 8" in capsys.readouterr().err
    assert contents("cache") == before and json.loads(before["index.json"])["complete"]
