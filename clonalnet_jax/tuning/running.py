"""Trains every method with each of its settings, and keeps what it finds."""

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.training import story
from clonalnet_jax.training.baseline import is_given
from clonalnet_jax.training.checks import check_config
from clonalnet_jax.training.experiment import open_experiment
from clonalnet_jax.training.recorder import BrokeDownError
from clonalnet_jax.training.variants import with_values
from clonalnet_jax.tuning.search import check_search, propose
from clonalnet_jax.tuning.space import Setting, read_space, settings_of, with_setting
from clonalnet_jax.tuning.tables import write_tuning
from clonalnet_jax.workdir.directory import check_workdir, read_results
from clonalnet_jax.workdir.journal import Journal
from clonalnet_jax.workdir.lock import hold


def tune(
    config: ConfigDict, workdir: Path, *, force_config: bool = False
) -> dict[str, Any]:
    """Tries the settings of `config.tune` on held-out training images.

    Each seed has one baseline, trained on what is not held out, beside which every
    setting of every method is trained. The test split is not looked at.

    Args:
      config: The whole config.
      workdir: Directory of `tune.json`, `.csv`, `.md` and `.svg`; a second call goes on
        with what is missing.
      force_config: Whether to go on although the config differs from a run's.

    Returns:
      What `tune.json` holds: by method, its settings with their scores, the best first.

    Raises:
      UserError: Something that the user can mend.
      PreemptedError: The run was asked to stop; a second call goes on.
    """
    check_config(config)
    check_search(config)
    space = read_space(config)
    for method in config.tune.methods:
        next(propose(config, method, space))  # refuses one without anything to tune
    journal = Journal(workdir)
    with hold(workdir, warn=journal.warn):
        return _tune(config, workdir, journal, space, force_config=force_config)


def _tune(
    config: ConfigDict,
    workdir: Path,
    journal: Journal,
    space: dict[str, tuple[Any, ...]],
    *,
    force_config: bool,
) -> dict[str, Any]:
    seeds = range(config.seed, config.seed + config.tune.seeds)
    held_out = _hold_out(config, workdir)
    baselines = dict[int, ConfigDict]()
    for seed in seeds:
        baselines[seed] = _beside_baseline(held_out, workdir, seed)
        if not is_given(held_out):
            journal.say(f"seed {seed}: baseline")
            alone = with_values(held_out, {"seed": seed})
            story.train(alone, _home(workdir, seed), force_config=force_config)
    found = dict[str, list[dict[str, Any]]]()
    for method in config.tune.methods:
        tried = found[method] = list[dict[str, Any]]()
        number = len(settings_of(config, method, space))
        proposals = propose(config, method, space)
        setting = next(proposals)
        while True:
            journal.say(f"{method}: setting {len(tried) + 1} of {number}")
            rows = [
                _train(
                    _asked(baselines[seed], method, setting),
                    _home(workdir, seed) / _name(method, setting),
                    journal,
                    force_config=force_config,
                )
                for seed in seeds
            ]
            tried.append(_scored(setting, rows))
            _write(config, workdir, found)
            try:
                setting = proposals.send(tried[-1]["top1"])
            except StopIteration:
                break
    result = _write(config, workdir, found)
    if jax.process_index() == 0:
        journal.say((workdir / "tune.md").read_text())
    journal.say(f"Also {workdir}/tune.json, tune.csv and tune.svg")
    return result


def _train(
    config: ConfigDict, directory: Path, journal: Journal, *, force_config: bool
) -> dict[str, Any] | None:
    """The figures of one setting's run; None where it broke down."""
    (method,) = config.methods
    if story.is_finished(directory, method) and not force_config:
        check_workdir(directory, config)
        return read_results(directory)[method]
    try:
        return story.train(config, directory, force_config=force_config)[method]
    except BrokeDownError as error:
        # That is an answer, too; the others are still to be tried.
        journal.warn(str(error))
        return None


def _write(
    config: ConfigDict, workdir: Path, found: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    ranked = {
        method: sorted(tried, key=_rank) for method, tried in found.items() if tried
    }
    seeds = [config.seed + k for k in range(config.tune.seeds)]
    result = {"seeds": seeds, "methods": ranked}
    if jax.process_index() == 0:
        write_tuning(result, workdir)
    return result


def _rank(one: dict[str, Any]) -> tuple[float, float]:
    return -one["top1"], float("inf") if one["nll"] is None else one["nll"]


def _scored(setting: Setting, rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Means over seeds; nothing is right, and no nll known, where a run broke down."""
    whole = [row for row in rows if row is not None]
    top1s = [0.0 if row is None else row["top1"] for row in rows]
    nlls = [] if len(whole) < len(rows) else [row["nll"] for row in whole]
    return {
        "setting": setting,
        "top1": float(np.mean(top1s)),
        "top1_by_seed": top1s,
        "nll": float(np.mean(nlls)) if nlls else None,
    }


def _hold_out(config: ConfigDict, workdir: Path) -> ConfigDict:
    """A config that is tested on held-out training images."""
    result = copy.deepcopy(config)
    result.data.holdout, result.data.test_on = config.tune.holdout, "holdout"
    result.select, result.methods = "last", ()
    # It refuses whatever is wrong with the data before anything is trained.
    open_experiment(result, workdir)
    return result


def _beside_baseline(config: ConfigDict, workdir: Path, seed: int) -> ConfigDict:
    """The config of a setting's run, which takes the seed's baseline as it is."""
    result, home = with_values(config, {"seed": seed}), _home(workdir, seed)
    if not is_given(config):
        result.baseline.checkpoint = str(home / "baseline")
        result.baseline.weights, result.baseline.replace_head = None, False
    if result.baseline.cache != "none":
        given = result.baseline.cache_dir
        shared = Path(given) / f"seed{seed}" if given else home / "baseline_cache"
        result.baseline.cache_dir = str(shared)
    return result


def _asked(beside: ConfigDict, method: str, setting: Setting) -> ConfigDict:
    """The config of one setting's run."""
    result = with_setting(beside, setting)
    result.methods = (method,)
    if result.baseline.cache_dir:
        # The answers hold the confusing sets, which depend on it.
        temperature = f"temperature{result.loss.temperature}"
        result.baseline.cache_dir = str(Path(result.baseline.cache_dir) / temperature)
    return result


def _home(workdir: Path, seed: int) -> Path:
    return workdir / f"seed{seed}"


def _name(method: str, setting: Setting) -> str:
    digest = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()
    return f"{method.replace(':', '.')}-{digest[:10]}"
