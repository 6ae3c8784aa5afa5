# A 7B decoder in the shape of LLaMA-7B, beyond the published sizes; each layer is computed again in the backward pass.
_base_ = 'llama1b_fsdp.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=4096, num_layers=32, num_heads=32, feedforward_channels=11008),
        with_cp=True))
train_dataloader = dict(batch_size=2)
val_dataloader = dict(batch_size=4)
