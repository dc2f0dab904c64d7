"""What every run of a workdir shares, checked once before any work is done."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import chex
import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clonalnet_jax import data
from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models import create_model
from clonalnet_jax.runtime import partition
from clonalnet_jax.runtime.cores import usable_cores
from clonalnet_jax.state import PreprocessFn, TrainState
from clonalnet_jax.training import steps
from clonalnet_jax.training.evaluation import collect_logits, evaluate
from clonalnet_jax.training.feed import Beside, Feed
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.training.optimizers import make_optimizer, make_schedule
from clonalnet_jax.weights import head_path
from clonalnet_jax.workdir.checkpoints import Meta
from clonalnet_jax.workdir.journal import Journal

_DTYPES = ("float32", "bfloat16")

# What a run draws its order, augmentation and initialisation from.
BASELINE, OTHERS = 0, 1


class Experiment(NamedTuple):
    """The config and what it opens."""

    config: ConfigDict
    workdir: Path
    dataset: data.Dataset
    mesh: Mesh
    journal: Journal

    @property
    def steps_per_epoch(self) -> float:
        """Fractional where the batch does not divide the training data."""
        return len(self.dataset.train) / self.config.batch_size

    @property
    def num_steps(self) -> int:
        """Updates of every run: `config.steps`, else `config.epochs`."""
        if self.config.steps is not None:
            return self.config.steps
        return max(1, round(self.config.epochs * self.steps_per_epoch))

    def make_network(self, network: ConfigDict) -> nn.Module:
        """Builds `config.baseline` or `config.clone` for the data's classes."""
        return create_model(
            network.model,
            self.dataset.num_classes,
            dtype=self.config.compute_dtype,
            **network.options,
        )

    def new_meta(self, method: str, network: ConfigDict) -> Meta:
        """What a checkpoint of `config.baseline` or `config.clone` says of itself."""
        return Meta(
            model=network.model,
            options=network.options.to_dict(),
            class_names=list(self.dataset.class_names),
            image_shape=list(self.dataset.image_shape),
            method=method,
            num_steps=self.num_steps,
        )

    def place_state(self, model: nn.Module, shapes: TrainState) -> TrainState:
        """Shapes of a state with where `config.partition` puts them."""
        chosen = self.config.partition
        head = head_path(model, self.dataset.image_shape) if chosen.model > 1 else ()
        return partition.shard_state(self.mesh, shapes, fsdp=chosen.fsdp, head=head)

    def make_preprocess(self) -> PreprocessFn:
        """The config's augmentation and normalisation; see `data.make_preprocess`."""
        return data.make_preprocess(
            **data.preprocess_options(self.config.data),
            num_classes=self.dataset.num_classes,
        )

    def keys(self, stream: int) -> tuple[chex.PRNGKey, chex.PRNGKey]:
        """Of initialisation and augmentation, on every device; see `BASELINE`."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), stream)
        keys = jax.random.split(key)
        return cast(Any, partition.replicate(self.mesh, (keys[0], keys[1])))

    def train_batches(
        self, *, stream: int, start_step: int, beside: Beside | None = None
    ) -> Iterator[Any]:
        """Sharded training batches from a step to the end of the run."""
        return self.feed(self.dataset.train).train(
            batch_size=self.config.batch_size,
            seed=2 * self.config.seed + stream,
            start_step=start_step,
            num_steps=self.num_steps,
            beside=beside,
        )

    def feed(self, source: data.Source) -> Feed:
        """The way of a source's examples onto the devices."""
        config = self.config.data
        loading = data.Loading(
            shape=self.dataset.image_shape,
            on_error=config.on_error,
            # Those that this process may use, which a cluster limits.
            threads=config.threads or usable_cores(),
            workers=config.workers,
        )
        return Feed(self.mesh, source, loading, self.journal.warn)

    def make_evaluator(
        self, model: nn.Module
    ) -> Callable[[Any, data.Source], dict[str, float]]:
        """`(variables, source) -> metrics`, every example counted exactly once."""
        config = self.config
        step = partition.jit_eval_step(
            self.mesh, steps.make_eval_step(model, self.make_preprocess())
        )

        def evaluator(variables: Any, source: data.Source) -> dict[str, float]:
            batches = self.feed(source).evaluate(batch_size=config.batch_size)
            return evaluate(step, variables, batches)

        return evaluator

    def make_predictor(
        self, model: nn.Module
    ) -> Callable[[Any, data.Source], tuple[np.ndarray, np.ndarray]]:
        """`(variables, source) -> (logits, labels)`; see `collect_logits`."""
        batch_size = self.config.batch_size
        step = partition.jit_eval_step(
            self.mesh, steps.make_predict_step(model, self.make_preprocess())
        )

        def predictor(
            variables: Any, source: data.Source
        ) -> tuple[np.ndarray, np.ndarray]:
            batches = self.feed(source).evaluate(batch_size=batch_size)
            return collect_logits(step, variables, batches)

        return predictor


def open_experiment(config: ConfigDict, workdir: Path) -> Experiment:
    """Checks a config against itself, the devices and the data; opens the data.

    Args:
      config: the whole config.
      workdir: where results will lie; nothing is written yet.

    Returns:
      The experiment.

    Raises:
      UserError: a value is impossible or the data set cannot be used.
    """
    mesh = partition.make_mesh(model=config.partition.model)
    _check_values(config, mesh)
    dataset = data.open_dataset(config.data, seed=config.seed)
    if config.batch_size > len(dataset.train):
        raise UserError(
            "config.batch_size",
            got=str(config.batch_size),
            expected=f"at most the {len(dataset.train)} training images",
            remedy="set a smaller --config.batch_size or add images",
        )
    experiment = Experiment(config, workdir, dataset, mesh, Journal(workdir))
    for note in dataset.notes:
        experiment.journal.warn(note)
    for network in (config.baseline, config.clone):
        experiment.make_network(network)
    return experiment


def _check_values(config: ConfigDict, mesh: Mesh) -> None:
    """Everything that can be known to be wrong before the data are read."""
    parts = max(1, config.accumulate_steps)
    partition.check_batch_size(config.batch_size, mesh, parts=parts)
    if not 0 <= config.ema_decay < 1:
        raise UserError(
            "config.ema_decay",
            got=str(config.ema_decay),
            expected="0 for none, or below 1",
            remedy="set --config.ema_decay=0.999",
        )
    if config.compute_dtype not in _DTYPES:
        raise unknown_name("config.compute_dtype", config.compute_dtype, _DTYPES)
    if config.select not in ("last", "best"):
        raise unknown_name("config.select", config.select, ("last", "best"))
    if config.select == "best" and not config.data.holdout:
        raise UserError(
            "config.select",
            got="'best' with config.data.holdout = 0",
            expected="training images to pick by: never the data that is reported on",
            remedy="set --config.data.holdout, or --config.select=last",
        )
    baseline = config.baseline
    if baseline.compute_dtype not in (None, *_DTYPES):
        raise unknown_name(
            "config.baseline.compute_dtype", baseline.compute_dtype, _DTYPES
        )
    if baseline.checkpoint is not None and baseline.weights is not None:
        raise UserError(
            "config.baseline",
            got="both checkpoint and weights",
            expected="one of them, or neither to train the baseline",
            remedy="leave one of them out",
        )
    for method in config.methods:
        make_method(method, config)
    make_optimizer(
        config.optimizer,
        make_schedule(config.optimizer, num_steps=2, steps_per_epoch=1.0),
    )
    if baseline.cache not in ("none", "views", "images"):
        raise unknown_name(
            "config.baseline.cache", baseline.cache, ("none", "views", "images")
        )
    if baseline.cache == "images" and config.data.on_error == "skip":
        raise UserError(
            "config.baseline.cache",
            got="'images' with config.data.on_error = 'skip'",
            expected="an answer for every image",
            remedy="set --config.baseline.cache=views or --config.data.on_error=raise",
        )
    positive = {
        "steps": config.steps if config.steps is not None else 1,
        "epochs": config.epochs,
        "log_every_steps": config.log_every_steps,
        "checkpoint_every_epochs": config.checkpoint_every_epochs,
        "accumulate_steps": config.accumulate_steps,
        "baseline.cache_top_k": baseline.cache_top_k,
        "steps_per_call": config.steps_per_call,
        "optimizer.clip_norm": 1
        if config.optimizer.clip_norm is None
        else config.optimizer.clip_norm,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "loss.temperature": config.loss.temperature,
        "distillation.temperature": config.distillation.temperature,
        "dkd.temperature": config.dkd.temperature,
        "logit_standardisation.temperature": config.logit_standardisation.temperature,
    }
    for key, value in positive.items():
        if not value > 0:
            raise UserError(
                f"config.{key}",
                got=str(value),
                expected="a number above 0",
                remedy=f"set --config.{key}",
            )
