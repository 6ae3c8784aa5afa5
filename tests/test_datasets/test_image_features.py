"""Features of images: what they are made of, how alike images are by them, and their cache."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from delvm_mm.datasets import BackboneFeatures, CodebookHistograms, TokenizerFeatures
from delvm_mm.models import VQGAN
from helpers.small_vqgan import SMALL_VQGAN


def images_of(count, size=16, seed=0):
    return list(np.random.RandomState(seed).randint(0, 256, (count, size, size, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def vqgan():
    torch.manual_seed(0)
    return VQGAN(**SMALL_VQGAN)


def test_histograms_count_codes_and_likeness_is_the_share_in_common(tokenizer):
    grays = [np.kron([[a, b], [c, d]], np.ones((4, 4))) for a, b, c, d in ((0, 0, 1, 15), (0, 1, 1, 2))]
    images = [np.repeat((gray * 17).astype(np.uint8)[..., None], 3, -1) for gray in grays]
    features = CodebookHistograms(tokenizer, device="cpu")
    counts = features.of(images)
    assert counts.shape == (2, 16) and counts[0, [0, 1, 15]].tolist() == [2, 1, 1] and counts.sum() == 8
    assert features.likeness(counts, counts[1]).tolist() == [0.5, 1.0]


def test_encoder_features_are_the_means_of_parts_of_what_comes_before_the_codebook(vqgan):
    images = images_of(3)
    features = TokenizerFeatures(vqgan, grid=2, device="cpu").of(images)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        vectors = vqgan.to_vectors(pixels)  # 3 x 8 x 4 x 4
    parts = vectors.view(3, 8, 2, 2, 2, 2).mean((3, 5)).flatten(1)
    np.testing.assert_allclose(features, parts / parts.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="grid is 0"):
        TokenizerFeatures(vqgan, grid=0)


def test_a_tokenizer_without_vectors_is_named(tokenizer):
    with pytest.raises(ValueError, match="GrayLevelTokenizer gives no vectors"):
        TokenizerFeatures(tokenizer, device="cpu")


def test_features_of_torchvision_are_what_goes_into_the_last_layer(tmp_path):
    from torchvision.models import shufflenet_v2_x0_5, squeezenet1_1

    torch.manual_seed(0)
    network = shufflenet_v2_x0_5(num_classes=5).eval()
    torch.save(dict(state_dict=network.state_dict()), tmp_path / "shuffle.pth")
    mean, std = (10.0, 20.0, 30.0), (50.0, 60.0, 70.0)
    features = BackboneFeatures(
        dict(type="torchvision.shufflenet_v2_x0_5", num_classes=5),
        tmp_path / "shuffle.pth",
        size=32,
        mean=mean,
        std=std,
        device="cpu",
    )
    images = images_of(2, 32)
    seen = []
    network.fc.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        network((pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
    np.testing.assert_allclose(features.of(images), F.normalize(seen[0]), rtol=1e-3, atol=1e-5)
    torch.save(squeezenet1_1().state_dict(), tmp_path / "squeeze.pth")
    with pytest.raises(ValueError, match="squeezenet1_1 does not end with a linear layer"):
        BackboneFeatures("torchvision.squeezenet1_1", tmp_path / "squeeze.pth", device="cpu")
    with pytest.raises(ValueError, match=r"shuffle\.pth"):
        BackboneFeatures("torchvision.squeezenet1_1", tmp_path / "shuffle.pth", device="cpu")


def test_features_of_mmpretrain_are_the_mean_of_the_last_map(tmp_path):
    models = pytest.importorskip("mmpretrain.models")
    torch.manual_seed(0)
    backbone = models.ResNet(18, stem_channels=8, base_channels=8)
    backbone.eval()
    head = nn.Linear(64, 3)
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    torch.save(dict(state_dict=state | {"head.fc.weight": head.weight.detach()}), tmp_path / "resnet.pth")
    features = BackboneFeatures(
        dict(type="mmpretrain.ResNet", depth=18, stem_channels=8, base_channels=8),
        tmp_path / "resnet.pth",
        size=32,
        mean=(0, 0, 0),
        std=(255, 255, 255),
        device="cpu",
    )
    images = images_of(2, 32)
    with torch.no_grad():
        maps = backbone(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255)[-1]
    np.testing.assert_allclose(features.of(images), F.normalize(maps.mean((2, 3))), rtol=1e-3, atol=1e-5)


def test_a_network_of_no_known_package_is_named(tmp_path):
    torch.save(dict(weight=torch.zeros(1)), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"backbone is 'timm\.resnet18', expected 'torchvision"):
        BackboneFeatures("timm.resnet18", tmp_path / "weights.pth", device="cpu")
    with pytest.raises(FileNotFoundError, match=r"missing\.pth"):
        BackboneFeatures("torchvision.resnet18", tmp_path / "missing.pth", device="cpu")


def test_a_cache_computes_what_is_new_alone_and_is_of_one_kind_of_features(tmp_path, vqgan, monkeypatch):
    cache, images = tmp_path / "features" / "cache.npz", images_of(20)
    computed, to_vectors = [], vqgan.to_vectors
    monkeypatch.setattr(vqgan, "to_vectors", lambda pixels: computed.append(len(pixels)) or to_vectors(pixels))
    plain = TokenizerFeatures(vqgan, device="cpu").of(images)
    first = TokenizerFeatures(vqgan, device="cpu", cache=cache).of(images[:18])
    computed.clear()
    again = TokenizerFeatures(vqgan, device="cpu", cache=cache).of([*images, images[0]])
    assert sum(computed) == 2
    np.testing.assert_array_equal(again, np.concatenate([plain, plain[:1]]))
    np.testing.assert_array_equal(first, plain[:18])
    with pytest.raises(ValueError, match=r"holds features of TokenizerFeatures 1 .* a cache of its own"):
        TokenizerFeatures(vqgan, grid=2, device="cpu", cache=cache).of(images)
    cache.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is no cache of features"):
        TokenizerFeatures(vqgan, device="cpu", cache=cache).of(images)
