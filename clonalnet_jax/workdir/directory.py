"""The small files of a run: config, environment, results. Every write is atomic.

Each is sealed (see `sealed`): one that is damaged later is named, not believed.
"""

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

import clonalnet_jax
from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime.precision import refuse_x64
from clonalnet_jax.runtime.processes import all_true, wait_for_all
from clonalnet_jax.workdir.files import describe_kind, wrong_file
from clonalnet_jax.workdir.meaning import changed_meaning, name_experiment
from clonalnet_jax.workdir.saved_config import saved_config
from clonalnet_jax.workdir.sealed import read_sealed_json, write_sealed

_FIGURES = ("top1", "top5", "nll", "ece", "num_parameters", "train_seconds")
_CONFIG_REMEDY = (
    "restore it, or delete it: the next start writes the --config that it is given; "
    "if it was changed on purpose, delete sealed.json beside it"
)
_STARTS_REMEDY = "restore it, or delete it: only the list of earlier starts is lost"
_RESULTS_REMEDY = (
    "delete it and start --mode=evaluate: it is made again from the checkpoints"
)
_COMPARISON_REMEDY = "delete it and start --mode=compare: it is made again"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def open_workdir(workdir: Path, config: ConfigDict, *, force_config: bool) -> None:
    """Creates a workdir or checks that it belongs to the same experiment.

    Writes `config.json` (resolved) and appends this start's versions, device and git
    revision to `environment.json`.

    Args:
      workdir: The directory.
      config: The resolved config.
      force_config: Whether to go on where the config means another run than the one
        before.

    Raises:
      UserError: The saved config differs in a key that changes the run's meaning, a
        file of the workdir is damaged, or JAX computes in 64 bits.
    """
    refuse_x64()
    if not force_config:
        check_workdir(workdir, config)
    wait_for_all(f"{workdir} checked")
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        resolved = json.loads(config.to_json_best_effort())
        content = json.dumps(resolved, indent=2, sort_keys=True)
        start = {**environment(), "experiment": name_experiment(config)}
        starts = [*read_starts(workdir), start]
        write_sealed(workdir, "config.json", content)
        write_sealed(workdir, "environment.json", json.dumps(starts, indent=2))
    wait_for_all(f"{workdir} opened")
    if not all_true((workdir / "config.json").exists()):
        raise UserError(
            f"workdir {workdir}",
            got="what the first process wrote is not there on every machine",
            expected="one directory that all processes share",
            remedy="put --workdir on a shared file system",
        )


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Checks that a workdir, if there is one, belongs to the same experiment.

    Args:
      workdir: The directory.
      config: The resolved config.

    Raises:
      UserError: The saved config differs in a key that changes the run's meaning, or
        is damaged.
    """
    # A start that failed before it saved anything binds nobody.
    if trained_runs(workdir) and (workdir / "config.json").exists():
        # An older version's has fewer keys, which had what is the default now.
        before = json.loads(saved_config(workdir).to_json_best_effort())
        _check_same_meaning(workdir, before, json.loads(config.to_json_best_effort()))


def trained_runs(workdir: Path) -> list[str]:
    """Returns the names of the runs of a workdir that have saved a step, in order."""
    steps = [path.parent for path in workdir.glob("*/[0-9]*/_CHECKPOINT_METADATA")]
    return sorted({step.parent.name for step in steps if step.name.isdecimal()})


def read_config(workdir: Path) -> dict[str, Any]:
    """Reads the resolved config of a workdir; it is empty where there is none.

    Raises:
      UserError: `config.json` is not what was written.
    """
    return read_sealed_json(workdir, "config.json", {}, remedy=_CONFIG_REMEDY)


def read_starts(workdir: Path) -> list[dict[str, Any]]:
    """Reads what `environment.json` holds: versions and device of each start.

    Raises:
      UserError: `environment.json` is not what was written.
    """
    name = "environment.json"
    starts = read_sealed_json(workdir, name, [], kind=list, remedy=_STARTS_REMEDY)
    for start in starts:
        packages = start.get("packages", {}) if isinstance(start, dict) else None
        command = start.get("command", []) if isinstance(start, dict) else None
        name_of = start.get("experiment", "") if isinstance(start, dict) else None
        kinds = ((packages, dict), (command, list), (name_of, str))
        if not all(isinstance(value, kind) for value, kind in kinds):
            got = f"a start that is {describe_kind(start)} of another kind"
            raise wrong_file(workdir / name, got, remedy=_STARTS_REMEDY)
    return starts


def started_experiments(workdir: Path) -> set[str]:
    """Returns the experiments that a workdir was started with; see `meaning`.

    There are several where a start was forced, and none that an older version noted.

    Raises:
      UserError: `environment.json` is not what was written.
    """
    names = {start.get("experiment", "") for start in read_starts(workdir)}
    return names - {""}


def read_results(workdir: Path) -> dict[str, dict[str, Any]]:
    """Reads the figures of every finished run, by its name, from `results.json`.

    Raises:
      UserError: `results.json` is not what was written.
    """
    name = "results.json"
    results = read_sealed_json(workdir, name, {}, remedy=_RESULTS_REMEDY)
    for run, row in results.items():
        if fault := _fault_of_row(row):
            got = f"{run}: {fault}"
            raise wrong_file(workdir / name, got, remedy=_RESULTS_REMEDY)
    return results


def write_results(workdir: Path, results: dict[str, dict[str, Any]]) -> None:
    """Replaces `results.json`, on process 0; all see it from then on."""
    if jax.process_index() == 0:
        write_sealed(workdir, "results.json", json.dumps(results, indent=2))
    wait_for_all(f"{workdir} results")


def read_comparison(workdir: Path) -> dict[str, Any] | None:
    """Reads `compare.json`; None where nothing was compared.

    Raises:
      UserError: `compare.json` is not what was written.
    """
    name, remedy = "compare.json", _COMPARISON_REMEDY
    found = read_sealed_json(workdir, name, None, remedy=remedy)
    for key in ("methods", "differences"):
        if found is not None and not isinstance(found.get(key), dict):
            got = f"{key}: {describe_kind(found.get(key))} instead of an object"
            raise wrong_file(workdir / name, got, remedy=remedy)
    return found


def _fault_of_row(row: Any) -> str | None:
    if not isinstance(row, dict):
        return f"{describe_kind(row)} instead of its figures"
    speed = row.get("images_per_second")
    figures = [row.get(name) for name in _FIGURES] + [0 if speed is None else speed]
    if all(type(figure) in (int, float) for figure in figures):
        return None
    return f"figures that are missing or no numbers, of {', '.join(_FIGURES)}"


def environment() -> dict[str, Any]:
    """Returns what a figure depends on besides the config: versions and device."""
    return {
        "command": sys.argv,
        "clonalnet_jax": clonalnet_jax.__version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
        "x64": jax.config.values["jax_enable_x64"],
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
    }


def _check_same_meaning(
    workdir: Path, saved: dict[str, Any], resolved: dict[str, Any]
) -> None:
    changed = changed_meaning(saved, resolved)
    if changed:
        raise UserError(
            f"{workdir} holds another experiment",
            got="; ".join(changed),
            expected="the config it was started with",
            remedy="choose another --workdir, or --force_config to go on with the new "
            "config (runs that are finished stay as they are)",
        )


def _git_revision() -> str | None:
    """The checkout's revision, `+` if it has changes; None outside a checkout."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        output = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return output.stdout.strip() or None
