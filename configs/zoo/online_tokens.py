# The zoo's teacher from images, without token stores: every epoch is augmented anew, and no tokenizing comes before.
#     python tools/train.py configs/zoo/online_tokens.py
# A folder of photographs is enough for tasks that need no labels; built-in scenes bring the others.
_base_ = 'teacher.py'
work_dir = _base_.root + '/online_tokens'
codecs, size = _base_.codecs, _base_.size
clips = [
    *[dict(
        type='ProceduralScenes',
        task=task,
        size=size,
        seed=0,
        start=0,
        length=length,
        pipeline=[dict(type='DrawLabel', codec=codecs[codec]), _base_.pack])
      for task, codec, length in (('seg', 'mask', 4000), ('pose', 'skeleton', 6000), ('derain', 'image', 3000))],
    # num_views counts each photograph that often in an epoch: every time another part of it
    *[dict(
        **_base_.photos,
        num_views=30,
        data_root=_base_.photos_root + '/train',
        metainfo=dict(task=task),
        pipeline=[
            dict(type='LoadImage'), *_base_.augment, *steps,
            dict(type='DrawLabel', codec=codecs['image']), _base_.pack
        ])
      for task, steps in _base_.degradations.items()],
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ImageSentenceDataset',
        datasets=clips,
        tokenizer='delvm_mm://zoo_tokenizer',
        context=_base_.context))
del clips, codecs, size
