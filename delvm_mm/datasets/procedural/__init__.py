"""Built-in data: scenes drawn from a seed, with exact annotations, for every task and without a download."""

from .scenes import ProceduralScenes

__all__ = ["ProceduralScenes"]
