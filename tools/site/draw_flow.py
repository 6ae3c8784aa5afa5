"""Draw docs/flow.svg, the way of the data, with a built-in scene and the answer of the shipped model.

python tools/site/draw_flow.py [docs/flow.svg]
"""

import base64
import io
import sys

import numpy as np
from PIL import Image

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.codecs import ForegroundMaskCodec
from delvm_mm.datasets import ProceduralScenes

WIDTH, COLUMN, GAP, ROW, BOX = 520, 246, 28, 122, 92
THUMB = 64
INK, LINE, TRAIN, ANSWER, MODEL = "#1a1c2c", "#5a6078", "#e8ecfb", "#e6f4ea", "#fbe9d0"
SCENE = 3_000_001


def main() -> None:
    inferencer = DeLVMInferencer("mini", show_progress=False)
    images, labels = scenes(SCENE, 4, inferencer.size)
    pairs = list(zip(images[1:], labels[1:], strict=True))
    result = inferencer(images[0], prompt=pairs, task="seg", return_vis=False)["predictions"][0]
    tokens = [token_image(inferencer, image) for image in (images[1], labels[1])]
    drawing = Drawing()
    left, right = 0, COLUMN + GAP
    drawing.box(left, 0, TRAIN, "image", ["and its annotation"], [images[1]])
    drawing.box(left, 1, TRAIN, "codec", ["draws the label:", "both are a clip"], [labels[1]])
    drawing.box(left, 2, TRAIN, "tokens", ["of the clip, by", "the tokenizer"], tokens[1:])
    drawing.box(left, 3, TRAIN, "store", ["tokens on disk,", "made once"], [])
    drawing.box(left, 4, TRAIN, "sentence", ["clips of one task,", "end to end"], [strip(pairs[:2])])
    drawing.box(right, 4, ANSWER, "tokens", ["that come next"], [token_image(inferencer, result["image"])])
    drawing.box(right, 3, ANSWER, "image", ["by the tokenizer"], [result["image"]])
    drawing.box(right, 2, ANSWER, "codec", ["reads the drawing"], [ForegroundMaskCodec().encode(result["mask"] > 0)])
    drawing.box(right, 1, ANSWER, "metric", ["against the truth,", "as the toolboxes do"], [labels[0]])
    drawing.heading(right, ["beside each score:", "ceiling of the tokenizer,", "answers without a model"])
    drawing.wide(5, MODEL, "DeLVM", "a causal LLaMA: which token comes next?", None)
    drawing.wide(
        6, ANSWER, "prompt and query", "as tokens", [*(image for pair in pairs[:2] for image in pair), images[0]]
    )
    for row in range(4):
        drawing.arrow(left + COLUMN / 2, row, row + 1)
        if row:
            drawing.arrow(right + COLUMN / 2, row + 1, row)
    drawing.arrow(left + COLUMN / 2, 4, 5)
    drawing.arrow(right + COLUMN / 2, 5, 4)
    drawing.arrow(WIDTH / 2, 6, 5)
    out = sys.argv[1] if len(sys.argv) > 1 else "docs/flow.svg"
    write_atomically(out, drawing.text(7 * ROW - (ROW - BOX)).encode())


def scenes(first: int, number: int, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and drawn labels of built-in scenes."""
    dataset = ProceduralScenes(task="seg", size=size, seed=0, start=first, length=number)
    samples, codec = [dataset[index] for index in range(number)], ForegroundMaskCodec()
    return [sample["img"] for sample in samples], [codec.encode(codec.annotation_of(sample)) for sample in samples]


def token_image(inferencer: DeLVMInferencer, image: np.ndarray) -> np.ndarray:
    """Tokens of an image as a grid of colors, one for each code."""
    tokens = inferencer.generator.encode([image])[0].cpu().numpy().reshape(inferencer.generator.grid)
    colors = np.random.default_rng(0).integers(40, 240, (inferencer.model.num_codes, 3), dtype=np.uint8)
    return np.kron(colors[tokens], np.ones((8, 8, 1), np.uint8))


def strip(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Images and labels by turns, two beside two."""
    rows = [np.concatenate(pair, axis=1) for pair in pairs]
    return np.concatenate(rows, axis=0)


class Drawing:
    """Boxes on a grid of two columns, as SVG."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def box(self, x: float, row: int, color: str, title: str, lines: list[str], images: list[np.ndarray]) -> None:
        """A box of one column, with images at its right."""
        y = row * ROW
        self.rect(x, y, COLUMN, color)
        self.words(x + 14, y + 28, title, bold=True)
        for number, line in enumerate(lines):
            self.words(x + 14, y + 52 + 20 * number, line)
        for number, image in enumerate(images):
            self.put(x + COLUMN - 14 - THUMB * (len(images) - number), y + (BOX - THUMB) / 2, image)

    def wide(self, row: int, color: str, title: str, line: str, images: list[np.ndarray] | None) -> None:
        """A box of both columns."""
        y = row * ROW
        self.rect(0, y, WIDTH, color)
        self.words(14, y + (28 if images else 40), title, bold=True)
        self.words(14, y + (52 if images else 64), line)
        small = 44
        for number, image in enumerate(images or ()):
            self.put(WIDTH - 10 - (small + 3) * (len(images) - number), y + (BOX - small) / 2, image, small)

    def heading(self, x: float, lines: list[str]) -> None:
        """Lines at the top, without a box."""
        for number, line in enumerate(lines):
            self.words(x + 14, 34 + 20 * number, line)

    def rect(self, x: float, y: float, width: float, color: str) -> None:
        """A rounded rectangle of a row's height."""
        place = f'x="{x + 1}" y="{y + 1}" width="{width - 2}" height="{BOX - 2}" rx="10"'
        self.parts.append(f'<rect {place} fill="{color}" stroke="{LINE}"/>')

    def words(self, x: float, y: float, text: str, bold: bool = False) -> None:
        """A line of text."""
        weight = ' font-weight="700"' if bold else ""
        size = 20 if bold else 15.5
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}" fill="{INK}"{weight}>{text}</text>')

    def put(self, x: float, y: float, image: np.ndarray, side: float = THUMB) -> None:
        """An image, in 64 colors."""
        stream = io.BytesIO()
        Image.fromarray(image).quantize(64).save(stream, "PNG", optimize=True)
        data = base64.b64encode(stream.getvalue()).decode()
        self.parts.append(
            f'<image x="{x}" y="{y}" width="{side}" height="{side}" href="data:image/png;base64,{data}"/>'
        )

    def arrow(self, x: float, start: int, end: int) -> None:
        """An arrow between two rows."""
        down = end > start
        tip = end * ROW - 3 if down else end * ROW + BOX + 3
        tail = start * ROW + BOX + 2 if down else start * ROW - 2
        back = tip - 9 if down else tip + 9
        self.parts.append(
            f'<path d="M{x} {tail}V{back}" stroke="{LINE}" stroke-width="3"/>'
            f'<path d="M{x - 7} {back}h14L{x} {tip}z" fill="{LINE}"/>'
        )

    def text(self, height: float) -> str:
        """The whole as SVG."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="system-ui, Roboto, Helvetica, Arial, sans-serif">'
        )
        return "\n".join([head, *self.parts, "</svg>", ""])


if __name__ == "__main__":
    main()
