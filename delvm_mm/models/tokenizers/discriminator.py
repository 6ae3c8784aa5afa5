"""A discriminator that judges patches of images: ``PatchDiscriminator``, and its losses."""

import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor, nn

from delvm_mm.registry import MODELS

MAX_WIDTH = 8  # times base_channels


@MODELS.register_module()
class PatchDiscriminator(nn.Module):
    """One logit for each patch of an image: high for real ones, low for reconstructions.

    4 x 4 convolutions, of which the first ``num_layers`` halve the sides; with three layers a logit sees 70 x 70
    pixels.
    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, as
    taming-transformers trains VQGANs with; the state-dict keys are that code's.

    Args:
        in_channels: Channels of an image.
        base_channels: Channels after the first layer; doubled with each layer, eightfold at most.
        num_layers: Layers that halve the sides, at least 1.
        norm: 'batch', 'act' (an affine map per channel that starts with mean 0 and deviation 1 on the first batch:
            Kingma and Dhariwal, "Glow", 2018) or 'none'.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(self, in_channels: int = 3, base_channels: int = 64, num_layers: int = 3, norm: str = "batch"):
        super().__init__()
        norms = {"batch": nn.BatchNorm2d, "act": ActNorm, "none": nn.Identity}
        if norm not in norms:
            raise ValueError(f"norm must be one of {sorted(norms)}, got {norm!r}")
        if min(in_channels, base_channels, num_layers) < 1:
            raise ValueError(
                f"in_channels, base_channels and num_layers must be at least 1, got {in_channels}, {base_channels} "
                f"and {num_layers}"
            )
        widths = [base_channels * min(2**layer, MAX_WIDTH) for layer in range(num_layers + 1)]
        layers = [nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for layer in range(1, num_layers + 1):
            stride = 2 if layer < num_layers else 1
            # Batch normalization takes the mean off again, a bias would do nothing.
            layers += [
                nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, padding=1, bias=norm != "batch"),
                norms[norm](widths[layer]),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.min_side = 3 * 2**num_layers
        self.apply(_init_layer)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of patches.

        Args:
            images: N x 3 x H x W in [0, 1]; sides of at least ``3 * 2**num_layers`` pixels.

        Returns:
            N x 1 x h x w.

        Raises:
            ValueError: A side is too short.
        """
        if min(images.shape[2:]) < self.min_side:
            raise ValueError(
                f"the discriminator needs images of at least {self.min_side} pixels a side, got "
                f"{images.shape[2]}x{images.shape[3]}: lower num_layers of discriminator, or train on larger images"
            )
        return self.main(2 * images - 1)


class ActNorm(nn.Module):
    """A learned scale and shift per channel, set by the first batch in training to give mean 0 and deviation 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, hidden: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        if self.training and not self.initialized:
            self._start(hidden.detach().float())
        return self.scale * (hidden + self.loc)

    @torch.no_grad()
    def _start(self, hidden: Tensor) -> None:
        moments = torch.stack([hidden.mean((0, 2, 3)), hidden.square().mean((0, 2, 3))])
        dist.all_reduce(moments, "mean")
        mean, square = moments
        self.loc.copy_(-mean.view_as(self.loc))
        self.scale.copy_(1 / ((square - mean.square()).clamp_min(0).sqrt() + 1e-6).view_as(self.scale))
        self.initialized.fill_(1)


def discriminator_loss(real: Tensor, fake: Tensor, kind: str = "hinge") -> Tensor:
    """Loss of a discriminator's logits of real images and of reconstructions.

    Args:
        real: Logits, any shape.
        fake: Logits, any shape.
        kind: 'hinge' (Lim and Ye, "Geometric GAN", 2017) or 'vanilla' (cross-entropy).

    Returns:
        A scalar.
    """
    if kind == "hinge":
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def _init_layer(layer: nn.Module) -> None:
    # As Isola et al.: deviations of 0.02.
    if isinstance(layer, nn.Conv2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
