"""Cards of the models on the page: what each does, how large it is, and an example of each task."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.webui.examples import Example

__all__ = ["CARD_CSS", "gallery_html"]

CARD_CSS = """
.cards {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 12px}
.cards article {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px}
.cards h3 {margin: 0 0 .2em} .cards p {margin: 0 0 .5em}
.cards figure {display: inline-block; margin: 0 8px 6px 0} .cards figcaption {font-size: 12px}
.cards img {display: inline-block; width: 56px; height: 56px; margin: 0 2px 0 0; image-rendering: pixelated}
"""


def gallery_html(inferencers: Mapping[str, DeLVMInferencer], examples: Mapping[str, Sequence[Example]]) -> str:
    """Write the cards.

    Args:
        inferencers: Name -> model.
        examples: Name -> its examples.

    Returns:
        HTML, with all images in it.
    """
    return f'<div class="cards">{"".join(_card(name, one, examples[name]) for name, one in inferencers.items())}</div>'


def _card(name: str, inferencer: DeLVMInferencer, examples: Sequence[Example]) -> str:
    model = inferencer.model
    parameters = sum(weight.numel() for part in (model.backbone, model.head) for weight in part.parameters())
    said = (
        f"{parameters / 1e6:.1f} M parameters, images of {inferencer.size} px, {inferencer.generator.tokens_per_image} "
        f"tokens each of {model.num_embeddings} codes, up to {inferencer.generator.max_pairs} pairs"
    )
    figures = "".join(_figure(example) for example in examples)
    return f"<article><h3>{html.escape(name)}</h3><p>{said}</p>{figures}</article>"


def _figure(example: Example) -> str:
    """The first pair of an example."""
    images = "".join(
        f'<img src="{_data_url(image)}" alt="{what} of {html.escape(example.task)}">'
        for what, image in zip(("image", "label"), example.pairs[0], strict=True)
    )
    return f"<figure>{images}<figcaption>{html.escape(example.task)}</figcaption></figure>"


def _data_url(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
