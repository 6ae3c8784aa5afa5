"""llama.cpp as a peer, by ``llamacpp_peer.py`` in an interpreter that has it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLACES = 256  # llama.cpp has places for keys and values in multiples of so many


class LlamaCpp:
    """A running process; see :func:`llamacpp`.

    Attributes:
        version: Of llama-cpp-python.
    """

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.version = self._read()["version"]

    def answer(self, tokens: list[list[int]], prompt_length: int, num_tokens: int) -> dict[str, Any]:
        """Continue rows of tokens greedily.

        Args:
            tokens: Rows of one length.
            prompt_length: How many of the first tokens they share.
            num_tokens: To write in each row.

        Returns:
            ``tokens``, ``seconds``, ``prefill`` (seconds until the first token) and ``memory`` (bytes).
        """
        request = dict(tokens=tokens, prompt_length=prompt_length, num_tokens=num_tokens)
        self._process.stdin.write(json.dumps(request) + "\n")
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"llama.cpp ended with {self._process.wait()}; above it says why")
        return json.loads(line)


@contextmanager
def llamacpp(python: str, model: Path, cache: str, context: int, threads: int, rows: int = 1) -> Iterator[LlamaCpp]:
    """Start llama.cpp, and end it with the context.

    Args:
        python: Interpreter that has llama-cpp-python.
        model: A .gguf file.
        cache: 'f16' or 'f32', type of keys and values.
        context: Places for them that are needed, of all rows.
        threads: Of the processor.
        rows: Most rows at a time.

    Yields:
        The process that answers.
    """
    command = [python, Path(__file__).with_name("llamacpp_peer.py"), model, "--cache", cache]
    command += ["--context", -(-context // PLACES) * PLACES, "--rows", rows, "--threads", threads]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    with subprocess.Popen(list(map(str, command)), **pipes) as process:
        try:
            yield LlamaCpp(process)
        finally:
            process.stdin.close()
