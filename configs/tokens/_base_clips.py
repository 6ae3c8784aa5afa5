# What the configs of token stores share: the published tokenizer, and how an image becomes 256 x 256 pixels.
_base_ = '../_base_/models/delvm.py'
tokenizer = _base_.model.tokenizer
load = [dict(type='LoadImage')]
load_pair = [*load, dict(type='LoadImage', key='gt_img')]
# As published: the short side to 256, then the center.
plain = [dict(type='ResizeShortSide', size=256), dict(type='CenterCrop', size=256)]
# For stores with num_augmented_copies: another crop, and mirrored half of the time.
augmented = [dict(type='RandomResizedCrop', size=256, scale=(0.3, 1.0)), dict(type='RandomFlip', prob=0.5)]
# bfloat16 is about twice as fast and turns a few tokens in a hundred into a neighboring code.
tokenization = dict(batch_clips=16, precision='float32')
