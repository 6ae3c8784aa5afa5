"""Built-in data: scenes drawn from a seed, with exact annotations, for every task and without a download."""

from delvm_mm.datasets.procedural.classes import ProceduralClasses
from delvm_mm.datasets.procedural.scenes import ProceduralScenes

__all__ = ["ProceduralClasses", "ProceduralScenes"]
