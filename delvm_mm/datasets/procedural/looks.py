"""Looks of procedural people: build, hair, clothes and colors."""

from dataclasses import dataclass

import numpy as np

from delvm_mm.datasets.procedural.drawing import hsv, pick, uniform

SKIN = ((255, 219, 190), (240, 196, 160), (222, 170, 130), (190, 134, 96), (141, 91, 62), (96, 62, 44))
HAIR = ((35, 26, 22), (62, 42, 30), (105, 68, 38), (168, 118, 60), (214, 178, 112), (140, 62, 32), (150, 150, 150))


@dataclass
class Look:
    """Body and clothes of a person; colors are RGB in [0, 255].

    Attributes:
        build: Width of the body relative to the average.
        waist: Width of the waist relative to the average.
        head_radius: Half the height of the head relative to the person's height.
        skin: Color of the skin.
        hair: Color of the hair, or of the cap.
        top: Color of shirt or jacket; ``second`` is the one of its pattern.
        second: See ``top``.
        bottom: Color of trousers or skirt.
        shoes: Color of the shoes.
        hair_style: 'short', 'long', 'ponytail', 'bun', 'bald' or 'cap'.
        sleeves: 'long', 'short' or 'none'.
        legwear: 'trousers', 'shorts' or 'skirt'.
        pattern: 'plain', 'stripes', 'emblem', 'jacket' or 'buttons'.
        backpack: Color of a backpack, or None.
    """

    build: float
    waist: float
    head_radius: float
    skin: np.ndarray
    hair: np.ndarray
    top: np.ndarray
    second: np.ndarray
    bottom: np.ndarray
    shoes: np.ndarray
    hair_style: str
    sleeves: str
    legwear: str
    pattern: str
    backpack: np.ndarray | None


def sample_look(rng: np.random.Generator, behind: np.ndarray) -> Look:
    """Chooses body and clothes that stand out from the mean color ``behind`` the person, RGB in [0, 255]."""

    def cloth(*others: np.ndarray) -> np.ndarray:
        options = [hsv(rng.random(), uniform(rng, 0.0, 0.85), uniform(rng, 0.2, 0.98)) for _ in range(4)]
        return max(options, key=lambda option: min(float(np.abs(option - other).sum()) for other in others))

    top = cloth(behind)
    bottom = cloth(behind, top)
    return Look(
        build=uniform(rng, 0.88, 1.14),
        waist=uniform(rng, 0.86, 1.1),
        head_radius=uniform(rng, 0.078, 0.096),
        skin=np.array(pick(rng, SKIN), dtype=np.float64) * uniform(rng, 0.92, 1.04),
        hair=np.array(pick(rng, HAIR), dtype=np.float64),
        top=top,
        second=cloth(top),
        bottom=bottom,
        shoes=cloth(bottom) * uniform(rng, 0.3, 0.9),
        hair_style=pick(rng, ("short", "long", "ponytail", "bun", "bald", "cap"), (4, 3, 2, 1.2, 0.8, 1.5)),
        sleeves=pick(rng, ("long", "short", "none"), (3, 4, 1)),
        legwear=pick(rng, ("trousers", "shorts", "skirt"), (5, 3, 1.5)),
        pattern=pick(rng, ("plain", "stripes", "emblem", "jacket", "buttons"), (2, 2, 2, 2, 2)),
        backpack=hsv(rng.random(), 0.6, uniform(rng, 0.3, 0.8)) if rng.random() < 0.12 else None,
    )
