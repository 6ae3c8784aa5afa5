"""Whole runs of tokenizer training: two optimizers, averaged weights, resuming, two processes, a frozen half."""

import copy
import itertools
import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.runner import Runner

from delvm_mm.engine import MultiOptimWrapperConstructor, SelfAveragingModel
from delvm_mm.engine.launch import use_safe_checkpoints
from delvm_mm.models import VQGAN, load_tokenizer
from delvm_mm.registry import MODELS

NUMBERS = itertools.count()
VQGAN_CONFIG = dict(
    resolution=32, hidden_channels=8, channel_mult=(1, 2), num_res_blocks=1, z_channels=8, num_embeddings=16,
    quantized_embed_dim=4, norm_num_groups=4,
)  # fmt: skip
ADVERSARIAL = dict(
    type="VQGANAdversarialTrainer",
    vqgan=VQGAN_CONFIG,
    discriminator=dict(base_channels=4, num_layers=1),
    disc_start=2,
    restart_after=2,
)
ADAM = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-3, betas=(0.5, 0.9)))
TWO_OPTIMIZERS = dict(constructor="MultiOptimWrapperConstructor", vqgan=ADAM, discriminator=ADAM)


def run_config(work_dir, max_iters, **changes):
    clips = dict(
        type="ProceduralScenes",
        task="seg",
        size=32,
        length=8,
        pipeline=[dict(type="DrawLabel", codec=dict(type="ForegroundMaskCodec")), dict(type="PackClip", factor=2)],
    )
    return Config(
        dict(
            default_scope="delvm_mm",
            experiment_name=f"tokenizer_{next(NUMBERS)}",
            work_dir=str(work_dir),
            model=ADVERSARIAL,
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="InfiniteSampler", shuffle=True, seed=0),
                collate_fn=dict(type="default_collate"),
                dataset=dict(type="CachedDataset", datasets=[clips]),
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=max_iters),
            optim_wrapper=TWO_OPTIMIZERS,
            param_scheduler=[dict(type="LinearLR", start_factor=0.5, by_epoch=False, begin=0, end=4)],
            custom_hooks=[dict(type="EMAHook", momentum=0.1)],
            default_hooks=dict(
                checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=3),
                logger=dict(type="LoggerHook", interval=1),
            ),
            visualizer=dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")]),
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
        )
        | changes
    )


def test_resumed_adversarial_training_goes_on_bit_for_bit(tmp_path):
    use_safe_checkpoints()
    Runner.from_cfg(run_config(tmp_path / "whole", 6)).train()
    Runner.from_cfg(run_config(tmp_path / "parts", 3)).train()
    Runner.from_cfg(run_config(tmp_path / "parts", 6, resume=True)).train()
    whole, parts = (torch.load(tmp_path / name / "iter_6.pth", weights_only=False) for name in ("whole", "parts"))
    for key in ("state_dict", "ema_state_dict"):
        assert list(whole[key]) == list(parts[key])
        assert all(torch.equal(value, parts[key][name]) for name, value in whole[key].items())
    assert whole["state_dict"]["train_steps"] == 6
    assert set(whole["optimizer"]) == {"vqgan", "discriminator"}
    for part, saved in whole["optimizer"].items():
        assert saved["param_groups"] == parts["optimizer"][part]["param_groups"]
        assert saved["state"]
        for number, state in saved["state"].items():
            assert all(torch.equal(value, parts["optimizer"][part]["state"][number][k]) for k, value in state.items())


def test_the_averaged_tokenizer_is_saved_and_drawn(tmp_path):
    hooks = [
        dict(type="EMAHook", momentum=0.5),
        dict(type="SaveTokenizerHook", out_dir=str(tmp_path / "tokenizer")),
        dict(type="ReconstructionHook", interval=2, num_images=3),
    ]
    runner = Runner.from_cfg(run_config(tmp_path / "run", 4, custom_hooks=hooks))
    runner.train()
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == "EMAHook").ema_model.module
    saved = load_tokenizer(tmp_path / "tokenizer")
    assert saved.fingerprint == ema.vqgan.fingerprint != runner.model.vqgan.fingerprint
    assert runner.model.training
    sheets = sorted(path.name for path in (tmp_path / "run").glob("*/vis_data/vis_image/*.png"))
    assert sheets == ["reconstruction_2.png", "reconstruction_4.png"]


def test_training_the_decoder_keeps_tokens_and_has_no_optimizer_state_for_the_rest(tmp_path):
    torch.manual_seed(0)
    start = VQGAN(**VQGAN_CONFIG).eval()
    start.save_pretrained(tmp_path / "start")
    cfg = run_config(
        tmp_path / "run",
        4,
        model=dict(type="VQGANTrainer", vqgan=dict(pretrained=str(tmp_path / "start")), train_part="decoder"),
        optim_wrapper=dict(type="AutocastOptimWrapper", optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.1)),
        custom_hooks=[
            dict(type="EMAHook", momentum=0.5),
            dict(type="SaveTokenizerHook", out_dir=str(tmp_path / "tuned")),
        ],
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    tuned = load_tokenizer(tmp_path / "tuned")
    images = torch.rand(4, 3, 32, 32)
    tokens = start.encode(images)
    assert torch.equal(tuned.encode(images), tokens)
    assert not torch.equal(tuned.decode(tokens), start.decode(tokens))
    assert tuned.fingerprint == start.fingerprint
    for name, value in start.state_dict().items():
        same = torch.equal(value, tuned.state_dict()[name])
        assert same == name.startswith(("encoder.", "quant_conv.", "quantize.")), name
    trained = [name for name, value in runner.model.named_parameters() if value.requires_grad]
    assert all(name.startswith(("vqgan.decoder.", "vqgan.post_quant_conv.")) for name in trained)
    assert len(runner.optim_wrapper.optimizer.state) == len(trained)


def test_a_tokenizer_whose_tokens_changed_is_not_saved_as_the_old_one(tmp_path):
    VQGAN(**VQGAN_CONFIG).save_pretrained(tmp_path / "start")
    cfg = run_config(
        tmp_path / "run",
        2,
        model=dict(type="VQGANTrainer", vqgan=str(tmp_path / "start"), train_part="decoder"),
        optim_wrapper=ADAM,
        custom_hooks=[dict(type="SaveTokenizerHook", out_dir=str(tmp_path / "tuned"))],
    )
    runner = Runner.from_cfg(cfg)
    runner.model.vqgan.quant_conv.requires_grad_(True)
    with torch.no_grad():
        hook = next(hook for hook in runner.hooks if type(hook).__name__ == "SaveTokenizerHook")
        hook.before_train(runner)
        runner.model.vqgan.quant_conv.bias += 1
    with pytest.raises(ValueError, match=r"encoder or codebook has changed\. Nothing was written"):
        hook.after_train(runner)
    assert not (tmp_path / "tuned").exists()


def test_a_diverged_tokenizer_is_not_saved(tmp_path):
    hooks = [dict(type="SaveTokenizerHook", out_dir=str(tmp_path / "tokenizer"))]
    runner = Runner.from_cfg(run_config(tmp_path / "run", 2, custom_hooks=hooks))
    with torch.no_grad():
        runner.model.vqgan.decoder.conv_out.bias[0] = float("nan")
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == "SaveTokenizerHook")
    with pytest.raises(FloatingPointError, match=r"1 weights .* decoder\.conv_out\.bias .* Nothing was written"):
        hook.after_train(runner)
    assert not (tmp_path / "tokenizer").exists()


# No batch statistics, whose scope is a process, and no restarts, whose vectors are those of the first process.
TOGETHER = dict(
    discriminator=dict(base_channels=4, num_layers=1, norm="act"), disc_start=1, restart_after=100, data_init=False
)


def train_steps(batches, wrap):
    """State after three steps, logged values of the last one, and codes after restarts of unequal processes."""
    torch.manual_seed(int(os.environ.get("RANK", 0)))  # the wrapper has to make weights equal
    if not torch.distributed.is_initialized():
        torch.manual_seed(0)
    model = MODELS.build(ADVERSARIAL | TOGETHER)
    torch.nn.init.normal_(model.vqgan.codebook)
    wrapped = wrap(model)
    # SGD: Adam would make noise of the size of a learning rate out of gradients that are zero up to rounding.
    sgd = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.05))
    optimizers = MultiOptimWrapperConstructor(dict(vqgan=sgd, discriminator=sgd))(wrapped)
    wrapped.train()
    for batch in batches:
        logged = wrapped.train_step(dict(inputs=batch), optimizers)
    return {name: value.clone() for name, value in model.state_dict().items()}, logged["gan_weight"]


def shared_codes(trainer, part):
    """Codes that patches take, of which black ones and a few gray ones are flat; ``part``: a slice of the images."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(4, 3, 16, 16, generator=generator)
    images[0], images[1, :, :8], images[2:, :, 8:] = 0, 0.5, 0
    nearest = torch.randint(4, (4, 64), generator=generator)
    nearest[0] = 5  # alone, the first images would not choose what the last ones do
    trainer.code_counts[:6] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 3.5])
    return trainer._share_flat_codes(images[part], nearest[part].flatten())[0]


def worker(rank, port, batches, results):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    own = [batch[2 * rank : 2 * rank + 2] for batch in batches]
    state, weight = train_steps(own, SelfAveragingModel)
    # The plain trainer under DDP, with codes from the first batch and restarts.
    torch.manual_seed(rank)
    options = dict(restart_after=2, share_flat_codes=True)
    model = MODELS.build(dict(type="VQGANTrainer", vqgan=VQGAN_CONFIG, **options)).train()
    results[f"shared {rank}"] = shared_codes(copy.deepcopy(model), slice(2 * rank, 2 * rank + 2))
    ddp = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in ddp.parameters() if p.requires_grad], lr=0.05)
    for batch in [*own, *own]:
        losses = ddp(batch, mode="loss")
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if "loss" in name).backward()
        optimizer.step()
    results[rank] = state, weight, {name: value.clone() for name, value in model.state_dict().items()}
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one_with_the_whole_batch():
    torch.manual_seed(1)
    batches = [torch.rand(4, 3, 16, 16) for _ in range(3)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(worker, args=(port, batches, results), nprocs=2, start_method="fork")
        (first, weight, plain), (second, _, other_plain) = results[0], results[1]
        shared = torch.cat([results["shared 0"], results["shared 1"]])
    trainer = MODELS.build(dict(type="VQGANTrainer", vqgan=VQGAN_CONFIG, share_flat_codes=True))
    assert torch.equal(shared, shared_codes(trainer, slice(None)))
    assert not torch.equal(shared[:128], shared_codes(trainer, slice(0, 2)))
    alone, weight_alone = train_steps(batches, lambda model: model)
    torch.testing.assert_close(weight, weight_alone, rtol=1e-3, atol=0)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert not torch.equal(alone["code_counts"], torch.ones(16))
    for name, value in plain.items():
        assert torch.equal(other_plain[name], value), name
    assert plain["num_steps"] == 6
