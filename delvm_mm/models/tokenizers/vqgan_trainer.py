"""Train a small tokenizer from nothing: ``VQGANTrainer``.

Reconstruction loss and a codebook of moving averages, no discriminator and no perceptual network: enough for small
images and for drawn labels. The published tokenizer was trained with both, see ``vqgan_adversarial.py``.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.model import BaseModel
from torch import Tensor

from delvm_mm.models.tokenizers.images import to_float, to_uint8
from delvm_mm.models.tokenizers.loading import load_tokenizer
from delvm_mm.models.tokenizers.vqgan import VQGAN
from delvm_mm.registry import MODELS
from delvm_mm.structures import DataSample

# Of the mean squared errors in ``loss_log``: images that are better than 37 dB have little to gain.
_SMALL_ERROR = 2e-4
# How much more the vectors of flat patches are drawn to the code that they share.
_FLAT_COMMITMENT = 8.0
# Votes that make a code a candidate for flat patches, as a share of the votes for the most frequent one.
_MANY = 0.1


@MODELS.register_module()
class VQGANTrainer(BaseModel):
    """Train a ``VQGAN`` to reconstruct images; its weights are under ``vqgan.`` in checkpoints.

    The codes are moving averages of the encoder's vectors (van den Oord et al., "Neural Discrete Representation
    Learning", 2017, appendix A.1), so the optimizer does not touch them. They start from vectors of the first batch,
    and a code that was not used for ``restart_after`` steps moves to a vector of the current batch, one with a large
    error more likely. All of that state is in buffers: a resumed run goes on as it would have.

    Of a ``VQGAN`` with ``linear_skip``, the linear maps start as the principal components of the first batch's patches.

    Example:
        >>> trainer = VQGANTrainer(dict(resolution=32, hidden_channels=32, channel_mult=(1, 2), num_embeddings=64))
        >>> losses = trainer(torch.rand(2, 3, 32, 32), mode="loss")
        >>> "loss_commit" in losses
        True

    Args:
        vqgan: Config of the ``VQGAN``, or one that is built; a folder or ``dict(pretrained=folder)`` to go on from
            its weights.
        l1_weight: Weight of the mean absolute error.
        l2_weight: Weight of the mean squared error.
        log_weight: Weight of the logarithm of each image's mean squared error. It is what PSNR measures, and lets
            flat images, masks and skeletons, count as much as photographs, whose errors are far larger.
        color_weight: How much more the squared error of a pixel of full saturation weighs than that of a gray one:
            the limbs of a skeleton are thin, saturated lines.
        color_restarts: Let ``color_weight`` decide where codes without use are put, too: of patches with the same error
            the saturated ones get more of them. Skeletons are few and need many: 300 codes of their own (k-means of
            8 x 8 pixels) allow a PCK@0.2 of 0.82, 1000 of 0.89, 2000 of 0.93.
        scales: Sides in pixels of the averaging windows at which the errors are taken; 1 is the image itself.
        decay: Decay of the moving averages per step.
        restart_after: Steps without use after which a code is restarted, and the window of ``codebook_usage``.
        share_flat_codes: Give all patches of one and the same flat color, such as the background of label images,
            one code in training, the same in all processes, and draw their vectors to it. Left alone they get dozens,
            by what is around them, and which of those is next is noise to a language model.
        continuous_steps: So many steps at first the vectors are decoded as they are, without codes, which then start
            from what the vectors have become. Codes from the first step on can leave all but a few of a vector's
            numbers unused (4 of 16 where a token is 8 x 8 pixels), for the others never get through.
        data_init: Start the codes from the first batch; by default where ``vqgan`` is no pretrained folder.
        codebook: 'ema' for the moving averages, or 'gradient': the optimizer moves the codes by the codebook loss
            (its weight is 1, that of the commitment ``commitment_cost``), and restarts them all the same.
        train_part: 'all', or 'decoder': the encoder, the codebook and so the tokens of any image stay bit for bit
            what they are, and the fingerprint with them. It needs weights to start from.
        channels_last: Keep weights and images with the channels last in memory: the same numbers up to rounding, and
            often faster, on CPUs too.
        data_preprocessor: MMEngine's data preprocessor.
        init_cfg: MMEngine's initialization config.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        vqgan: dict | str | Path | VQGAN,
        l1_weight: float = 1.0,
        l2_weight: float = 1.0,
        log_weight: float = 0.0,
        color_weight: float = 0.0,
        color_restarts: bool = False,
        scales: tuple[int, ...] = (1,),
        decay: float = 0.99,
        restart_after: int = 100,
        share_flat_codes: bool = False,
        continuous_steps: int = 0,
        data_init: bool | None = None,
        codebook: str = "ema",
        train_part: str = "all",
        channels_last: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        if isinstance(continuous_steps, bool) or not isinstance(continuous_steps, int) or continuous_steps < 0:
            raise ValueError(f"continuous_steps is {continuous_steps!r}, expected a number of steps, 0 or more")
        if restart_after < 1 or not scales or min(scales) < 1:
            raise ValueError(f"restart_after and scales must be at least 1, got {restart_after} and {scales}")
        for name, value, valid in (
            ("codebook", codebook, ("ema", "gradient")),
            ("train_part", train_part, ("all", "decoder")),
        ):
            if value not in valid:
                raise ValueError(f"{name} must be {valid[0]!r} or {valid[1]!r}, got {value!r}")
        if share_flat_codes and train_part == "decoder":
            raise ValueError("share_flat_codes is about codes, which train_part='decoder' leaves as they are: omit it")
        pretrained = isinstance(vqgan, str | Path) or (isinstance(vqgan, dict) and vqgan.get("pretrained") is not None)
        if pretrained:
            self.vqgan = load_tokenizer(vqgan).requires_grad_(True)
        else:
            self.vqgan = vqgan if isinstance(vqgan, VQGAN) else MODELS.build({"type": "VQGAN", **vqgan})
        data_init = not pretrained if data_init is None else data_init
        self.codes_by_gradient, self.train_part = codebook == "gradient", train_part
        self.vqgan.codebook.requires_grad_(self.codes_by_gradient)
        if train_part == "decoder":
            self._freeze_tokens(has_weights=pretrained or isinstance(vqgan, VQGAN))
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.vqgan.to(memory_format=self.memory_format)
        self.weights = {"l1": l1_weight, "l2": l2_weight, "log": log_weight, "color": color_weight}
        self.color_restarts = color_restarts
        self.scales, self.decay, self.restart_after = tuple(scales), decay, restart_after
        self.share_flat_codes, self.continuous_steps = share_flat_codes, continuous_steps
        codes, dim = self.vqgan.codebook.shape
        self.register_buffer("code_counts", torch.ones(codes))
        self.register_buffer("code_sums", torch.zeros(codes, dim))
        self.register_buffer("num_steps", torch.tensor(0))
        self.register_buffer("steps_unused", torch.zeros(codes, dtype=torch.long))
        self.register_buffer("needs_data_init", torch.tensor(data_init))
        self.register_buffer("started", torch.tensor(False))

    def forward(
        self, inputs: Tensor | list[Tensor], data_samples: list | None = None, mode: str = "tensor"
    ) -> dict[str, Tensor] | list[DataSample] | Tensor:
        """Reconstruct images.

        Args:
            inputs: N x 3 x H x W or a list of 3 x H x W, RGB, uint8 or float in [0, 1]; clips, N x k x 3 x H x W, are
                taken apart.
            data_samples: N data elements to add predictions to; fresh ones where there are none.
            mode: ``'loss'``: a dict of losses, of ``perplexity`` and of ``codebook_usage`` (percent of codes used in
                the last ``restart_after`` steps). ``'predict'``: data elements with ``image`` and ``reconstruction``,
                uint8 arrays H x W x 3. ``'tensor'``: reconstructions N x 3 x H x W in [0, 1].

        Returns:
            As ``mode`` says.

        Raises:
            ValueError: ``mode`` is something else, or ``inputs`` cannot be tokenized.
        """
        images = self.images_of(inputs)
        if mode == "loss":
            return self.loss(images)
        if mode == "predict":
            return self._predict(images, data_samples)
        if mode == "tensor":
            return self.vqgan(images)
        raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")

    def images_of(self, inputs: Tensor | list[Tensor]) -> Tensor:
        """``inputs`` of ``forward`` as float N x 3 x H x W in [0, 1]."""
        images = torch.stack(list(inputs)) if isinstance(inputs, list | tuple) else inputs
        images = to_float(images.flatten(0, 1) if images.ndim == 5 else images)
        return images.to(memory_format=self.memory_format)

    def loss(self, images: Tensor) -> dict[str, Tensor]:
        """Losses of images N x 3 x H x W in [0, 1]; in training mode the codes move too."""
        return self.losses_and_reconstruction(images)[0]

    def losses_and_reconstruction(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """As ``loss``, and the reconstruction N x 3 x H x W, not clamped, with gradients."""
        if self.train_part == "decoder":
            reconstruction = self._decode_frozen(images)
            return self._reconstruction_losses(reconstruction, images), reconstruction
        # What the config says comes first: for what buffers say the host waits for the device.
        if self.training and "linear_skip" in self.vqgan.config and self.needs_data_init and self.num_steps == 0:
            self._start_linear_maps(images)
        vectors = self.vqgan.to_vectors(images)
        flat = vectors.permute(0, 2, 3, 1).flatten(0, 2).float()
        if self.training:
            self._check_finite(flat)
            if self.continuous_steps and self.num_steps < self.continuous_steps:
                self.num_steps += 1
                reconstruction = self.vqgan.to_images(vectors)
                return self._reconstruction_losses(reconstruction, images), reconstruction
            self._start(flat.detach())
        indices = self.vqgan.quantize.nearest(flat)
        settled = torch.zeros_like(indices, dtype=torch.bool)
        if self.training and self.share_flat_codes:
            indices, settled = self._share_flat_codes(images, indices)
        codes = self.vqgan.quantize(indices)
        # Not bincount, for which the host would wait for the largest index.
        counts = torch.zeros_like(self.code_counts).index_add_(0, indices, torch.ones_like(flat[:, 0].detach()))
        if self.training:
            errors = (flat - codes).detach().square().sum(1).masked_fill(settled, 0)
            if self.color_restarts:
                errors = errors * F.avg_pool2d(self._pixel_weights(images), self.vqgan.downsample_factor).flatten()
            self._move_codes(flat.detach(), indices, counts, errors)
        weights = torch.where(settled, _FLAT_COMMITMENT, 1.0)[:, None]
        commitment = F.mse_loss(flat, codes.detach(), reduction="none").mul(weights).mean()
        losses = {"loss_commit": self.vqgan.config["commitment_cost"] * commitment}
        if self.codes_by_gradient:
            losses["loss_codebook"] = F.mse_loss(codes, flat.detach())
        # Straight through: the decoder sees the codes, its gradient goes to the encoder's vectors. Not to those of flat
        # patches, which it would tell apart again.
        through = flat.masked_fill(settled[:, None], 0)
        passed = (through + (codes - through).detach()).view(vectors.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        reconstruction = self.vqgan.to_images(passed)
        losses.update(self._reconstruction_losses(reconstruction, images))
        shares = counts / len(indices)
        losses["perplexity"] = (-(shares * shares.clamp_min(1e-10).log()).sum()).exp()
        losses["codebook_usage"] = 100 * (self.steps_unused < self.restart_after).float().mean()
        return losses, reconstruction

    def train(self, mode: bool = True) -> "VQGANTrainer":
        """Set the mode; what makes tokens stays in eval mode where it is frozen."""
        super().train(mode)
        if self.train_part == "decoder":
            self.vqgan.encoder.eval()
        return self

    def _check_finite(self, vectors: Tensor) -> None:
        # They become codes at once: a step that is skipped afterwards would come too late.
        if not vectors.isfinite().all():
            raise FloatingPointError(
                f"after {int(self.num_steps)} steps the encoder's vectors are not finite, so an image is not or the "
                "training has diverged. No code was moved. Lower the learning rate or clip_grad, or look at the data, "
                "and go on from the last checkpoint with --resume"
            )

    def _freeze_tokens(self, has_weights: bool) -> None:
        if not has_weights:
            raise ValueError(
                "train_part='decoder' trains a decoder for the tokens that there are: give vqgan the folder of a "
                "trained tokenizer, vqgan=dict(pretrained=folder)"
            )
        for part in (self.vqgan.encoder, self.vqgan.quant_conv, self.vqgan.quantize):
            part.requires_grad_(False)
        self.vqgan.keep_fingerprint()

    def _decode_frozen(self, images: Tensor) -> Tensor:
        # Tokens as they are outside of training: in half precision a few would be others.
        with torch.autocast(images.device.type, enabled=False):
            tokens = self.vqgan.encode(images)
        codes = self.vqgan.quantize(tokens.view(len(images), *self.vqgan.grid_of(*images.shape[2:])))
        return self.vqgan.to_images(codes.permute(0, 3, 1, 2))

    @torch.no_grad()
    def _share_flat_codes(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """``indices`` with one code for all flat patches of a color, and which patches are flat."""
        factor = self.vqgan.downsample_factor
        high, low = F.max_pool2d(images, factor), -F.max_pool2d(-images, factor)
        flat = (high == low).all(1).flatten()
        found, chosen, own = high.permute(0, 2, 3, 1).flatten(0, 2)[flat], indices[flat], slice(None)
        if dist.get_world_size() > 1:  # patches of one color are one group wherever they are
            places = dist.all_gather_object((found.cpu(), chosen.cpu()))
            before = sum(len(other) for other, _ in places[: dist.get_rank()])
            own = slice(before, before + len(found))
            found, chosen = (torch.cat(parts).to(indices.device) for parts in zip(*places, strict=True))
        colors, group = found.unique(dim=0, return_inverse=True)
        votes = self.code_counts.new_zeros(len(colors), len(self.code_counts))
        votes.index_put_((group, chosen), votes.new_ones(()), accumulate=True)
        # Of the codes that many have, the one most used so far: of twins at one place only one remains in use.
        often = votes >= _MANY * votes.amax(1, keepdim=True)
        shared = torch.where(often, self.code_counts, -1).argmax(1)
        return indices.masked_scatter(flat, shared[group[own]]), flat

    def _reconstruction_losses(self, reconstruction: Tensor, images: Tensor) -> dict[str, Tensor]:
        error = reconstruction.float() - images
        if self.weights["color"]:
            error = error * self._pixel_weights(images).sqrt()
        errors = [F.avg_pool2d(error, scale) if scale > 1 else error for scale in self.scales]
        losses = {
            "loss_l1": self.weights["l1"] * sum(error.abs().mean() for error in errors) / len(errors),
            "loss_l2": self.weights["l2"] * sum(error.square().mean() for error in errors) / len(errors),
        }
        if self.weights["log"]:
            squared = error.square().mean((1, 2, 3))
            losses["loss_log"] = self.weights["log"] * (squared + _SMALL_ERROR).log().mean()
        return losses

    def _pixel_weights(self, images: Tensor) -> Tensor:
        """N x 1 x H x W: 1 for gray pixels and more for saturated ones."""
        saturation = images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
        return 1 + self.weights["color"] * saturation

    def _predict(self, images: Tensor, data_samples: list | None) -> list[DataSample]:
        samples = [DataSample() for _ in images] if data_samples is None else data_samples
        pairs = (to_uint8(images), to_uint8(self.vqgan(images)))
        for sample, image, reconstruction in zip(samples, *pairs, strict=True):
            sample.image = image
            sample.reconstruction = reconstruction
        return samples

    @torch.no_grad()
    def _start(self, vectors: Tensor) -> None:
        """Before the first step: a few codes from the batch; the others wait to be placed where the error is large."""
        if self.started:
            return
        if self.needs_data_init:
            first = self._sample(vectors, max(1, self.vqgan.num_embeddings // 8))
            # Copies of the first code: where codes tie the first one wins, so they are unused.
            self.vqgan.codebook.copy_(first[:1].expand_as(self.vqgan.codebook))
            self.vqgan.codebook[: len(first)] = first
            self.steps_unused[len(first) :] = self.restart_after
        self.code_sums.copy_(self.vqgan.codebook)
        self.started.fill_(True)

    @torch.no_grad()
    def _start_linear_maps(self, images: Tensor) -> None:
        """Principal components of patches: into the vectors, and from the codes out again."""
        vqgan = self.vqgan
        side, dim = vqgan.downsample_factor, vqgan.codebook.shape[1]
        images = 2 * images - 1 if vqgan.symmetric_pixels else images
        patches = F.unfold(images.contiguous(), side, stride=side).transpose(1, 2).flatten(0, 1).double()
        mean = patches.mean(0)
        components = torch.linalg.svd(patches - mean, full_matrices=False)[2][:dim].contiguous().to(images)
        mean = mean.to(images)
        for value in (components, mean):
            dist.broadcast(value)
        # A batch with fewer patches than numbers in a vector leaves the others as they were.
        weight = components.view(len(components), -1, side, side)
        vqgan.patch_in.weight[: len(weight)] = weight
        vqgan.patch_in.bias[: len(weight)] = -components @ mean
        vqgan.patch_out.weight[: len(weight)] = weight
        # The mean is an image of a patch; what the transposed convolution adds is one number for each channel.
        vqgan.patch_out.bias.copy_(mean.view(-1, side * side).mean(1))

    @torch.no_grad()
    def _move_codes(self, vectors: Tensor, indices: Tensor, counts: Tensor, errors: Tensor) -> None:
        self.num_steps += 1
        counts = counts.clone()
        sums = torch.zeros_like(self.code_sums).index_add_(0, indices, vectors)
        dist.all_reduce(counts)
        dist.all_reduce(sums)
        self.code_counts.lerp_(counts, 1 - self.decay)
        self.code_sums.lerp_(sums, 1 - self.decay)
        self.steps_unused.add_(1).masked_fill_(counts > 0, 0)
        # Fresh codes go to vectors drawn by their squared error (as k-means++ does), few at a time so that each sees
        # what the ones before left over. Otherwise the flat background, half of all vectors, would get many names.
        dead = (self.steps_unused >= self.restart_after).nonzero().squeeze(1)[: max(1, len(vectors) // 32)]
        if len(dead):
            self.code_counts[dead] = 1.0
            self.code_sums[dead] = self._sample(vectors, len(dead), errors)
            self.steps_unused[dead] = 0
            self.vqgan.codebook[dead] = self.code_sums[dead]
        if not self.codes_by_gradient:
            # The small constant keeps codes finite whose count has decayed away between restarts.
            self.vqgan.codebook.copy_(self.code_sums / self.code_counts.clamp_min(1e-5)[:, None])

    def _sample(self, vectors: Tensor, number: int, weights: Tensor | None = None) -> Tensor:
        """Different random vectors of the batch, repeated where there are too few; the same on all processes."""
        # Seeded by the step, and not drawn from the global generator, whose state is in no checkpoint.
        generator = torch.Generator().manual_seed(int(self.num_steps))
        weights = torch.ones(len(vectors)) if weights is None else weights.cpu().clamp_min(1e-12)
        order = torch.multinomial(weights, min(number, len(vectors)), generator=generator)
        chosen = vectors[order.repeat(-(-number // len(order)))[:number].to(vectors.device)].clone()
        dist.broadcast(chosen)
        return chosen
