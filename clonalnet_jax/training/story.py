"""The story of a run: get a baseline, check it, train each method beside it, report."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.analysis.metrics import measure_logits
from clonalnet_jax.errors import UserError
from clonalnet_jax.models import count_parameters
from clonalnet_jax.trained.calibrated import fold_temperature
from clonalnet_jax.trained.network import Network, load_network
from clonalnet_jax.training.baseline import (
    chance_limit,
    check_better_than_chance,
    given_baseline,
    is_given,
    starting_weights,
)
from clonalnet_jax.training.cache import Cache
from clonalnet_jax.training.experiment import Experiment, open_experiment
from clonalnet_jax.training.loop import train_run
from clonalnet_jax.training.methods import Method, make_method
from clonalnet_jax.training.teacher import (
    NOBODY,
    Teacher,
    beside_the_clone,
    freeze,
)
from clonalnet_jax.workdir.directory import (
    open_workdir,
    read_results,
    trained_runs,
    write_results,
)
from clonalnet_jax.workdir.lock import hold
from clonalnet_jax.workdir.saved_logits import (
    SavedLogits,
    are_logits_whole,
    write_logits,
)

Figures = dict[str, dict[str, Any]]

# Held-out images that a temperature needs. One that all are right by would be 0.
_ENOUGH = 50


def train(
    config: ConfigDict,
    workdir: Path,
    *,
    force_config: bool = False,
    announce: Callable[[str], None] = lambda run: None,
) -> Figures:
    """Trains what a config asks for, or what is still missing of it.

    Args:
      config: The whole config; `configs/default.py` documents every key.
      workdir: Directory that everything is kept in; a second call resumes.
      force_config: Whether to go on although the config differs from the workdir's.
      announce: Called with the name of each run before it begins.

    Returns:
      What `results.json` holds: by run name, `top1`, `top5` and `ece` in percent,
      `nll` in nats, `num_parameters`, `train_seconds` and `images_per_second`.

    Raises:
      UserError: Something that the user can mend.
      PreemptedError: The run was asked to stop; a second call resumes.
    """
    experiment = open_experiment(config, workdir)
    with hold(workdir, warn=experiment.journal.warn):
        open_workdir(workdir, config, force_config=force_config)
        return _train(experiment, force_config=force_config, announce=announce)


def _train(
    experiment: Experiment, *, force_config: bool, announce: Callable[[str], None]
) -> Figures:
    config = experiment.config
    experiment.journal.say(_describe(experiment))
    # Before anything is trained: a loss of the user's own may not be found.
    methods = {name: make_method(name, config) for name in config.methods}
    announce("baseline")
    baseline = _obtain_baseline(experiment, anew=force_config)
    teacher_of = _make_teachers(experiment, baseline)
    for name, method in methods.items():
        announce(name)
        trained = train_run(
            experiment,
            name,
            network=config.clone,
            loss_fn=method.loss_fn,
            teacher=teacher_of(method),
        )
        _report(experiment, name, anew=trained or force_config)
    return _show(experiment)


def _make_teachers(
    experiment: Experiment, baseline: Network
) -> Callable[[Method], Teacher]:
    """Makes `method -> teacher`. Methods share a teacher where they can."""
    frozen = freeze(experiment, baseline)
    beside = beside_the_clone(frozen)
    cached = beside
    if experiment.config.baseline.cache != "none":
        cached = Cache(experiment, frozen).teacher()

    def teacher_of(method: Method) -> Teacher:
        if not method.needs_baseline:
            return NOBODY
        return cached if method.takes_answers else beside

    return teacher_of


def evaluate(
    config: ConfigDict, workdir: Path, *, force_config: bool = False
) -> Figures:
    """Measures every network that a workdir holds once more, from its checkpoint.

    Args:
      config: The config that the workdir was trained with.
      workdir: A directory that `train` has written.
      force_config: Whether to evaluate although the config differs from the workdir's.

    Returns:
      The results, in the form of `train`.

    Raises:
      UserError: There is nothing to evaluate, or something that the user can mend.
    """
    experiment = open_experiment(config, workdir)
    told = is_given(config) and "baseline" in read_results(workdir)
    if not trained_runs(workdir) and not told:
        raise UserError(
            f"workdir {workdir}",
            got="nothing trained there",
            expected="a directory that --mode=train has written",
            remedy="train first, or check --workdir",
        )
    with hold(workdir, warn=experiment.journal.warn):
        open_workdir(workdir, config, force_config=force_config)
        given = given_baseline(experiment)
        if given is not None:
            _store(experiment, "baseline", _measure(experiment, "baseline", given))
        for name in ("baseline", *config.methods):
            if name in trained_runs(workdir):
                _report(experiment, name, anew=True)
        return _show(experiment)


def _obtain_baseline(experiment: Experiment, *, anew: bool) -> Network:
    """Trains or restores the baseline, shows its figure and refuses a bad one."""
    config = experiment.config
    baseline = given_baseline(experiment)
    if baseline is not None:
        _store(experiment, "baseline", _measure(experiment, "baseline", baseline))
    else:
        trained = train_run(
            experiment,
            "baseline",
            network=config.baseline,
            loss_fn=make_method("cross_entropy", config).loss_fn,
            start=partial(starting_weights, experiment),
        )
        baseline = _report(experiment, "baseline", anew=trained or anew)
    top1 = read_results(experiment.workdir)["baseline"]["top1"]
    check_better_than_chance(experiment, top1)
    return baseline


def _report(experiment: Experiment, name: str, *, anew: bool) -> Network:
    """Restores a finished run; stores its row if it has none or is measured anew."""
    config = experiment.config
    network = load_network(
        experiment.workdir / name,
        experiment.mesh,
        dtype=config.compute_dtype,
        which=config.select,
        run=name,
    )
    if anew or not is_finished(experiment.workdir, name):
        _store(experiment, name, _measure(experiment, name, network))
    else:
        _warn_of_chance(experiment, name, read_results(experiment.workdir)[name])
    return network


def _measure(experiment: Experiment, name: str, network: Network) -> dict[str, Any]:
    """Measures a network for its row of the results, and keeps its predictions."""
    meta, dataset = network.meta, experiment.dataset
    predictor = experiment.make_predictor(network.model)
    held_out, temperature = None, None
    if len(dataset.holdout):
        held_out = predictor(network.variables, dataset.holdout)
        network, temperature = _calibrate(experiment, name, network, *held_out)
    predictions = SavedLogits(*predictor(network.variables, dataset.test))
    if held_out is not None:
        logits, labels = held_out
        predictions = predictions._replace(
            holdout_logits=logits / np.float32(temperature or 1.0),
            holdout_labels=labels,
        )
    write_logits(experiment.workdir, name, predictions)
    speed = meta.timed_images / meta.timed_seconds if meta.timed_seconds else None
    return {
        **measure_logits(predictions.logits, predictions.labels),
        **_before(predictions, temperature),
        "num_parameters": count_parameters(network.variables["params"]),
        "train_seconds": meta.train_seconds,
        "images_per_second": speed,
    }


def _calibrate(
    experiment: Experiment,
    name: str,
    network: Network,
    logits: np.ndarray,
    labels: np.ndarray,
) -> tuple[Network, float | None]:
    """A network with its temperature folded in, and that; None where it has none."""
    config, journal = experiment.config, experiment.journal
    if not config.calibrate:
        return network, None
    from clonalnet_jax.analysis.calibration import fit_temperature  # imports SciPy

    if name == "baseline" and is_given(config):
        journal.say("baseline: not calibrated, since it may know the held-out images")
        return network, None
    right = int((logits.argmax(axis=-1) == labels).sum())
    if len(labels) < _ENOUGH or right == len(labels):
        few = f"{len(labels)} held-out images, {right} of them right, say too little"
        journal.say(f"{name}: not calibrated: {few} (--config.data.holdout={_ENOUGH})")
        return network, None
    temperature = fit_temperature(logits, labels)
    try:
        return fold_temperature(network, temperature), temperature
    except UserError as error:
        journal.warn(f"{name}: not calibrated. {error}")
        return network, None


def _before(predictions: SavedLogits, temperature: float | None) -> dict[str, float]:
    """The figures that a temperature has changed, as they were."""
    if temperature is None:
        return {}
    raw = measure_logits(
        predictions.logits * np.float32(temperature), predictions.labels
    )
    return {
        "temperature": temperature,
        "nll_uncalibrated": raw["nll"],
        "ece_uncalibrated": raw["ece"],
    }


def is_finished(workdir: Path, run: str) -> bool:
    """Whether a run's figures and predictions are there, and the latter are whole."""
    return run in read_results(workdir) and are_logits_whole(workdir, run)


def _store(experiment: Experiment, name: str, row: dict[str, Any]) -> None:
    write_results(experiment.workdir, {**read_results(experiment.workdir), name: row})
    experiment.journal.say(
        f"{name}: top-1 {row['top1']:.2f} %, nll {row['nll']:.4f} on "
        f"{_tested_on(experiment.config)}"
    )
    _warn_of_chance(experiment, name, row)


def _tested_on(config: ConfigDict) -> str:
    if config.data.test_on == "holdout":
        return "held-out training images"
    return f"the {config.data.test_split} split"


def _warn_of_chance(experiment: Experiment, name: str, row: dict[str, Any]) -> None:
    """Warns where a network is no better than one that has learned nothing."""
    if experiment.config.data.synthetic:
        return  # In a dry run, there is nothing to learn.
    limit, uniform = chance_limit(experiment), math.log(experiment.dataset.num_classes)
    faults = []
    if not row["top1"] >= limit:
        faults.append(
            f"top-1 {row['top1']:.2f} % is no better than the {limit:.2f} % that "
            "always naming the commonest class may reach by luck"
        )
    if not row["nll"] <= uniform:
        faults.append(
            f"nll {row['nll']:.4g} is worse than the {uniform:.4g} of giving every "
            "class the same probability"
        )
    if faults:
        journal = experiment.journal
        journal.warn(f"{name}: {'; '.join(faults)}. Do not compare it as if it knew.")


def _on_calibration(experiment: Experiment, results: Figures) -> str:
    config = experiment.config
    if not config.calibrate or config.data.test_on == "holdout":
        return ""
    if not len(experiment.dataset.holdout):
        return (
            "Probabilities are as trained: no images are held out to calibrate them by "
            "(--config.data.holdout=0.02)"
        )
    found = [
        f"{run} {row['temperature']:.2f}, ece {row['ece_uncalibrated']:.1f} -> "
        f"{row['ece']:.1f} %"
        for run, row in results.items()
        if "temperature" in row
    ]
    held_out = f"{len(experiment.dataset.holdout):,} held-out training images"
    return f"Temperatures, by {held_out}: {'; '.join(found)}" if found else ""


def _describe(experiment: Experiment) -> str:
    config, dataset, mesh = experiment.config, experiment.dataset, experiment.mesh
    return (
        f"{len(dataset.train):,} training and {len(dataset.test):,} "
        f"{'held-out' if config.data.test_on == 'holdout' else 'test'} images of "
        f"{dataset.num_classes} classes; {experiment.num_steps:,} steps of "
        f"{config.batch_size} images a run on {mesh.size} "
        f"{mesh.devices.flat[0].device_kind} device(s)"
    )


def _show(experiment: Experiment) -> Figures:
    results = read_results(experiment.workdir)
    experiment.journal.table(results, _tested_on(experiment.config))
    if note := _on_calibration(experiment, results):
        experiment.journal.say(note)
    experiment.journal.say(f"Results, checkpoints and curves: {experiment.workdir}")
    return results
