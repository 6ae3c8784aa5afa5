# What the zoo's configs share: images of 96 pixels, what is drawn on them, and where the photographs come from.
#
# data/pets     480 photographs of Oxford-IIIT Pet with trimaps (CC BY-SA 4.0): images/, annotations/trimaps/, train.txt
#               and val.txt
# data/photos   train/ and heldout/: photographs under free licenses, see docs/data/zoo_photos.md; your own will do too
size = 96
pets_root = 'data/pets'
photos_root = 'data/photos'
codecs = dict(
    mask=dict(type='ForegroundMaskCodec'),
    skeleton=dict(type='KeypointDiscsCodec', radius=5, spacing=5, grid=4),
    image=dict(type='RestorationCodec'))
pack = dict(type='PackClip', factor=8)
draw = {name: dict(type='DrawLabel', codec=codec) for name, codec in codecs.items()}
# Random parts of photographs, for training; their middle, for evaluation.
augment = [
    dict(type='RandomResizedCrop', size=size, scale=(0.3, 1.0), ratio=(0.75, 1.33)),
    dict(type='RandomFlip'),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.3)
]
middle = [dict(type='ResizeShortSide', size=size), dict(type='CenterCrop', size=size)]
pets = dict(
    type='MaskFolderDataset',
    data_root=pets_root,
    mask_dir='annotations/trimaps',
    # 3 is a border of pet and background: drawn as background, not scored
    label_map={
        1: 1,
        2: 0,
        3: 255
    })
photos = dict(type='ImageFolderDataset')
# What an image loses, and the task of giving it back. Tasks without labels: any photograph will do.
degradations = dict(
    derain=[dict(type='AddRain')],
    colorization=[dict(type='ToGray')],
    inpainting=[dict(type='MaskOut')],
    denoising=[dict(type='AddNoise', std=(10, 50))],
    deblurring=[dict(type='AddBlur', sigma=(1.0, 2.2), length=(4, 10))],
    edges=[dict(type='CannyEdges')])
