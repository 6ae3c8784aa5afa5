"""Real data by a config alone: to a store, a sheet and a score, with the tokenizer that the package carries."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from delvm_mm.commands import browse as browse_dataset
from delvm_mm.commands.tokenize import tokenize_stores
from delvm_mm.stores import TokenStore
from tools.analysis import tokenizer_ceiling

CONFIG = """
size, number = 40, 4
tokenizer = dict(type='VQGAN', pretrained='delvm_mm://mini_tokenizer')
mask = dict(type='ForegroundMaskCodec')
skeleton = dict(type='SkeletonCodec', radius=1.25, thickness=1.25)
image = dict(type='RestorationCodec')
trimap = {1: 1, 2: 0, 3: 255}
load = [dict(type='LoadImage')]
square = [dict(type='ResizeShortSide', size=size), dict(type='CenterCrop', size=size)]
people = 'annotations/person_keypoints_train2017.json'
data_sets = dict(
    pets=(mask, dict(
        type='MaskFolderDataset', data_root=f'{root}/pets', mask_dir='annotations/trimaps', ann_file='val.txt',
        label_map=trimap, task='pets', pipeline=[*square, dict(type='DrawLabel', codec=mask)])),
    pets_mmseg=(mask, dict(
        type='mmseg.BaseSegDataset', data_root=f'{root}/pets', ann_file='val.txt',
        data_prefix=dict(img_path='images', seg_map_path='annotations/trimaps'),
        pipeline=[
            *load, dict(type='LoadAnnotations', label_map=trimap), *square, dict(type='SetTask', task='pets_mmseg'),
            dict(type='DrawLabel', codec=mask)])),
    pose=(skeleton, dict(
        type='CocoPoseDataset', data_root=f'{root}/coco_mini', ann_file=people, img_dir='train2017', per_person=True,
        min_keypoints=12, pipeline=[
            *load, dict(type='CropPerson'), *square, dict(type='DrawLabel', codec=skeleton)])),
    pose_mmpose=(skeleton, dict(
        type='mmpose.CocoDataset', data_root=f'{root}/coco_mini', ann_file=people, data_prefix=dict(img='train2017/'),
        pipeline=[
            *load, dict(type='CropPerson'), *square, dict(type='SetTask', task='pose_mmpose'),
            dict(type='DrawLabel', codec=skeleton)])),
    rain=(image, dict(
        type='RainDataset', data_root=f'{root}/rain100L', split='Rain100L',
        pipeline=[*load, dict(type='LoadImage', key='gt_img'), *square, dict(type='DrawLabel', codec=image)])),
    drawn_rain=(image, dict(
        type='ImageFolderDataset', data_root=f'{root}/bsds_clean', task='drawn_rain',
        pipeline=[*load, *square, dict(type='AddRain'), dict(type='DrawLabel', codec=image)])),
)
metrics = dict(
    ForegroundMaskCodec=dict(type='mmseg.IoUMetric', iou_metrics=['mIoU']),
    SkeletonCodec=dict(type='mmpose.PCKAccuracy', thr=0.2, norm_item='bbox'),
    RestorationCodec=dict(type='RestorationMetric', channels=['rgb']))
tasks = {
    name: dict(
        dataloader=dict(dataset=dict(**clips, indices=number)),
        evaluator=dict(type='VisionPromptEvaluator', prefix=name, codec=codec, metrics=metrics[codec['type']]))
    for name, (codec, clips) in data_sets.items()
}
stores = [
    dict(out=f'stores/{name}', dataset=dict(
        clips, indices=number, pipeline=[*clips['pipeline'], dict(type='PackClip', factor=4)]))
    for name, (codec, clips) in data_sets.items()
]
tokenization = dict(num_workers=0)
"""
SCORES = {
    "pets": "mIoU", "pets_mmseg": "mIoU", "pose": "PCK", "pose_mmpose": "PCK", "rain": "restoration/PSNR",
    "drawn_rain": "restoration/PSNR",
}  # fmt: skip
TASKS = dict(rain="derain")  # the reader's own


@pytest.mark.filterwarnings("ignore")
def test_real_data_becomes_stores_sheets_and_scores_by_a_config_alone(shared, tmp_path, monkeypatch):
    if not (shared / "data").is_dir():
        pytest.skip(f"no real data in {shared}")
    for module in ("mmseg.datasets", "mmpose.datasets"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    Path("real.py").write_text(f"root = {str(shared / 'data')!r}\n{CONFIG}")
    tokenize_stores(Config.fromfile("real.py"), device="cpu")
    browse_dataset.main(["real.py", "--what", "stores", "--num", "4", "--out-dir", "sheets", "--device", "cpu"])
    tokenizer_ceiling.main(["real.py", "delvm_mm://mini_tokenizer", "--out", "scores.json", "--device", "cpu"])
    ((_, scores),) = json.loads(Path("scores.json").read_text()).items()
    for name, metric in SCORES.items():
        store = TokenStore(f"stores/{name}")
        assert len(store) == 4 and store.clip_shape == (2, 100)
        assert store.index["task"] == TASKS.get(name, name)
        raw, decoded = (np.asarray(Image.open(f"sheets/{name}_{what}.png")) for what in ("raw", "decoded"))
        clips, tokens = np.split(decoded.astype(float), [raw.shape[1]], axis=1)  # side by side
        assert raw.std() > 20, "the sheet shows nothing"
        assert np.abs(raw[:, :-8] - clips[:, :-8]).mean() < 1, "the store was made of other clips"
        width = min(raw.shape[1], tokens.shape[1])
        assert 0 < np.abs(tokens[:, -width:] - raw[:, -width:]).mean() < 40, (
            "the tokens of the store show something else"
        )
        assert scores[f"{name}/ceiling {metric}"] > dict(mIoU=60, PCK=0.1).get(metric, 12)
    assert scores["pets/ceiling mIoU"] == pytest.approx(scores["pets_mmseg/ceiling mIoU"]), "one data set, two readers"
