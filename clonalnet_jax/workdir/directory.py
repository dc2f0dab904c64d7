"""The small files of a run: config, environment, results. Every write is atomic."""

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
from clonalnet_jax.runtime.processes import all_true, wait_for_all
from clonalnet_jax.workdir.files import flatten, read_json, write_atomically
from clonalnet_jax.workdir.saved_config import saved_config

# What a user may change between two starts without changing what a run means.
_FREE_KEYS = (
    "baseline.cache_dir",
    "baseline.min_top1",
    "checkpoint_every_epochs",
    "compare.methods",
    "compare.seeds",
    "data.max_pixels",
    "data.on_device",
    "data.on_error",
    "data.threads",
    "data.workers",
    "debug_nans",
    "deterministic",
    "log_every_steps",
    "methods",
    "partition.fsdp",
    "partition.model",
    "profile_steps",
    "steps_per_call",
    "watchdog_minutes",
)
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def open_workdir(workdir: Path, config: ConfigDict, *, force_config: bool) -> None:
    """Creates a workdir or checks that it belongs to the same experiment.

    Writes `config.json` (resolved) and appends this start's versions, device and git
    revision to `environment.json`.

    Args:
      workdir: the directory.
      config: resolved.
      force_config: goes on where the config means another run than the one before.

    Raises:
      UserError: the saved config differs in a key that changes the run's meaning.
    """
    if not force_config:
        check_workdir(workdir, config)
    wait_for_all(f"{workdir} checked")
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        resolved = json.loads(config.to_json_best_effort())
        content = json.dumps(resolved, indent=2, sort_keys=True)
        write_atomically(workdir / "config.json", content)
        path = workdir / "environment.json"
        starts = [*read_json(path, []), environment()]
        write_atomically(path, json.dumps(starts, indent=2))
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
      workdir: the directory.
      config: resolved.

    Raises:
      UserError: the saved config differs in a key that changes the run's meaning.
    """
    path = workdir / "config.json"
    saved = read_json(path, None)
    # A start that failed before it saved anything binds nobody.
    if saved is not None and trained_runs(workdir):
        # An older version's has fewer keys, which had what is the default now.
        before = json.loads(saved_config(workdir).to_json_best_effort())
        _check_same_meaning(path, before, json.loads(config.to_json_best_effort()))


def trained_runs(workdir: Path) -> list[str]:
    """Names of the runs of a workdir that have saved a step, in order."""
    steps = workdir.glob("*/[0-9]*/_CHECKPOINT_METADATA")
    return sorted({path.parent.parent.name for path in steps})


def read_results(workdir: Path) -> dict[str, dict[str, Any]]:
    """What `results.json` holds: the figures of every finished run, by its name."""
    return read_json(workdir / "results.json", {})


def write_results(workdir: Path, results: dict[str, dict[str, Any]]) -> None:
    """Replaces `results.json`, on process 0; all see it from then on."""
    if jax.process_index() == 0:
        write_atomically(workdir / "results.json", json.dumps(results, indent=2))
    wait_for_all(f"{workdir} results")


def environment() -> dict[str, Any]:
    """What a figure depends on besides the config: versions, device, revision."""
    return {
        "command": sys.argv,
        "clonalnet_jax": clonalnet_jax.__version__,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
    }


def _check_same_meaning(
    path: Path, saved: dict[str, Any], resolved: dict[str, Any]
) -> None:
    before, now = flatten(saved), flatten(resolved)
    changed = [
        f"config.{key}: {before.get(key, 'absent')!r} -> {now.get(key, 'absent')!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in _FREE_KEYS
    ]
    if changed:
        raise UserError(
            f"{path.parent} holds another experiment",
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
