"""The trained tokenizer as a folder."""

from mmengine.config import Config
from mmengine.runner import Runner

from delvm_mm.models import load_tokenizer

VQGAN_CONFIG = dict(
    resolution=32, hidden_channels=8, channel_mult=(1, 2, 2), num_res_blocks=1, z_channels=8, num_embeddings=32,
    quantized_embed_dim=8, norm_num_groups=4,
)  # fmt: skip


def test_a_trained_tokenizer_is_saved_as_a_folder_that_configs_can_name(tmp_path):
    drawn = [dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec")), dict(type="PackClip", factor=4)]
    clips = dict(type="ProceduralScenes", task="seg", size=32, length=4, pipeline=drawn)
    runner = Runner.from_cfg(
        Config(
            dict(
                default_scope="delvm_mm",
                experiment_name="saved_tokenizer",
                work_dir=str(tmp_path / "run"),
                model=dict(type="VQGANTrainer", vqgan=VQGAN_CONFIG),
                train_dataloader=dict(
                    batch_size=2,
                    num_workers=0,
                    sampler=dict(type="InfiniteSampler", shuffle=True, seed=0),
                    collate_fn=dict(type="default_collate"),
                    dataset=dict(type="CachedDataset", datasets=[clips]),
                ),
                train_cfg=dict(type="IterBasedTrainLoop", max_iters=2),
                optim_wrapper=dict(type="AutocastOptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)),
                custom_hooks=[dict(type="SaveTokenizerHook", out_dir=str(tmp_path / "tokenizer"))],
                default_hooks=dict(checkpoint=None, logger=dict(type="LoggerHook", interval=1)),
            )
        )
    )
    runner.train()
    assert load_tokenizer(tmp_path / "tokenizer").fingerprint == runner.model.vqgan.fingerprint
