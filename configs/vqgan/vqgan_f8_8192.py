# Twice as fine: 256 px to 32 x 32 tokens of 8192 codes. No published recipe has this shape; it is f16's without one of
# the two levels of equal width, and everything else as there.
_base_ = 'vqgan_f16_8192.py'
model = dict(vqgan=dict(channel_mult=(1, 2, 4, 6)))
default_hooks = dict(save_tokenizer=dict(out_dir='work_dirs/vqgan_f8_8192/pretrained'))
