import pytest

from delvm_mm.engine.launchers import is_first_process, launcher_of


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        (dict(), "none"),
        (dict(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1"), "pytorch"),
        (dict(RANK="0", WORLD_SIZE="1"), "none"),
        (dict(SLURM_PROCID="3", SLURM_NTASKS="4", SLURM_STEP_NUM_TASKS="4"), "slurm"),
        # The script of sbatch is one process, whatever number of tasks it asked for.
        (dict(SLURM_PROCID="0", SLURM_NTASKS="4"), "none"),
        (dict(OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2"), "mpi"),
        # torchrun on each node of a Slurm job.
        (dict(RANK="1", WORLD_SIZE="2", SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="2"), "pytorch"),
    ],
)
def test_the_launcher_is_known_by_the_environment(environment, launcher):
    assert launcher_of(environment) == launcher


@pytest.mark.parametrize(("rank", "first"), [("0", True), ("1", False)])
def test_the_first_process_is_known_before_the_processes_have_met(monkeypatch, rank, first):
    monkeypatch.setenv("SLURM_PROCID", rank)
    assert is_first_process("slurm") is first
    assert is_first_process("none")
