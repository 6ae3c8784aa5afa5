import pytest
import torch

from delvm_mm.generation import Drafter, ImageLayout

LAYOUT = ImageLayout(6, 6)
NOISE = torch.randint(50, (6, 36), generator=torch.Generator().manual_seed(0)).tolist()


def written(drafter, image):
    """How many drafted tokens were right, and how many were drafted, while an image is written."""
    right = drafted = place = 0
    while place < len(image):
        draft, _ = drafter.propose(len(image) - place - 1, 0.5)
        taken = 0
        while taken < len(draft) and draft[taken] == image[place + taken]:
            taken += 1
        right, drafted = right + taken, drafted + len(draft)
        for token in image[place : place + taken + 1]:
            drafter.append(token)
        place += taken + 1
    return right, drafted


def test_a_flat_image_is_guessed_from_what_is_near():
    right, drafted = written(Drafter([*NOISE[0]], LAYOUT), [7] * 36)
    assert right > 20 and drafted - right <= 3


def test_a_label_that_comes_again_is_guessed_from_the_prompt():
    prompt = [*NOISE[0], *NOISE[1], *NOISE[2], *NOISE[1], *NOISE[3]]
    right, drafted = written(Drafter(prompt, LAYOUT), NOISE[1])
    assert right > 25 and drafted == right


def test_a_frame_like_the_one_before_is_guessed_from_it():
    right, drafted = written(Drafter([*NOISE[0], *NOISE[0]], LAYOUT), NOISE[0])
    assert right > 20 and drafted - right <= 3


def test_a_columns_token_is_guessed_from_above():
    stripes = [3, 9, 4, 1, 8, 5] * 6
    right, drafted = written(Drafter([*NOISE[0], *stripes, *NOISE[1]], LAYOUT), [token + 1 for token in stripes])
    assert right > 20 and drafted - right <= 8


def test_next_to_nothing_is_guessed_where_nothing_repeats():
    right, drafted = written(Drafter([token for image in NOISE[:5] for token in image], LAYOUT), NOISE[5])
    assert drafted <= 3 and right <= 1


def test_images_begin_behind_what_is_skipped():
    label = NOISE[1]
    prompt = [50, *NOISE[0], *label, *NOISE[2]]
    right, drafted = written(Drafter(prompt, ImageLayout(6, 6, skip=1)), label)
    assert right > 20 and drafted - right <= 3


@pytest.mark.parametrize("tokens", [[], NOISE[0][:9], [50]], ids=["nothing", "a part of an image", "a special id"])
def test_there_may_be_little_to_guess_from(tokens):
    drafter = Drafter(list(tokens), LAYOUT)
    assert drafter.propose(5, 1.0) == ([], 0.0)
    drafter.append(3)
    draft, expected = drafter.propose(5, 0.01)
    assert expected <= len(draft) <= 5


def test_drafts_leave_no_trace():
    drafter = Drafter([*NOISE[0], *[7] * 36, *NOISE[1], 7, 7], LAYOUT)
    first, expected = drafter.propose(9, 0.001)
    assert len(first) > 2 and set(first) == {7} and 0.3 < expected < len(first)
    assert drafter.propose(9, 0.001) == (first, expected)


def test_rows_behind_the_same_labels_know_the_same_and_learn_apart():
    prompt = [*NOISE[0], *[7] * 36]
    rows = [prompt + NOISE[1], prompt + NOISE[2], [*NOISE[3], *[5] * 36, *NOISE[1]]]
    first, second, third = Drafter.of_rows(rows, LAYOUT)
    alone = Drafter(rows[1], LAYOUT)
    assert second.propose(9, 0.1) == alone.propose(9, 0.1)
    for token in NOISE[4]:
        first.append(token)
    assert second.propose(9, 0.1) == alone.propose(9, 0.1)
    assert third.propose(9, 0.1) == Drafter(rows[2], LAYOUT).propose(9, 0.1)
