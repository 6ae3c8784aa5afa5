# The quick start's teacher is the model that is shipped as delvm_mm://mini: here are the sentences that it reads, and
# the held-out scenes that it and its students are scored on.
#     python tools/cache_teacher.py configs/quickstart/teacher.py delvm_mm://mini
#     python tools/test.py configs/quickstart/teacher.py delvm_mm://mini
_base_ = '../zoo/teacher.py'
root = 'work_dirs/quickstart'
work_dir = root + '/teacher'

# The same sentences in every epoch, which is what a teacher can write down.
train_dataloader = dict(
    dataset=dict(stores=[f'{root}/tokens/train/{task}_scenes' for task in _base_.scene_tasks], assembly='fixed'))
val_dataloader = dict(dataset=dict(stores=[f'{root}/tokens/val/{task}_scenes' for task in _base_.scene_tasks]))
# The zoo's prompts and queries; of the latter only as many as three models answer in little time, with one answer
# each in place of the mean of several: drawn masks and keypoints, the likeliest restored images.
scored = {task: _base_.tasks[f'{task}_scenes'] for task in _base_.scene_tasks}
num_queries = 20
tasks = dict(
    _delete_=True,
    **{
        task: dict(
            settings,
            ensemble=None,
            sampler=dict(temperature=0.) if task == 'derain' else None,
            dataloader=dict(
                settings['dataloader'],
                dataset=dict(
                    settings['dataloader']['dataset'],
                    query=dict(settings['dataloader']['dataset']['query'], length=num_queries))),
            evaluator=dict(settings['evaluator'], prefix=task))
        for task, settings in scored.items()
    })
del scored
