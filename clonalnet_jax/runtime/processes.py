"""Joins several processes into one program, through JAX's distributed runtime."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from clonalnet_jax.errors import UserError

MODES = ("auto", "on", "off")


class LostProcessError(UserError):
    """Worth another try, which is up to whoever started the processes."""

    exit_code = 75


def stay_alone() -> None:
    """Takes this machine's CPU and no accelerator; before JAX is used.

    What is compiled for devices that are not there must not take those that are.
    """
    jax.config.update("jax_platforms", "cpu")


def start(mode: str, environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes of this run, if there are any; before JAX is used.

    Args:
      mode: `on`, `off`, or `auto`: if the environment is that of several processes.
      environment: Variables; `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
        `JAX_PROCESS_ID` describe the run where no cluster does.

    Raises:
      UserError: Nothing says where the other processes are.
      LostProcessError: Some did not come, or cannot be reached.
    """
    if mode == "off" or (mode == "auto" and not is_one_of_many(environment)):
        return
    described: dict[str, Any] = {}
    if "JAX_NUM_PROCESSES" in environment:
        described = {
            "num_processes": _number(environment, "JAX_NUM_PROCESSES", 1),
            "process_id": _number(environment, "JAX_PROCESS_ID", -1),
        }
    try:
        jax.distributed.initialize(**described)
    except RuntimeError as error:
        raise LostProcessError(
            "the other processes of this run",
            got=str(error).splitlines()[0],
            expected="all of them within five minutes of each other",
            remedy="look at why they did not start; the same command tries again",
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(
            "--distributed",
            got=f"no other processes: {str(error).splitlines()[0]}",
            expected="Slurm, Cloud TPU, GKE or Open MPI, or JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment",
            remedy="start it as docs/scaling.md says, or alone with --distributed=off",
        ) from error


def is_one_of_many(environment: Mapping[str, str]) -> bool:
    """Says whether these variables are those of a process among several.

    Raises:
      UserError: A variable that counts processes is no number.
    """
    if "JAX_COORDINATOR_ADDRESS" in environment:
        return True
    counts = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
    # Slurm's variables are inherited by what runs in a job without being its step.
    step = "SLURM_STEP_ID" in environment or "SLURM_NTASKS" not in environment
    if step and any(_number(environment, name, 1) > 1 for name in counts):
        return True
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts or "MEGASCALE_COORDINATOR_ADDRESS" in environment:
        return True
    # The virtual machines of a TPU pod know of each other by metadata alone, which JAX
    # asks for; that of a single machine answers that it is alone.
    on_tpu = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return on_tpu and importlib.util.find_spec("libtpu") is not None


def wait_for_all(what: str) -> None:
    """Returns once every process has come here.

    Args:
      what: The place, the same on all of them.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def agreed(value: bool) -> bool:
    """Gives every process the value that the first process has."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def all_true(value: bool) -> bool:
    """Whether every process says so."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    """Reads a variable that is a whole number."""
    value = environment.get(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise UserError(
            f"{name}={value}",
            got="an environment variable that is no number",
            expected="a whole number, as the scheduler sets it",
            remedy=f"correct or unset {name}, or start with --distributed=off",
        ) from error
