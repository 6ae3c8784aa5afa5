"""``tools/analysis/tokenizer_ceiling.py``, called in this process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from delvm_mm.models import VQGAN
from tools.analysis import tokenizer_ceiling


@pytest.fixture
def ceiling():
    return lambda *arguments: tokenizer_ceiling.main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two tokenizers, of which the second has another decoder, and two tasks; the working directory."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    vqgan = VQGAN(
        resolution=32, hidden_channels=8, channel_mult=(1, 2), num_res_blocks=1, z_channels=8, num_embeddings=32,
        quantized_embed_dim=8, norm_num_groups=4,
    )  # fmt: skip
    vqgan.save_pretrained("before")
    torch.nn.init.normal_(vqgan.decoder.conv_out.weight)
    vqgan.save_pretrained("after")
    codecs = dict(seg=dict(type="ForegroundMaskCodec"), derain=dict(type="RestorationCodec"))
    metrics = dict(seg=dict(type="mmseg.IoUMetric"), derain=dict(type="RestorationMetric", channels=["rgb"]))
    scenes = {
        task: dict(
            type="ProceduralScenes", task=task, size=32, length=3, pipeline=[dict(type="DrawLabel", codec=codec)]
        )
        for task, codec in codecs.items()
    }
    tasks = {
        f"{task}_task": dict(
            # Support is not looked at: it may be missing.
            dataloader=dict(dataset=dict(type="VisionPromptDataset", support=dict(type="Nowhere"), query=scenes[task])),
            evaluator=dict(type="VisionPromptEvaluator", prefix=task, codec=codecs[task], metrics=metrics[task]),
        )
        for task in codecs
    }
    Config(tasks).dump("tasks.py")
    return tmp_path


def test_tokenizers_stand_side_by_side(ceiling, folder, capsys):
    ceiling("tasks.py", "before", "after", "--out", "scores.json", "--show-dir", "images", "--max-panels", "2")
    scores = json.loads(Path("scores.json").read_text())
    assert list(scores) == ["before", "after"]
    for column in scores.values():
        assert {"seg/ceiling mIoU", "derain/ceiling restoration/PSNR", "seg/image PSNR", "perplexity"} <= set(column)
        assert column["seg/tokens as the first"] == 100
        assert 0 < column["codebook usage"] <= 100
    assert scores["before"]["codebook usage"] == scores["after"]["codebook usage"]
    assert scores["before"]["seg/image PSNR"] != scores["after"]["seg/image PSNR"]
    assert "codebook usage" in capsys.readouterr().out
    # Two samples, each two times image and two reconstructions, at 5 times 32 pixels.
    sheet = np.asarray(Image.open("images/derain.png"))
    assert sheet.shape[0] > 2 * 160
    assert sheet.shape[1] > 6 * 160


def test_tasks_and_samples_can_be_chosen(ceiling, folder):
    ceiling("tasks.py", "before", "--task", "derain", "--num-samples", "1", "--out", "scores.json")
    assert not [name for name in json.loads(Path("scores.json").read_text())["before"] if name.startswith("seg")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py", "before"], "no config at nowhere.py"),
        (["tasks.py", "nowhere"], "nowhere"),
        (["tasks.py", "before", "--task", "pose"], "tasks.py has no task ['pose']"),
        (["tasks.py", "before", "--lpips-vgg", "vgg.pth"], "vgg.pth"),
        (["tasks.py", "before", "--num-samples", "0"], "--num-samples must be at least 1, got 0"),
        (["empty.py", "before"], "defines no tasks"),
    ],
)
def test_bad_input_is_one_sentence(ceiling, folder, capsys, arguments, message):
    Path("empty.py").write_text("default_scope = 'delvm_mm'\n")
    with pytest.raises(SystemExit):
        ceiling(*arguments)
    assert message in capsys.readouterr().err
