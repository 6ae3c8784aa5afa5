"""What images look like, as vectors: by which prompts are chosen that look like the query."""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from delvm_mm.checkpoints.files import write_atomically
from delvm_mm.checkpoints.io import load_into, load_state_dict
from delvm_mm.hardware import choose_device
from delvm_mm.models import load_tokenizer
from delvm_mm.models.tokenizers.images import encode_images, to_float
from delvm_mm.registry import MODELS, TASK_UTILS
from delvm_mm.toolboxes import require_toolbox

__all__ = ["BackboneFeatures", "CodebookHistograms", "ImageFeatures", "TokenizerFeatures"]

BATCH = 16
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class ImageFeatures(ABC):
    """Vectors of images, and how alike two of them are.

    Args:
        device: Where to compute; by default a GPU if there is one.
        cache: A file (.npz) that keeps the vectors, found again by the images' bytes: what is in it is not computed
            again, what is new is added. By default there is none.

    Raises:
        ValueError: The file is damaged, or of other features.
    """

    def __init__(self, device: str | None = None, cache: str | Path | None = None) -> None:
        self.device = choose_device(device)
        self.cache = None if cache is None else Path(cache)

    @abstractmethod
    def extract(self, images: Tensor) -> Tensor:
        """Vectors of a few images.

        Args:
            images: uint8, N x 3 x H x W, RGB, on ``device``.

        Returns:
            N x D.
        """

    @abstractmethod
    def likeness(self, features: np.ndarray, of: np.ndarray) -> np.ndarray:
        """How alike images are to one.

        Args:
            features: Their vectors, N x D.
            of: Its vector, D.

        Returns:
            float, N: at most 1, for the same image.
        """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Names what the vectors are computed with, settings and weights."""

    def of(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors of images.

        Args:
            images: uint8 H x W x 3, RGB, all of one size; read one batch at a time.

        Returns:
            N x D.

        Raises:
            ValueError: The cache is damaged, or of other features.
        """
        known = {} if self.cache is None else self._read_cache()
        before, found = len(known), []
        starts = range(0, len(images), BATCH)
        console = Console()
        quiet = not (console.is_terminal and is_main_process()) or len(starts) < 2
        for start in track(starts, "prompt candidates", console=console, transient=True, disable=quiet):
            batch = [images[index] for index in range(start, min(start + BATCH, len(images)))]
            keys = [hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() for image in batch]
            new = {key: image for key, image in zip(keys, batch, strict=True) if key not in known}
            if new:
                known.update(zip(new, self._compute([*new.values()]), strict=True))
            found += [known[key] for key in keys]
        if self.cache is not None and len(known) > before and is_main_process():
            self._write_cache(known)
        return np.stack(found)

    def of_one(self, image: np.ndarray) -> np.ndarray:
        """Vector of one image (uint8 H x W x 3), such as a query, which the cache does not keep: D."""
        return self._compute([image])[0]

    def _compute(self, images: Sequence[np.ndarray]) -> np.ndarray:
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(self.device)
        with torch.inference_mode():
            return self.extract(stacked).cpu().numpy()

    def _read_cache(self) -> dict[bytes, np.ndarray]:
        if not self.cache.exists():
            return {}
        try:
            with np.load(self.cache, allow_pickle=False) as file:
                content = {name: file[name] for name in ("fingerprint", "keys", "features")}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{self.cache} is no cache of features ({error}): delete it, or name another") from error
        if str(content["fingerprint"]) != self.fingerprint:
            raise ValueError(
                f"{self.cache} holds features of {content['fingerprint']}, and these are of {self.fingerprint}: give "
                "each kind of features a cache of its own"
            )
        return dict(zip((key.tobytes() for key in content["keys"]), content["features"], strict=True))

    def _write_cache(self, known: dict[bytes, np.ndarray]) -> None:
        keys = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), -1)
        buffer = io.BytesIO()
        np.savez(buffer, fingerprint=np.array(self.fingerprint), keys=keys, features=np.stack(list(known.values())))
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.cache, buffer.getvalue())


class _CosineFeatures(ImageFeatures):
    """Vectors of length 1, alike by the cosine of their angle."""

    def likeness(self, features: np.ndarray, of: np.ndarray) -> np.ndarray:
        """The cosine, -1 to 1."""
        return features @ of


@TASK_UTILS.register_module()
class CodebookHistograms(ImageFeatures):
    """How often each code of a tokenizer's codebook comes in an image.

    Likeness is the intersection of the histograms (Swain and Ballard, 1991): the share of codes that both images have.

    Args:
        tokenizer: As for :func:`delvm_mm.models.load_tokenizer`.
        **options: As for :class:`ImageFeatures`.
    """

    def __init__(self, tokenizer: str | Path | dict | nn.Module, **options: Any) -> None:
        super().__init__(**options)
        self.tokenizer = load_tokenizer(tokenizer).to(self.device)

    @property
    def fingerprint(self) -> str:
        """Kind of the features and fingerprint of the tokenizer."""
        return f"CodebookHistograms {self.tokenizer.fingerprint}"

    def extract(self, images: Tensor) -> Tensor:
        """Counts, int32, N x K."""
        tokens = encode_images(self.tokenizer, images)
        counts = torch.zeros(len(images), self.tokenizer.num_embeddings, dtype=torch.int32, device=images.device)
        return counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=torch.int32))

    def likeness(self, features: np.ndarray, of: np.ndarray) -> np.ndarray:
        """The share of codes in common, 0 to 1."""
        return np.minimum(features, of).sum(1, dtype=np.int64) / of.sum(dtype=np.int64)


@TASK_UTILS.register_module()
class TokenizerFeatures(_CosineFeatures):
    """What a tokenizer's encoder gives before the codebook, averaged over parts of the image.

    Args:
        tokenizer: As for :func:`delvm_mm.models.load_tokenizer`, one with ``to_vectors``, as :class:`VQGAN` has.
        grid: Parts in a row and in a column; with 1 it does not matter where in the image something is.
        **options: As for :class:`ImageFeatures`.

    Raises:
        ValueError: ``grid`` is below 1, or the tokenizer has no such vectors.
    """

    def __init__(self, tokenizer: str | Path | dict | nn.Module, grid: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.tokenizer = load_tokenizer(tokenizer).to(self.device)
        self.grid = grid
        if not hasattr(self.tokenizer, "to_vectors"):
            raise ValueError(
                f"TokenizerFeatures: a {type(self.tokenizer).__name__} gives no vectors of images; take a VQGAN, or "
                "CodebookHistograms"
            )
        if grid < 1:
            raise ValueError(f"TokenizerFeatures.grid is {grid}, expected 1 or more")

    @property
    def fingerprint(self) -> str:
        """Kind of the features and fingerprint of the tokenizer."""
        return f"TokenizerFeatures {self.grid} {self.tokenizer.fingerprint}"

    def extract(self, images: Tensor) -> Tensor:
        """Vectors of length 1, N x (grid² · D)."""
        vectors = self.tokenizer.to_vectors(to_float(images))
        return F.normalize(F.adaptive_avg_pool2d(vectors, self.grid).flatten(1).float())


@TASK_UTILS.register_module()
class BackboneFeatures(_CosineFeatures):
    """What a network that was trained on images, such as a classifier or CLIP's, gives before its last layer.

    Args:
        backbone: ``dict(type='torchvision.resnet50')``, any model of torchvision with a linear layer at its end, or
            ``dict(type='mmpretrain.VisionTransformer', arch='l', patch_size=14, pre_norm=True)``, any backbone of
            mmpretrain, with their arguments; a name alone stands for its defaults.
        weights: File of its weights. Nothing is downloaded.
        prefix: Of the names of its weights in the file; by default 'backbone.' where there are such.
        size: Images are resized to this side, in pixels.
        mean: Of the values 0 to 255 that the network was trained with, of red, green and blue: by default ImageNet's.
        std: Their standard deviation.
        **options: As for :class:`ImageFeatures`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network is not known, or the weights do not fit.
        ImportError: mmpretrain is needed and missing.
    """

    def __init__(
        self,
        backbone: str | dict[str, Any],
        weights: str | Path,
        prefix: str | None = None,
        size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        backbone = dict(type=backbone) if isinstance(backbone, str) else dict(backbone)
        self._settings = repr((backbone, size, tuple(mean), tuple(std)))
        self.size = size
        self.mean, self.std = (torch.tensor(values, device=self.device)[:, None, None] for values in (mean, std))
        state = load_state_dict(weights)
        if prefix is None:
            prefix = "backbone." if any(name.startswith("backbone.") for name in state) else ""
        network = _build_network(backbone)
        load_into(network, load_state_dict(weights, prefix) if prefix else state, source=weights)
        if backbone["type"].startswith("torchvision."):
            _drop_last_layer(network, backbone["type"])
        self.network = network.requires_grad_(False).to(self.device)
        self.network.eval()  # by itself: some backbones of mmpretrain return nothing here

    @property
    def fingerprint(self) -> str:
        """Settings and a digest of the weights."""
        digest = hashlib.sha256(self._settings.encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return f"BackboneFeatures {digest.hexdigest()[:16]}"

    def extract(self, images: Tensor) -> Tensor:
        """Vectors of length 1, N x D."""
        pixels = F.interpolate(images.float(), (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 255)
        features = self.network((pixels - self.mean) / self.std)
        features = features[-1] if isinstance(features, tuple | list) else features
        if features.ndim == 4:  # N x D x h x w
            features = features.mean((2, 3))
        elif features.ndim == 3:  # N x tokens x D
            features = features.mean(1)
        return F.normalize(features.flatten(1).float())


def _build_network(config: dict[str, Any]) -> nn.Module:
    scope, _, name = str(config.get("type")).partition(".")
    if scope == "torchvision":
        from torchvision.models import get_model  # takes a second

        return get_model(name, weights=None, **{key: value for key, value in config.items() if key != "type"})
    if scope == "mmpretrain":
        require_toolbox("mmpretrain.models")
        return MODELS.build(config)
    raise ValueError(
        f"BackboneFeatures.backbone is {config.get('type')!r}, expected 'torchvision.<model>', such as "
        "'torchvision.resnet50', or 'mmpretrain.<backbone>'"
    )


def _drop_last_layer(network: nn.Module, name: str) -> None:
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"BackboneFeatures: {name} does not end with a linear layer; take another model")
    parent, _, last = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
