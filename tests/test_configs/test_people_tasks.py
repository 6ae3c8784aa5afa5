"""The tasks on people and on Pascal-5i as configs: they build, on small copies, and true labels score full marks."""

import pytest
from mmengine.config import Config

from delvm_mm.registry import DATASETS, EVALUATOR, METRICS, TASK_UTILS, TRANSFORMS
from helpers import ROOT
from helpers.layouts_people import write_coco_pose, write_mpii, write_voc

TASKS = ROOT / "configs/_base_/tasks"


@pytest.mark.parametrize("name", ["pascal5i", "mpii", "coco_pose", "coco_people"])
def test_a_task_parses_and_names_what_is_registered(name):
    config = Config.fromfile(TASKS / f"{name}.py")
    assert list(config) == [f"{name}_task"], "nothing that another base could have too"
    task = config[f"{name}_task"]
    dataset = task.dataloader.dataset
    assert DATASETS.get(dataset.type)
    for role in (dataset.support, dataset.query):
        assert DATASETS.get(role.type)
        assert all(TRANSFORMS.get(step.type) for step in role.pipeline)
        assert TASK_UTILS.get(role.pipeline[-1].codec.type) and role.pipeline[-1].codec == task.evaluator.codec
    assert EVALUATOR.get(task.evaluator.type)
    assert all(METRICS.get(metric.type) for metric in task.evaluator.metrics if "." not in metric.type)


def test_the_fold_is_derived_as_the_config_says(tmp_path):
    (tmp_path / "task.py").write_text(
        f"_base_ = {str(TASKS / 'pascal5i.py')!r}\ntasks = dict(pascal5i=_base_.pascal5i_task)"
    )
    dataset = "dict(dataset=dict(support=dict(fold=2), query=dict(fold=2)))"
    (tmp_path / "fold.py").write_text(f"_base_ = 'task.py'\ntasks = dict(pascal5i=dict(dataloader={dataset}))")
    derived = Config.fromfile(tmp_path / "fold.py")
    by_option = Config.fromfile(tmp_path / "task.py")
    by_option.merge_from_dict({f"tasks.pascal5i.dataloader.dataset.{role}.fold": 2 for role in ("support", "query")})
    assert derived.tasks == by_option.tasks
    roles = derived.tasks.pascal5i.dataloader.dataset
    assert roles.support.fold == roles.query.fold == 2 and roles.query.split == "val"


def write_copy(name, folder):
    """A small copy for a task; gives its data root."""
    if name == "pascal5i":
        return write_voc(folder, 20, 6, size=96, class_of=lambda number: (number % 5 + 1,))
    for split, start in (("train", 0), ("val", 100)):
        if name == "mpii":
            write_mpii(folder, 6, split, size=256, start=start)
        else:
            write_coco_pose(folder, 6, f"{split}2017", size=256, start=start)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, full_marks",
    [
        ("pascal5i", {"IoU": 100, "mIoU": 100, "mIoU_image": 100, "IoU_boat": 100}),
        ("mpii", {"PCK": 0.99, "PCKh": 0.99}),
        ("coco_pose", {"PCK": 0.99, "coco/AP": 0.99}),
        ("coco_people", {"coco/AP": 0.9}),
    ],
)
def test_true_labels_get_full_marks(name, full_marks, tmp_path):
    if name != "pascal5i":
        pytest.importorskip("mmpose.evaluation.metrics")
    root = write_copy(name, tmp_path)
    task = Config.fromfile(TASKS / f"{name}.py")[f"{name}_task"]
    for role in ("support", "query"):
        task.dataloader.dataset[role].data_root = str(root)
    dataset = DATASETS.build(task.dataloader.dataset)
    evaluator = EVALUATOR.build(task.evaluator)
    evaluator.dataset_meta = dataset.metainfo
    assert len(dataset) >= 6
    for number in range(len(dataset)):
        sample = dataset[number]["data_samples"]
        sample.pred_image = sample.ceiling_image = sample.label_image
        evaluator.process([sample])
    result = evaluator.evaluate(len(dataset))
    for metric, least in full_marks.items():
        assert result[f"{name}/{metric}"] >= least and result[f"{name}/ceiling/{metric}"] >= least, result
