# Token stores of the zoo's model: built-in scenes, pets and photographs, balanced by augmented copies of the latter.
#     python tools/tokenize_dataset.py configs/zoo/tokens.py
_base_ = ['_base_data.py', '../_base_/runtime.py']
root = 'work_dirs/zoo'
work_dir = root + '/tokens'
tokenizer = dict(type='VQGAN', pretrained='delvm_mm://zoo_tokenizer')
# Clips of each task in scenes; augmented copies of the 390 pets for masks and for each degradation; of the
# photographs.
num_scenes, pet_masks, pet_images, photo_images = dict(seg=12000, pose=20000, derain=12000), 20, 3, 40

scenes = {
    task: dict(
        type='ProceduralScenes', task=task, size=_base_.size, seed=0, pipeline=[_base_.draw[codec], _base_.pack])
    for task, codec in (('seg', 'mask'), ('pose', 'skeleton'), ('derain', 'image'))
}
masks = dict(**_base_.pets, ann_file='train.txt', pipeline=[*_base_.augment, _base_.draw['mask'], _base_.pack])
pets = {
    task: dict(
        **_base_.pets,
        ann_file='train.txt',
        task=task,
        pipeline=[*_base_.augment, *steps, _base_.draw['image'], _base_.pack])
    for task, steps in _base_.degradations.items()
}
photos = {
    task: dict(
        **_base_.photos,
        data_root=_base_.photos_root + '/train',
        metainfo=dict(task=task),
        pipeline=[dict(type='LoadImage'), *_base_.augment, *steps, _base_.draw['image'], _base_.pack])
    for task, steps in _base_.degradations.items()
}
train = root + '/tokens/train/'
stores = [
    *[dict(out=f'{train}{task}_scenes', dataset=dict(**clips, start=0, length=num_scenes[task]))
      for task, clips in scenes.items()],
    dict(out=train + 'seg_pets', dataset=masks, num_augmented_copies=pet_masks),
    *[dict(out=f'{train}{task}_pets', dataset=clips, num_augmented_copies=pet_images) for task, clips in pets.items()],
    *[dict(out=f'{train}{task}_photos', dataset=clips, num_augmented_copies=photo_images)
      for task, clips in photos.items()],
    # Validation: scenes from 1 000 000, and other random parts of the training photographs.
    *[dict(out=f'{root}/tokens/val/{task}_scenes', dataset=dict(**clips, start=1_000_000, length=32))
      for task, clips in scenes.items()],
]
tokenization = dict(batch_clips=16, num_workers=0, shard_clips=500)
del scenes, masks, pets, photos, train
