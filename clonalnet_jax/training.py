"""One story: get a baseline, check it, train each method beside it, report."""

from pathlib import Path
from typing import Any

import chex
import flax.linen as nn
from ml_collections import ConfigDict

from clonalnet_jax.baseline import Baseline, check_better_than_chance, given_baseline
from clonalnet_jax.checkpoints import Meta, restore_variables
from clonalnet_jax.errors import UserError
from clonalnet_jax.experiment import Experiment, open_experiment
from clonalnet_jax.methods import make_method
from clonalnet_jax.models import count_parameters, create_model
from clonalnet_jax.run import train_run
from clonalnet_jax.workdir import open_workdir, read_results, write_results

Results = dict[str, dict[str, Any]]


def train(config: ConfigDict, workdir: Path, *, force_config: bool = False) -> Results:
    """Trains what a config asks for, or what is still missing of it.

    Args:
      config: see `configs/default.py`.
      workdir: where everything is kept; a second call resumes.
      force_config: goes on although the config differs from the workdir's.

    Returns:
      What `results.json` holds: by run name, `top1`, `top5` and `ece` in percent,
      `nll` in nats, `num_parameters`, `train_seconds` and `images_per_second`.

    Raises:
      UserError: something that the user can mend.
    """
    experiment = open_experiment(config, workdir)
    open_workdir(workdir, config, force_config=force_config)
    baseline = _obtain_baseline(experiment)
    for name in config.methods:
        method = make_method(name, config)
        train_run(
            experiment,
            name,
            network=config.clone,
            loss_fn=method.loss_fn,
            baseline=baseline if method.needs_baseline else None,
        )
        _report(experiment, name)
    return _show(experiment)


def evaluate(
    config: ConfigDict, workdir: Path, *, force_config: bool = False
) -> Results:
    """Measures every network that a workdir holds once more, from its checkpoint.

    Args:
      config: that the workdir was trained with.
      workdir: of a `train`.
      force_config: evaluates although the config differs from the workdir's.

    Returns:
      As `train`.

    Raises:
      UserError: there is nothing to evaluate, or something that the user can mend.
    """
    experiment = open_experiment(config, workdir)
    if not (workdir / "config.json").exists():
        raise UserError(
            f"workdir {workdir}",
            got="nothing trained there",
            expected="a directory that --mode=train has written",
            remedy="train first, or check --workdir",
        )
    open_workdir(workdir, config, force_config=force_config)
    if config.baseline.checkpoint is not None:
        _obtain_baseline(experiment)
    for name in ("baseline", *config.methods):
        if (workdir / name).is_dir():
            _report(experiment, name)
    return _show(experiment)


def _obtain_baseline(experiment: Experiment) -> Baseline:
    """Trains or restores the baseline, shows its figure and refuses a bad one."""
    config = experiment.config
    if config.baseline.checkpoint is not None:
        baseline = given_baseline(experiment)
        row = _measure(experiment, baseline.model, baseline.variables, baseline.meta)
        _store(experiment, "baseline", row)
    else:
        train_run(
            experiment,
            "baseline",
            network=config.baseline,
            loss_fn=make_method("cross_entropy", config).loss_fn,
            baseline=None,
        )
        baseline = _report(experiment, "baseline")
    top1 = read_results(experiment.workdir)["baseline"]["top1"]
    check_better_than_chance(experiment, top1)
    return baseline


def _report(experiment: Experiment, name: str) -> Baseline:
    """Evaluates a finished run from its checkpoint and stores its row."""
    variables, meta = restore_variables(
        experiment.workdir / name, experiment.mesh, which=experiment.config.select
    )
    model = create_model(
        meta.model,
        len(meta.class_names),
        dtype=experiment.config.compute_dtype,
        **meta.options,
    )
    _store(experiment, name, _measure(experiment, model, variables, meta))
    return Baseline(model, variables, meta)


def _measure(
    experiment: Experiment,
    model: nn.Module,
    variables: dict[str, chex.ArrayTree],
    meta: Meta,
) -> dict[str, Any]:
    speed = meta.timed_images / meta.timed_seconds if meta.timed_seconds else None
    return {
        **experiment.make_evaluator(model)(variables, experiment.dataset.test),
        "num_parameters": count_parameters(variables["params"]),
        "train_seconds": meta.train_seconds,
        "images_per_second": speed,
    }


def _store(experiment: Experiment, name: str, row: dict[str, Any]) -> None:
    write_results(experiment.workdir, {**read_results(experiment.workdir), name: row})
    experiment.reporter.say(
        f"{name}: top-1 {row['top1']:.2f} %, nll {row['nll']:.4f} on the "
        f"{experiment.config.data.test_split} split"
    )


def _show(experiment: Experiment) -> Results:
    results = read_results(experiment.workdir)
    experiment.reporter.table(results)
    experiment.reporter.say(f"Results, checkpoints and curves: {experiment.workdir}")
    return results
