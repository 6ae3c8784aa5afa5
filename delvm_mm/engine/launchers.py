"""What starts the processes of a run, and which of them this one is."""

import os
from collections.abc import Mapping

__all__ = ["LAUNCHERS", "LAUNCHER_VARIABLES", "is_first_process", "launcher_of"]

LAUNCHERS = dict(pytorch="torchrun", slurm="srun", mpi="mpirun -x MASTER_ADDR=HOST")
LAUNCHER_VARIABLES = dict(
    pytorch=("RANK", "WORLD_SIZE"),
    slurm=("SLURM_PROCID", "SLURM_NTASKS"),
    mpi=("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "MASTER_ADDR"),
)


def launcher_of(environment: Mapping[str, str]) -> str:
    """What started this process beside others: 'pytorch' (``torchrun``), 'slurm' (``srun``), 'mpi', or 'none'."""

    def number(name: str) -> int:
        value = environment.get(name, "1")
        return int(value) if value.isdecimal() else 1

    if "RANK" in environment and number("WORLD_SIZE") > 1:
        return "pytorch"
    # The script of sbatch and a shell of salloc have SLURM_NTASKS too, without being one of so many.
    if "SLURM_PROCID" in environment and number("SLURM_STEP_NUM_TASKS") > 1:
        return "slurm"
    if "OMPI_COMM_WORLD_RANK" in environment and number("OMPI_COMM_WORLD_SIZE") > 1:
        return "mpi"
    return "none"


def is_first_process(launcher: str) -> bool:
    """Whether this process is the first of those that a launcher started, before they have met."""
    return launcher == "none" or os.environ[LAUNCHER_VARIABLES[launcher][0]] == "0"
