"""``tools/analysis/answered_task.py``: of which task an answer is, told by its codes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from answered_task import Answers, markdown
from delvm_mm.models import DeLVM
from delvm_mm.registry import DATASETS, MODELS
from label_kinds import LabelKinds, count_codes
from tools.analysis import answered_task

CODECS = dict(seg=dict(type="ForegroundMaskCodec"), derain=dict(type="RestorationCodec", detail=0.5))
METRICS = dict(seg=dict(type="ForegroundIoUMetric"), derain=dict(type="RestorationMetric", channels=["rgb"]))
SIZE, TOKENS = 40, 100  # 10 x 10 tokens


def task_config(task, temperature):
    draw = [dict(type="DrawLabel", codec=CODECS[task])]
    scenes = dict(type="ProceduralScenes", task=task, size=SIZE, pipeline=draw)
    dataset = dict(
        type="VisionPromptDataset",
        support=dict(**scenes, start=100, length=40),
        query=dict(**scenes, length=6),
        num_pairs=2,
    )
    evaluator = dict(type="VisionPromptEvaluator", prefix=task, codec=CODECS[task], metrics=[METRICS[task]])
    return dict(dataloader=dict(dataset=dataset), evaluator=evaluator, sampler=dict(temperature=temperature))


@pytest.fixture
def tell(tmp_path, monkeypatch):
    """A folder with ``config.py`` of two tasks, and ``model.pth``; runs the tool there."""
    monkeypatch.chdir(tmp_path)
    model = dict(
        type="DeLVM",
        tokenizer=dict(type="VQGAN", pretrained="delvm_mm://mini_tokenizer"),
        backbone=dict(type="LLaMA", arch=dict(embed_dims=32, num_layers=1, num_heads=4), max_positions=6 * TOKENS),
        embedding=dict(type="CodebookEmbedding"),
        head=dict(type="NextTokenHead"),
    )
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), "model.pth")
    tasks = {task: task_config(task, number / 2) for number, task in enumerate(CODECS, 1)}
    Config(dict(model=model, tasks=tasks)).dump("config.py")

    def run(*options):
        answered_task.main(["config.py", "model.pth", "--num-samples", "3", "--device", "cpu", *options])

    return run


def answer_with(monkeypatch, choose):
    """Let the model write what ``choose`` makes of a sample: an image, or a code all over."""

    def predict(self, inputs, data_samples):
        seen.append((self.sampler["temperature"], [sample.prompt_images for sample in data_samples]))
        for sample in data_samples:
            answer = choose(sample)
            if isinstance(answer, int):
                sample.pred_tokens = torch.full((TOKENS,), answer)
            else:
                image = torch.from_numpy(np.ascontiguousarray(answer)).permute(2, 0, 1)[None] / 255
                sample.pred_tokens = self.tokenizer.encode(image)[0]
        return data_samples

    seen = []
    monkeypatch.setattr(DeLVM, "predict", predict)
    return seen


def test_a_model_that_copies_its_prompts_labels_is_of_their_task(tell, monkeypatch, capsys):
    Path("docs").mkdir()
    Path("docs/prompting.md").write_text("<!-- begin: answered_task.py -->\n<!-- end: answered_task.py -->\n")
    seen = answer_with(monkeypatch, lambda sample: sample.prompt_images[-1])
    tell("--task", "seg", "derain", "--seeds", "0", "1", "--docs", "docs", "--batch-size", "2")
    text = capsys.readouterr().out
    assert "Behind pairs of another task, 12 of 12 answers are of the task of the pairs: 100.0 %, ± 0.0 over" in text
    assert "Of true labels, 12 of 12 are told right." in text
    assert "| pairs of derain, query of seg | 0 | 6 | 0 | 100.0 % |" in text
    page = Path("docs/prompting.md").read_text()
    assert "| pairs of seg, query of derain | 6 | 0 | 0 | 100.0 % |" in page
    # Seed by seed, prompt by prompt, query by query, in batches of two and one: chosen as the prompt's task says.
    assert [temperature for temperature, _ in seen] == 2 * [0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert not np.array_equal(seen[0][1][0], seen[8][1][0])  # another seed, other pairs


def test_a_model_that_goes_by_its_query_is_not(tell, monkeypatch, capsys):
    labels = {}
    for task in CODECS:
        config = Config.fromfile("config.py").tasks[task].dataloader.dataset.query
        dataset = DATASETS.build(config)
        for index in range(len(dataset)):
            labels[dataset[index]["img"].tobytes()] = dataset[index]["label"]
    answer_with(monkeypatch, lambda sample: labels[sample.query_image.tobytes()])
    tell("--seeds", "0")
    text = capsys.readouterr().out
    assert "Behind pairs of another task, 0 of 6 answers are of the task of the pairs: 0.0 %." in text
    assert "Behind pairs of the query's own task, 6 of 6 answers" in text


def test_an_answer_of_one_code_is_of_no_task(tell, monkeypatch, capsys):
    answer_with(monkeypatch, lambda sample: 7)
    tell("--task", "seg", "derain", "--seeds", "0")
    assert "| pairs of seg, query of derain | 0 | 0 | 3 | 0.0 % |" in capsys.readouterr().out


def test_kinds_are_told_by_the_codes_that_differ():
    kinds = LabelKinds({"masks": np.array([[60, 3, 0, 1], [40, 23, 0, 1]]), "edges": np.array([[60, 0, 3, 1]])})
    tokens = np.zeros((4, 64), np.int64)
    tokens[0, :2] = 1
    tokens[1, :2] = 2
    tokens[2, :40], tokens[2, 40:42] = 1, 2  # mostly a mask
    assert kinds.of(count_codes(tokens, 4)) == ["masks", "edges", "masks", "none"]
    # One code all over is of none; a little more is of the edges, more of which is background.
    assert kinds.of(np.array([[99, 0, 0, 1], [98, 0, 0, 2]])) == ["none", "edges"]


def test_shares_and_their_spread_are_plain_arithmetic():
    answers = [
        Answers("a", "b", 0, Counter(a=3, b=1)),
        Answers("b", "a", 0, Counter(b=4)),
        Answers("a", "b", 1, Counter(a=2, none=2)),
        Answers("b", "a", 1, Counter(b=4)),
        *(Answers(task, task, seed, Counter({task: 4})) for task in "ab" for seed in (0, 1)),
    ]
    text = markdown(["a", "b"], answers, dict(a=Counter(a=9, b=1), b=Counter(b=10)))
    # Seed 0: 7 of 8, seed 1: 6 of 8; their deviation is 12.5 / sqrt(2).
    assert (
        "another task, 13 of 16 answers are of the task of the pairs: 81.2 %, ± 8.8 over the prompts of seeds 0, 1"
        in (text)
    )
    assert "own task, 16 of 16" in text and "19 of 20 are told right" in text
    assert "| pairs of a, query of b | 5 | 1 | 2 | 62.5 % |" in text
    assert "| *true labels of a* | 9 | 1 | 0 | 90.0 % |" in text


@pytest.mark.parametrize(
    "options, message",
    [
        (["--task", "seg"], "tasks are ['seg'], expected two or more to tell apart"),
        (["--task", "seg", "depth"], "has no task ['depth']"),
        (["--num-labels", "0"], "--num-labels is 0, expected at least 1"),
        (["--seeds", "0", "0"], "expected different ones"),
    ],
)
def test_what_does_not_do_is_named(tell, capsys, options, message):
    with pytest.raises(SystemExit):
        tell(*options)
    assert message in capsys.readouterr().err
