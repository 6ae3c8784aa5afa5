"""Runs of ``tools/train.py`` in one process group: starting processes is most of the time of a test.

``torchrun sharded_run.py RUNS.json``, a list of [work folder, arguments of the tool].
"""

import json
import sys
from pathlib import Path

import torch

from delvm_mm.commands import train as train_tool


def main() -> None:
    start = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda *args: torch.distributed.is_initialized() or start(*args)
    for config, work_dir, options in json.loads(Path(sys.argv[1]).read_text()):
        sys.argv[1:] = [config, "--work-dir", work_dir, "--launcher", "pytorch", *options]
        train_tool.main()
        torch.distributed.barrier()


if __name__ == "__main__":
    main()
