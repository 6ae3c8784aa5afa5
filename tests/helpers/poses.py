"""People for codecs of keypoints: plausible poses, and what tokenizers and files do to images of them."""

import cv2
import numpy as np


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def random_pose(rng, size, scale=(0.4, 0.95)):
    """A plausible COCO-17 person (17 x 2) seen from the front, the side or the back, anywhere in the image."""
    view = rng.choice(["front", "side", "back"])
    width = {"front": 1.0, "side": rng.uniform(-0.25, 0.25), "back": -1.0}[view]
    body = turn(rng.normal(0, 0.35))
    down = np.array([0.0, 1.0])
    pose = np.zeros((17, 2))
    pose[5], pose[6] = body @ [0.19 * width, 0], body @ [-0.19 * width, 0]
    pose[11], pose[12] = body @ [0.12 * width, 0.55], body @ [-0.12 * width, 0.55]
    head = body @ turn(rng.normal(0, 0.2))
    middle = head @ [0, -0.25]
    facing = rng.choice([-1, 1]) if view == "side" else rng.uniform(-0.6, 0.6)
    mirrored = -1 if view == "back" else 1
    pose[0] = middle + head @ [0.08 * facing, 0.02]
    for joint, (x, y) in {1: (0.05, -0.05), 2: (-0.05, -0.05), 3: (0.1, -0.03), 4: (-0.1, -0.03)}.items():
        shift = 0.05 * facing * (1 if joint < 3 else -1)
        pose[joint] = middle + head @ [x * mirrored * (1 - 0.5 * abs(facing)) + shift, y]
    for shoulder, elbow, wrist in ((5, 7, 9), (6, 8, 10)):
        upper = rng.uniform(-2.6, 2.6) if rng.random() < 0.5 else rng.normal(0, 0.5)
        pose[elbow] = pose[shoulder] + body @ turn(upper) @ down * 0.3
        pose[wrist] = pose[elbow] + body @ turn(upper + rng.uniform(-2.3, 2.3)) @ down * 0.27
    for hip, knee, ankle in ((11, 13, 15), (12, 14, 16)):
        thigh = rng.normal(0, 0.5)
        pose[knee] = pose[hip] + body @ turn(thigh) @ down * 0.45
        pose[ankle] = pose[knee] + body @ turn(thigh + rng.normal(0, 0.6)) @ down * 0.42
    pose -= pose.min(0)
    pose *= rng.uniform(*scale) * size / pose.max()
    return pose + rng.uniform(0, 1, 2) * np.maximum(size - 1 - pose.max(0), 0)


def person(pose, size, visible=None):
    seen = np.ones((1, 17)) if visible is None else np.asarray(visible)[None]
    return dict(keypoints=pose[None], keypoints_visible=seen, img_shape=(size, size))


def clean(image, rng):
    return image


def blurred(image, rng):
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def as_jpeg(image, rng):
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def noisy(image, rng):
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def drifted(image, rng):
    """Colors as a tokenizer changes them: hue by 6 degrees (sigma) from place to place, paler, darker."""
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    field = rng.normal(0, 6, (8, 8)).astype(np.float32)
    hue = hsv[..., 0] + cv2.resize(field, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    hsv = np.dstack([hue % 360, hsv[..., 1] * rng.uniform(0.6, 1), hsv[..., 2] * rng.uniform(0.75, 1)])
    return np.rint(cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB) * 255).clip(0, 255).astype(np.uint8)


def darkened(image, rng):
    """As tokenizers that were trained for a short time give colors back."""
    return (0.6 * image).round().astype(np.uint8)
