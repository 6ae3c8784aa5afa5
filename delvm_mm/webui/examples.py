"""Examples to start from: those of a model folder, or built-in scenes, rendered when the page starts."""

from dataclasses import dataclass

import numpy as np

from delvm_mm.apis import DeLVMInferencer, read_prompt_folder
from delvm_mm.apis.images import list_sources
from delvm_mm.datasets import ProceduralScenes
from delvm_mm.datasets.seeded_clips import DATA_ERRORS
from delvm_mm.registry import DATASETS

__all__ = ["Example", "render_examples"]

TASKS = {"seg": "objects → mask", "pose": "person → skeleton", "derain": "rain → no rain"}
# As in the configs: training does not see these.
PROMPTS_FROM, QUERIES_FROM = 2_000_000, 3_000_000


@dataclass(frozen=True)
class Example:
    """A prompt with several queries.

    Attributes:
        task: Name of the task.
        title: What is shown and asked for.
        pairs: Image and label, uint8, S x S x 3.
        queries: uint8, S x S x 3.
    """

    task: str
    title: str
    pairs: list[tuple[np.ndarray, np.ndarray]]
    queries: list[np.ndarray]


def render_examples(inferencer: DeLVMInferencer, num_queries: int = 4) -> list[Example]:
    """Examples of every task of a model.

    They are the prompts and queries that a model folder has; where it has none, scenes of each built-in task, labels
    drawn by its codecs, and of the config's other tasks what their data sets give, where these can be read.

    Args:
        inferencer: Whose size, codecs and number of pairs.
        num_queries: Of each built-in task.

    Returns:
        One for each task, with its prompt and queries.
    """
    if own := _own_examples(inferencer):
        return own
    examples = []
    for task, title in TASKS.items():
        codec = inferencer.codec(task)
        scenes = ProceduralScenes(task=task, size=inferencer.size)
        pairs = []
        for number in range(inferencer.generator.max_pairs):
            scene = scenes.scene(PROMPTS_FROM + number)
            pairs.append((scene["img"], codec.encode(codec.annotation_of(scene))))
        queries = [scenes.scene(QUERIES_FROM + number)["img"] for number in range(num_queries)]
        examples.append(Example(task, title, pairs, queries))
    others = {name: task for name, task in (inferencer.cfg.get("tasks") or {}).items() if name not in TASKS}
    made = (_example_of_dataset(name, task, inferencer, num_queries) for name, task in others.items())
    return [*examples, *filter(None, made)]


def _example_of_dataset(task: str, settings: dict, inferencer: DeLVMInferencer, num_queries: int) -> Example | None:
    """Prompt of the first query of a task's data set, and its first queries; None where there is no such data."""
    try:
        dataset = DATASETS.build(settings["dataloader"]["dataset"])
        samples = [dataset[number]["data_samples"] for number in range(min(num_queries, len(dataset)))]
        shown = [np.asarray(image) for image in samples[0].prompt_images]
        queries = [np.asarray(sample.query_image) for sample in samples]
    except (*DATA_ERRORS, KeyError, IndexError, AttributeError):
        return None
    pairs = list(zip(shown[::2], shown[1::2], strict=True))
    return Example(task, task, pairs[: inferencer.generator.max_pairs], queries)


def _own_examples(inferencer: DeLVMInferencer) -> list[Example]:
    examples = []
    for task, settings in (inferencer.cfg.get("tasks") or {}).items():
        if "prompt" in settings and "queries" in settings:
            pairs = [
                tuple(inferencer.pipeline(path).pixels for path in pair)
                for pair in read_prompt_folder(settings["prompt"])[: inferencer.generator.max_pairs]
            ]
            queries = [inferencer.pipeline(path).pixels for path in list_sources(settings["queries"])]
            examples.append(Example(task, task, pairs, queries))
    return examples
