import copy

import torch

from delvm_mm.models.tokenizers.memo import TokenMemo


class Tokenizer:
    """Tokens are the first row of pixels; counts the images that it sees."""

    fingerprint = "first"
    seen = 0

    def encode(self, images):
        self.seen += len(images)
        return (images[:, 0, 0] * 1000).long()


def test_equal_images_are_encoded_once_and_others_each():
    memo, tokenizer, images = TokenMemo(), Tokenizer(), torch.rand(3, 3, 4, 4)
    given = images[[0, 1, 0, 2, 1]]
    assert torch.equal(memo.encode(tokenizer, given), Tokenizer().encode(given))
    assert tokenizer.seen == 3
    assert torch.equal(memo.encode(tokenizer, images), Tokenizer().encode(images))
    assert tokenizer.seen == 3


def test_images_of_another_shape_or_type_are_others():
    memo, tokenizer, image = TokenMemo(), Tokenizer(), torch.zeros(1, 3, 4, 4)
    for given in (image, image.view(1, 3, 2, 8), image.double()):
        memo.encode(tokenizer, given)
    assert tokenizer.seen == 3


def test_another_tokenizer_starts_anew():
    memo, tokenizer, images = TokenMemo(), Tokenizer(), torch.rand(2, 3, 4, 4)
    memo.encode(tokenizer, images)
    tokenizer.fingerprint = "second"
    memo.encode(tokenizer, images)
    assert tokenizer.seen == 4


def test_no_more_images_are_kept_than_allowed():
    memo, tokenizer, images = TokenMemo(max_images=2), Tokenizer(), torch.rand(5, 3, 4, 4)
    assert memo.encode(tokenizer, images).shape == (5, 4)
    assert len(memo) == 2
    memo.encode(tokenizer, images[3:])
    assert tokenizer.seen == 5
    assert len(copy.deepcopy(memo)) == 0
