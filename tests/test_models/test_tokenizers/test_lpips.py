import pytest
import torch

from delvm_mm.models import LPIPS


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """Random weights under torchvision's names, the convolutions only."""
    vgg = pytest.importorskip("torchvision.models.vgg")
    torch.manual_seed(0)
    features = vgg.make_layers(vgg.cfgs["D"])
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return path


def test_distances_are_torchmetrics_with_the_same_weights(vgg_file):
    lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    other = lpips._LPIPS(pretrained=True, net="vgg", pnet_rand=True)
    weights = {name.removeprefix("features."): value for name, value in torch.load(vgg_file).items()}
    for part in (other.net.slice1, other.net.slice2, other.net.slice3, other.net.slice4, other.net.slice5):
        part.load_state_dict({name: weights[name] for name in part.state_dict()})
    own = LPIPS(vgg_file)
    images, others = torch.rand(2, 3, 32, 48), torch.rand(2, 3, 32, 48)
    expected = other(images, others, normalize=True).flatten()
    assert expected.min() > 0
    torch.testing.assert_close(own(images, others), expected, atol=1e-6, rtol=1e-4)
    assert own(images, images).abs().max() == 0


def test_it_is_frozen_and_gives_gradients_to_images(vgg_file):
    own = LPIPS(vgg_file).train()
    assert not own.training
    assert not any(parameter.requires_grad for parameter in own.parameters())
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    own(image, torch.rand(1, 3, 16, 16)).sum().backward()
    assert image.grad.abs().sum() > 0


def test_missing_and_foreign_files_are_named(vgg_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        LPIPS(tmp_path / "nowhere.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match=r"half\.pth do not fit.*25 missing"):
        LPIPS(tmp_path / "half.pth")
    with pytest.raises(ValueError, match=r"half\.pth holds no LPIPS weights of VGG16: expected lin0\.model\.1\.weight"):
        LPIPS(vgg_file, linear=tmp_path / "half.pth")
