import pytest
import torch
import torch.nn.functional as F

from delvm_mm.models import PatchDiscriminator
from delvm_mm.models.tokenizers.discriminator import ActNorm, discriminator_loss


def test_keys_and_shapes_are_those_of_taming_transformers():
    # NLayerDiscriminator(input_nc=3, ndf=64, n_layers=3) with batch normalization; its checkpoints have these names.
    convolutions = {0: (64, 3), 2: (128, 64), 5: (256, 128), 8: (512, 256), 11: (1, 512)}
    expected = {f"main.{number}.weight": (*channels, 4, 4) for number, channels in convolutions.items()}
    expected |= {"main.0.bias": (64,), "main.11.bias": (1,)}
    for number, width in {3: 128, 6: 256, 9: 512}.items():
        names = ("weight", "bias", "running_mean", "running_var")
        expected |= {f"main.{number}.{name}": (width,) for name in names}
        expected[f"main.{number}.num_batches_tracked"] = ()
    state = PatchDiscriminator().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def test_a_logit_of_three_layers_sees_70_pixels():
    discriminator = PatchDiscriminator(base_channels=4, norm="none").eval()
    image = torch.full((1, 3, 256, 256), 0.5, requires_grad=True)
    logits = discriminator(image)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_act_norm_starts_with_mean_0_and_deviation_1_and_learns_on_from_there():
    torch.manual_seed(0)
    norm = ActNorm(4).train()
    hidden = torch.randn(8, 4, 5, 5) * 3 + torch.arange(4.0).view(1, 4, 1, 1)
    out = norm(hidden)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(hidden + 1), out + norm.scale)


def test_losses_are_the_published_formulas():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-0.25, 1.0])
    # Hinge: mean(0, 0.5) and mean(0.75, 2), halved.
    assert discriminator_loss(real, fake) == (0.25 + 1.375) / 2
    ones, zeros = torch.ones(2), torch.zeros(2)
    expected = F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(fake, zeros)
    torch.testing.assert_close(discriminator_loss(real, fake, "vanilla"), expected / 2)


def test_small_images_and_unknown_options_are_refused():
    with pytest.raises(ValueError, match=r"at least 24 pixels a side, got 16x32.*num_layers"):
        PatchDiscriminator(base_channels=4)(torch.rand(1, 3, 16, 32))
    assert PatchDiscriminator(base_channels=4, norm="none")(torch.rand(1, 3, 24, 24)).shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"norm must be one of \['act', 'batch', 'none'\], got 'group'"):
        PatchDiscriminator(norm="group")
    with pytest.raises(ValueError, match="at least 1, got 3, 64 and 0"):
        PatchDiscriminator(num_layers=0)
