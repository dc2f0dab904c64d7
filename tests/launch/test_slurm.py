"""launch/slurm.sbatch: a process per GPU, and back into the queue when interrupted."""

import re
import subprocess
import sys

import pytest
from launching import ROOT

SCRIPT = "launch/slurm.sbatch"
FLAGS = (
    "--config=configs/imagenet.py",
    "--config.methods=('cross_entropy', 'clone')",
    "--workdir=/shared/runs/a b",
)
JOB = {
    "SLURM_JOB_ID": "17",
    "SLURM_CPUS_PER_TASK": "6",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_GPUS_ON_NODE": "4",
    "PYTHON": "python",
}
REQUEUE = ["scontrol", "requeue", "17"]


def directives():
    """The #SBATCH options of the script."""
    text = (ROOT / SCRIPT).read_text()
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE)
    assert len(options) == text.count("#SBATCH")
    return dict(options)


def test_every_gpu_has_a_process_and_every_process_a_warning():
    options = directives()
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert int(options["cpus-per-task"]) > 1
    # Without "B:", which would tell the shell alone.
    assert re.fullmatch(r"USR1@\d+", options["signal"])
    assert "requeue" in options
    assert options["open-mode"] == "append"


def test_the_dry_run_prints_what_is_run(scripts, dry_run):
    [printed] = dry_run(SCRIPT, *FLAGS)
    assert scripts.run(SCRIPT, *FLAGS, PYTHON="python").returncode == 0
    [(words, _)] = scripts.calls()
    assert words == printed
    assert words[0] == "srun"
    assert words[words.index("main.py") + 1 :] == [
        "--distributed=on",
        f"--config.data.threads={directives()['cpus-per-task']}",
        *FLAGS,
    ]


def test_a_task_of_an_array_has_its_number_in_the_arguments(scripts):
    flags = ("--config.seed=%a", "--workdir=/shared/runs/task%a")
    task = {**JOB, "SLURM_ARRAY_TASK_ID": "3"}
    assert scripts.run(SCRIPT, *flags, **task).returncode == 0
    [(words, _)] = scripts.calls()
    assert words[-2:] == ["--config.seed=3", "--workdir=/shared/runs/task3"]


def test_processes_get_the_cpus_of_their_task(scripts):
    assert scripts.run(SCRIPT, *FLAGS, **JOB).returncode == 0
    [(words, _)] = scripts.calls()
    assert "--cpus-per-task=6" in words
    assert "--config.data.threads=6" in words


@pytest.mark.parametrize("code", [1, 75, 134, 137])
def test_what_was_interrupted_goes_back_into_the_queue(scripts, code):
    result = scripts.run(SCRIPT, *FLAGS, answers={"srun": ("", code)}, **JOB)
    assert result.returncode == 0, result.stderr
    assert [words for words, _ in scripts.calls()][1:] == [REQUEUE]


@pytest.mark.parametrize("code", [2, 3])
def test_a_users_mistake_does_not(scripts, code):
    result = scripts.run(SCRIPT, *FLAGS, answers={"srun": ("", code)}, **JOB)
    assert result.returncode == code
    assert REQUEUE not in [words for words, _ in scripts.calls()]


def test_nothing_is_started_again_for_ever(scripts):
    job = {**JOB, "MAX_RESTARTS": "3"}
    answers = {"srun": ("", 75)}
    for restarts, expected in (("2", 0), ("3", 75)):
        result = scripts.run(
            SCRIPT, *FLAGS, answers=answers, SLURM_RESTART_COUNT=restarts, **job
        )
        assert result.returncode == expected
        called = REQUEUE in [words for words, _ in scripts.calls()]
        assert called == (expected == 0)


def test_tasks_and_gpus_of_different_number_are_refused(scripts):
    result = scripts.run(SCRIPT, *FLAGS, **{**JOB, "SLURM_GPUS_ON_NODE": "8"})
    assert result.returncode == 2
    assert "4 tasks and 8 GPUs" in result.stderr
    assert scripts.calls() == []


def test_the_environment_of_a_step_is_a_cluster_to_jax():
    code = (
        "from jax._src.clusters import SlurmCluster as c\n"
        "print(c.is_env_present(), c.get_process_count(), c.get_process_id(),"
        " c.get_local_process_id(), c.get_coordinator_address(None, None))"
    )
    step = {
        "SLURM_JOB_ID": "17",
        "SLURM_STEP_NODELIST": "gpu[03-04]",
        "SLURM_NTASKS": "16",
        "SLURM_PROCID": "11",
        "SLURM_LOCALID": "3",
    }
    result = subprocess.run(
        [sys.executable, "-c", code], env=step, capture_output=True, text=True
    )
    assert result.stdout.startswith("True 16 11 3 gpu03:"), result.stderr
