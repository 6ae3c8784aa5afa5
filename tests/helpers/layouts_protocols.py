"""Small copies of what the protocols read: VOC 2012 with lists and boxes, FSS-1000, COCO's instances, ImageNet."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from delvm_mm.datasets.readers.pascal5i import PASCAL_CLASSES

BORDER = 255


def save_noise(path, random, height, width):
    """A JPEG of blurred noise; no two are alike."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = random.integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR).save(path, quality=95)


def rectangle(random, height, width, smallest=0.25):
    """Top, bottom, left, right of a random rectangle."""
    (top, bottom), (left, right) = (
        (start := int(random.integers(2, side // 3)), start + int(side * random.uniform(smallest, 0.6)))
        for side in (height, width)
    )
    return top, min(bottom, height - 2), left, min(right, width - 2)


def write_lists(folder, images_of_class=3):
    """``fold0.txt`` to ``fold3.txt``; every image of a fold shows one of its five classes."""
    lists = Path(folder) / "lists"
    lists.mkdir()
    for fold in range(4):
        lines = [
            f"2008_{fold:02d}{number:04d}__{5 * fold + 1 + number % 5:02d}" for number in range(5 * images_of_class)
        ]
        (lists / f"fold{fold}.txt").write_text("\n".join(lines) + "\n")
    return lists


def write_voc_with_lists(folder, images_of_class=3):
    """``SegmentationClassAug`` with borders of 255 around each object; returns VOC2012 and the folder of lists."""
    root = Path(folder) / "VOCdevkit" / "VOC2012"
    lists = write_lists(folder, images_of_class)
    random = np.random.default_rng(0)
    (root / "SegmentationClassAug").mkdir(parents=True)
    for fold in range(4):
        for line in (lists / f"fold{fold}.txt").read_text().split():
            name, number = line.split("__")
            height, width = (int(side) for side in random.integers(40, 64, 2))
            save_noise(root / "JPEGImages" / f"{name}.jpg", random, height, width)
            labels = np.zeros((height, width), np.uint8)
            top, bottom, left, right = rectangle(random, height, width)
            labels[top - 2 : bottom + 2, left - 2 : right + 2] = BORDER
            labels[top:bottom, left:right] = int(number)
            labels[:3, :3] = int(number) % 20 + 1  # another class, which is background here
            Image.fromarray(labels).save(root / "SegmentationClassAug" / f"{name}.png")
    return root, lists


def write_voc_boxes(folder, number=12):
    """``Annotations`` and ``ImageSets/Main``: every fourth image has two objects, every fifth a large one."""
    root = Path(folder) / "VOCdevkit" / "VOC2012"
    random = np.random.default_rng(1)
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, year in (("train", 2009), ("val", 2010)):
        names = [f"{year}_{index:06d}" for index in range(number)]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for index, name in enumerate(names):
            height, width = (int(side) for side in random.integers(50, 70, 2))
            save_noise(root / "JPEGImages" / f"{name}.jpg", random, height, width)
            boxes = []
            for _ in range(2 if index % 4 == 3 else 1):
                top, left = (int(start) for start in random.integers(0, 20, 2))
                side = 44 if index % 5 == 4 else int(random.integers(15, 22))
                boxes.append((left + 1, top + 1, left + side, top + side))
            write_voc_annotation(root, name, [PASCAL_CLASSES[index % 2]] * len(boxes), boxes, (width, height))
    return root


def write_voc_annotation(root, name, classes, boxes, size):
    """VOC's XML; boxes count from 1, both ends included."""
    objects = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in zip(classes, boxes, strict=True)
    )
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    text = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
    (Path(root) / "Annotations" / f"{name}.xml").write_text(text)


def write_fss(folder, classes=("zebra", "abacus", "kite")):
    """Ten images and masks of each class, and the list of classes; returns both."""
    root, random = Path(folder) / "FSS-1000", np.random.default_rng(2)
    for name in classes:
        for number in range(1, 11):
            save_noise(root / name / f"{number}.jpg", random, 48, 48)
            mask = np.full((48, 48, 3), 100, np.uint8)  # below 128: background
            top, bottom, left, right = rectangle(random, 48, 48)
            mask[top:bottom, left:right] = 200
            Image.fromarray(mask).save(root / name / f"{number}.png")
    path = Path(folder) / "test.txt"
    path.write_text("\n".join(classes) + "\n")
    return root, path


def write_coco_instances(folder, images_of_class=3):
    """80 categories, of which image ``i`` shows number ``i % 80`` and in its corner a crowd of the next one."""
    root, random = Path(folder) / "coco", np.random.default_rng(3)
    ids = [number + number // 10 + 1 for number in range(80)]  # with gaps, as COCO's
    images, annotations = [], []
    for number in range(80 * images_of_class):
        height, width = (int(side) for side in random.integers(40, 60, 2))
        name = f"COCO_val2014_{80 * images_of_class - number:012d}.jpg"  # not in the order of the file
        save_noise(root / "val2014" / name, random, height, width)
        images.append(dict(id=1000 + number, file_name=name, height=height, width=width))
        top, bottom, left, right = rectangle(random, height, width)
        outline = [left, top, right, top, right, bottom, left, bottom]
        crowd = np.zeros(height * width, int)
        crowd[:5] = 1  # down the first column
        for category, segmentation, is_crowd in (
            (ids[number % 80], [outline], 0),
            (ids[(number + 1) % 80], dict(size=[height, width], counts=[0, 5, height * width - 5]), 1),
        ):
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=1000 + number, category_id=category, iscrowd=is_crowd,
                    segmentation=segmentation, bbox=[left, top, right - left, bottom - top], area=1.0,
                )
            )  # fmt: skip
    (root / "annotations").mkdir()
    categories = [dict(id=each, name=f"thing{number}") for number, each in enumerate(ids)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    return root


def write_imagenet_val(folder, number=14):
    """Images in folders of classes, some smaller than 111 pixels; returns the folder."""
    root, random = Path(folder) / "val", np.random.default_rng(4)
    for index in range(number):
        height, width = (int(side) for side in random.integers(100, 150, 2))
        save_noise(root / f"n{index % 3:08d}" / f"ILSVRC2012_val_{number - index:08d}.JPEG", random, height, width)
    return root
