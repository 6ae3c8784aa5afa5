"""What ``mmpose.CocoMetric`` reads of a sample beside its instances: an image of COCO and its annotations."""

from typing import Any

import numpy as np

__all__ = ["COCO_PERSON", "coco_fields"]

COCO_PERSON = 1  # category


def coco_fields(truth: dict, sample_idx: int, img_id: int, shape: tuple[int, int], many: bool) -> dict:
    """What CocoMetric reads beside the instances: the image of COCO that the sample is of, and its annotations.

    Coordinates are those that the answer is scored in, so an annotation file of the original images is of no use.
    The area of an instance is that of its box, where the codec does not give ``areas``: COCO's own, of the outline,
    is smaller, and its keypoint similarity stricter.

    Args:
        truth: ``keypoints`` N x K x 2, ``keypoints_visible`` N x K (x 1), ``bboxes`` N x 4 (x1, y1, x2, y2); where
            there are any, ``ignored_bbox`` M x 4, ``ignored_area`` and ``ignored_crowd``.
        sample_idx: Number of the sample in its data set.
        img_id: Number of the image. Several samples may be of one: all their answers are compared with all their truth.
        shape: Height and width of the image.
        many: Whether the answer may have several people.

    Returns:
        ``id``, ``img_id``, ``ori_shape`` and ``raw_ann_info``.
    """
    sample_idx = int(sample_idx)  # it is written to JSON
    keypoints = np.asarray(truth["keypoints"], np.float64)
    visible = np.asarray(truth["keypoints_visible"]).reshape(keypoints.shape[:2]) > 0
    annotations = []
    for person, (points, seen) in enumerate(zip(keypoints, visible, strict=True)):
        box = truth["bboxes"][person]
        annotation = _annotation(sample_idx, person, img_id, box, np.where(seen[:, None], points, 0), seen)
        if "areas" in truth:
            annotation["area"] = float(truth["areas"][person])
        annotations.append(annotation)
    nowhere = np.zeros(keypoints.shape[1:])
    for other, box in enumerate(truth.get("ignored_bbox", ())):
        annotation = _annotation(sample_idx, len(keypoints) + other, img_id, box, nowhere, nowhere[:, 0] > 0)
        annotation["area"] = float(truth["ignored_area"][other])
        annotations.append(annotation | {"iscrowd": int(truth["ignored_crowd"][other])})
    # CocoMetric keeps one of several answers of one id, unless ids are sequences.
    number = [sample_idx] if many else sample_idx
    return {"id": number, "img_id": img_id, "ori_shape": shape, "raw_ann_info": annotations}


def _annotation(
    sample_idx: int, person: int, img_id: int, box: np.ndarray, points: np.ndarray, seen: np.ndarray
) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return {
        # Not 0: COCO's evaluation takes a match with annotation 0 for none.
        "id": sample_idx * 1000 + person + 1,
        "image_id": img_id,
        "category_id": COCO_PERSON,
        "keypoints": np.column_stack([points, 2 * seen]).astype(float).ravel().tolist(),
        "num_keypoints": int(seen.sum()),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
    }
