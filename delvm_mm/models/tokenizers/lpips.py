"""How alike two images look: ``LPIPS``, from VGG16's features."""

from pathlib import Path

import torch
from torch import Tensor, nn

from delvm_mm.checkpoints.io import load_into, load_state_dict

# Torchvision's numbers of the activations that are compared: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3.
_TAPS = {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}


class LPIPS(nn.Module):
    """Learned perceptual distance of images, frozen.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, version
    0.1 with VGG16.

    Args:
        vgg: File of torchvision's VGG16 weights (``vgg16-397923af.pth``), or of its ``features.*`` alone.
        linear: File of the weights of channels as the authors publish them (``vgg.pth``, keys ``lin0.model.1.weight``
            and so on); by default the copy that torchmetrics ships.

    Raises:
        FileNotFoundError: A file is missing.
        ImportError: torchvision is missing, or torchmetrics where ``linear`` is not given.
        ValueError: A file is damaged or holds something else.
    """

    def __init__(self, vgg: str | Path, linear: str | Path | None = None):
        super().__init__()
        from torchvision.models import vgg16

        with torch.device("meta"):  # the classifier, nine tenths of VGG16, is never made
            features = vgg16(weights=None).features[: max(_TAPS) + 1]
        self.features = features.to_empty(device="cpu")
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        own = self.features.state_dict()
        given = load_state_dict(vgg)
        given = {name.removeprefix("features."): value for name, value in given.items()}
        load_into(self.features, {name: value for name, value in given.items() if name in own}, vgg)
        linear = _torchmetrics_file() if linear is None else Path(linear)
        weights = load_state_dict(linear)
        for number, channels in enumerate(_TAPS.values()):
            name = f"lin{number}.model.1.weight"
            if name not in weights or weights[name].numel() != channels:
                raise ValueError(f"{linear} holds no LPIPS weights of VGG16: expected {name} of {channels} channels")
            self.register_buffer(f"linear{number}", weights[name].reshape(1, channels, 1, 1).float().clone())
        # To ImageNet's statistics, from [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LPIPS":
        """It is always in eval mode."""
        return super().train(False)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """Distances of images, pair by pair.

        Args:
            images: N x 3 x H x W, about [0, 1], sides of at least 16 pixels.
            others: The same shape.

        Returns:
            N, 0 for equal images.
        """
        distance = images.new_zeros(len(images), dtype=torch.float32)
        pair = (2 * torch.cat([images, others]) - 1 - self.shift) / self.scale
        numbers = {tap: number for number, tap in enumerate(_TAPS)}
        for layer_number, layer in enumerate(self.features):
            pair = layer(pair)
            if layer_number in numbers:
                unit = pair.float() * (pair.float().square().sum(1, keepdim=True) + 1e-8).rsqrt()
                first, second = unit.chunk(2)
                weight = getattr(self, f"linear{numbers[layer_number]}")
                distance = distance + (weight * (first - second).square()).sum(1).mean((1, 2))
        return distance


def _torchmetrics_file() -> Path:
    try:
        import torchmetrics
    except ImportError as error:
        raise ImportError("LPIPS needs the weights of channels: pip install torchmetrics, or give linear") from error
    return Path(torchmetrics.__file__).parent / "functional/image/lpips_models/vgg.pth"
