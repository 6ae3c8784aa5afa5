# Rain13K in BasicSR's LMDB form.
_base_ = 'rain13k.py'
stores = [dict(store, dataset=dict(store['dataset'], form='lmdb')) for store in _base_.stores]
