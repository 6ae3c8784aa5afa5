"""Depth of procedural rooms: pinhole geometry, whatever is drawn."""

import numpy as np

from delvm_mm.datasets.procedural import ProceduralScenes
from delvm_mm.datasets.procedural.depth import CAMERA_HEIGHT, FARTHEST, FOCAL, NEAREST, draw_room, plan_room


def rooms(number):
    return [plan_room(np.random.Generator(np.random.PCG64(seed))) for seed in range(number)]


def test_a_point_of_the_floor_is_as_far_as_its_row_says():
    for room in rooms(8):
        _, depth = draw_room(room, 128)
        below = (np.arange(128) + 0.5) / 128 - room.horizon
        wall = np.full(128, room.distance)
        floor = np.divide(CAMERA_HEIGHT * FOCAL, below, out=np.full(128, np.inf), where=below > 0)
        expected = np.minimum(wall, floor)
        bare = ~np.isin(depth, np.float32([at for _, at in room.objects]))
        np.testing.assert_allclose(depth[bare], np.repeat(expected[:, None], 128, 1)[bare], rtol=1e-5)
        assert bare.mean() > 0.3 and (~bare).any()
        assert depth.min() >= NEAREST - 0.01 and depth.max() <= FARTHEST


def test_near_objects_hide_far_ones_and_are_larger():
    for room in rooms(20):
        depths = [at for _, at in room.objects]
        assert 2 <= len(depths) <= 4 and depths == sorted(depths, reverse=True) and max(depths) < room.distance
        for item, at in room.objects:
            assert 0.25 * FOCAL / at <= item.radius <= 0.5 * FOCAL / at


def test_what_is_drawn_is_one_of_the_depths_under_a_pixel():
    small, large = (ProceduralScenes(task="depth", size=size)[5]["gt_depth_map"] for size in (64, 256))
    assert small.dtype == np.float32 and small.shape == (64, 64)
    blocks = large.reshape(64, 4, 64, 4).transpose(0, 2, 1, 3).reshape(64, 64, 16)
    assert (np.abs(blocks - small[..., None]).min(2) < 0.03 * small).mean() > 0.99
