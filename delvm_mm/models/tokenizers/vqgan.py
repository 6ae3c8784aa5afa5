"""The tokenizer: ``VQGAN`` turns images into tokens and tokens into images.

A checkpoint folder is what openMUSE publishes: ``config.json`` with the constructor's arguments, and the weights in
``pytorch_model.bin`` or a ``.safetensors`` file.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from safetensors.torch import save
from torch import Tensor, nn

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.models.tokenizers.vqgan_layers import Decoder, Encoder, ResnetBlock, VectorQuantizer
from delvm_mm.pretrained import resolve_shipped
from delvm_mm.registry import MODELS, type_name

_WEIGHT_FILES = ("pytorch_model.bin", "model.safetensors", "diffusion_pytorch_model.safetensors")
# They change training, not what a token means.
_NOT_IN_FINGERPRINT = ("dropout", "commitment_cost")
_MAKES_TOKENS = ("encoder.", "quant_conv.", "quantize.", "patch_in.")


@MODELS.register_module()
class VQGAN(BaseModule):
    """Convolutional tokenizer with a learned codebook, in openMUSE's layout.

    The defaults are those of openMUSE's ``vqgan-f16-8192-laion`` (256 x 256 images to 16 x 16 tokens). Other sizes than
    ``resolution`` work as long as both sides are divisible by ``downsample_factor``.
    Source: Esser et al., "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021.

    Example:
        >>> vqgan = VQGAN.from_pretrained("delvm_mm://mini_tokenizer")
        >>> tokens = vqgan.encode(torch.rand(1, 3, 40, 40))
        >>> tokens.shape, vqgan.decode(tokens).shape
        (torch.Size([1, 100]), torch.Size([1, 3, 40, 40]))

    Args:
        resolution: Side in pixels of the training images; with ``attn_resolutions`` it places the attention.
        num_channels: Channels of an image.
        hidden_channels: Channels at full resolution.
        channel_mult: Multiple of ``hidden_channels`` at each level; every level but the last halves the sides.
        num_res_blocks: Residual blocks at each level of the encoder; the decoder has one more.
        attn_resolutions: Sides of feature maps at which residual blocks are followed by attention. As in openMUSE, a
            level with a single block has these weights and does not use them.
        no_attn_mid_block: Leave out the attention in the middle of encoder and decoder.
        z_channels: Channels of the latents before and after the codebook's projections.
        num_embeddings: Codebook size K.
        quantized_embed_dim: Width D of a code.
        dropout: Dropout rate in residual blocks.
        resample_with_conv: Convolve when changing resolution.
        commitment_cost: Weight of the commitment loss in training.
        norm_num_groups: Groups of the normalization layers; 32 in all published checkpoints, which do not name it.
        symmetric_pixels: The layers work on images in [-1, 1], as those of taming-transformers do; ``encode`` and
            ``decode`` take and give [0, 1] all the same. (Padding with zeros means another gray there, so this cannot
            be folded into the first convolution.)
        norm: 'group', or 'channel': normalize each place by itself over its channels. With ``padding_mode='replicate'``
            an image of one color, or of one code, is of one color again; group statistics of the whole image, and
            zeros around it, draw patterns there. openMUSE knows neither.
        padding_mode: How 3 x 3 convolutions go on beyond the border, 'zeros' or 'replicate'.
        linear_skip: Add to the vectors a linear map of each patch, and to the image one of each code: what a small
            network takes long to learn (a principal component analysis of patches) is there at once, see
            ``VQGANTrainer``. openMUSE does not know it.
        unit_vectors: Vectors are scaled to length 1 before the search, as those of LlamaGen's tokenizers are, whose
            codes have length 1. openMUSE does not know it.
        init_cfg: MMEngine's initialization config. ``dict(type='Pretrained', checkpoint=..., prefix=...)`` takes a
            folder or a file, read safely by ``delvm_mm.checkpoints.io``.

    Raises:
        ValueError: Channels are not divisible by ``norm_num_groups``, or a size is not positive.
    """

    def __init__(
        self,
        resolution: int = 256,
        num_channels: int = 3,
        hidden_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 4, 6),
        num_res_blocks: int = 2,
        attn_resolutions: Sequence[int] = (),
        no_attn_mid_block: bool = True,
        z_channels: int = 64,
        num_embeddings: int = 8192,
        quantized_embed_dim: int = 64,
        dropout: float = 0.0,
        resample_with_conv: bool = True,
        commitment_cost: float = 0.25,
        norm_num_groups: int = 32,
        symmetric_pixels: bool = False,
        norm: str = "group",
        padding_mode: str = "zeros",
        linear_skip: bool = False,
        unit_vectors: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        layers = {
            "resolution": resolution,
            "num_channels": num_channels,
            "hidden_channels": hidden_channels,
            "channel_mult": tuple(channel_mult),
            "num_res_blocks": num_res_blocks,
            "attn_resolutions": tuple(attn_resolutions),
            "no_attn_mid_block": no_attn_mid_block,
            "z_channels": z_channels,
            "resample_with_conv": resample_with_conv,
            "dropout": dropout,
            "norm_num_groups": norm_num_groups,
        }
        codes = {"num_embeddings": num_embeddings, "quantized_embed_dim": quantized_embed_dim}
        self.config = {**layers, **codes, "commitment_cost": commitment_cost}
        own = {"norm": (norm, ("group", "channel")), "padding_mode": (padding_mode, ("zeros", "replicate"))}
        for name, (value, valid) in own.items():
            if value not in valid:
                raise ValueError(f"{name} must be {valid[0]!r} or {valid[1]!r}, got {value!r}")
            layers[name] = value
            if value != valid[0]:  # openMUSE does not know the names, and fingerprints stay what they were
                self.config[name] = value
        _check_sizes(self.config)
        self.symmetric_pixels = bool(symmetric_pixels)
        if symmetric_pixels:  # openMUSE does not know the name
            self.config["symmetric_pixels"] = True
        if unit_vectors:
            self.config["unit_vectors"] = True
        self.encoder = Encoder(**layers)
        self.quant_conv = nn.Conv2d(z_channels, quantized_embed_dim, 1)
        self.quantize = VectorQuantizer(num_embeddings, quantized_embed_dim)
        self.post_quant_conv = nn.Conv2d(quantized_embed_dim, z_channels, 1)
        self.decoder = Decoder(**layers)
        if linear_skip:
            self.config["linear_skip"] = True
            patch = {"kernel_size": self.downsample_factor, "stride": self.downsample_factor}
            self.patch_in = nn.Conv2d(num_channels, quantized_embed_dim, **patch)
            self.patch_out = nn.ConvTranspose2d(quantized_embed_dim, num_channels, **patch)
        self.apply(_init_layer)
        # A black patch must not be 0 everywhere: each normalization would multiply its gradient by 1000.
        bound = (9 * num_channels) ** -0.5
        nn.init.uniform_(self.encoder.conv_in.bias, -bound, bound)
        if linear_skip:  # the layers begin as small corrections
            with torch.no_grad():
                self.quant_conv.weight.mul_(0.01)
                self.decoder.conv_out.weight.mul_(0.01)
        self._digests: dict[tuple[str, ...], tuple[tuple, str]] = {}
        self._tokens_of: dict[str, str] | None = None

    @classmethod
    def from_config(cls, config: dict | str | Path) -> "VQGAN":
        """Build with fresh weights from a dict, a ``config.json``, or the folder that holds one.

        Names that start with ``_`` are another library's notes and are ignored.

        Returns:
            The tokenizer, in train mode.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no JSON object, or has a name that is not an argument.
        """
        source = "the config"
        if not isinstance(config, dict):
            source = Path(config) / "config.json" if Path(config).is_dir() else Path(config)
            config = _read_json_object(source)
        arguments = {name: value for name, value in config.items() if not name.startswith("_")}
        valid = [name for name in inspect.signature(cls).parameters if name != "init_cfg"]
        unknown = [name for name in arguments if name not in valid]
        if unknown:
            raise ValueError(f"{source} has unknown names {unknown}; VQGAN takes {', '.join(valid)}")
        return cls(**arguments)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "VQGAN":
        """Build from a checkpoint folder as openMUSE publishes it, in eval mode.

        Args:
            path: The folder, or ``'delvm_mm://mini_tokenizer'``, the one that the package carries.

        Returns:
            The tokenizer.

        Raises:
            FileNotFoundError: The folder, its ``config.json`` or its weights are missing.
            ValueError: A file is damaged, or the weights do not fit the config.
        """
        path = resolve_shipped(path)
        weights = _weight_file(path)
        vqgan = cls.from_config(path)
        load_into(vqgan, load_state_dict(weights), weights)
        vqgan._read_tokens_of(Path(path) / "config.json")
        return vqgan.eval()

    def save_pretrained(self, folder: str | Path, safe_serialization: bool = False) -> None:
        """Write ``config.json`` and the weights as openMUSE does; each appears whole or not at all.

        Args:
            folder: Made where it is missing.
            safe_serialization: Write ``model.safetensors``, not ``pytorch_model.bin``.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": "VQGANModel", **self.config}
        if self.config["norm_num_groups"] == 32:
            del config["norm_num_groups"]  # openMUSE does not know the name
        if self._keeps_tokens:
            config["_tokens_of"] = self._tokens_of
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        config_text = json.dumps(config, indent=2) + "\n"
        if safe_serialization:
            write_atomically(folder / "model.safetensors", save(weights, {"format": "pt"}))
        else:
            write_atomically(folder / "pytorch_model.bin", lambda file: torch.save(weights, file))
        write_atomically(folder / "config.json", config_text.encode())

    def init_weights(self) -> None:
        """Load ``init_cfg``'s checkpoint through the safe reader; MMEngine's own may fall back to running pickles."""
        if not (isinstance(self.init_cfg, dict) and type_name(self.init_cfg).startswith("Pretrained")):
            super().init_weights()
            return
        source = resolve_shipped(self.init_cfg["checkpoint"])
        if source.is_dir():
            source = _weight_file(source)
        load_into(self, load_state_dict(source, self.init_cfg.get("prefix") or ""), source)
        if (source.parent / "config.json").is_file() and source.name in _WEIGHT_FILES:
            self._read_tokens_of(source.parent / "config.json")
        self.is_init = True

    @property
    def codebook(self) -> Tensor:
        """All codes, K x D."""
        return self.quantize.embedding.weight

    @property
    def num_embeddings(self) -> int:
        """Codebook size K."""
        return self.config["num_embeddings"]

    @property
    def downsample_factor(self) -> int:
        """Pixels per token along one side."""
        return 2 ** (len(self.config["channel_mult"]) - 1)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name this tokenizer: equal for equal architecture and weights, on any device.

        What was tokenized with one fingerprint must not be decoded with another. After ``keep_fingerprint`` it names
        the tokens alone: it stays while the weights that make them do, whatever becomes of the decoder.
        """
        return self._tokens_of["fingerprint"] if self._keeps_tokens else self._digest()

    def keep_fingerprint(self) -> None:
        """Keep today's fingerprint as long as the weights that make tokens stay as they are, bit for bit.

        For training the decoder alone: token stores and language models of this tokenizer go on working with the new
        one. ``save_pretrained`` notes the fingerprint with a digest of encoder and codebook, which is checked whenever
        the fingerprint is asked for; with other weights there, the tokenizer gets a new name.
        """
        self._tokens_of = {"fingerprint": self.fingerprint, "encoder": self._digest(_MAKES_TOKENS)}

    @property
    def _keeps_tokens(self) -> bool:
        return self._tokens_of is not None and self._tokens_of["encoder"] == self._digest(_MAKES_TOKENS)

    def _read_tokens_of(self, path: Path) -> None:
        self._tokens_of = _read_json_object(path).get("_tokens_of")
        if self._tokens_of is None:
            return
        given = self._tokens_of
        if not isinstance(given, dict) or not {"fingerprint", "encoder"} <= set(given) or not self._keeps_tokens:
            raise ValueError(
                f"{path} says that this tokenizer makes the tokens of {given!r}, but its encoder and codebook are not "
                "those: the files are of different tokenizers. Copy the whole folder again, or remove '_tokens_of'"
            )

    def _digest(self, prefixes: tuple[str, ...] = ("",)) -> str:
        """Of the architecture and of all weights whose names start with one of ``prefixes``."""
        state = {name: value for name, value in self.state_dict().items() if name.startswith(prefixes)}
        # Addresses and version counters notice new and changed weights without reading them.
        versions = tuple((value.data_ptr(), value._version) for value in state.values())
        if self._digests.get(prefixes, (None,))[0] != versions:
            config = {name: value for name, value in self.config.items() if name not in _NOT_IN_FINGERPRINT}
            digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
            for name in sorted(state):
                digest.update(f"{name}{tuple(state[name].shape)}".encode())
                digest.update(state[name].detach().float().cpu().contiguous().numpy().astype("<f4", copy=False).data)
            self._digests[prefixes] = versions, digest.hexdigest()[:16]
        return self._digests[prefixes][1]

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the token grid of an image.

        Returns:
            h, w.

        Raises:
            ValueError: A side is not a positive multiple of ``downsample_factor``.
        """
        factor = self.downsample_factor
        if height < factor or width < factor or height % factor or width % factor:
            raise ValueError(
                f"images of {height}x{width} (height x width) cannot be tokenized: both sides must be multiples of "
                f"{factor}. Resize or crop them, for example to "
                f"{max(height // factor, 1) * factor}x{max(width // factor, 1) * factor}"
            )
        return height // factor, width // factor

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Tokens of images.

        Args:
            images: Float, N x 3 x H x W, RGB in [0, 1], H and W multiples of ``downsample_factor``.

        Returns:
            LongTensor N x (h·w), row by row.

        Raises:
            TypeError: ``images`` are not floating point.
            ValueError: ``images`` have another shape or a size that does not divide.
        """
        vectors = self.to_vectors(images).permute(0, 2, 3, 1)
        return self.quantize.nearest(vectors.flatten(0, 2)).view(vectors.shape[:3]).flatten(1)

    @torch.no_grad()
    def decode(self, indices: Tensor, grid: tuple[int, int] | None = None, check: bool | None = None) -> Tensor:
        """Images of tokens.

        Args:
            indices: Integer, N x (h·w), values in [0, K).
            grid: Rows and columns (h, w); a square by default.
            check: Look for values outside the codebook. Defaults to True for indices on the CPU alone: elsewhere
                the host would wait for the device, and without it such a value is an error of the embedding lookup,
                which on a GPU ends the process. Give True for tokens that come from files.

        Returns:
            Float N x 3 x H x W, clamped to [0, 1].

        Raises:
            TypeError: ``indices`` are not integers.
            ValueError: Their shape does not fit the grid, or a value is outside the codebook.
        """
        if indices.dtype.is_floating_point or indices.dtype == torch.bool:
            raise TypeError(f"indices must be integers, got {indices.dtype}")
        if indices.ndim != 2:
            raise ValueError(f"indices must have shape N x (h*w), got {tuple(indices.shape)}")
        num_tokens = indices.shape[1]
        side = math.isqrt(num_tokens)
        if grid is None and side * side != num_tokens:
            raise ValueError(f"{num_tokens} tokens are not a square; give grid=(rows, columns)")
        rows, columns = grid or (side, side)
        if rows * columns != num_tokens or num_tokens == 0:
            raise ValueError(f"grid {rows}x{columns} has {rows * columns} places, but there are {num_tokens} tokens")
        check = indices.device.type == "cpu" if check is None else check
        if check and indices.numel():
            low, high = torch.stack(indices.aminmax()).tolist()
            if low < 0 or high >= self.num_embeddings:
                raise ValueError(
                    f"token {low if low < 0 else high} is outside the codebook, which has {self.num_embeddings} codes "
                    f"(0 to {self.num_embeddings - 1}). Was it made with another tokenizer?"
                )
        vectors = self.quantize(indices.long().view(len(indices), rows, columns)).permute(0, 3, 1, 2)
        return self.to_images(vectors).clamp(0, 1)

    def to_vectors(self, images: Tensor) -> Tensor:
        """Images (as for ``encode``) to vectors N x D x h x w before the codebook, with gradients."""
        if not images.is_floating_point():
            raise TypeError(f"images must be floating point in [0, 1], got {images.dtype}; divide uint8 by 255")
        channels = self.config["num_channels"]
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"images must have shape N x {channels} x H x W, got {tuple(images.shape)}")
        self.grid_of(*images.shape[2:])
        images = images.to(self.codebook.dtype)
        images = 2 * images - 1 if self.symmetric_pixels else images
        vectors = self.quant_conv(self.encoder(images))
        if "linear_skip" in self.config:
            vectors = vectors + self.patch_in(images)
        return F.normalize(vectors, dim=1) if "unit_vectors" in self.config else vectors

    def to_images(self, vectors: Tensor) -> Tensor:
        """Vectors N x D x h x w to images N x 3 x H x W, not clamped, with gradients."""
        images = self.decoder(self.post_quant_conv(vectors))
        if "linear_skip" in self.config:
            images = images + self.patch_out(vectors)
        return (images + 1) / 2 if self.symmetric_pixels else images

    def forward(self, images: Tensor) -> Tensor:
        """Images to tokens and back: what the tokenizer keeps of them, N x 3 x H x W in [0, 1]."""
        return self.decode(self.encode(images), self.grid_of(*images.shape[2:]), check=False)


def _init_layer(layer: nn.Module) -> None:
    # Variance is kept along the path and residual branches start small: a short training gets about 1 dB further than
    # from torch's own initialization, which shrinks the signal at every convolution.
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(layer.bias)
    elif isinstance(layer, ResnetBlock):
        with torch.no_grad():
            layer.conv2.weight.mul_(0.1)


def _check_sizes(config: dict) -> None:
    sizes = ("resolution", "num_channels", "hidden_channels", "num_res_blocks", "z_channels", "num_embeddings")
    for name in (*sizes, "quantized_embed_dim", "norm_num_groups"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"{name} must be a positive integer, got {config[name]!r}")
    if not config["channel_mult"]:
        raise ValueError("channel_mult must name at least one level, for example (1, 2, 4)")
    groups = 1 if config.get("norm") == "channel" else config["norm_num_groups"]
    widths = [config["hidden_channels"] * m for m in config["channel_mult"]]
    odd = [width for width in (config["hidden_channels"], *widths) if width < 1 or width % groups]
    if odd:
        raise ValueError(
            f"hidden_channels={config['hidden_channels']} with channel_mult={config['channel_mult']} makes layers of "
            f"{odd[0]} channels, not divisible by norm_num_groups={groups}. Change one of the three"
        )


def _read_json_object(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"No config at {path}; a checkpoint folder holds config.json and the weights")
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}). Copy or download it again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object with VQGAN's arguments, it holds a {type(config).__name__}")
    return config


def _weight_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"No checkpoint folder at {folder}; it holds config.json and {_WEIGHT_FILES[0]}")
    found = [folder / name for name in _WEIGHT_FILES if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(f"No weights in {folder}; expected one of {', '.join(_WEIGHT_FILES)}")
    return found[0]
