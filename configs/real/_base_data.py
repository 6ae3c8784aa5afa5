# Real images in the zoo's form, 96 pixels a side. They lie in data/, or in the folder that REAL_DATA in the environment
# names; none of them is shipped:
#
# pets          photographs of Oxford-IIIT Pet with trimaps: images/, annotations/trimaps/, train.txt, val.txt
# lspet         Leeds Sports Pose Extended as COCO keypoints, 12 of COCO's 17: images/, annotations/
# bsds_clean    photographs of BSDS500 that are not in Rain100; training draws rain on them
# rain100L      pairs of Rain100L, input/ and target/: for scores alone
_base_ = '../zoo/_base_data.py'
data = '{{$REAL_DATA:data}}'
codec_of = dict(seg='mask', pose='skeleton', derain='image')
load = [dict(type='LoadImage')]
crop_person = [*load, dict(type='CropPerson', padding=1.25)]
rain = [dict(type='AddRain')]
people = dict(type='CocoPoseDataset', data_root=data + '/lspet', img_dir='images')
rain100l = dict(type='RainDataset', data_root=data + '/rain100L', split='Rain100L')
# What training may see of each task.
train_sets = dict(
    seg=dict(
        type='MaskFolderDataset',
        data_root=data + '/pets',
        ann_file='train.txt',
        mask_dir='annotations/trimaps',
        label_map=_base_.pets['label_map']),
    pose=dict(**people, ann_file='annotations/person_keypoints_train.json'),
    derain=dict(type='ImageFolderDataset', data_root=data + '/bsds_clean', task='derain'))
