# The loss of the label tokens of images that training does not see, real ones and built-in scenes. It needs no answers
# to be written, and is less noisy than what they score:
#     python tools/test.py configs/real/loss.py delvm_mm://mini
_base_ = 'finetune.py'
work_dir = _base_.root + '/loss'
tasks = None
held_out = [f'{_base_.root}/tokens/val/{task}{where}' for where in ('', '_scenes') for task in _base_.codec_of]
test_dataloader = dict(_base_.val_dataloader, dataset=dict(_base_.val_dataloader['dataset'], stores=held_out))
test_evaluator = _base_.val_evaluator
test_cfg = dict()
