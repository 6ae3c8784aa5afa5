"""Answers row by row, as the page shows them; no browser needed."""

import threading
import time

import numpy as np
import pytest

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.webui import answering
from delvm_mm.webui.answering import Stopped, stream_answer
from delvm_mm.webui.examples import render_examples
from delvm_mm.webui.uploads import UploadError, UploadLimits, read_upload


@pytest.fixture(scope="module")
def inferencer(tiny_model):
    return DeLVMInferencer(tiny_model.config, tiny_model.weights, device="cpu", show_progress=False)


@pytest.fixture(scope="module")
def example(inferencer):
    return render_examples(inferencer, num_queries=1)[0]


def answer_threads():
    return [thread for thread in threading.enumerate() if thread.name == "answer"]


def test_rows_appear_one_after_another_and_the_end_is_the_answer(inferencer, example, monkeypatch):
    monkeypatch.setattr(answering, "PREVIEW_SHARE", 1.0)  # every row
    query = example.queries[0]
    steps = list(stream_answer(inferencer, example.pairs, query, "seg", threading.Event()))
    assert [step.rows for step in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    for step in steps[:-1]:
        assert (step.image[4 * step.rows :] == 128).all() and not step.done and step.overlay is None
    (expected,) = inferencer(query, example.pairs, "seg")["predictions"]
    np.testing.assert_array_equal(steps[-1].image, expected["image"])
    assert steps[-1].done and steps[-1].tokens == 64
    np.testing.assert_array_equal(steps[-1].overlay, expected["overlay"])


def test_images_of_unfinished_answers_take_a_quarter_of_the_time_at_most(inferencer, example, monkeypatch):
    spent = []

    def slow(tokens):
        spent.append(0.02)
        time.sleep(0.02)
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(inferencer.generator, "unfinished_image", slow)
    begin = time.perf_counter()
    list(stream_answer(inferencer, example.pairs, example.queries[0], None, threading.Event()))
    assert sum(spent) < 0.25 * (time.perf_counter() - begin) + 0.03


def test_stopping_and_leaving_end_the_model_at_once(inferencer, example):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        list(stream_answer(inferencer, example.pairs, example.queries[0], None, stop))
    steps = stream_answer(inferencer, example.pairs, example.queries[0], None, threading.Event())
    next(steps)
    steps.close()
    assert not answer_threads()


def test_errors_of_the_model_reach_the_page(inferencer, example):
    with pytest.raises(ValueError, match="at most 3 pairs"):
        list(stream_answer(inferencer, example.pairs * 2, example.queries[0], None, threading.Event()))
    assert not answer_threads()


def test_examples_are_drawn_by_the_models_codecs(inferencer):
    examples = render_examples(inferencer, num_queries=2)
    assert [example.task for example in examples] == ["seg", "pose", "derain"]
    for example in examples:
        assert len(example.pairs) == 3 and len(example.queries) == 2
        assert {part.shape for pair in example.pairs for part in pair} == {(32, 32, 3)}


def test_only_images_in_the_folder_are_read(tmp_path):
    limits = UploadLimits(tmp_path / "uploads", max_bytes=10)
    limits.folder.mkdir()
    for name in ("outside.png", "uploads/large.png"):
        (tmp_path / name).write_bytes(bytes(11))
    (limits.folder / "link.png").symlink_to(tmp_path / "outside.png")
    for path in ("outside.png", "uploads/../outside.png", "uploads/link.png", "uploads", "uploads/gone.png"):
        with pytest.raises(UploadError, match="The query is not on the server") as raised:
            read_upload(dict(path=str(tmp_path / path)), "The query", limits)
        assert str(tmp_path) not in str(raised.value)
    with pytest.raises(UploadError, match=r"The query: näh\.png is larger than"):
        read_upload(dict(path=str(limits.folder / "large.png"), orig_name="../näh.png"), "The query", limits)
    for payload in ("text", dict(path=3), dict(path="a\0b"), dict()):
        with pytest.raises(UploadError):
            read_upload(payload, "The query", limits)
