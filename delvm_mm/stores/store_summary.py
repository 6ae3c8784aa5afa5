"""What a token store holds, in words: for people who look at it."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from delvm_mm.stores.token_store import TokenStore

__all__ = ["codebook_use", "first_errors", "store_summary"]

MAX_ERRORS = 10  # that are named one by one
TOKENS_COUNTED = 100_000_000  # of larger stores, evenly spread shards are counted

Track = Callable[[Sequence[dict]], Iterable[dict]]


def store_summary(store: TokenStore, track: Track = list) -> dict[str, str]:
    """Name -> text: clips, tokens, use of the codebook, size, and how the store was made.

    Args:
        store: Also an unfinished one.
        track: Wraps the shards that are read, for a progress bar.

    Returns:
        In the order in which they are to be shown.

    Raises:
        ValueError: A token is outside the codebook.
    """
    (k, tokens), (height, width) = store.clip_shape, store.grid
    total = len(store) * k * tokens
    size = sum(file.stat().st_size for file in store.path.iterdir() if file.is_file())
    skipped = [f"clip {entry['clip']}: {entry['error']}" for entry in store.skipped]
    return {
        "task": store.task,
        "clips": f"{len(store):,} of {k} images of {height} x {width} tokens",
        "tokens": f"{total:,}",
        **codebook_use(store, track),
        "size": f"{size / 1e6:,.2f} MB" + (f", {size / total:.3f} bytes a token" if total else ""),
        "tokenizer": f"{store.tokenizer_fingerprint}, {store.index['precision']}",
        "source": str(store.source),
        "seed": str(store.seed),
        "augmented copies": str(store.num_augmented_copies or "none: the samples as they are"),
        "skipped": "\n".join([f"{len(skipped)} clips", *first_errors(skipped)]) if skipped else "none",
        "state": "complete" if store.complete else "unfinished: run delvm tokenize again",
    }


def codebook_use(store: TokenStore, track: Track = list) -> dict[str, str]:
    """How many entries of the codebook the tokens use, and the perplexity of their distribution.

    Returns:
        Name -> text, as :func:`store_summary`.

    Raises:
        ValueError: A token is outside the codebook.
    """
    shards = [shard for shard in store.index["shards"] if shard["clips"]]
    step = 1 + sum(shard["bytes"] for shard in shards) // (2 * TOKENS_COUNTED)
    counts = np.zeros(65536, np.int64)
    for shard in track(shards[::step]):
        tokens = np.load(store.path / shard["file"], mmap_mode="r").reshape(-1)
        for start in range(0, len(tokens), 2**20):
            counts += np.bincount(tokens[start : start + 2**20], minlength=len(counts))
    used = np.flatnonzero(counts)
    if not len(used):
        return {"codebook": f"{store.num_embeddings} entries"}
    if used[-1] >= store.num_embeddings:
        raise ValueError(
            f"{store.path} holds token {used[-1]}, its codebook has {store.num_embeddings}: the store is damaged; "
            "tokenize again"
        )
    shares = counts[used] / counts.sum()
    part = f", in {len(shards[::step])} of {len(shards)} shards" if step > 1 else ""
    return {
        "codebook": f"{len(used)} of {store.num_embeddings} entries used "
        f"({len(used) / store.num_embeddings:.1%}){part}",
        "perplexity": f"{np.exp(-(shares * np.log(shares)).sum()):.1f}{part}",
    }


def first_errors(errors: Sequence[str]) -> list[str]:
    """The first errors, and how many more there are."""
    more = [f"... and {len(errors) - MAX_ERRORS} more"] if len(errors) > MAX_ERRORS else []
    return [*errors[:MAX_ERRORS], *more]
