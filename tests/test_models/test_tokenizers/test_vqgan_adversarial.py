import logging

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict

from delvm_mm.engine import AutocastOptimWrapper
from delvm_mm.models import VQGANAdversarialTrainer
from delvm_mm.models.tokenizers.lpips import LPIPS
from delvm_mm.registry import MODELS

TINY = {
    "resolution": 16,
    "hidden_channels": 8,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "z_channels": 8,
    "num_embeddings": 16,
    "quantized_embed_dim": 4,
    "norm_num_groups": 4,
}
SMALL = {"base_channels": 4, "num_layers": 1}


def _trainer(**options) -> VQGANAdversarialTrainer:
    torch.manual_seed(0)
    config = {"type": "VQGANAdversarialTrainer", "vqgan": TINY, "discriminator": SMALL, **options}
    return MODELS.build(config).train()


def _optimizers(trainer, wrapper=OptimWrapper, lr=1e-3) -> OptimWrapperDict:
    parts = {name: getattr(trainer, name).parameters() for name in ("vqgan", "discriminator")}
    return OptimWrapperDict(**{name: wrapper(optimizer=torch.optim.Adam(part, lr=lr)) for name, part in parts.items()})


def _batch(number=2, size=16) -> dict:
    return {"inputs": torch.rand(number, 3, size, size)}


def test_the_discriminator_takes_part_from_its_step_on():
    trainer = _trainer(disc_start=2)
    optimizers = _optimizers(trainer)
    start = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    for step in range(4):
        logged = trainer.train_step(_batch(), optimizers)
        expected = {"loss", "loss_l1", "loss_l2", "loss_commit", "perplexity", "codebook_usage"}
        if step >= 2:
            expected |= {"loss_gan", "gan_weight", "loss_disc", "logits_real", "logits_fake"}
        assert set(logged) == expected
        moved = any(not torch.equal(value, start[name]) for name, value in trainer.discriminator.named_parameters())
        assert moved == (step >= 2)
    parts = ("loss_l1", "loss_l2", "loss_commit", "loss_gan")
    torch.testing.assert_close(logged["loss"], sum(logged[name] for name in parts))


def test_each_optimizer_moves_its_own_part_only():
    trainer = _trainer()
    optimizers = _optimizers(trainer, lr=0.0)
    before = {name: value.clone() for name, value in trainer.named_parameters()}
    for group in optimizers["discriminator"].param_groups:
        group["lr"] = 1e-2
    trainer.train_step(_batch(), optimizers)
    moved = {name for name, value in trainer.named_parameters() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved if "quantize" not in name} == {"discriminator"}
    # The gradient of the generator's loss did not stay with the discriminator.
    assert all(parameter.grad is None for parameter in trainer.parameters())


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms_at_the_last_layer():
    trainer = _trainer(disc_weight=0.5)
    images = torch.rand(2, 3, 16, 16)
    losses, reconstruction = trainer.losses_and_reconstruction(images)
    added = trainer._opinion(losses, reconstruction)
    last = trainer.vqgan.decoder.conv_out.weight
    (of_error,) = torch.autograd.grad(losses["loss_l1"] + losses["loss_l2"], last, retain_graph=True)
    opinion = -trainer.discriminator(reconstruction).mean()
    (of_opinion,) = torch.autograd.grad(opinion, last)
    expected = 0.5 * of_error.norm() / (of_opinion.norm() + 1e-4)
    torch.testing.assert_close(added["gan_weight"], expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(added["loss_gan"], expected * opinion, rtol=1e-4, atol=0)
    assert trainer.discriminator.main[0].weight.requires_grad
    for options, weight in (({"adaptive_weight": False}, 0.8), ({"max_adaptive_weight": 1e-3}, 0.8e-3)):
        trainer = _trainer(**options)
        added = trainer._opinion(*trainer.losses_and_reconstruction(images))
        torch.testing.assert_close(added["gan_weight"], torch.tensor(weight))


def test_the_discriminator_learns_to_tell_images_from_reconstructions():
    trainer = _trainer(disc_weight=0.0)
    optimizers = _optimizers(trainer, lr=0.0)
    for group in optimizers["discriminator"].param_groups:
        group["lr"] = 1e-2
    batch = _batch(8)
    first = trainer.train_step(batch, optimizers)
    for _ in range(30):
        last = trainer.train_step(batch, optimizers)
    assert first["loss_disc"] > 0.9
    assert last["loss_disc"] < 0.3
    assert last["logits_real"] > last["logits_fake"] + 1


def test_a_perceptual_loss_needs_weights_and_its_absence_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        "delvm_mm.models.tokenizers.vqgan_adversarial.print_log", lambda text, logger, level: said.append((level, text))
    )
    trainer = _trainer(perceptual={"vgg": None})
    assert len(said) == 1
    assert said[0][0] == logging.WARNING
    assert "NO perceptual loss" in said[0][1]
    assert "loss_perceptual" not in trainer.train_step(_batch(), _optimizers(trainer))
    _trainer(perceptual_weight=0.0)
    assert len(said) == 1

    vgg = pytest.importorskip("torchvision.models.vgg")
    torch.save(vgg.make_layers(vgg.cfgs["D"]).state_dict(), tmp_path / "vgg.pth")
    trainer = _trainer(perceptual={"vgg": str(tmp_path / "vgg.pth")}, perceptual_weight=2.0)
    assert len(said) == 1
    assert not [name for name in trainer.state_dict() if "perceptual" in name or "features" in name]
    images, reconstruction = torch.rand(2, 2, 3, 16, 16)
    losses = trainer._reconstruction_losses(reconstruction, images)
    expected = 2 * LPIPS(tmp_path / "vgg.pth")(reconstruction, images).mean()
    torch.testing.assert_close(losses["loss_perceptual"], expected)


def test_mixed_precision_and_accumulated_gradients_train():
    trainer = _trainer()
    optimizers = _optimizers(trainer, AutocastOptimWrapper)
    for name in ("vqgan", "discriminator"):
        optimizers[name]._accumulative_counts = 2
    before = trainer.vqgan.decoder.conv_out.weight.clone()
    logged = trainer.train_step(_batch(), optimizers)
    assert torch.equal(trainer.vqgan.decoder.conv_out.weight, before)
    assert all(torch.isfinite(value) for value in logged.values())
    trainer.train_step(_batch(), optimizers)
    assert not torch.equal(trainer.vqgan.decoder.conv_out.weight, before)


def test_the_decoder_alone_can_be_trained_against_a_discriminator(tmp_path):
    _trainer().vqgan.save_pretrained(tmp_path)
    trainer = _trainer(vqgan=str(tmp_path), train_part="decoder")
    images = torch.rand(4, 3, 16, 16)
    tokens, fingerprint = trainer.vqgan.encode(images), trainer.vqgan.fingerprint
    optimizers = _optimizers(trainer)
    for _ in range(3):
        logged = trainer.train_step({"inputs": images}, optimizers)
    assert "loss_gan" in logged
    assert torch.equal(trainer.vqgan.encode(images), tokens)
    assert trainer.vqgan.fingerprint == fingerprint


def test_one_optimizer_for_both_is_refused():
    trainer = _trainer()
    one = OptimWrapper(optimizer=torch.optim.Adam(trainer.parameters()))
    for wrapper in (one, OptimWrapperDict(vqgan=one)):
        with pytest.raises(ValueError, match="MultiOptimWrapperConstructor"):
            trainer.train_step(_batch(), wrapper)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disc_loss": "wasserstein"}, "'hinge' or 'vanilla', got 'wasserstein'"),
        ({"disc_start": -1}, "must not be negative, got -1"),
        ({"disc_weight": -0.5}, "must not be negative"),
        ({"codebook": "soft"}, "codebook must be 'ema' or 'gradient', got 'soft'"),
        ({"train_part": "encoder"}, "train_part must be 'all' or 'decoder'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _trainer(**options)
