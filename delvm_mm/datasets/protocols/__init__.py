"""Prompts of the published protocols: which query, which pairs, drawn as the public code draws them."""

from delvm_mm.datasets.protocols.boxes import BoxEpisodes
from delvm_mm.datasets.protocols.coco import CocoEpisodes
from delvm_mm.datasets.protocols.colorization import ColorizationEpisodes
from delvm_mm.datasets.protocols.fss import FSSEpisodes
from delvm_mm.datasets.protocols.pascal import NearestPascalEpisodes, PascalEpisodes

__all__ = [
    "BoxEpisodes",
    "CocoEpisodes",
    "ColorizationEpisodes",
    "FSSEpisodes",
    "NearestPascalEpisodes",
    "PascalEpisodes",
]
