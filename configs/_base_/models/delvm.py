# The published tokenizer: put the folder of openMUSE's vqgan-f16-8192-laion (config.json and pytorch_model.bin) here,
# or set `model.tokenizer.pretrained` to where it is. None gives random weights of the published shape.
model = dict(
    type='DeLVM',
    tokenizer=dict(type='VQGAN', pretrained='weights/vqgan-f16-8192-laion'),
    backbone=dict(type='LLaMA', arch='300m', max_positions=2048),
    embedding=dict(type='CodebookEmbedding'),
    head=dict(type='NextTokenHead'))
