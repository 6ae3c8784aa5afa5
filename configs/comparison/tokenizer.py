# The mini tokenizer in a folder of its own: work_dirs/comparison holds everything that the comparison makes.
_base_ = '../mini/tokenizer.py'
root = 'work_dirs/comparison'
work_dir = root + '/tokenizer'
custom_hooks = [dict(type='SaveTokenizerHook', out_dir=root + '/tokenizer/pretrained')]
