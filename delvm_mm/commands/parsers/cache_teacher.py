"""Write what a teacher predicts at every token of a data set into a teacher cache, to distil from without the teacher.

CONFIG is a training config. Its ``train_dataloader.dataset`` has the sentences; they are taken as 'fixed', whatever its
``assembly`` is. The teacher is the config's ``model``, or, in a config with a ``DistillationHook`` that names one, that
hook's teacher (the hook's temperature is then the default); CHECKPOINT has its weights. The student is trained with::

    dict(type="DistillationHook", teacher=dict(cache=FOLDER), loss=...)

Run again after a stop, it continues where it was. Several processes share the work:
``torchrun --nproc_per_node 8 --no-python delvm cache-teacher CONFIG CHECKPOINT``.
"""

import argparse

from mmengine.config import DictAction


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="training config of the teacher, or of a student with a DistillationHook")
    parser.add_argument("checkpoint", help="the teacher's weights")
    parser.add_argument("--out", help="folder of the cache; <work_dir of the config>/teacher_cache by default")
    parser.add_argument("--top-k", type=int, default=32, help="codes kept for each position (default 32)")
    parser.add_argument("--temperature", type=float, help="of the teacher's distribution; the hook's or 1 by default")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the log-probabilities")
    parser.add_argument("--batch", type=int, default=8, help="sentences that the teacher reads together (default 8)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the teacher")
    parser.add_argument("--shard-sentences", type=int, help="sentences in a file (16 MiB of them by default)")
    parser.add_argument("--device", help="where the teacher runs, e.g. cuda:0 or cpu; by default a GPU if there is one")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="override config entries: key=value")
    parser.add_argument(
        "--launcher", choices=("none", "pytorch"), default="none", help="torchrun is noticed with 'none', too"
    )
    return parser
