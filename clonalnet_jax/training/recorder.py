"""Takes the metrics of steps from the device to the journal."""

import dataclasses
import math
import time

import jax
import numpy as np
import optax

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.state import TrainState
from clonalnet_jax.training import steps
from clonalnet_jax.training.experiment import Experiment
from clonalnet_jax.workdir.checkpoints import Meta


class BrokeDownError(UserError):
    """Training came to a value that is not finite."""


class Recorder:
    """Gathers step metrics on the device and looks at them once in a while."""

    def __init__(
        self, experiment: Experiment, meta: Meta, schedule: optax.Schedule
    ) -> None:
        """Begins at the step of `meta`; the schedule tells the learning rates."""
        self.meta = meta
        self._experiment = experiment
        self._schedule = jax.jit(schedule)
        self._pending: list[steps.PackedMetrics] = []
        self._compiled = False
        self._seconds_before = meta.train_seconds
        self._start = self._clock = time.perf_counter()

    def add(self, metrics: steps.PackedMetrics, count: int) -> None:
        """Takes the metrics of a call of `count` steps; logs where the config says."""
        self._pending.append(metrics)
        if len(self._pending) > partition.LEAD:
            jax.block_until_ready(self._pending[-1 - partition.LEAD])
        step = self.meta.step + count
        self.meta = dataclasses.replace(self.meta, step=step)
        self._experiment.journal.advance(step)
        if not self._compiled:
            # The first call of a process includes compilation, which is no throughput.
            jax.block_until_ready(metrics)
            self._compiled = True
            self.restart_clock()
        if step % self._experiment.config.log_every_steps == 0:
            self.flush()

    def flush(self) -> None:
        """Logs the means since the last flush; stops at a loss that is not finite."""
        if not self._pending:
            return
        rows = [row for call in jax.device_get(self._pending) for row in call.by_step()]
        seconds = time.perf_counter() - self._clock
        meta, first = self.meta, self.meta.step - len(rows) + 1
        for step, row in enumerate(rows, start=first):
            for name in ("loss", "grad_norm"):
                if not math.isfinite(row[name]):
                    raise self._not_finite(f"{name} {row[name]}", step)
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        images = len(rows) * self._experiment.config.batch_size
        self._experiment.journal.log(
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
        if not all_finite((state.trained, state.average)):
            raise self._not_finite("a parameter that is not finite", self.meta.step)

    def restart_clock(self) -> None:
        """Leaves the time since the last step (evaluation, saving) out."""
        self._clock = time.perf_counter()

    def _not_finite(self, what: str, step: int) -> BrokeDownError:
        rate = float(self._schedule(step - 1))
        directory = self._experiment.workdir / self.meta.method
        return BrokeDownError(
            f"training of {self.meta.method} broke down",
            got=f"{what} at step {step}, learning rate {rate:.3g}",
            expected="finite values",
            remedy="lower --config.optimizer.learning_rate or add "
            "--config.optimizer.warmup_epochs, with another --workdir; checkpoints "
            f"before that step are whole, in {directory}",
        )


all_finite = jax.jit(steps.all_finite)
"""`steps.all_finite`, compiled."""
