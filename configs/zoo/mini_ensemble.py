# The shipped model, asked six times: each order of its three pairs writes an answer, and the images are averaged.
#     python tools/test.py configs/zoo/mini_ensemble.py delvm_mm://mini
_base_ = 'mini.py'
model = dict(ensemble=dict(size=6, vary='order', combine='mean'))
