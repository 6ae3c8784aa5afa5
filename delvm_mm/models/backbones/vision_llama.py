"""``VisionLLaMA``: the LLaMA stack over the patches of an image, a backbone for ``mmpretrain.ImageClassifier``.

The class token stands behind the patches, where causal attention sees all of them (Wang et al., 2024, "Adapting LLaMA
Decoder to Vision Transformer", arXiv 2404.06773).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.logging import print_log
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import LayerScale, resize_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.models.backbones.llama import DecoderLayer, LLaMA
from delvm_mm.registry import type_name

ATTENTIONS = ("causal", "bidirectional", "soft")
OUT_TYPES = ("cls_token", "avg_featmap", "featmap", "raw")
ROPES = ("1d", "2d", None)


class VisionLLaMA(LLaMA, BaseBackbone):
    """LLaMA over patches; the stack's parameters are named as in :class:`LLaMA`.

    Args:
        arch: As for :class:`LLaMA`. Defaults to '80m'.
        img_size: Side, or (H, W), of the images that it is trained on, in pixels. Others can be read:
            positions are interpolated between those of the training grid. Defaults to 224.
        patch_size: Side of a patch in pixels. Defaults to 16.
        in_channels: Channels of the images. Defaults to 3.
        attention: 'causal' (in the order of rows), 'bidirectional', or 'soft': a blend of both, in which a token
            sees those behind it with ``bidirectional_share`` (a buffer in [0, 1], 0 at first) of their weight;
            :class:`delvm_mm.engine.SoftCausalHook` lowers it from 1 to 0 in training. Defaults to 'causal'.
        rope: Rotary positions: '1d' counts patches row by row, as LLaMA counts tokens; '2d' gives half
            of the channels the row and half the column; None for no rotation. Defaults to '1d'.
        with_pos_embed: Whether to add a learned position embedding to the patches. Defaults to False.
        with_cls_token: Whether a learned class token stands behind the patches. Defaults to True.
        out_type: What comes out, for B images of H x W patches, L tokens, width C: 'cls_token': B x C;
            'avg_featmap': the mean over the patches, B x C; 'featmap': B x C x H x W; 'raw': all tokens, the class
            token last, B x L x C. Defaults to 'cls_token'.
        out_indices: After which layers, from 0 or, if negative, from the end. The last is
            followed by the final norm. Defaults to -1.
        drop_path_rate: Stochastic depth of the last layer, in [0, 1); earlier ones have proportionally less.
            Defaults to 0.
        layer_scale_init_value: Start of a learned scale of each channel behind attention and SwiGLU (Touvron
            et al., 2021, arXiv 2103.17239); 0 for none. Defaults to 0.
        frozen_stages: This many layers, and all before them, are neither trained nor in training mode; -1 for
            none. Defaults to -1.
        interpolate_mode: How a learned position embedding is resized. Defaults to 'bicubic'.
        patch_cfg: Further arguments of mmcv's ``PatchEmbed``.
        init_std: As for :class:`LLaMA`. Defaults to 0.02.
        init_cfg: MMEngine's initialization config. ``dict(type='Pretrained', checkpoint=...,
            prefix='backbone.')`` takes over the stack of a DeLVM or the backbone of a classifier.
        **kwargs: ``qkv_bias``, ``norm_eps``, ``rope_base`` and ``with_cp``, as for :class:`LLaMA`.

    Raises:
        ValueError: If an argument is none of those named, or two of them contradict each other.

    Examples:
        >>> model = VisionLLaMA(dict(embed_dims=64, num_layers=2, num_heads=4), img_size=32, patch_size=8)
        >>> model(torch.rand(1, 3, 32, 32))[-1].shape
        torch.Size([1, 64])
    """

    num_extra_tokens = 1

    def __init__(
        self,
        arch: str | Mapping[str, int] = "80m",
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        *,
        attention: str = "causal",
        rope: str | None = "1d",
        with_pos_embed: bool = False,
        with_cls_token: bool = True,
        out_type: str = "cls_token",
        out_indices: int | Sequence[int] = -1,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 0.0,
        frozen_stages: int = -1,
        interpolate_mode: str = "bicubic",
        patch_cfg: Mapping[str, Any] | None = None,
        init_std: float = 0.02,
        rope_base: float = 10000.0,
        init_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value, known in (
            ("attention", attention, ATTENTIONS),
            ("out_type", out_type, OUT_TYPES),
            ("rope", rope, ROPES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {known}")
        if out_type == "cls_token" and not with_cls_token:
            raise ValueError("out_type is 'cls_token' and with_cls_token is False; use out_type='avg_featmap'")
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f"drop_path_rate is {drop_path_rate}, expected a number in [0, 1)")
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if min(height, width) < patch_size:
            raise ValueError(f"img_size is {img_size}, smaller than a patch of {patch_size}")
        # mmcv pads images whose sides are no multiple of the patch.
        num_tokens = -(-height // patch_size) * -(-width // patch_size) + with_cls_token
        super().__init__(
            arch, max_positions=num_tokens, init_std=init_std, rope_base=rope_base, init_cfg=init_cfg, **kwargs
        )
        if rope == "2d" and self.head_dim % 4:
            raise ValueError(f"rope is '2d' and heads have {self.head_dim} channels, expected a multiple of 4")
        self.img_size = (height, width)
        self.attention, self.rope, self.rope_base = attention, rope, rope_base
        self._patch_rope_key: tuple | None = None
        self.out_type = out_type
        self.interpolate_mode = interpolate_mode
        self.out_indices = _layer_indices(out_indices, self.num_layers)
        if not -1 <= frozen_stages <= self.num_layers:
            raise ValueError(f"frozen_stages is {frozen_stages}, expected -1 to {self.num_layers} layers")
        self.frozen_stages = frozen_stages

        self.patch_embed = PatchEmbed(
            **{
                "in_channels": in_channels,
                "input_size": self.img_size,
                "embed_dims": self.embed_dims,
                "conv_type": "Conv2d",
                "kernel_size": patch_size,
                "stride": patch_size,
                **(patch_cfg or {}),
            }
        )
        self.patch_resolution = tuple(self.patch_embed.init_out_size)
        self.cls_token = self.pos_embed = None
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        else:
            self.num_extra_tokens = 0
        if with_pos_embed:
            rows, columns = self.patch_resolution
            self.pos_embed = nn.Parameter(torch.zeros(1, rows * columns + self.num_extra_tokens, self.embed_dims))
            self._register_load_state_dict_pre_hook(self._resize_loaded_pos_embed)
        for parameter in (self.cls_token, self.pos_embed):
            if parameter is not None:
                trunc_normal_(parameter, std=0.02)

        if drop_path_rate or layer_scale_init_value:
            rates = torch.linspace(0, drop_path_rate, self.num_layers).tolist()
            self.layers = nn.ModuleList(
                RegularizedLayer(layer, self.embed_dims, rate, layer_scale_init_value)
                for layer, rate in zip(self.layers, rates, strict=True)
            )
        for layer in self.layers:
            layer.self_attn.causal = attention != "bidirectional"
        if attention == "soft":
            # In checkpoints: a model saved while it is blended must be tested as it was trained.
            self.register_buffer("bidirectional_share", torch.tensor(0.0))
        self._freeze_stages()

    def init_weights(self) -> None:
        """Take over pretrained weights where ``init_cfg`` names some; all others were drawn in the constructor.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, or lacks a parameter of the stack, or has one of another shape.
        """
        if not (isinstance(self.init_cfg, Mapping) and type_name(self.init_cfg).startswith("Pretrained")):
            super().init_weights()
            return
        # MMEngine's own way only logs what does not fit.
        path, prefix = self.init_cfg["checkpoint"], self.init_cfg.get("prefix") or ""
        weights = load_state_dict(path, prefix)
        own = self.state_dict()
        stack = [name for name in own if name.startswith(("layers.", "norm.")) and "_scale." not in name]
        missing = [name for name in stack if name not in weights]
        deeper = [name for name in weights if name.startswith(f"layers.{self.num_layers}.")]
        if missing or deeper:
            what = f"lacks {len(missing)} of the {len(stack)} parameters" if missing else "has more layers than those"
            raise ValueError(
                f"{path} {what} of the stack of {self.num_layers} layers (names under the prefix '{prefix}', such as "
                f"{(missing or deeper)[0]}); give a checkpoint of a DeLVM or a VisionLLaMA with this arch"
            )
        weights = {name: value for name, value in weights.items() if name in own}
        self._resize_loaded_pos_embed(weights, "")
        load_into(self, weights, source=path, strict=False)
        fresh = [name for name in own if name not in weights]
        print_log(f"VisionLLaMA: {len(weights)} tensors from {path}; as drawn: {', '.join(fresh) or 'none'}", "current")
        self._is_init = True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            images: B x 3 x height x width.

        Returns:
            One for each of ``out_indices``, as ``out_type`` says.
        """
        hidden, grid = self.patch_embed(images)
        grid = (int(grid[0]), int(grid[1]))
        if self.cls_token is not None:
            hidden = torch.cat((hidden, self.cls_token.expand(len(hidden), -1, -1)), dim=1)
        if self.pos_embed is not None:
            hidden = hidden + self._resized(self.pos_embed, self.patch_resolution, grid)
        rope = self._patch_rope(grid, hidden)
        mask = self._blended_mask(hidden) if self.attention == "soft" else None
        outputs = []
        for index, layer in enumerate(self.layers):
            if self.with_cp and self.training:
                hidden = checkpoint(layer, hidden, rope, mask, use_reentrant=False)
            else:
                hidden = layer(hidden, rope, mask)
            if index == self.num_layers - 1:
                hidden = self.norm(hidden)
            if index in self.out_indices:
                outputs.append(self._format_output(hidden, grid))
        return tuple(outputs)

    def feature_map(self, tokens: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Lay the patches of token features out as an image, for instance as Grad-CAM's ``reshape_transform``.

        Args:
            tokens: B x L x C.
            grid: Rows and columns of patches, those of ``img_size`` by default.

        Returns:
            B x C x rows x columns, without the class token.
        """
        rows, columns = grid or self.patch_resolution
        return tokens[:, : rows * columns].transpose(1, 2).unflatten(2, (rows, columns))

    def train(self, mode: bool = True) -> "VisionLLaMA":
        """Set the mode; frozen stages stay in evaluation mode."""
        nn.Module.train(self, mode)
        if mode:
            self._freeze_stages()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """The depth of a parameter, for layer-wise decay of the learning rate.

        Args:
            param_name: Name of the parameter.
            prefix: Prefix of the backbone's parameters; others (of a head) are the deepest.

        Returns:
            Depth, from 0 for what stands before the layers, and number of depths, layers + 2.
        """
        depths = self.num_layers + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return depths - 1, depths
        if name.startswith(("cls_token", "pos_embed", "patch_embed")):
            return 0, depths
        if name.startswith("layers."):
            return int(name.split(".")[1]) + 1, depths
        return depths - 1, depths

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.patch_embed, *self.layers[: self.frozen_stages]]
        if self.frozen_stages == self.num_layers:
            frozen.append(self.norm)
        for module in frozen:
            module.eval().requires_grad_(False)
        for parameter in (self.cls_token, self.pos_embed):
            if parameter is not None:
                parameter.requires_grad = False

    def _format_output(self, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.out_type == "raw":
            return hidden
        if self.out_type == "cls_token":
            return hidden[:, -1]
        if self.out_type == "featmap":
            return self.feature_map(hidden, grid)
        return hidden[:, : grid[0] * grid[1]].mean(dim=1)

    def _patch_rope(self, grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, L x D each, of the patches' places in the grid of training and of the class token."""
        key = (grid, like.device, like.dtype)
        if self._patch_rope_key != key:
            with torch.inference_mode(False):  # training may use the table that inference made
                angle = self._rope_angles(grid)
                self._patch_rope_table = tuple(
                    table.to(key[1], key[2], non_blocking=True) for table in (angle.cos(), angle.sin())
                )
            self._patch_rope_key = key
        return self._patch_rope_table

    def _rope_angles(self, grid: tuple[int, int]) -> Tensor:
        if self.rope is None:
            return torch.zeros(grid[0] * grid[1] + self.num_extra_tokens, self.head_dim)
        rows, columns = self.patch_resolution
        row, column = (
            (torch.arange(count, dtype=torch.float32) + 0.5) * (trained / count) - 0.5
            for count, trained in zip(grid, self.patch_resolution, strict=True)
        )
        row, column = row.repeat_interleave(grid[1]), column.repeat(grid[0])
        if self.num_extra_tokens:  # just behind the last patch
            row, column = torch.cat((row, row.new_tensor([rows - 1]))), torch.cat((column, row.new_tensor([columns])))
        places = (row * columns + column,) if self.rope == "1d" else (row, column)
        share = self.head_dim // 2 // len(places)
        frequency = 1.0 / self.rope_base ** (torch.arange(share, dtype=torch.float32) / share)
        angle = torch.cat([torch.outer(place, frequency) for place in places], dim=-1)
        return torch.cat((angle, angle), dim=-1)

    def _blended_mask(self, hidden: Tensor) -> Tensor:
        """L x L, added to the scores: log of how much of the weight a token may give to another one."""
        length = hidden.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
        share = self.bidirectional_share.log().to(hidden.dtype)
        return torch.where(later, share, torch.zeros_like(share))

    def _resized(self, pos_embed: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
        count = source[0] * source[1]
        patches = resize_pos_embed(pos_embed[:, :count], source, target, self.interpolate_mode, num_extra_tokens=0)
        return torch.cat((patches, pos_embed[:, count:]), dim=1)

    def _resize_loaded_pos_embed(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        loaded = state_dict.get(f"{prefix}pos_embed")
        if self.pos_embed is None or loaded is None or loaded.shape[1] == self.pos_embed.shape[1]:
            return
        side = round((loaded.shape[1] - self.num_extra_tokens) ** 0.5)
        if side**2 + self.num_extra_tokens == loaded.shape[1]:  # anything else fails for its shape
            state_dict[f"{prefix}pos_embed"] = self._resized(loaded, (side, side), self.patch_resolution)


class RegularizedLayer(nn.Module):
    """A decoder layer with stochastic depth and layer scale; it takes over the layer's parts under their names.

    Args:
        layer: The layer.
        embed_dims: C.
        drop_path: Probability that a sample skips attention, or SwiGLU.
        layer_scale_init_value: Start of the scales, 0 for none.
    """

    def __init__(self, layer: DecoderLayer, embed_dims: int, drop_path: float, layer_scale_init_value: float) -> None:
        super().__init__()
        for name, part in layer.named_children():
            self.add_module(name, part)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.attn_scale, self.mlp_scale = (
            LayerScale(embed_dims, layer_scale_init_value) if layer_scale_init_value else nn.Identity()
            for _ in range(2)
        )

    def forward(self, hidden: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """Map B x L x C to B x L x C."""
        attended = self.self_attn(self.input_layernorm(hidden), rope, mask)
        hidden = hidden + self.drop_path(self.attn_scale(attended))
        return hidden + self.drop_path(self.mlp_scale(self.mlp(self.post_attention_layernorm(hidden))))


def _layer_indices(indices: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    chosen = (indices,) if isinstance(indices, int) else tuple(indices)
    if not chosen or any(not -num_layers <= index < num_layers for index in chosen):
        raise ValueError(f"out_indices is {indices}, expected one or several of {-num_layers} to {num_layers - 1}")
    return tuple(index % num_layers for index in chosen)
