"""Train a tokenizer as the published ones were: with a perceptual loss and against a discriminator."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from mmengine import dist
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from delvm_mm.models.tokenizers.discriminator import discriminator_loss
from delvm_mm.models.tokenizers.lpips import LPIPS
from delvm_mm.models.tokenizers.vqgan_trainer import VQGANTrainer
from delvm_mm.registry import MODELS

PARTS = ("vqgan", "discriminator")


@MODELS.register_module()
class VQGANAdversarialTrainer(VQGANTrainer):
    """A ``VQGANTrainer`` whose images also have to look right to VGG16 and to a discriminator.

    The loss of reconstructions is L1 + L2 + perceptual; from step ``disc_start`` on ``-mean(logits)`` of the
    discriminator is added, weighted by ``disc_weight`` times the ratio of the two gradients' norms at the decoder's
    last layer, and the discriminator is trained beside it. Source: Esser et al., "Taming Transformers for
    High-Resolution Image Synthesis", CVPR 2021, section 3.1.

    The two have an optimizer each, and several processes average gradients here and not in DDP::

        optim_wrapper = dict(
            constructor="MultiOptimWrapperConstructor",
            vqgan=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=4.5e-6, betas=(0.5, 0.9))),
            discriminator=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=4.5e-6, betas=(0.5, 0.9))),
        )
        model_wrapper_cfg = dict(type="delvm_mm.SelfAveragingModel")

    Args:
        vqgan: As for ``VQGANTrainer``.
        discriminator: Config of a module that gives logits of images N x 3 x H x W in [0, 1]; ``PatchDiscriminator`` by
            default.
        perceptual: ``dict(vgg=file, linear=file)``, arguments of ``LPIPS``; without it, or with ``vgg=None``, there is
            no perceptual loss, and the log says so once. Its weights are in no checkpoint.
        perceptual_weight: Weight of the perceptual loss.
        disc_weight: Weight of the discriminator's opinion.
        disc_start: Training steps before the discriminator takes part.
        disc_loss: 'hinge' or 'vanilla', see ``discriminator_loss``.
        adaptive_weight: Whether the ratio of gradients is taken; otherwise ``disc_weight`` is all.
        max_adaptive_weight: Upper bound of that ratio.
        **kwargs: As for ``VQGANTrainer``.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        vqgan: Any,
        discriminator: dict | None = None,
        perceptual: dict | None = None,
        perceptual_weight: float = 1.0,
        disc_weight: float = 0.8,
        disc_start: int = 0,
        disc_loss: str = "hinge",
        adaptive_weight: bool = True,
        max_adaptive_weight: float = 1e4,
        **kwargs: Any,
    ):
        super().__init__(vqgan, **kwargs)
        if disc_loss not in ("hinge", "vanilla"):
            raise ValueError(f"disc_loss must be 'hinge' or 'vanilla', got {disc_loss!r}")
        if disc_start < 0 or min(perceptual_weight, disc_weight, max_adaptive_weight) < 0:
            raise ValueError(
                "disc_start, perceptual_weight, disc_weight and max_adaptive_weight must not be negative, got "
                f"{disc_start}, {perceptual_weight}, {disc_weight} and {max_adaptive_weight}"
            )
        self.discriminator = MODELS.build({"type": "PatchDiscriminator", **(discriminator or {})})
        self.perceptual_weight, self.disc_weight = perceptual_weight, disc_weight
        self.disc_start, self.disc_loss = disc_start, disc_loss
        self.adaptive_weight, self.max_adaptive_weight = adaptive_weight, max_adaptive_weight
        self.register_buffer("train_steps", torch.tensor(0))
        # In a list, and so no part of this module: checkpoints and optimizers stay without it.
        self._perceptual: list[LPIPS] = []
        if perceptual_weight and perceptual and perceptual.get("vgg") is not None:
            self._perceptual.append(LPIPS(**perceptual))
        elif perceptual_weight:
            print_log(
                "there is NO perceptual loss: give perceptual=dict(vgg=file), the weights of torchvision's VGG16",
                "current",
                logging.WARNING,
            )

    def train_step(self, data: dict | tuple | list, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """One step of the tokenizer, and one of the discriminator if it takes part already.

        Args:
            data: A batch of the loader.
            optim_wrapper: Wrappers named 'vqgan' and 'discriminator'.

        Returns:
            All losses apart, ``loss`` (their sum, without the discriminator's own), ``perplexity``,
            ``codebook_usage``, and once there is a discriminator ``gan_weight``, ``logits_real``, ``logits_fake`` and
            ``loss_disc``.

        Raises:
            ValueError: ``optim_wrapper`` is not of these two.
        """
        if not isinstance(optim_wrapper, OptimWrapperDict) or set(optim_wrapper.keys()) != set(PARTS):
            raise ValueError(
                f"{type(self).__name__} needs an optimizer for each of {PARTS}: set optim_wrapper = dict(constructor="
                "'MultiOptimWrapperConstructor', vqgan=dict(optimizer=...), discriminator=dict(optimizer=...))"
            )
        data = self.data_preprocessor(data, True)
        judged = bool(self.train_steps >= self.disc_start)
        with optim_wrapper["vqgan"].optim_context(self.vqgan):
            images = self.images_of(data["inputs"])
            losses, reconstruction = self.losses_and_reconstruction(images)
            if judged:
                losses.update(self._opinion(losses, reconstruction))
        loss, logged = self.parse_losses(losses)
        _update(optim_wrapper["vqgan"], loss, self.vqgan.parameters())
        if judged:
            with optim_wrapper["discriminator"].optim_context(self.discriminator):
                losses = self._discriminator_losses(images, reconstruction.detach())
            loss, parsed = self.parse_losses(losses)
            _update(optim_wrapper["discriminator"], loss, self.discriminator.parameters())
            logged.update({name: value for name, value in parsed.items() if name != "loss"})
        self.train_steps += 1
        return logged

    def _reconstruction_losses(self, reconstruction: Tensor, images: Tensor) -> dict[str, Tensor]:
        losses = super()._reconstruction_losses(reconstruction, images)
        if self._perceptual:
            distances = self._perceptual[0].to(images.device)(reconstruction, images)
            losses["loss_perceptual"] = self.perceptual_weight * distances.mean()
        return losses

    def _opinion(self, losses: dict[str, Tensor], reconstruction: Tensor) -> dict[str, Tensor]:
        """What the discriminator thinks of the reconstruction, as a loss; its own weights get no gradient."""
        self.discriminator.requires_grad_(False)
        opinion = -self.discriminator(reconstruction).float().mean()
        self.discriminator.requires_grad_(True)
        weight = torch.as_tensor(self.disc_weight, device=opinion.device)
        if self.adaptive_weight:
            error = sum(losses[name] for name in ("loss_l1", "loss_l2", "loss_perceptual") if name in losses)
            last_layer = self.vqgan.decoder.conv_out.weight
            weight = weight * _gradient_ratio(error, opinion, last_layer).clamp(0, self.max_adaptive_weight)
        return {"loss_gan": weight * opinion, "gan_weight": weight}

    def _discriminator_losses(self, images: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        real, fake = self.discriminator(images).float(), self.discriminator(reconstruction).float()
        return {
            "loss_disc": discriminator_loss(real, fake, self.disc_loss),
            "logits_real": real.detach().mean(),
            "logits_fake": fake.detach().mean(),
        }


def _gradient_ratio(error: Tensor, opinion: Tensor, layer: Tensor) -> Tensor:
    """Norm of the error's gradient at a layer over that of the opinion's, both of the whole batch of all processes."""
    norms = []
    for loss in (error, opinion):
        (gradient,) = torch.autograd.grad(loss, layer, retain_graph=True)
        gradient = gradient.float()
        dist.all_reduce(gradient, "mean")
        norms.append(gradient.norm())
    return norms[0] / (norms[1] + 1e-4)


def _update(wrapper: OptimWrapper, loss: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """``OptimWrapper.update_params`` with gradients averaged over all processes before the step."""
    wrapper.backward(wrapper.scale_loss(loss))
    if wrapper.should_update():
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        dist.all_reduce_params(gradients, op="mean")
        wrapper.step()
        wrapper.zero_grad()
