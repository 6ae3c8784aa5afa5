# The zoo's teacher, which is the shape of the model that is shipped as delvm_mm://mini.
_base_ = '../_base_/models/delvm.py'
context = 1152
# Heads of 32 numbers find what they are to copy sooner than wider ones.
model = dict(
    tokenizer=dict(_delete_=True, type='VQGAN', pretrained='delvm_mm://zoo_tokenizer'),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=320, num_layers=5, num_heads=10), max_positions=context, init_std=0.03),
    embedding=dict(init_std=0.5),
    head=dict(init_std=0.02),
    # Drawn answers: the likeliest ones miss keypoints and parts of masks.
    sampler=dict(temperature=1.0, top_p=0.9, seed=0),
    label_weight=4.)
