"""How fast one process reads visual sentences: token store against JSON lines, the same tokens in the same order.

    python tools/benchmarks/benchmark_reading.py

Random tokens are written as a token store and in the format in which the method's authors release them
(``train.bin`` with ``train.bin.meta``), then read in turn, several times each:

- json: line by line, by the offsets of the ``.meta``: seek, readline, json.loads, torch.tensor;
- store: ``VisualSentenceDataset``, sentence by sentence;
- store, batches: the same through a ``DataLoader`` without workers, collated to batches of 16.
"""

import sys

try:
    import delvm_mm  # noqa: F401
except ImportError as error:  # MMEngine or mmcv is missing or unusable; the message says what to install
    sys.exit(f"error: {error}")


import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmengine.dataset import default_collate
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from delvm_mm.datasets import VisualSentenceDataset
from delvm_mm.engine.launch import user_errors
from delvm_mm.stores import TokenStoreWriter
from delvm_mm.stores.released_tokens import export_released_tokens
from machine import machine

IMAGES, TOKENS, GRID = 2, 256, (16, 16)
NUM_EMBEDDINGS = 8192
STORE_PASSES = 40


class JsonLinesSentences:
    """Sentences of a file of released tokens, one clip a line, put together in the order of ``clips``."""

    def __init__(self, path: Path, clips: np.ndarray, clips_per_sentence: int) -> None:
        self.stream = open(path, "rb")  # noqa: SIM115 - open as long as the benchmark runs
        self.offsets = np.load(f"{path}.meta")[:, 0].tolist()
        self.clips = clips.tolist()
        self.step = clips_per_sentence

    def __getitem__(self, sentence: int) -> Tensor:
        tokens = []
        for clip in self.clips[sentence * self.step : (sentence + 1) * self.step]:
            self.stream.seek(self.offsets[clip])
            tokens += json.loads(self.stream.readline())["tokens"]
        return torch.tensor(tokens)


@user_errors
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20000, help="clips of 2 x 256 tokens to write (20000 by default)")
    parser.add_argument("--context", type=int, default=2048, help="tokens of a sentence (2048 by default)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which every reader reads all (5 by default)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dir", help="where to write; a temporary folder by default, deleted at the end")
    parser.add_argument("--out", help="write the figures into this JSON file")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="benchmark_reading-") as folder:
        results = benchmark(Path(folder), args.clips, args.context, args.repeats, args.batch_size)
    print_results(results)
    if args.out:
        Path(args.out).write_text(json.dumps(results, indent=1) + "\n")


def benchmark(folder: Path, clips: int, context: int, repeats: int, batch_size: int) -> dict:
    """Write both formats, read each ``repeats`` times in turn, and return the figures."""
    write_store(folder / "store", clips)
    export_released_tokens([folder / "store"], folder / "train.bin")
    sentences = VisualSentenceDataset([folder / "store"], context=context)
    # Epoch 0 of the data set, put together from its parts: both readers read the same sentences.
    grouping = np.random.RandomState([0, 0, 0]).permutation(clips)
    lines = JsonLinesSentences(folder / "train.bin", grouping, context // (IMAGES * TOKENS))
    order = np.random.RandomState(1).permutation(len(sentences)).tolist()
    for index in order[:3]:
        if not torch.equal(sentences[index]["inputs"], lines[index]):
            raise RuntimeError(f"sentence {index} differs between the two readers")
    loader = DataLoader(sentences, batch_size, sampler=order, collate_fn=default_collate)
    readers: dict[str, Callable[[], Iterator]] = {
        "json": lambda: map(lines.__getitem__, order),
        "store": lambda: map(sentences.__getitem__, order),
        "store, batches": lambda: iter(loader),
    }
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeats):
        for name, read in readers.items():
            # As long as the reader of JSON takes, so that what else the machine does falls on all alike.
            passes = 1 if name == "json" else STORE_PASSES
            start = time.perf_counter()
            for _ in range(passes):
                for _ in read():
                    pass
            seconds[name].append((time.perf_counter() - start) / passes)
    lines.stream.close()
    tokens = len(order) * sentences.sentence_length
    stored = clips * IMAGES * TOKENS
    return {
        "machine": machine(),
        "clips": clips,
        "sentence_length": sentences.sentence_length,
        "tokens_per_s": {name: tokens / median(times) for name, times in seconds.items()},
        # Of readings that stand side by side, so that a slow moment of the machine hits both.
        "ratio": {
            name: median(json_s / s for json_s, s in zip(seconds["json"], times, strict=True))
            for name, times in seconds.items()
        },
        "bytes_per_token": {
            "json": size_of(folder / "train.bin", folder / "train.bin.meta") / stored,
            "store": size_of(*(folder / "store").iterdir()) / stored,
        },
    }


def write_store(path: Path, clips: int) -> None:
    writer = TokenStoreWriter(
        path,
        clip_shape=(IMAGES, TOKENS),
        grid=GRID,
        num_embeddings=NUM_EMBEDDINGS,
        tokenizer_fingerprint="random tokens",
        task="benchmark",
    )
    random = np.random.RandomState(0)
    for start in range(0, clips, 1000):
        writer.add(random.randint(0, NUM_EMBEDDINGS, (min(1000, clips - start), IMAGES, TOKENS)))
    writer.finish()


def size_of(*files: Path) -> int:
    return sum(file.stat().st_size for file in files)


def print_results(results: dict) -> None:
    print(f"{results['clips']} clips of {IMAGES} x {TOKENS} tokens, sentences of {results['sentence_length']} tokens")
    print(results["machine"])
    table = Table("reader", "tokens/s", "times json", "bytes a token")
    for name, rate in results["tokens_per_s"].items():
        size = results["bytes_per_token"].get(name)
        table.add_row(name, f"{rate:.3g}", f"{results['ratio'][name]:.1f}", "" if size is None else f"{size:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
