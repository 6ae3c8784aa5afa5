"""Small copies of COCO, MPII and VOC 2012 + SBD in exactly the published layouts; every function writes into a folder.

Their images are procedural scenes, so that annotation and image belong together.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat

from delvm_mm.codecs.skeletons.openpose import COCO_KEYPOINTS, MPII_KEYPOINTS
from delvm_mm.datasets import ProceduralScenes
from delvm_mm.datasets.readers.pascal5i import PASCAL_CLASSES


def scene(task, number, size=96, **arguments):
    """A landscape scene, size x 3/4 size: the top of a square one is cut off."""
    results = ProceduralScenes(task, size=size, start=number, length=1, **arguments)[0]
    top = size // 4
    results["img"] = results["img"][top:]
    if "gt_seg_map" in results:
        results["gt_seg_map"] = results["gt_seg_map"][top:]
    if "keypoints" in results:
        results["keypoints"] = results["keypoints"] - [0, top]
        inside = (results["keypoints"] >= 0).all(-1) & (results["keypoints_visible"] > 0)
        results["keypoints_visible"] = inside.astype(np.float32)
        results["bbox"] = np.maximum(results["bbox"] - [0, top, 0, top], 0)
    return results


def coco_people(number, size=96):
    """COCO annotations of a scene: whole pixels, v = 2, or 1 for ankles."""
    results = scene("pose", number, size, num_people=(1, 2))
    people = []
    for points, seen, (x1, y1, x2, y2) in zip(
        results["keypoints"].round().astype(int), results["keypoints_visible"], results["bbox"].tolist(), strict=True
    ):
        if not seen.any():
            continue
        visibility = np.where(seen > 0, np.where([name.endswith("ankle") for name in COCO_KEYPOINTS], 1, 2), 0)
        keypoints = np.where(visibility[:, None] > 0, np.column_stack([points, visibility]), 0)
        x, y, width, height = (round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1))
        people.append(
            {
                "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
                "num_keypoints": int((visibility > 0).sum()),
                "area": round(0.4 * width * height, 4),
                "iscrowd": 0,
                "keypoints": keypoints.ravel().tolist(),
                "bbox": [x, y, width, height],
                "category_id": 1,
            }
        )
    return results["img"], people


def write_coco_pose(folder, num_images=4, split="train2017", size=96, start=0):
    """COCO: ``<split>/<12 digits>.jpg`` and ``annotations/person_keypoints_<split>.json``; returns the JSON's path.

    The last image shows nobody. The first has a crowd beside its people.
    """
    folder = Path(folder)
    (folder / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for number in range(num_images):
        img_id = 1000 + 7 * (start + number)
        img, people = coco_people(start + number, size)
        if number == num_images - 1:
            people = []
        if number == 0:
            counts = [0, img.shape[0] * img.shape[1]]
            crowd = {"segmentation": {"counts": counts, "size": list(img.shape[:2])}, "iscrowd": 1}
            people = [*people, people[0] | crowd | {"num_keypoints": 0, "keypoints": [0] * 51}]
        name = f"{img_id:012d}.jpg"
        Image.fromarray(img).save(folder / split / name, quality=95)
        images.append(
            {"license": 1, "file_name": name, "height": img.shape[0], "width": img.shape[1], "id": img_id}
            | {"date_captured": "2013-11-14 17:02:52", "coco_url": f"http://images.cocodataset.org/{split}/{name}"}
        )
        for person in people:
            annotations.append(person | {"image_id": img_id, "id": 200000 + len(annotations)})
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(COCO_KEYPOINTS), "skeleton": []}
    content = {"info": {}, "licenses": [{"id": 1}], "images": images, "annotations": annotations}
    path = folder / "annotations" / f"person_keypoints_{split}.json"
    path.write_text(json.dumps(content | {"categories": [category]}))
    return path


def write_mpii(folder, num_images=4, split="val", size=96, start=0):
    """MPII: ``images/<9 digits>.jpg``, ``annotations/mpii_<split>.json``, for 'val' with ``mpii_gt_val.mat``.

    Positions count from 1. Returns the JSON's path.
    """
    folder = Path(folder)
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    people, heads = [], []
    for number in range(start, start + num_images):
        results = scene("pose", number, size, num_people=(1, 2))
        name = f"{15601 + 13 * number:09d}.jpg"
        Image.fromarray(results["img"]).save(folder / "images" / name, quality=95)
        for points, seen, box in zip(
            results["keypoints"], results["keypoints_visible"], results["bbox"].astype(float), strict=True
        ):
            joints, joints_vis = np.full((16, 2), -1.0), np.zeros(16, int)
            for joint, of_coco in enumerate(MPII_KEYPOINTS):
                if of_coco and seen[COCO_KEYPOINTS.index(of_coco)]:
                    joints[joint], joints_vis[joint] = points[COCO_KEYPOINTS.index(of_coco)].round() + 1, 1
            center, height = (box[:2] + box[2:]) / 2 + 1, box[3] - box[1]
            people.append(
                {
                    "joints_vis": joints_vis.tolist(),
                    "joints": joints.tolist(),
                    "image": name,
                    "scale": height / 200,
                    "center": center.round().tolist(),
                }
            )
            nose, side = points[0] + 1, 0.12 * height
            heads.append([nose - side / 2, nose + side / 2])
    path = folder / "annotations" / f"mpii_{split}.json"
    path.write_text(json.dumps(people))
    if split == "val":
        savemat(folder / "annotations" / "mpii_gt_val.mat", {"headboxes_src": np.transpose(heads, (1, 2, 0))})
    return path


def voc_palette():
    """VOC's color map: the bits of a class spread over the channels (as VOCdevkit's VOClabelcolormap.m)."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), int)
    for step in range(3):
        for channel in range(3):
            colors[:, channel] |= (numbers >> (3 * step + channel) & 1) << (7 - step)
    return colors.ravel().tolist()


def voc_label_map(number, classes, size=96, border=True):
    """A scene's image and label map: its objects are of the first class, a box in a corner of the second."""
    results = scene("seg", number, size)
    labels = results["gt_seg_map"].astype(np.uint8) * classes[0]
    if len(classes) > 1:
        results["img"][:20, :24] = (40, 200, 90)
        labels[:20, :24] = classes[1]
    if border:
        edges = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        labels[edges] = 255
    return results["img"], labels


def save_label_map(path, labels, palette=True):
    """PNG with VOC's palette, or gray as SegmentationClassAug is distributed."""
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(voc_palette())
    image.save(path)


def write_voc(folder, num_train=20, num_val=20, num_sbd=0, sbd_form="png", size=96, class_of=None):
    """VOC 2012, ``VOCdevkit/VOC2012`` below ``folder``; returns that folder.

    Image ``i`` of a split shows class ``i % 20 + 1``; every third shows the class after it too, in its corner.
    ``class_of(i)`` gives other ones.

    Args:
        num_sbd: Images that only SBD has, beside all of VOC's.
        sbd_form: 'png' writes ``SegmentationClassAug``, 'mat' ``benchmark_RELEASE`` beside ``VOCdevkit``.
    """
    root = Path(folder) / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    aug, sbd = root / "SegmentationClassAug", Path(folder) / "benchmark_RELEASE" / "dataset"
    needed = [lists, root / "JPEGImages", root / "SegmentationClass"]
    if num_sbd:
        needed += [aug] if sbd_form == "png" else [sbd / "cls", sbd / "img"]
    for path in needed:
        path.mkdir(parents=True)
    names = {
        "train": [f"2007_{number:06d}" for number in range(num_train)],
        "val": [f"2008_{number:06d}" for number in range(num_val)],
        "sbd": [f"2010_{number:06d}" for number in range(num_sbd)],
    }
    for split, offset in (("train", 0), ("val", 1000), ("sbd", 2000)):
        for number, name in enumerate(names[split]):
            own = number % 20 + 1
            classes = (class_of or (lambda i, own=own: (own, own % 20 + 1) if i % 3 == 0 else (own,)))(number)
            img, labels = voc_label_map(offset + number, classes, size, border=split != "sbd")
            inside_voc = split != "sbd" or sbd_form == "png"
            Image.fromarray(img).save((root / "JPEGImages" if inside_voc else sbd / "img") / f"{name}.jpg", quality=95)
            if split != "sbd":
                save_label_map(root / "SegmentationClass" / f"{name}.png", labels)
            if num_sbd and sbd_form == "png":
                save_label_map(aug / f"{name}.png", labels, palette=False)
            elif num_sbd:
                save_sbd(sbd / "cls" / f"{name}.mat", np.where(labels == 255, 0, labels).astype(np.uint8))
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names[split]))
    (lists / "trainval.txt").write_text("".join(f"{name}\n" for name in names["train"] + names["val"]))
    return root


def save_sbd(path, labels):
    """A file of SBD's ``cls``: struct GTcls with Segmentation, Boundaries and CategoriesPresent."""
    present = np.setdiff1d(np.unique(labels), 0).astype(np.uint8)[:, None]
    boundaries = np.zeros((len(PASCAL_CLASSES), 1), object)
    for number in range(len(PASCAL_CLASSES)):
        boundaries[number, 0] = np.zeros((1, 1), bool)
    content = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": present}
    savemat(path, {"GTcls": content}, do_compression=True)
