"""Poses: joint angles of an articulated figure and the positions in space that follow from them.

Body axes: x to the person's left, y up, z to the front; the unit is roughly the person's height and the origin is
between the hips. Side 0 is the person's left, side 1 the right. Angles are degrees.
"""

from dataclasses import dataclass, field

import numpy as np

from delvm_mm.datasets.procedural.drawing import pick, uniform

SIDES = (1.0, -1.0)
UPPER_ARM, FOREARM, HAND = 0.168, 0.145, 0.055
THIGH, SHANK, FOOT = 0.245, 0.24, 0.10
SPINE, SHOULDER_HALF, HIP_HALF = 0.285, 0.112, 0.072


@dataclass
class Pose:
    """Joint angles.

    Attributes:
        name: What the person is doing.
        lean: Forward lean of the trunk; ``tilt`` is its lean to the left, ``twist`` its turn to the left.
        tilt: See ``lean``.
        twist: See ``lean``.
        head_turn: Turn of the head to the left relative to the trunk; ``head_nod`` is its bow.
        head_nod: See ``head_turn``.
        arms: For each side (flexion of the upper arm forward, abduction outward, flexion and abduction of the
            forearm), all from hanging down, in the frame of the trunk.
        legs: For each side (flexion of the thigh forward, abduction outward, bend of the knee).
        yaws: Views that suit the pose, degrees: 0 faces the viewer, 90 the right edge of the image, 180 away.
        seat: Whether the person sits on something.
        airborne: Whether the feet are off the ground.
    """

    name: str
    lean: float = 0.0
    tilt: float = 0.0
    twist: float = 0.0
    head_turn: float = 0.0
    head_nod: float = 0.0
    arms: list[tuple[float, float, float, float]] = field(default_factory=list)
    legs: list[tuple[float, float, float]] = field(default_factory=list)
    yaws: tuple[float, ...] = (0, 0, 180, 40, -40, 90, -90, 140, -140)
    seat: bool = False
    airborne: bool = False


def sample_pose(rng: np.random.Generator) -> Pose:
    """A plausible pose with every angle varied a little."""
    make = pick(rng, (_stand, _walk, _run, _sit, _jump, _wave, _bend, _squat, _stretch, _reach, _kick))
    pose = make(rng)

    def vary(angle: float, spread: float) -> float:
        return angle + uniform(rng, -spread, spread)

    pose.arms = [tuple(vary(angle, 5) for angle in arm) for arm in pose.arms]
    pose.legs = [(vary(leg[0], 3), vary(leg[1], 2), max(0.0, vary(leg[2], 4))) for leg in pose.legs]
    pose.tilt, pose.twist = vary(pose.tilt, 4), vary(pose.twist, 5)
    pose.head_turn, pose.head_nod = vary(pose.head_turn, 18), vary(pose.head_nod, 7)
    return pose


def _swap(rng: np.random.Generator, first: tuple, second: tuple) -> list[tuple]:
    """The two sides of a pose in random order: what the left does here, the right does there."""
    return [first, second] if rng.random() < 0.5 else [second, first]


def _hanging(rng: np.random.Generator) -> tuple[float, float, float, float]:
    out = uniform(rng, 8, 20)
    return (uniform(rng, -8, 6), out, uniform(rng, 4, 22), out * uniform(rng, 0.1, 0.8))


def _standing(rng: np.random.Generator) -> list[tuple]:
    apart = uniform(rng, 2, 10)
    return _swap(rng, (0, apart, 0), (uniform(rng, 0, 10), apart + uniform(rng, 0, 6), uniform(rng, 2, 22)))


def _stand(rng: np.random.Generator) -> Pose:
    akimbo = (-14, 46, -4, -42)
    folded = (16, 14, 92, -58)
    arms = pick(rng, ((None, None), (None, None), (akimbo, akimbo), (akimbo, None), (folded, folded)))
    arms = [arm or _hanging(rng) for arm in arms]
    return Pose("stand", lean=uniform(rng, -3, 4), arms=_swap(rng, *arms), legs=_standing(rng))


def _walk(rng: np.random.Generator) -> Pose:
    step = uniform(rng, 16, 30)
    front, back = (step, 2, uniform(rng, 2, 14)), (-step * 0.8, 2, uniform(rng, 12, 34))
    swing = step * uniform(rng, 0.8, 1.3)
    arms = [(-swing, 8, -swing + 14, 5), (swing, 8, swing + uniform(rng, 15, 45), 3)]
    left_first = rng.random() < 0.5
    pose = Pose("walk", lean=uniform(rng, 0, 7), yaws=(90, -90, 60, -60, 35, -35, 125, -125, 0, 180))
    pose.legs = [front, back] if left_first else [back, front]
    pose.arms = arms if left_first else arms[::-1]
    return pose


def _run(rng: np.random.Generator) -> Pose:
    front, back = (uniform(rng, 45, 72), 2, uniform(rng, 55, 95)), (-uniform(rng, 14, 32), 2, uniform(rng, 35, 85))
    arms = [
        (-uniform(rng, 35, 60), 12, uniform(rng, 25, 45), 4),
        (uniform(rng, 25, 50), 10, uniform(rng, 110, 135), -8),
    ]
    left_first = rng.random() < 0.5
    pose = Pose(
        "run", lean=uniform(rng, 8, 20), head_nod=-8, yaws=(90, -90, 65, -65, 35, -35, 120, -120), airborne=True
    )
    pose.legs = [front, back] if left_first else [back, front]
    pose.arms = arms if left_first else arms[::-1]
    return pose


def _sit(rng: np.random.Generator) -> Pose:
    thigh, apart = uniform(rng, 80, 94), uniform(rng, 4, 16)
    lap = (uniform(rng, 18, 34), 10, uniform(rng, 65, 90), -8)
    leg = (thigh, apart, uniform(rng, 75, 100))
    crossed = (thigh + 10, apart, uniform(rng, 30, 60))
    arms = [lap, pick(rng, (lap, _hanging(rng)))]
    return Pose(
        "sit",
        lean=uniform(rng, -6, 10),
        arms=_swap(rng, *arms),
        legs=_swap(rng, leg, leg if rng.random() < 0.7 else crossed),
        yaws=(90, -90, 55, -55, 35, -35, 70, -70),
        seat=True,
    )


def _jump(rng: np.random.Generator) -> Pose:
    out, up = uniform(rng, 18, 38), uniform(rng, 105, 160)
    if rng.random() < 0.5:
        arm = (0, up, 0, up + uniform(rng, -10, 20))
        return Pose("jump", arms=[arm, arm], legs=[(0, out, 8)] * 2, yaws=(0, 25, -25, 180, 160), airborne=True)
    arm = (uniform(rng, 130, 165), 18, uniform(rng, 145, 178), 12)
    legs = _swap(rng, (uniform(rng, 10, 40), 6, uniform(rng, 50, 90)), (-10, 6, uniform(rng, 40, 80)))
    return Pose("jump", lean=-4, arms=[arm, arm], legs=legs, yaws=(30, -30, 70, -70, 0), airborne=True)


def _wave(rng: np.random.Generator) -> Pose:
    up = uniform(rng, 70, 115)
    waving = (8, up, 8, uniform(rng, 150, 195))
    other = pick(rng, (_hanging(rng), (-14, 46, -4, -42)))
    return Pose("wave", arms=_swap(rng, waving, other), legs=_standing(rng), yaws=(0, 0, 25, -25, 40, -40, 180, 155))


def _bend(rng: np.random.Generator) -> Pose:
    lean = uniform(rng, 40, 85)
    arm = (lean + uniform(rng, -12, 25), 6, lean + uniform(rng, 0, 35), 4)
    legs = [(uniform(rng, 0, 16), 6, uniform(rng, 4, 30))] * 2
    return Pose(
        "bend", lean=lean, head_nod=-20, arms=[arm, arm], legs=legs, yaws=(90, -90, 65, -65, 45, -45, 115, -115)
    )


def _squat(rng: np.random.Generator) -> Pose:
    thigh = uniform(rng, 65, 105)
    reach = uniform(rng, 70, 100)
    arm = (reach, 8, reach + 10, 2)
    return Pose(
        "squat",
        lean=uniform(rng, 22, 38),
        head_nod=-18,
        arms=[arm, arm],
        legs=[(thigh, 14, thigh + uniform(rng, 12, 28))] * 2,
        yaws=(90, -90, 60, -60, 40, -40, 20),
    )


def _stretch(rng: np.random.Generator) -> Pose:
    level = uniform(rng, 78, 100)
    up = (0, uniform(rng, 150, 172), 0, uniform(rng, 160, 190))
    arms = pick(rng, ([(0, level, 0, level)] * 2, [up, up]))
    apart = uniform(rng, 5, 26)
    tilt = uniform(rng, -12, 12)
    return Pose("stretch", tilt=tilt, arms=list(arms), legs=[(0, apart, 3)] * 2, yaws=(0, 0, 20, -20, 180, 160))


def _reach(rng: np.random.Generator) -> Pose:
    height = uniform(rng, 70, 135)
    reaching = (height, 10, height + uniform(rng, -8, 20), 8)
    legs = _swap(rng, (uniform(rng, 10, 28), 3, uniform(rng, 8, 25)), (-uniform(rng, 8, 20), 4, 6))
    return Pose("reach", lean=uniform(rng, 0, 12), arms=_swap(rng, reaching, _hanging(rng)), legs=legs)


def _kick(rng: np.random.Generator) -> Pose:
    high = uniform(rng, 40, 85)
    arms = [(uniform(rng, 10, 40), 45, uniform(rng, 40, 60), 50), (-25, 45, -10, 50)]
    pose = Pose("kick", lean=uniform(rng, -14, -4), yaws=(90, -90, 60, -60, 35, -35, 120))
    pose.legs = _swap(rng, (high, 4, uniform(rng, 2, 25)), (-4, 4, uniform(rng, 4, 15)))
    pose.arms = _swap(rng, *arms)
    return pose


def rotation(axis: str, degrees: float) -> np.ndarray:
    """3 x 3 rotation: 'x' bows y to the front, 'y' turns the front to the left, 'z' tilts y to the left."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if axis == "x":
        return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    if axis == "y":
        return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])


def limb_direction(flexion: float, abduction: float, side: float) -> np.ndarray:
    """Unit vector of a limb that hangs down at zero, swings forward by ``flexion`` and outward by ``abduction``."""
    forward, outward = np.radians(flexion), np.radians(abduction)
    return np.array([side * np.sin(outward), -np.cos(outward) * np.cos(forward), np.cos(outward) * np.sin(forward)])


@dataclass
class Skeleton:
    """Positions of a posed body, in body axes; lists have the left side first.

    Attributes:
        trunk: 3 x 3, columns are the chest's axes (left, up, front).
        head_axes: 3 x 3, columns are the head's axes (left, up, front).
        chest: Position between the shoulders, shape (3,); ``head`` is the center of the head.
        head: See ``chest``.
        shoulders: Positions, each of shape (3,); likewise elbows, wrists, fingers, hips, knees, ankles, toes.
        elbows: See ``shoulders``.
        wrists: See ``shoulders``.
        fingers: See ``shoulders``.
        hips: See ``shoulders``.
        knees: See ``shoulders``.
        ankles: See ``shoulders``.
        toes: See ``shoulders``.
    """

    trunk: np.ndarray
    head_axes: np.ndarray
    chest: np.ndarray
    head: np.ndarray
    shoulders: list[np.ndarray]
    elbows: list[np.ndarray]
    wrists: list[np.ndarray]
    fingers: list[np.ndarray]
    hips: list[np.ndarray]
    knees: list[np.ndarray]
    ankles: list[np.ndarray]
    toes: list[np.ndarray]


def pose_skeleton(pose: Pose, build: float, head_radius: float) -> Skeleton:
    """Where the joints are in a pose.

    Args:
        pose: Joint angles.
        build: Width of shoulders and hips relative to the average.
        head_radius: Half the height of the head.

    Returns:
        The positions.
    """
    bow = rotation("x", pose.lean) @ rotation("z", pose.tilt)
    trunk = bow @ rotation("y", pose.twist)
    chest = bow @ np.array([0.0, SPINE, 0.0])
    # The head rises against a strong bow of the trunk: people look where they go.
    head_axes = rotation("x", -0.35 * pose.lean) @ trunk @ rotation("y", pose.head_turn) @ rotation("x", pose.head_nod)
    head = chest + trunk[:, 1] * 0.045 + head_axes @ np.array([0.0, 0.95 * head_radius, 0.22 * head_radius])
    joints: dict[str, list[np.ndarray]] = {
        name: [] for name in ("shoulders", "elbows", "wrists", "fingers", "hips", "knees", "ankles", "toes")
    }
    for side, arm, leg in zip(SIDES, pose.arms, pose.legs, strict=True):
        shoulder = chest + trunk @ np.array([side * SHOULDER_HALF * build, -0.005, 0.0])
        elbow = shoulder + trunk @ limb_direction(arm[0], arm[1], side) * UPPER_ARM
        forearm = trunk @ limb_direction(arm[2], arm[3], side)
        wrist = elbow + forearm * FOREARM
        hip = np.array([side * HIP_HALF * build, -0.01, 0.0])
        knee = hip + limb_direction(leg[0], leg[1], side) * THIGH
        ankle = knee + limb_direction(leg[0] - leg[2], leg[1] * 0.6, side) * SHANK
        toe = ankle + limb_direction(leg[0] - leg[2] + 78, 14, side) * FOOT
        for name, joint in zip(
            joints, (shoulder, elbow, wrist, wrist + forearm * HAND, hip, knee, ankle, toe), strict=True
        ):
            joints[name].append(joint)
    return Skeleton(trunk, head_axes, chest, head, **joints)
