"""Built-in data: scenes drawn from a seed, with exact annotations, for every task and without a download."""

from .classes import ProceduralClasses
from .scenes import ProceduralScenes

__all__ = ["ProceduralClasses", "ProceduralScenes"]
