"""Model folders: a round trip, another process and directory, the inferencer, and what is refused."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config

from delvm_mm import pretrained
from delvm_mm.apis import DeLVMInferencer, ModelCard, load_model, save_model
from delvm_mm.apis.model_folder import is_model_folder, read_model_folder
from delvm_mm.apis.model_loading import build_model, find_config
from delvm_mm.checkpoints.io import load_state_dict
from delvm_mm.models import delvm_from_huggingface
from delvm_mm.models.description import describe_model, weights_of
from delvm_mm.registry import TASK_UTILS
from helpers import ROOT

SCORES = {"seg": {"seg/mIoU": 61.25, "seg/ceiling/mIoU": 90.5, "seg/trivial/nothing/mIoU": 40.0, "prompt": None}}


@pytest.fixture(scope="module")
def model(tiny_model):
    cfg, weights = find_config(tiny_model.config, tiny_model.weights)
    return build_model(cfg, weights, None, "cpu")


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).randint(0, 256, (8, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(model, tiny_model, images, tmp_path_factory):
    codecs = {name: task.evaluator.codec for name, task in Config.fromfile(tiny_model.config).tasks.items()}
    card = ModelCard(name="tiny", license="apache-2.0", training_data=["noise (CC0)", "org/pets"], results=SCORES)
    pairs = [(images[0], images[1]), (images[2], images[3])]
    path = tmp_path_factory.mktemp("published") / "tiny"
    return save_model(model, path, tasks=codecs, prompts=dict(seg=pairs), queries=dict(seg=images[4:6]), card=card)


def test_a_round_trip_keeps_every_bit(model, folder):
    loaded = load_model(folder)
    state = model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert loaded.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert describe_model(loaded) == describe_model(model)
    tokens = torch.randint(32, (2, 40))
    with torch.no_grad():
        assert torch.equal(loaded(tokens), model(tokens))


def test_nothing_in_it_is_a_pickle_and_its_files_say_where_nothing_is(folder, tiny_model):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"config.json", "README.md", "model.safetensors", "tokenizer/model.safetensors"} <= names
    assert "prompts/seg/00_img.png" in names and "prompts/seg/queries/01.png" in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".py"))]
    for path in folder.rglob("*.json"):
        assert str(folder.parent) not in path.read_text() and tiny_model.tokenizer not in path.read_text()
    modes = {path.stat().st_mode for path in folder.rglob("*") if path.is_file()}
    assert len(modes) == 1, "weights may be read by whoever may read the config"


def test_it_answers_in_another_process_and_directory_as_here(model, folder, images, tmp_path):
    moved = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(folder, moved)
    np.save(tmp_path / "query.npy", images[6])
    code = (
        "import sys, numpy as np; from delvm_mm.apis import DeLVMInferencer\n"
        "answer = DeLVMInferencer(sys.argv[1], device='cpu')(np.load(sys.argv[2]), task='seg')\n"
        "print('TOKENS', *answer['predictions'][0]['tokens'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "tiny", str(tmp_path / "query.npy")],
        cwd=moved.parent, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    here = DeLVMInferencer(model, device="cpu")(images[6], [(images[0], images[1]), (images[2], images[3])])
    line = next(line for line in run.stdout.splitlines() if line.startswith("TOKENS"))
    assert [int(token) for token in line.split()[1:]] == here["predictions"][0]["tokens"].tolist()


def test_half_precision_rounds_the_weights_and_keeps_the_codebook(model, tmp_path):
    save_model(model, tmp_path / "half", dtype=torch.bfloat16)
    stored = load_state_dict(tmp_path / "half")
    assert stored["head.projection.weight"].dtype == torch.bfloat16
    loaded = load_model(tmp_path / "half")
    assert loaded.head.projection.weight.dtype == torch.float32
    expected = model.head.projection.weight.detach().bfloat16().float()
    assert torch.equal(loaded.head.projection.weight, expected)
    assert torch.equal(loaded.embedding.codebook, model.embedding.codebook)


def test_weights_in_shards_are_the_same_weights(model, folder, tmp_path):
    save_model(model, tmp_path / "sharded", shard_bytes=20_000)
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 2
    whole, parts = load_state_dict(folder), load_state_dict(tmp_path / "sharded")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    shard = next((tmp_path / "sharded").glob("model-00002-*"))
    shard.rename(tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match="lacks model-00002-of"):
        load_model(tmp_path / "sharded")
    shard.write_bytes((tmp_path / "kept").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model-00002.*is damaged"):
        load_model(tmp_path / "sharded")


def test_its_tasks_have_the_codecs_of_the_config(folder, tiny_model):
    tasks = Config.fromfile(tiny_model.config).tasks
    read = read_model_folder(folder).tasks
    assert list(read) == list(tasks)
    for name in tasks:
        ours, theirs = (TASK_UTILS.build(given[name].evaluator.codec) for given in (read, tasks))
        assert vars(ours).keys() == vars(theirs).keys() and type(ours) is type(theirs)
    assert TASK_UTILS.build(read.pose.evaluator.codec).radius == 2


def test_the_card_is_one_of_the_hub(folder, model):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0" and data["datasets"] == ["org/pets"]
    assert data["training_data"] == ["noise (CC0)", "org/pets"]
    assert data["tokenizer_fingerprint"] == model.tokenizer.fingerprint
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("mIoU", 61.25)
    assert "| seg | mIoU ↑ | 61.25 | 90.5 | 40 |" in card.text


def test_front_matter_cannot_be_broken_by_what_is_said(model):
    text = ModelCard(name="a", training_data=["x: y # z", "- '\n---"]).text(model, {}, 32)
    front = yaml.safe_load(text.split("---\n")[1] if text.count("---\n") == 2 else text[4 : text.index("\n---\n\n# a")])
    assert front["training_data"] == ["x: y # z", "- '\n---"]


def test_only_model_folders_are_replaced(model, folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="is no model folder"):
        save_model(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "stale").write_text("")
    save_model(model, tmp_path / "old")
    assert is_model_folder(tmp_path / "old") and not (tmp_path / "old" / "stale").exists()


def test_a_model_without_tokenizer_sees_tokens_only(tmp_path, golden):
    model = delvm_from_huggingface(golden / "llama_hf")
    loaded = load_model(save_model(model, tmp_path / "tokens"))
    tokens = torch.randint(64, (1, 20))
    assert loaded.tokenizer is None and torch.equal(loaded.generate(tokens, 30), model.generate(tokens, 30))


def changed(folder, target, change):
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(type="subprocess.run", args=["touch", "ran"]), "type 'subprocess.run' is none of"),
        (lambda c: c["model"]["backbone"].update(type="os.system"), "'os.system' is none of"),
        (lambda c: c["model"].update(sampler=dict(type="builtins.exec")), "'builtins.exec' is none of"),
        (lambda c: c["tasks"]["seg"].update(codec=dict(type="os.system")), "is no registered codec"),
        (lambda c: c["tasks"]["seg"].update(codec=dict(type="VQGAN")), "is no registered codec"),
        (lambda c: c["model"]["tokenizer"].update(pretrained="../../other"), "inside of the model folder"),
        (lambda c: c["tasks"]["seg"].update(prompt="/etc"), "inside of the model folder"),
        (lambda c: c.update(version=2), "has version 2 of the format"),
        (lambda c: c.pop("model"), "lacks a part"),
        (lambda c: c["model"]["backbone"].update(max_positions="many"), "does not describe a model"),
    ],
)
def test_a_config_that_is_not_ours_is_refused(folder, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_model(changed(folder, tmp_path / "bad", change))


def test_what_cannot_be_written_is_refused_by_name(model, tmp_path):
    with pytest.raises(ValueError, match="'dog' is no registered codec"):
        save_model(model, tmp_path / "a", tasks=dict(seg=dict(type="dog")))
    with pytest.raises(ValueError, match="prompt was given for 'pose'"):
        save_model(model, tmp_path / "b", prompts=dict(pose=[(np.zeros((4, 4, 3), np.uint8),) * 2]))
    with pytest.raises(ValueError, match=r"tasks\.seg\.x is a object"):
        save_model(model, tmp_path / "c", tasks=dict(seg=dict(type="ForegroundMaskCodec", x=object())))
    assert not list(tmp_path.iterdir())


def test_a_layer_of_another_kind_is_refused(model, tmp_path):
    adapted = build_model(Config(dict(model=dict(describe_model(model), tokenizer=model.tokenizer))), None, None, "cpu")
    adapted.backbone.layers[0].mlp.add_module("adapter", torch.nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"adapter\.weight"):
        save_model(adapted, tmp_path / "adapted")


def test_weights_of_another_tokenizer_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mixed")
    path = tmp_path / "mixed" / "tokenizer"
    tokenizer = load_model(folder).tokenizer
    with torch.no_grad():
        tokenizer.quant_conv.bias.add_(1)
    tokenizer.save_pretrained(path, safe_serialization=True)
    with pytest.raises(ValueError, match="was trained with tokenizer"):
        load_model(tmp_path / "mixed")


def test_weights_of_a_folder_are_those_of_its_state(model, folder):
    assert weights_of(model).keys() == load_state_dict(folder).keys()


def test_a_folder_that_the_package_carries_goes_by_its_name(folder, images, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    shutil.copytree(folder, tmp_path / "small")
    for name in ("small", "delvm_mm://small"):
        assert DeLVMInferencer(name, device="cpu").own_prompt("seg") == str(tmp_path / "small" / "prompts" / "seg")
    assert torch.equal(load_model("delvm_mm://small").head.projection.weight, load_model(folder).head.projection.weight)
    assert load_state_dict("delvm_mm://small").keys() == load_state_dict(folder).keys()
    with pytest.raises(FileNotFoundError, match="carries no 'delvm_mm://large'"):
        DeLVMInferencer("delvm_mm://large")
