"""llama.cpp on the other side of a pipe: answers of a GGUF file, in an interpreter of its own.

``benchmark_generate.py`` starts it and asks, as llama-cpp-python is no dependency of this project. It reads a line of
JSON with ``tokens``, ``prompt_length`` and ``num_tokens`` and writes one with the tokens written and its seconds. All
rows share the prompt, which is read once; each token of all rows is one pass. Choices are greedy.

    PYTHON tools/benchmarks/llamacpp_peer.py MODEL.gguf --cache f16 --context 2304 --rows 1 --threads 2
"""

import argparse
import json
import sys
import time
from types import ModuleType

import numpy as np

UBATCH = 512  # tokens that are read at once, llama.cpp's own choice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a .gguf file")
    parser.add_argument("--cache", choices=["f16", "f32"], default="f16", help="type of keys and values")
    parser.add_argument("--context", type=int, required=True, help="places for keys and values of all rows")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    try:
        import llama_cpp
    except ImportError as error:
        raise SystemExit(f"{sys.executable} has no llama.cpp: pip install llama-cpp-python numpy") from error
    peer = Peer(llama_cpp, args)
    print(json.dumps(dict(version=llama_cpp.__version__, memory=resident("VmRSS"))), flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.answer(**json.loads(line))), flush=True)


class Peer:
    """A model and its context."""

    def __init__(self, llama_cpp: ModuleType, args: argparse.Namespace) -> None:
        self._llama_cpp = llama_cpp
        self._log = llama_cpp.llama_log_callback(lambda *_: None)  # nothing of what it has to say
        llama_cpp.llama_log_set(self._log, None)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(args.model.encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            raise SystemExit(f"{args.model}: llama.cpp cannot read it")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = args.context
        settings.n_batch, settings.n_ubatch = args.context, UBATCH
        settings.n_seq_max, settings.kv_unified = args.rows, True
        settings.n_threads = settings.n_threads_batch = args.threads
        settings.type_k = settings.type_v = getattr(llama_cpp, f"GGML_TYPE_{args.cache.upper()}")
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            raise SystemExit(f"llama.cpp makes no context of {args.context} places in {args.cache}")
        self._batch = llama_cpp.llama_batch_init(args.context, 0, args.rows)
        self._codes = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def answer(self, tokens: list[list[int]], prompt_length: int, num_tokens: int) -> dict:
        """Continue rows behind the prompt that they share."""
        llama_cpp = self._llama_cpp
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_clear(memory, True)
        start = time.perf_counter()
        if len(tokens) == 1:
            prompt_length = 0
        if prompt_length:
            self._read([(token, place, 0, False) for place, token in enumerate(tokens[0][:prompt_length])])
            for row in range(1, len(tokens)):
                llama_cpp.llama_memory_seq_cp(memory, 0, row, -1, -1)
        length = len(tokens[0])
        own = []
        for row, given in enumerate(tokens):
            own += [(given[place], place, row, place == length - 1) for place in range(prompt_length, length)]
        chosen = self._read(own)
        prefill = time.perf_counter() - start
        written = [[token] for token in chosen]
        for place in range(length, length + num_tokens - 1):
            chosen = self._read([(token, place, row, True) for row, token in enumerate(chosen)])
            for row, token in enumerate(chosen):
                written[row].append(token)
        return dict(seconds=time.perf_counter() - start, prefill=prefill, tokens=written, memory=resident("VmHWM"))

    def _read(self, entries: list[tuple[int, int, int, bool]]) -> list[int]:
        # Tokens, places, rows, and whether the next one is wanted; and what follows those.
        batch, wanted = self._batch, []
        batch.n_tokens = len(entries)
        for index, (token, place, row, is_wanted) in enumerate(entries):
            batch.token[index], batch.pos[index] = token, place
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, row
            batch.logits[index] = is_wanted
            wanted += [index] if is_wanted else []
        if self._llama_cpp.llama_decode(self._context, batch):
            raise SystemExit(f"llama.cpp refuses a batch of {len(entries)} tokens; the context is too short")
        chosen = []
        for index in wanted:
            logits = self._llama_cpp.llama_get_logits_ith(self._context, index)
            chosen.append(int(np.ctypeslib.as_array(logits, (self._codes,)).argmax()))
        return chosen


def resident(field: str) -> int:
    """Bytes of this process's memory, as machine.resident has them: this interpreter knows nothing of the project."""
    with open("/proc/self/status") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith(field)), 0)


if __name__ == "__main__":
    main()
