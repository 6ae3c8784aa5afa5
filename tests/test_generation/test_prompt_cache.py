import pytest

from delvm_mm.generation import KVCache
from delvm_mm.generation.prompt_cache import PromptStore, split_batch

A, B = b"A", b"B"


def test_rows_of_one_prompt_lie_side_by_side():
    (part,) = split_batch([A, B, A, None, B], row_bytes=1, prompt_bytes=10, max_bytes=100)
    assert part.rows == [0, 2, 1, 4, 3]
    assert part.prompts == [(A, 2), (B, 2), (None, 1)]


def test_parts_hold_rows_and_prompts_within_the_bound():
    # 25 bytes: the prompt's 10 and five rows of 3. The sixth row of A needs its prompt again; then 12 are left,
    # which is too little for B and a row.
    parts = split_batch([A] * 6 + [B], row_bytes=3, prompt_bytes=10, max_bytes=25)
    assert [part.rows for part in parts] == [[0, 1, 2, 3, 4], [5], [6]]
    assert [part.prompts for part in parts] == [[(A, 5)], [(A, 1)], [(B, 1)]]


def test_parts_without_prompts_hold_as_many_rows_as_fit():
    parts = split_batch([None] * 5, row_bytes=3, prompt_bytes=10, max_bytes=6)
    assert [part.rows for part in parts] == [[0, 1], [2, 3], [4]]


def test_a_part_can_be_limited_to_one_prompt():
    parts = split_batch([A, B, A], row_bytes=1, prompt_bytes=1, max_bytes=100, one_prompt=True)
    assert [part.rows for part in parts] == [[0, 2], [1]]


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="take 13 bytes and max_cache_bytes is 12"):
        split_batch([A], row_bytes=3, prompt_bytes=10, max_bytes=12)


def test_groups_stay_whole_and_their_prompts_count_once():
    # Two groups take 4 rows of 3 and the prompts A and B, 32; a third one's rows would pass 35.
    parts = split_batch([A, B] * 3, row_bytes=3, prompt_bytes=10, max_bytes=35, group_size=2)
    assert [part.rows for part in parts] == [[0, 2, 1, 3], [4, 5]]
    assert [part.prompts for part in parts] == [[(A, 2), (B, 2)], [(A, 1), (B, 1)]]
    with pytest.raises(ValueError, match="an ensemble of 2 sequences take 26 bytes and max_cache_bytes is 25"):
        split_batch([A, B], row_bytes=3, prompt_bytes=10, max_bytes=25, group_size=2)


def cache():
    return KVCache(num_layers=1, batch_size=1, num_heads=1, max_length=1, head_dim=1)  # 8 bytes


def test_the_store_forgets_what_was_used_least_recently():
    store = PromptStore()
    kept = {key: store.get(key, cache) for key in (b"1", b"2", b"3")}
    assert store.get(b"1", cache) is kept[b"1"]
    store.shrink(16)
    assert store.nbytes == 16 and b"2" not in store and b"1" in store and b"3" in store
    store.shrink(0, keep=[b"3"])
    assert store.nbytes == 8 and b"3" in store
