"""The page itself: prompt pairs and a query on one side, the answer as it is written on the other."""

import html
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
import torch

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.webui.answering import AnswerStep, Stopped, stream_answer
from delvm_mm.webui.examples import render_examples
from delvm_mm.webui.gallery import CARD_CSS, gallery_html
from delvm_mm.webui.uploads import UploadError, UploadLimits, read_box, read_upload

__all__ = ["Page"]

MAX_SLOTS = 4  # pairs on the page, whatever fits the context
NUM_SETTINGS = 8  # what `_read_settings` reads
SHOWN_AT = 384  # pixels: smaller answers are enlarged without blur
NO_TASK = "none"
TASK_TITLES = dict(seg="one mask", pose="skeleton", derain="clear image", masks="many masks")

# System fonts: the page has to work where there is no network.
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
THEME = gr.themes.Default(font=FONT, font_mono=("ui-monospace", "monospace"), primary_hue="indigo")
CSS = (
    """
.gradio-container {max-width: 1160px !important; margin: 0 auto !important}
#title h1 {margin: 0 0 .2em}
#status p {margin: 0; min-height: 2.8em}
#status .error {color: #b42318; font-weight: 600}
.dark #status .error {color: #ff9c92}
.upload img {width: 100% !important; height: 100% !important; object-fit: contain}
#answer, #overlay, #without {aspect-ratio: 1}
#answer img, #overlay img, #without img {image-rendering: pixelated}
@media (max-width: 640px) {.gradio-container, .gradio-container > main {padding: 6px !important}}
"""
    + CARD_CSS
)
INTRO = """# Prompt a vision model

Show it a few images with their labels, then a query: it draws the query's label, token by token."""


class Page:
    """The page for one or several models.

    Args:
        inferencers: Name -> inferencer; the first is chosen at the start.
        limits: Of uploads.
        work_dir: For answers while they are packed; not the folder of the uploads.
        queue_size: Requests that may wait.

    Attributes:
        blocks: What to launch.
    """

    def __init__(
        self, inferencers: dict[str, DeLVMInferencer], limits: UploadLimits, work_dir: Path, queue_size: int = 16
    ) -> None:
        self.inferencers = inferencers
        self.limits = limits
        self.work_dir = work_dir
        self.default = next(iter(inferencers))
        self.examples = {name: render_examples(inferencer) for name, inferencer in inferencers.items()}
        self.slots = min(MAX_SLOTS, max(inferencer.generator.max_pairs for inferencer in inferencers.values()))
        self._running: dict[str, threading.Event] = {}
        # One model run at a time for all models: they share the machine.
        self._lock = threading.Lock()
        # Old files of the page are removed while it runs: every ten minutes, those older than an hour.
        with gr.Blocks(
            title="DeLVM", analytics_enabled=False, delete_cache=(600, 3600), theme=THEME, css=CSS
        ) as self.blocks:
            self._lay_out()
            self._connect()
        self.blocks.queue(max_size=queue_size, default_concurrency_limit=4, api_open=False)

    def _lay_out(self) -> None:
        gr.Markdown(INTRO, elem_id="title")
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                gr.Markdown("**Start from an example** (again: the next query) or add your own images.")
                with gr.Row():
                    named = dict(enumerate(example.task for example in self.examples[self.default]))
                    self.example_buttons = [
                        gr.Button(**button, size="sm", min_width=100, elem_id=f"example-{named.get(number, number)}")
                        for number, button in enumerate(self._buttons(self.default))
                    ]
                    self.clear = gr.Button("remove all", size="sm", min_width=100, elem_id="clear")
                self.used, self.images = [], []
                with gr.Row():
                    for number in range(1, self.slots + 1):
                        with gr.Column(min_width=240), gr.Group():
                            self.used.append(gr.Checkbox(True, label=f"use pair {number}", elem_id=f"use-{number}"))
                            with gr.Row():
                                for part in ("image", "label"):
                                    self.images.append(_upload(f"{part} {number}", f"{part}-{number}"))
                    with gr.Column(min_width=240):
                        self.query = _upload("query", "query", height=190)
            with gr.Column(scale=2, min_width=300):
                self.task = gr.Dropdown(
                    self._tasks(self.default), value=NO_TASK, label="read the answer as", elem_id="task"
                )
                with gr.Row():
                    self.run = gr.Button("Answer", variant="primary", min_width=120, elem_id="run")
                    self.stop = gr.Button("Stop", min_width=80, elem_id="stop")
                self.status = gr.HTML(_status("Ready."), elem_id="status")
                with gr.Row():
                    self.answer = _shown("answer", "answer")
                    self.overlay = _shown("read from it", "overlay")
                    self.without = _shown("without the prompt", "without", visible=False)
                self.compare = gr.Checkbox(
                    False, label="what the prompt does: answer without it, too", elem_id="compare"
                )
                self.download = gr.DownloadButton("Download", interactive=False, size="sm", elem_id="download")
                with gr.Accordion("Settings", open=False):
                    self._lay_out_settings()
        with gr.Accordion("Models" if len(self.inferencers) > 1 else "The model", open=False, elem_id="gallery"):
            gr.HTML(gallery_html(self.inferencers, self.examples))

    def _lay_out_settings(self) -> None:
        several = len(self.inferencers) > 1
        self.model = gr.Dropdown(
            list(self.inferencers), value=self.default, label="model", visible=several, elem_id="model"
        )
        temperature, top_p, seed = self._sampling(self.default)
        self.temperature = gr.Slider(
            0, 2, temperature, step=0.05, label="temperature (0: the most probable token)", elem_id="temperature"
        )
        self.top_p = gr.Slider(0.05, 1, top_p, step=0.05, label="top-p (1: all tokens)", elem_id="top-p")
        self.seed = gr.Number(seed, precision=0, minimum=0, maximum=2**32 - 1, label="seed", elem_id="seed")
        self.whole = gr.Checkbox(False, label="see all of each image, padded to a square", elem_id="whole")
        self.bbox = gr.Textbox(
            "", label="part of the query to look at: x1, y1, x2, y2 in its pixels", max_lines=1, elem_id="bbox"
        )

    def _connect(self) -> None:
        private: dict[str, Any] = dict(api_name=False, show_progress="hidden")
        for image in [*self.images, self.query]:
            # Without preprocessing: files are read here, with limits, and not by the toolkit.
            image.upload(self._check, image, [image, self.status], preprocess=False, **private)
        for index, button in enumerate(self.example_buttons):
            count = gr.State(0)
            button.click(
                lambda model, shown, index=index: self._load_example(model, index, shown),
                [self.model, count],
                [*self.images, self.query, self.task, self.status, *self.used, count],
                **private,
            )
        self.clear.click(
            lambda: [None] * (2 * self.slots + 1) + [_status("Add pairs and a query.")],
            None,
            [*self.images, self.query, self.status],
            **private,
        )
        self.model.change(
            self._choose_model,
            self.model,
            [self.task, self.temperature, self.top_p, self.seed, *self.example_buttons],
            **private,
        )
        self.task.change(self._sampling, [self.model, self.task], [self.temperature, self.top_p, self.seed], **private)
        self.compare.change(
            lambda compared: gr.update(value=None, visible=compared), self.compare, self.without, **private
        )
        sampling = [self.temperature, self.top_p, self.seed]
        settings = [self.model, self.task, *sampling, self.whole, self.bbox, self.compare]
        self.run.click(
            self._answer,
            [*settings, *self.used, *self.images, self.query],
            [self.answer, self.overlay, self.status, self.download, self.without],
            preprocess=False,
            concurrency_limit=1,
            **private,
        )
        self.stop.click(self._stop, None, None, queue=False, **private)

    def _sampling(self, model: str, task: str = NO_TASK) -> tuple[float, float, int]:
        """What the sliders show at first: temperature, top-p and seed of the model for a task."""
        own = self.inferencers[model].sampler(task)
        return own.get("temperature", 0.0), own.get("top_p") or 1.0, own.get("seed") or 0

    def _tasks(self, model: str) -> list[tuple[str, str]]:
        """Titles and names."""
        tasks = self.inferencers[model].tasks
        titles = [f"{TASK_TITLES[task]} ({task})" if task in TASK_TITLES else task for task in tasks]
        return [("just an image", NO_TASK), *zip(titles, tasks, strict=True)]

    def _choose_model(self, model: str) -> list[Any]:
        buttons = [gr.update(**button) for button in self._buttons(model)]
        return [gr.update(choices=self._tasks(model), value=NO_TASK), *self._sampling(model), *buttons]

    def _buttons(self, model: str) -> list[dict[str, Any]]:
        """Titles of a model's examples, and hidden buttons where another model has more."""
        titles = [example.title for example in self.examples[model]]
        titles += [None] * (max(map(len, self.examples.values())) - len(titles))
        return [dict(value=title or "", visible=title is not None) for title in titles]

    def _load_example(self, model: str, index: int, shown: int) -> list[Any]:
        example = self.examples[model][index]
        pairs = [image for pair in example.pairs[: self.slots] for image in pair]
        pairs += [None] * (2 * self.slots - len(pairs))
        number = shown % len(example.queries)
        text = f"Example “{example.title}”, query {number + 1} of {len(example.queries)}. Press Answer."
        used = [pair is not None for pair in pairs[::2]]
        return [*pairs, example.queries[number], example.task, _status(text), *used, number + 1]

    def _check(self, payload: Any) -> list[Any]:
        """Look at an upload at once: what cannot be read does not stay on the page."""
        try:
            image = read_upload(payload, "This image", self.limits)
        except UploadError as error:
            return [None, _error(error)]
        height, width = image.shape[:2]
        return [gr.skip(), _status(f"Read an image of {width} x {height} pixels.")]

    def _answer(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        """Read what is on the page and answer, row by row."""
        try:
            yield from self._answer_or_raise(values, request.session_hash)
        except Stopped:
            yield [gr.skip(), gr.skip(), _status("Stopped."), gr.skip(), gr.skip()]
        except (UploadError, ValueError, TypeError, RuntimeError) as error:
            # Of images that were read from memory: no message has a path of the server.
            yield [gr.skip(), None, _error(error), gr.skip(), gr.skip()]

    def _answer_or_raise(self, values: tuple, session: str) -> Iterator[list[Any]]:
        settings, values = values[:NUM_SETTINGS], values[NUM_SETTINGS:]
        used, images, query = values[: self.slots], values[self.slots : -1], values[-1]
        compare = settings[-1] is True
        inferencer, task, options = self._read_settings(*settings[:-1])
        pairs = []
        for number, chosen in enumerate(used, start=1):
            pair = images[2 * number - 2 : 2 * number]
            if chosen and any(pair):
                parts = [
                    read_upload(payload, f"The {part} of pair {number}", self.limits)
                    for part, payload in zip(("image", "label"), pair, strict=True)
                ]
                pairs.append(inferencer.pipeline.pair(*parts, f"pair {number}", options["fit"]) and tuple(parts))
        if not pairs:
            raise UploadError("There is no pair to learn from: add an image and its label, or start from an example")
        query = read_upload(query, "The query", self.limits)
        stop = self._running[session] = threading.Event()
        folder = Path(tempfile.mkdtemp(dir=self.work_dir))
        try:
            yield [None, None, _status("Reading the prompt …"), gr.update(value=None, interactive=False), None]
            with self._lock:
                for step in stream_answer(inferencer, pairs, query, task, stop, out_dir=folder / "answer", **options):
                    yield [*self._show(step, inferencer, folder), gr.skip()]
                if compare:
                    stop = self._running[session] = threading.Event()
                    tokens = torch.as_tensor(step.result["predictions"][0]["tokens"])
                    written = inferencer.generator.decode(tokens.view(-1, tokens.shape[-1]))
                    yield from self._without_prompt(np.mean(written, axis=0), inferencer, query, stop, options)
        finally:
            self._running.pop(session, None)
            shutil.rmtree(folder, ignore_errors=True)

    def _without_prompt(
        self, answer: np.ndarray, inferencer: DeLVMInferencer, query: np.ndarray, stop: threading.Event, options: dict
    ) -> Iterator[list[Any]]:
        """Answer the query alone, beside the answer that the prompt led to, and say how far apart the two are."""
        for step in stream_answer(inferencer, [], query, None, stop, **options):
            status = _status(f"Without the prompt: row {step.rows} of {inferencer.generator.grid[0]}")
            if step.done:
                apart = np.abs(answer - step.image).mean()
                status = _status(
                    f"Done. With and without the prompt, answers are {apart:.1f} of 255 apart: "
                    + ("it makes no difference." if apart < 1 else "that is what the prompt does.")
                )
            yield [gr.skip(), gr.skip(), status, gr.skip(), _enlarge(step.image)]

    def _show(self, step: AnswerStep, inferencer: DeLVMInferencer, folder: Path) -> list[Any]:
        rows = inferencer.generator.grid[0]
        rate = step.tokens / max(step.seconds, 1e-9)
        text = f"row {step.rows} of {rows}, {step.tokens} tokens, {step.seconds:.1f} s ({rate:.0f} tokens/s)"
        if not step.done:
            return [_enlarge(step.image), gr.skip(), _status(f"Writing: {text}"), gr.skip()]
        overlay = None if step.overlay is None else _enlarge(step.overlay)
        packed = shutil.make_archive(str(folder / "answer"), "zip", folder / "answer")
        download = gr.update(value=packed, interactive=True)
        return [_enlarge(step.image), overlay, _status(f"Done: {text}"), download]

    def _read_settings(
        self, model: Any, task: Any, temperature: Any, top_p: Any, seed: Any, whole: Any, bbox: Any
    ) -> tuple[DeLVMInferencer, str | None, dict[str, Any]]:
        """Check the settings: a request need not come from the page's own controls."""
        if model not in self.inferencers:
            raise UploadError("There is no such model: choose one from the list")
        inferencer = self.inferencers[model]
        if task not in (NO_TASK, *inferencer.tasks):
            raise UploadError("There is no such task: choose one from the list")
        for name, value, low, high in (
            ("temperature", temperature, 0, 2),
            ("top-p", top_p, 0.01, 1),
            ("seed", seed, 0, 2**32 - 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UploadError(f"{name} has to be a number from {low} to {high}")
        options = dict(
            temperature=float(temperature),
            top_p=float(top_p),
            seed=int(seed),
            fit="pad" if whole is True else "crop",
            bbox=read_box(bbox),
        )
        return inferencer, None if task == NO_TASK else task, options

    def _stop(self, request: gr.Request) -> None:
        if (running := self._running.get(request.session_hash)) is not None:
            running.set()


def _upload(label: str, elem_id: str, height: int = 150) -> gr.Image:
    return gr.Image(
        label=label,
        sources=["upload"],
        height=height,
        format="png",
        show_download_button=False,
        show_share_button=False,
        show_fullscreen_button=False,
        min_width=110,
        elem_id=elem_id,
        elem_classes="upload",
        placeholder="drop or choose",
    )


def _shown(label: str, elem_id: str, visible: bool = True) -> gr.Image:
    return gr.Image(
        label=label,
        interactive=False,
        format="png",
        show_download_button=False,
        show_share_button=False,
        min_width=150,
        elem_id=elem_id,
        visible=visible,
    )


def _enlarge(image: np.ndarray) -> np.ndarray:
    factor = max(1, round(SHOWN_AT / image.shape[0]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def _status(text: str) -> str:
    return f'<p role="status" aria-live="polite">{html.escape(text)}</p>'


def _error(error: Exception) -> str:
    return f'<p class="error" role="alert">{html.escape(str(error))}</p>'
