import copy
import math

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from delvm_mm.models.tokenizers.vqgan import VQGAN
from delvm_mm.models.tokenizers.vqgan_trainer import VQGANTrainer
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


def _trainer(**options) -> VQGANTrainer:
    torch.manual_seed(0)
    return MODELS.build({"type": "VQGANTrainer", "vqgan": TINY, **options}).train()


def _optimizer(trainer: VQGANTrainer) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in trainer.parameters() if p.requires_grad], lr=3e-3)


def _step(trainer: VQGANTrainer, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> dict:
    losses = trainer(images, mode="loss")
    optimizer.zero_grad()
    sum(value for name, value in losses.items() if "loss" in name).backward()
    optimizer.step()
    return losses


def _flat_images(number: int) -> torch.Tensor:
    return torch.rand(number, 3, 1, 1).expand(-1, -1, 8, 8)


def test_training_lowers_the_reconstruction_error_and_logs_codebook_use():
    trainer = _trainer()
    optimizer = _optimizer(trainer)
    images = _flat_images(8)
    first = _step(trainer, optimizer, images)
    for _ in range(60):
        last = _step(trainer, optimizer, images)
    assert set(first) == {"loss_commit", "loss_l1", "loss_l2", "perplexity", "codebook_usage"}
    assert last["loss_l1"] < 0.5 * first["loss_l1"]
    assert 1 <= last["perplexity"] <= 16
    assert 0 < last["codebook_usage"] <= 100
    assert all(math.isfinite(value.detach()) for value in last.values())


def test_codes_start_from_the_first_batch():
    trainer = _trainer(decay=0.999999)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        vectors = trainer.vqgan.to_vectors(images).permute(0, 2, 3, 1).flatten(0, 2)
    trainer(images, mode="loss")
    assert torch.cdist(trainer.vqgan.codebook, vectors).min(dim=1).values.max() < 1e-3


def test_pretrained_codes_are_kept_without_data_init():
    trainer = _trainer(data_init=False, decay=0.99999)
    before = trainer.vqgan.codebook.clone()
    trainer(torch.rand(4, 3, 8, 8), mode="loss")
    torch.testing.assert_close(trainer.vqgan.codebook, before, atol=1e-3, rtol=0)


def test_codes_are_the_moving_average_of_the_vectors_given_to_them():
    trainer = _trainer(decay=0.75, data_init=False)
    codes = torch.zeros(16, 4)
    codes[1:] = 9
    trainer.vqgan.codebook.data = codes.clone()
    vectors = torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    trainer._start(vectors)
    trainer._move_codes(vectors, torch.tensor([0, 0]), torch.tensor([2.0] + [0.0] * 15), torch.ones(2))
    # Count 0.75 * 1 + 0.25 * 2 = 1.25, sum 0.75 * 0 + 0.25 * (4, 2, 0, 0).
    torch.testing.assert_close(trainer.vqgan.codebook[0], torch.tensor([1.0, 0.5, 0, 0]) / 1.25)
    torch.testing.assert_close(trainer.vqgan.codebook[1:], codes[1:])


def test_a_code_without_use_is_restarted_from_the_batch():
    trainer = _trainer(restart_after=3, data_init=False, decay=0.5)
    trainer.vqgan.codebook.data[:] = torch.arange(16.0)[:, None] * 100
    vectors = torch.randn(6, 4)
    trainer._start(vectors)
    errors = torch.tensor([0.0, 0, 0, 5, 0, 0])
    for step in range(5):
        # Unused from the first step, one code is restarted in each step from the third on.
        moved = (trainer.vqgan.codebook[1:, 0] < 50).sum()
        assert moved == max(0, step - 2)
        trainer._move_codes(vectors, torch.zeros(6, dtype=torch.long), torch.tensor([6.0] + [0.0] * 15), errors)
    for code in (1, 2, 3):
        torch.testing.assert_close(trainer.vqgan.codebook[code], vectors[3], msg="the vector with the error is taken")


def test_gradient_passes_the_codebook_to_the_encoder_and_codes_have_none():
    trainer = _trainer()
    losses = trainer(torch.rand(2, 3, 8, 8), mode="loss")
    losses["loss_l1"].backward()
    assert trainer.vqgan.encoder.conv_in.weight.grad.abs().sum() > 0
    assert trainer.vqgan.codebook.grad is None


def test_resumed_training_goes_on_exactly():
    trainer = _trainer(restart_after=2)
    optimizer = _optimizer(trainer)
    images = torch.rand(4, 3, 8, 8)
    for _ in range(3):
        _step(trainer, optimizer, images)
    other = MODELS.build({"type": "VQGANTrainer", "vqgan": TINY, "restart_after": 2}).train()
    other.load_state_dict(copy.deepcopy(trainer.state_dict()))
    other_optimizer = _optimizer(other)
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    after = []
    for model, its_optimizer in ((trainer, optimizer), (other, other_optimizer)):
        for _ in range(3):
            _step(model, its_optimizer, images)
        after.append(model.state_dict())
    assert all(torch.equal(value, after[1][name]) for name, value in after[0].items())


def test_evaluation_leaves_the_codes_alone():
    trainer = _trainer().eval()
    before = copy.deepcopy(trainer.state_dict())
    trainer(torch.rand(2, 3, 8, 8), mode="loss")
    assert all(torch.equal(value, before[name]) for name, value in trainer.state_dict().items())


def test_scales_compare_averaged_images():
    trainer = _trainer(scales=(1, 2), l1_weight=2.0)
    error = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).expand(1, 3, 2, 2)
    losses = trainer._reconstruction_losses(error, torch.zeros_like(error))
    assert losses["loss_l1"] == 2 * (1 + 0) / 2
    assert losses["loss_l2"] == (1 + 0) / 2


def test_predictions_are_images_beside_their_reconstructions():
    trainer = _trainer().eval()
    image = torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8)
    samples = [BaseDataElement(metainfo={"img_path": "a"}), BaseDataElement(metainfo={"img_path": "b"})]
    out = trainer([image, image.flip(2)], samples, mode="predict")
    assert [sample.img_path for sample in out] == ["a", "b"]
    np.testing.assert_array_equal(out[0].image, image.permute(1, 2, 0).numpy())
    assert out[0].reconstruction.shape == (8, 12, 3)
    assert out[0].reconstruction.dtype == np.uint8
    expected = trainer.vqgan(image[None] / 255)
    np.testing.assert_array_equal(out[0].reconstruction, (expected[0] * 255).round().byte().permute(1, 2, 0).numpy())
    assert len(trainer(image[None], mode="predict")) == 1
    torch.testing.assert_close(trainer(image[None], mode="tensor"), expected)


def test_trained_tokenizer_is_saved_in_the_published_layout(tmp_path):
    trainer = _trainer()
    trainer(torch.rand(2, 3, 8, 8), mode="loss")
    trainer.vqgan.save_pretrained(tmp_path)
    again = VQGAN.from_pretrained(tmp_path)
    assert again.fingerprint == trainer.vqgan.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        ({"restart_after": 0}, "restart_after and scales"),
        ({"continuous_steps": -1}, "continuous_steps is -1"),
        ({"scales": ()}, "restart_after and scales"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VQGANTrainer(vqgan=TINY, **options)


def test_unknown_mode_and_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="got 'train'"):
        _trainer()(torch.rand(1, 3, 8, 8), mode="train")
    with pytest.raises(ValueError, match="9x8"):
        _trainer()(torch.rand(1, 3, 9, 8), mode="loss")


def test_codes_can_follow_the_gradient_and_are_restarted_all_the_same():
    trainer = _trainer(codebook="gradient", restart_after=3, data_init=False)
    trainer.vqgan.codebook.data[1:] = 100 + torch.arange(15.0)[:, None]
    before = trainer.vqgan.codebook.detach().clone()
    losses = trainer(torch.rand(2, 3, 8, 8), mode="loss")
    losses["loss_codebook"].backward()
    assert losses["loss_commit"] == 0.25 * losses["loss_codebook"]
    assert torch.equal(trainer.vqgan.codebook, before)
    gradient = trainer.vqgan.codebook.grad
    # Only the code in use has one.
    assert gradient[0].abs().sum() > 0
    assert gradient[1:].abs().sum() == 0
    assert trainer.vqgan.encoder.conv_in.weight.grad is None
    for _ in range(3):
        trainer(torch.rand(2, 3, 8, 8), mode="loss")
    assert (trainer.vqgan.codebook[1:, 0] < 50).sum() >= 1


def test_training_goes_on_from_a_folder_with_its_codes(tmp_path):
    _trainer().vqgan.save_pretrained(tmp_path)
    codes = VQGAN.from_pretrained(tmp_path).codebook
    for given in (str(tmp_path), {"pretrained": str(tmp_path)}):
        trainer = _trainer(vqgan=given, decay=0.99999)
        assert trainer.vqgan.decoder.conv_out.weight.requires_grad
        trainer(torch.rand(4, 3, 8, 8), mode="loss")
        torch.testing.assert_close(trainer.vqgan.codebook.detach(), codes.detach(), atol=1e-3, rtol=0)


def test_the_decoder_alone_sees_the_tokens_of_float32_and_leaves_them(tmp_path):
    dropping = VQGAN(**{**TINY, "dropout": 0.5}).eval()
    torch.nn.init.normal_(dropping.codebook, 0, 0.1)
    dropping.save_pretrained(tmp_path)
    trainer = _trainer(vqgan=str(tmp_path), train_part="decoder")
    images = torch.rand(4, 3, 8, 8)
    tokens = dropping.encode(images)
    seen = []
    trainer.vqgan.quantize.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    optimizer = _optimizer(trainer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = trainer(images, mode="loss")
    assert torch.equal(seen[0].flatten(1), tokens)
    assert set(losses) == {"loss_l1", "loss_l2"}
    before = copy.deepcopy(trainer.state_dict())
    _step(trainer, optimizer, images)
    moved = {name.split(".")[1] for name, value in trainer.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"decoder", "post_quant_conv"}


def test_a_decoder_without_weights_to_start_from_is_refused():
    with pytest.raises(ValueError, match=r"vqgan=dict\(pretrained=folder\)"):
        _trainer(train_part="decoder")


def test_log_loss_is_the_mean_log_of_each_images_error():
    trainer = _trainer(l1_weight=0.0, l2_weight=0.0, log_weight=0.5)
    images = torch.zeros(2, 3, 4, 4)
    off = torch.tensor([0.01, 0.3]).view(2, 1, 1, 1)
    losses = trainer._reconstruction_losses(images + off, images)
    expected = 0.5 * (math.log(1e-4 + 2e-4) + math.log(0.09 + 2e-4)) / 2
    assert losses["loss_log"].item() == pytest.approx(expected, rel=1e-5)


def test_errors_on_saturated_pixels_weigh_more():
    trainer = _trainer(l1_weight=0.0, color_weight=3.0)
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    for images, weight in ((torch.full((1, 3, 4, 4), 0.5), 1), (red / 2, 1 + 3 * 0.5), (red, 1 + 3)):
        losses = trainer._reconstruction_losses(images + 0.1, images)
        assert losses["loss_l2"].item() == pytest.approx(weight * 0.01, rel=1e-4)


def test_flat_patches_of_one_color_share_a_code_in_training():
    trainer = _trainer(share_flat_codes=True, data_init=False)
    images = torch.rand(3, 3, 8, 8)
    images[0, :, :4], images[1, :, 4:], images[2, :, :2, :2] = 0, 0, 0.75
    factor = trainer.vqgan.downsample_factor
    patches = images.unfold(2, factor, factor).unfold(3, factor, factor).permute(0, 2, 3, 1, 4, 5).flatten(3)
    nearest = trainer.vqgan.encode(images).flatten().tolist()
    seen, quantize = [], trainer.vqgan.quantize.forward
    trainer.vqgan.quantize.forward = lambda indices: seen.append(indices) or quantize(indices)
    trainer(images, mode="loss")
    shared = {}
    for patch, used, own in zip(patches.flatten(0, 2), seen[0].tolist(), nearest, strict=True):
        if patch.unique().numel() == 1:
            shared.setdefault(patch[0].item(), set()).add(used)
        else:
            assert used == own
    assert {color: len(codes) for color, codes in shared.items()} == {0.0: 1, 0.75: 1}


def test_of_twin_codes_flat_patches_take_the_one_in_use():
    trainer = _trainer(share_flat_codes=True)
    black, gray = torch.zeros(1, 3, 8, 16), torch.full((1, 3, 8, 16), 0.5)
    trainer.code_counts[:4] = torch.tensor([1.0, 5.0, 9.0, 50.0])
    # Of black's votes codes 1 and 2 have enough; gray's are all for 1, however much others are in use.
    votes = torch.tensor([3] + [2] * 14 + [1] * 17 + [1] * 32)
    indices, flat = trainer._share_flat_codes(torch.cat([black, gray]), votes)
    assert flat.all()
    assert indices.tolist() == [2] * 32 + [1] * 32
    indices, flat = trainer._share_flat_codes(torch.rand(2, 3, 8, 16), votes)
    assert not flat.any() and torch.equal(indices, votes)


def test_flat_patches_hear_of_their_code_and_not_of_the_reconstruction():
    trainer = _trainer(share_flat_codes=True, data_init=False)
    images = torch.rand(2, 3, 8, 8)
    images[:, :, :4] = 0
    made, to_vectors = [], trainer.vqgan.to_vectors
    used, quantize = [], trainer.vqgan.quantize.forward
    trainer.vqgan.quantize.forward = lambda indices: used.append(quantize(indices)) or used[-1]

    def watch(images):
        made.append(to_vectors(images))
        made[-1].retain_grad()
        return made[-1]

    trainer.vqgan.to_vectors = watch
    losses, reconstruction = trainer.losses_and_reconstruction(images)
    rows = made[-1].shape[2] // 2
    reconstruction.square().sum().backward(retain_graph=True)
    gradient, made[-1].grad = made[-1].grad, None
    assert (gradient[:, :, :rows] == 0).all() and (gradient[:, :, rows:] != 0).any()
    losses["loss_commit"].backward()
    vectors = made[-1].detach().permute(0, 2, 3, 1)
    distance = vectors - used[0].view(vectors.shape)
    expected = trainer.vqgan.config["commitment_cost"] * 2 * distance / distance.numel()
    expected[:, :rows] *= 8
    torch.testing.assert_close(made[-1].grad.permute(0, 2, 3, 1), expected)


def test_an_image_that_is_not_finite_moves_no_code():
    trainer = _trainer()
    trainer(torch.rand(2, 3, 8, 8), mode="loss")
    before = copy.deepcopy(trainer.state_dict())
    images = torch.rand(2, 3, 8, 8)
    images[0, 0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match=r"after 1 steps .* not finite.*No code was moved"):
        trainer(images, mode="loss")
    torch.testing.assert_close(trainer.state_dict(), before, rtol=0, atol=0)


def test_a_decoder_alone_shares_no_codes():
    with pytest.raises(ValueError, match="share_flat_codes"):
        _trainer(train_part="decoder", share_flat_codes=True, vqgan=VQGAN(**TINY))


def test_continuous_steps_are_those_of_an_autoencoder_and_codes_start_after_them():
    trainer = _trainer(continuous_steps=2)
    optimizer, images = _optimizer(trainer), _flat_images(8)
    before = trainer.vqgan.codebook.clone()
    for step in range(2):
        expected = (trainer.vqgan.to_images(trainer.vqgan.to_vectors(images)) - images).abs().mean()
        losses = _step(trainer, optimizer, images)
        assert set(losses) == {"loss_l1", "loss_l2"} and trainer.num_steps == step + 1
        torch.testing.assert_close(losses["loss_l1"], expected)
        assert torch.equal(trainer.vqgan.codebook, before) and not trainer.started
    vectors = trainer.vqgan.to_vectors(images).permute(0, 2, 3, 1).flatten(0, 2)
    started = []
    trainer._start = lambda given: started.append(given)
    assert "loss_commit" in trainer(images, mode="loss")
    torch.testing.assert_close(started[0], vectors.detach())


def test_continuous_steps_do_not_begin_again_in_evaluation_or_after_resuming():
    trainer = _trainer(continuous_steps=1)
    _step(trainer, _optimizer(trainer), _flat_images(4))
    assert "loss_commit" in trainer.eval()(_flat_images(4), mode="loss")
    again = _trainer(continuous_steps=1)
    again.load_state_dict(trainer.state_dict())
    assert "loss_commit" in again(_flat_images(4), mode="loss")
    assert "loss_commit" in _trainer(continuous_steps=1).eval()(_flat_images(4), mode="loss")


def test_channels_last_changes_nothing_but_rounding():
    plain, last = _trainer(), _trainer(channels_last=True)
    images = torch.rand(2, 3, 8, 8)
    assert last.images_of(images).is_contiguous(memory_format=torch.channels_last)
    assert last.vqgan.encoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain.vqgan.to_vectors(images), last.vqgan.to_vectors(last.images_of(images)))
    assert plain.vqgan.fingerprint == last.vqgan.fingerprint


def test_linear_maps_start_as_the_principal_components_of_patches():
    trainer = _trainer(vqgan=TINY | {"linear_skip": True}, continuous_steps=9)
    # Patches of 2 x 2 x 3 numbers that vary in four directions alone, which four numbers can tell.
    patches = torch.rand(400, 4) @ torch.rand(4, 12)
    images = patches.view(4, 10, 10, 3, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(4, 3, 20, 20) / 4
    images = images - images.mean((0, 2, 3), keepdim=True) + 0.5
    trainer(images, mode="loss")
    vqgan = trainer.vqgan
    vectors = vqgan.patch_in(images)
    torch.testing.assert_close(vectors.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    spread = vectors.transpose(0, 1).flatten(1)
    covariance = spread @ spread.T / spread.shape[1]
    torch.testing.assert_close(covariance, covariance.diag().diag(), atol=1e-4, rtol=1e-3)
    error = (vqgan.patch_out(vectors) - images).view(4, 3, 10, 2, 10, 2).mean((0, 2, 4))
    assert (vqgan.patch_out(vectors) - images - error.repeat(1, 10, 10)).abs().max() < 1e-3


def test_with_color_restarts_unused_codes_go_to_saturated_patches_more_often():
    images = torch.rand(2, 3, 8, 8)
    images[1] = images[1].mean(0)  # gray
    seen = {}
    for restarts in (False, True):
        trainer = _trainer(color_weight=9.0, color_restarts=restarts)
        trainer._move_codes = lambda vectors, indices, counts, errors, key=restarts: seen.update({key: errors})
        trainer(images, mode="loss")
    plain, weighted = (errors.view(2, 16) for errors in (seen[False], seen[True]))
    torch.testing.assert_close(weighted[1], plain[1])
    saturation = (images[0].amax(0) - images[0].amin(0)).view(4, 2, 4, 2).mean((1, 3))
    torch.testing.assert_close(weighted[0], plain[0] * (1 + 9 * saturation).flatten())
    assert plain.max() > 0
