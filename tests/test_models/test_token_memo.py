import copy

import torch

from delvm_mm.models.token_memo import TokenMemo


class Tokenizer:
    """Tokens are the first row of pixels; counts the pictures that it sees."""

    fingerprint = "first"
    seen = 0

    def encode(self, pictures):
        self.seen += len(pictures)
        return (pictures[:, 0, 0] * 1000).long()


def test_equal_pictures_are_encoded_once_and_others_each():
    memo, tokenizer, pictures = TokenMemo(), Tokenizer(), torch.rand(3, 3, 4, 4)
    given = pictures[[0, 1, 0, 2, 1]]
    assert torch.equal(memo.encode(tokenizer, given), Tokenizer().encode(given))
    assert tokenizer.seen == 3
    assert torch.equal(memo.encode(tokenizer, pictures), Tokenizer().encode(pictures))
    assert tokenizer.seen == 3


def test_pictures_of_another_shape_or_type_are_others():
    memo, tokenizer, picture = TokenMemo(), Tokenizer(), torch.zeros(1, 3, 4, 4)
    for given in (picture, picture.view(1, 3, 2, 8), picture.double()):
        memo.encode(tokenizer, given)
    assert tokenizer.seen == 3


def test_another_tokenizer_starts_anew():
    memo, tokenizer, pictures = TokenMemo(), Tokenizer(), torch.rand(2, 3, 4, 4)
    memo.encode(tokenizer, pictures)
    tokenizer.fingerprint = "second"
    memo.encode(tokenizer, pictures)
    assert tokenizer.seen == 4


def test_no_more_pictures_are_kept_than_allowed():
    memo, tokenizer, pictures = TokenMemo(max_pictures=2), Tokenizer(), torch.rand(5, 3, 4, 4)
    assert memo.encode(tokenizer, pictures).shape == (5, 4)
    assert len(memo) == 2
    memo.encode(tokenizer, pictures[3:])
    assert tokenizer.seen == 5
    assert len(copy.deepcopy(memo)) == 0
