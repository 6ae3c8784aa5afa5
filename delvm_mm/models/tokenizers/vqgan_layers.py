"""Convolutional parts of the VQGAN tokenizer: ``Encoder``, ``Decoder`` and ``VectorQuantizer``.

Names of modules give the state-dict keys of published checkpoints, so they follow Esser et al., "Taming Transformers
for High-Resolution Image Synthesis" (CVPR 2021), as openMUSE published it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A search for nearest codes keeps at most this many distances at a time (256 MiB in float32).
_MAX_DISTANCES = 2**26


class Encoder(nn.Module):
    """Images N x 3 x H x W to latents N x ``z_channels`` x H/f x W/f.

    Args:
        resolution: Side in pixels of the training images; with ``attn_resolutions`` it decides which levels attend.
        num_channels: Channels of an image.
        hidden_channels: Channels at full resolution.
        channel_mult: Multiple of ``hidden_channels`` at each level; each level but the last halves the sides.
        num_res_blocks: Residual blocks at each level.
        attn_resolutions: Sides, in pixels of the feature map, at which residual blocks are followed by attention
            (not where the level has a single block, see ``_Level``).
        no_attn_mid_block: Leave out the attention between the two middle blocks.
        z_channels: Channels of the latents.
        resample_with_conv: Downsample with a strided convolution rather than by averaging.
        dropout: Dropout rate in residual blocks.
        norm_num_groups: Groups of all normalization layers.
        norm: 'group', or 'channel' for statistics of each place by itself (``ChannelNorm``).
        padding_mode: Of all 3 x 3 convolutions, 'zeros' or 'replicate'.
    """

    def __init__(
        self,
        *,
        resolution: int,
        num_channels: int,
        hidden_channels: int,
        channel_mult: Sequence[int],
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        no_attn_mid_block: bool,
        z_channels: int,
        resample_with_conv: bool,
        dropout: float,
        norm_num_groups: int,
        norm: str = "group",
        padding_mode: str = "zeros",
    ):
        super().__init__()
        block = {"dropout": dropout, "norm": (norm, norm_num_groups), "padding_mode": padding_mode}
        widths = [hidden_channels * multiple for multiple in channel_mult]
        self.conv_in = _conv3x3(num_channels, hidden_channels, padding_mode)
        self.down = nn.ModuleList()
        width_in = hidden_channels
        for level, width in enumerate(widths):
            attends = resolution // 2**level in attn_resolutions
            stage = _Level(width_in, width, num_res_blocks, attends, **block)
            if level < len(widths) - 1:
                stage.downsample = Downsample(width, resample_with_conv, padding_mode)
            self.down.append(stage)
            width_in = width
        self.mid = _Middle(width_in, not no_attn_mid_block, **block)
        self.norm_out = _norm(width_in, *block["norm"])
        self.conv_out = _conv3x3(width_in, z_channels, padding_mode)

    def forward(self, images: Tensor) -> Tensor:
        """Latents of images."""
        hidden = self.conv_in(images)
        for stage in self.down:
            hidden = stage(hidden)
            if hasattr(stage, "downsample"):
                hidden = stage.downsample(hidden)
        return self.conv_out(_silu(self.norm_out(self.mid(hidden))))


class Decoder(nn.Module):
    """Latents N x ``z_channels`` x h x w to images N x 3 x (h·f) x (w·f), not clamped. Arguments as for ``Encoder``.

    Levels are numbered as in the encoder, ``up.0`` is at full resolution and runs last; each has one residual block
    more than the encoder's.
    """

    def __init__(
        self,
        *,
        resolution: int,
        num_channels: int,
        hidden_channels: int,
        channel_mult: Sequence[int],
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        no_attn_mid_block: bool,
        z_channels: int,
        resample_with_conv: bool,
        dropout: float,
        norm_num_groups: int,
        norm: str = "group",
        padding_mode: str = "zeros",
    ):
        super().__init__()
        block = {"dropout": dropout, "norm": (norm, norm_num_groups), "padding_mode": padding_mode}
        widths = [hidden_channels * multiple for multiple in channel_mult]
        self.conv_in = _conv3x3(z_channels, widths[-1], padding_mode)
        self.mid = _Middle(widths[-1], not no_attn_mid_block, **block)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            attends = resolution // 2**level in attn_resolutions
            width_in = widths[min(level + 1, len(widths) - 1)]
            stage = _Level(width_in, width, num_res_blocks + 1, attends, **block)
            if level > 0:
                stage.upsample = Upsample(width, resample_with_conv, padding_mode)
            self.up.append(stage)
        self.norm_out = _norm(widths[0], *block["norm"])
        self.conv_out = _conv3x3(widths[0], num_channels, padding_mode)

    def forward(self, latents: Tensor) -> Tensor:
        """Images of latents."""
        hidden = self.mid(self.conv_in(latents))
        for stage in reversed(self.up):
            hidden = stage(hidden)
            if hasattr(stage, "upsample"):
                hidden = stage.upsample(hidden)
        return self.conv_out(_silu(self.norm_out(hidden)))


class VectorQuantizer(nn.Module):
    """A codebook and the search for the nearest code.

    Args:
        num_embeddings: Number of codes K.
        embed_dim: Width D of a code.
    """

    def __init__(self, num_embeddings: int, embed_dim: int):
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, embed_dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / num_embeddings, 1.0 / num_embeddings)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Index of the code with the smallest Euclidean distance; the first one where two are equally near.

        Args:
            vectors: M x D.

        Returns:
            LongTensor M.
        """
        # Half precision confuses neighboring codes, so autocast is off here.
        with torch.autocast(vectors.device.type, enabled=False):
            codes = self.embedding.weight.detach().float()
            vectors = vectors.detach().float()
            code_norms = codes.square().sum(dim=1)
            vector_norms = vectors.square().sum(dim=1, keepdim=True)
            rows = max(1, _MAX_DISTANCES // len(codes))
            found = [
                torch.addmm(norms + code_norms, chunk, codes.t(), alpha=-2).argmin(dim=1)
                for chunk, norms in zip(vectors.split(rows), vector_norms.split(rows), strict=True)
            ]
        return torch.cat(found)

    def forward(self, indices: Tensor) -> Tensor:
        """Codes of indices: any shape to that shape x D."""
        return self.embedding(indices)


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each place of a map N x C x H x W.

    Unlike group normalization it knows nothing of the rest of the image: where all places are equal they stay so, and
    what is drawn in one corner does not change another.
    """

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, hidden: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        return super().forward(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResnetBlock(nn.Module):
    """Two times norm, SiLU, 3 x 3 convolution, added to the input (through a 1 x 1 where the channels change)."""

    def __init__(
        self, in_channels: int, out_channels: int, dropout: float, norm: tuple[str, int], padding_mode: str = "zeros"
    ):
        super().__init__()
        self.norm1 = _norm(in_channels, *norm)
        self.conv1 = _conv3x3(in_channels, out_channels, padding_mode)
        self.norm2 = _norm(out_channels, *norm)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _conv3x3(out_channels, out_channels, padding_mode)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """N x C x H x W to N x C' x H x W."""
        residual = self.nin_shortcut(hidden) if hasattr(self, "nin_shortcut") else hidden
        hidden = self.conv1(_silu(self.norm1(hidden)))
        hidden = self.conv2(self.dropout(_silu(self.norm2(hidden))))
        return residual + hidden if torch.is_grad_enabled() else hidden.add_(residual)


class AttentionBlock(nn.Module):
    """Self-attention with one head over all places of a feature map, added to the input."""

    def __init__(self, channels: int, norm: tuple[str, int]):
        super().__init__()
        self.norm = _norm(channels, *norm)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        normed = self.norm(hidden)
        query, key, value = (
            projection(normed).flatten(2).transpose(1, 2).unsqueeze(1) for projection in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return hidden + self.proj_out(attended.squeeze(1).transpose(1, 2).reshape(hidden.shape))


class Downsample(nn.Module):
    """Half the sides: pad by 1 right and bottom, then a 3 x 3 convolution of stride 2; or a 2 x 2 average."""

    def __init__(self, channels: int, with_conv: bool, padding_mode: str = "zeros"):
        super().__init__()
        self.pad_mode = "constant" if padding_mode == "zeros" else padding_mode
        if with_conv:
            self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        """N x C x H x W to N x C x H/2 x W/2."""
        if hasattr(self, "conv"):
            return self.conv(F.pad(hidden, (0, 1, 0, 1), mode=self.pad_mode))
        return F.avg_pool2d(hidden, 2)


class Upsample(nn.Module):
    """Twice the sides: repeat each place, then optionally a 3 x 3 convolution."""

    def __init__(self, channels: int, with_conv: bool, padding_mode: str = "zeros"):
        super().__init__()
        self.conv = _conv3x3(channels, channels, padding_mode) if with_conv else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """N x C x H x W to N x C x 2H x 2W."""
        if isinstance(self.conv, nn.Conv2d) and not torch.is_grad_enabled():
            return _convolve_repeated(hidden, self.conv)
        return self.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))


class _Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention if the level attends.

    A level of one block owns its attention but does not apply it: so does openMUSE, and published weights expect it.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_blocks: int,
        attends: bool,
        dropout: float,
        norm: tuple[str, int],
        padding_mode: str,
    ):
        super().__init__()
        self.block = nn.ModuleList(
            ResnetBlock(channels if i else in_channels, channels, dropout, norm, padding_mode)
            for i in range(num_blocks)
        )
        self.attn = nn.ModuleList(AttentionBlock(channels, norm) for _ in range(num_blocks if attends else 0))

    def forward(self, hidden: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            hidden = block(hidden)
            if len(self.attn) > 1:
                hidden = self.attn[i](hidden)
        return hidden


class _Middle(nn.Module):
    """Two residual blocks at the lowest resolution, with or without attention between them."""

    def __init__(self, channels: int, attends: bool, dropout: float, norm: tuple[str, int], padding_mode: str):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, dropout, norm, padding_mode)
        if attends:
            self.attn_1 = AttentionBlock(channels, norm)
        self.block_2 = ResnetBlock(channels, channels, dropout, norm, padding_mode)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.block_1(hidden)
        if hasattr(self, "attn_1"):
            hidden = self.attn_1(hidden)
        return self.block_2(hidden)


def _convolve_repeated(hidden: Tensor, conv: nn.Conv2d) -> Tensor:
    """``conv``, 3 x 3, of ``hidden`` with each place repeated, without making the copies.

    Of the three taps along a side two meet copies of one place: rows (and columns) 2i see places i - 1 and i with the
    weights (w0, w1 + w2), rows 2i + 1 see i and i + 1 with (w0 + w1, w2). So four 2 x 2 convolutions at half the size
    do what one 3 x 3 does at the full one, with 4/9 of the multiplications; the sum is rounded in another order.

    Returns:
        N x C' x 2H x 2W of N x C x H x W.
    """
    first, second, third = conv.weight.to(torch.promote_types(conv.weight.dtype, torch.float32)).unbind(2)
    rows = (torch.stack((first, second + third), 2), torch.stack((first + second, third), 2))
    kernels = []
    for kernel in rows:
        first, second, third = kernel.unbind(3)
        kernels += [torch.stack((first, second + third), 3), torch.stack((first + second, third), 3)]
    weight = torch.cat(kernels).to(conv.weight)
    if conv.padding_mode == "zeros":
        parts = F.conv2d(hidden, weight, conv.bias.repeat(4), padding=1).chunk(4, 1)
    else:
        padded = F.pad(hidden, (1, 1, 1, 1), mode=conv.padding_mode)
        parts = F.conv2d(padded, weight, conv.bias.repeat(4)).chunk(4, 1)
    height, width = hidden.shape[2:]
    layout = torch.channels_last if parts[0].stride(1) == 1 else torch.contiguous_format
    size = (len(hidden), conv.out_channels, 2 * height, 2 * width)
    repeated = torch.empty(size, dtype=parts[0].dtype, device=hidden.device, memory_format=layout)
    for number, part in enumerate(parts):
        row, column = divmod(number, 2)
        repeated[:, :, row::2, column::2] = part[:, :, row : row + height, column : column + width]
    return repeated


def _silu(normed: Tensor) -> Tensor:
    # What a normalization gave is nobody else's, and large: without gradients nothing needs it afterwards.
    return F.silu(normed, inplace=not torch.is_grad_enabled())


def _norm(channels: int, kind: str, groups: int) -> nn.Module:
    return ChannelNorm(channels) if kind == "channel" else nn.GroupNorm(groups, channels, eps=1e-6)


def _conv3x3(in_channels: int, out_channels: int, padding_mode: str) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode=padding_mode)
