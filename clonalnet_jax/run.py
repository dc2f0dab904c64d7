"""The training loop of one run: step, log, evaluate, save, and resume."""

import dataclasses
import math
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clonalnet_jax import partition, steps
from clonalnet_jax.baseline import Teacher
from clonalnet_jax.checkpoints import Checkpoints, Meta
from clonalnet_jax.errors import UserError
from clonalnet_jax.experiment import Experiment
from clonalnet_jax.methods import LossFn
from clonalnet_jax.optimizers import make_optimizer, make_schedule
from clonalnet_jax.state import TrainState, Variables


def train_run(
    experiment: Experiment,
    name: str,
    *,
    network: ConfigDict,
    loss_fn: LossFn,
    baseline: Teacher | None,
    start: Callable[[], Variables | None] = lambda: None,
) -> bool:
    """Trains one network to its last step, from its last checkpoint if it has one.

    All runs but the baseline share data order, augmentation and initialisation, so
    that they differ by their loss alone.

    Args:
      experiment: config and data.
      name: of the run and of its directory.
      network: `config.baseline` or `config.clone`.
      loss_fn: see `methods.LossFn`.
      baseline: whose logits the loss is given; None where it needs none.
      start: gives variables to begin with instead of random ones, or None; what they
        lack is random. Not called where a checkpoint is resumed.

    Returns:
      Whether anything was left to train.

    Raises:
      UserError: the loss is not finite, or a checkpoint cannot be written or read.
    """
    config, mesh = experiment.config, experiment.mesh
    model = experiment.make_network(network)
    schedule = make_schedule(
        config.optimizer,
        num_steps=experiment.num_steps,
        steps_per_epoch=experiment.steps_per_epoch,
    )
    optimizer = make_optimizer(config.optimizer, schedule)
    train_step = partition.jit_train_step(
        mesh,
        steps.make_train_step(
            model,
            optimizer,
            loss_fn,
            experiment.make_prepare(),
            baseline=baseline.forward if baseline else None,
        ),
    )
    stream = 0 if name == "baseline" else 1
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), stream))
    init_key, augment_key = partition.replicate(mesh, (keys[0], keys[1]))
    variables = baseline.variables if baseline else {}

    def init(key: jax.Array) -> TrainState:
        return steps.init_state(model, optimizer, key, experiment.dataset.image_shape)

    with Checkpoints(experiment.workdir / name) as checkpoints:
        warn = experiment.reporter.warn
        meta = experiment.new_meta(name, network)
        like = jax.eval_shape(init, init_key)
        saved = checkpoints.restore(mesh, like, meta, warn=warn)
        meta = saved[1] if saved else meta
        if meta.step >= experiment.num_steps:
            experiment.reporter.say(f"{name}: trained already, {meta.step} steps")
            return False
        _loop(
            experiment,
            saved[0] if saved else _first_state(mesh, init, init_key, start()),
            lambda state, batch: train_step(state, variables, batch, augment_key),
            seed=2 * config.seed + stream,
            recorder=_Recorder(experiment, meta, schedule),
            evaluator=experiment.make_evaluator(model),
            checkpoints=checkpoints,
        )
    return True


def _loop(
    experiment: Experiment,
    state: TrainState,
    train_step: Callable[[TrainState, steps.Batch], tuple[TrainState, steps.Metrics]],
    *,
    seed: int,
    recorder: "_Recorder",
    evaluator: Callable[..., dict[str, float]],
    checkpoints: Checkpoints,
) -> None:
    start, last = recorder.meta.step, experiment.num_steps
    epochs = experiment.config.checkpoint_every_epochs
    interval = max(1, round(epochs * experiment.steps_per_epoch))
    split = "holdout" if len(experiment.dataset.holdout) else "test"
    reporter = experiment.reporter
    reporter.start_run(recorder.meta.method, num_steps=last, step=start)
    try:
        batches = experiment.train_batches(seed=seed, start_step=start)
        for step, batch in enumerate(batches, start=start + 1):
            state, metrics = train_step(state, batch)
            recorder.add(step, metrics)
            if step % interval and step < last:
                continue
            recorder.flush()
            recorder.check_state(state)
            scores = evaluator(state.variables, getattr(experiment.dataset, split))
            reporter.log(split, step, scores)
            checkpoints.save(state, recorder.meta, scores)
            recorder.restart_clock()
    finally:
        reporter.end_run()


def _first_state(
    mesh: Mesh,
    init: Callable[[jax.Array], TrainState],
    key: jax.Array,
    start: Variables | None,
) -> TrainState:
    """A state at step 0, its variables replaced by those given."""
    state = partition.jit_init(mesh, init)(key)
    if start is None:
        return state
    given = partition.replicate(mesh, flatten_dict(dict(start)))
    variables = unflatten_dict(flatten_dict(state.variables) | given)
    # A fresh optimiser knows nothing of the parameters' values.
    return state.replace(**variables)


class _Recorder:
    """Gathers step metrics on the device and looks at them once in a while."""

    def __init__(
        self, experiment: Experiment, meta: Meta, schedule: optax.Schedule
    ) -> None:
        self.meta = meta
        self._experiment = experiment
        self._schedule = schedule
        self._pending: list[steps.Metrics] = []
        self._compiled = False
        self._seconds_before = meta.train_seconds
        self._start = self._clock = time.perf_counter()

    def add(self, step: int, metrics: steps.Metrics) -> None:
        """Takes the metrics of a step; logs where `config.log_every_steps` says so."""
        self._pending.append(metrics)
        if len(self._pending) > partition.LEAD:
            jax.block_until_ready(self._pending[-1 - partition.LEAD])
        self.meta = dataclasses.replace(self.meta, step=step)
        self._experiment.reporter.advance(step)
        if not self._compiled:
            # The first step of a process is its compilation, which is no throughput.
            jax.block_until_ready(metrics)
            self._compiled = True
            self.restart_clock()
        if step % self._experiment.config.log_every_steps == 0:
            self.flush()

    def flush(self) -> None:
        """Logs the means since the last flush; stops at a loss that is not finite."""
        if not self._pending:
            return
        rows = jax.device_get(self._pending)
        seconds = time.perf_counter() - self._clock
        meta, first = self.meta, self.meta.step - len(rows) + 1
        for step, row in enumerate(rows, start=first):
            for name in ("loss", "grad_norm"):
                if not math.isfinite(row[name]):
                    raise self._not_finite(f"{name} {row[name]}", step)
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        images = len(rows) * self._experiment.config.batch_size
        self._experiment.reporter.log(
            "train",
            meta.step,
            {
                **means,
                "top1": 100 * means["top1"],
                "learning_rate": float(self._schedule(meta.step - 1)),
                "epoch": meta.step / self._experiment.steps_per_epoch,
                "images_per_second": images / seconds,
            },
        )
        self._pending = []
        self.meta = dataclasses.replace(
            meta,
            train_seconds=self._seconds_before + time.perf_counter() - self._start,
            timed_images=meta.timed_images + images,
            timed_seconds=meta.timed_seconds + seconds,
        )
        self.restart_clock()

    def check_state(self, state: TrainState) -> None:
        """Refuses to let a broken state be saved."""
        if not _all_finite(state.variables):
            raise self._not_finite("a parameter that is not finite", self.meta.step)

    def restart_clock(self) -> None:
        """Leaves the time since the last step (evaluation, saving) out."""
        self._clock = time.perf_counter()

    def _not_finite(self, what: str, step: int) -> UserError:
        rate = float(self._schedule(step - 1))
        directory = self._experiment.workdir / self.meta.method
        return UserError(
            f"training of {self.meta.method} broke down",
            got=f"{what} at step {step}, learning rate {rate:.3g}",
            expected="finite values",
            remedy="lower --config.optimizer.learning_rate or add "
            "--config.optimizer.warmup_epochs, with another --workdir; checkpoints "
            f"before that step are whole, in {directory}",
        )


_all_finite = jax.jit(steps.all_finite)
