"""The things that every run of a workdir shares, checked before any work is done."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import chex
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clonalnet_jax import data
from clonalnet_jax.models import create_model
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.runtime import partition
from clonalnet_jax.runtime.cores import usable_cores
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.state import PreprocessFn, TrainState
from clonalnet_jax.training import steps
from clonalnet_jax.training.checks import check_config, check_with_data
from clonalnet_jax.training.evaluation import collect_logits, summarise_batches
from clonalnet_jax.training.feed import Beside, Feed
from clonalnet_jax.weights import head_path
from clonalnet_jax.workdir.checkpoints import Meta
from clonalnet_jax.workdir.journal import Journal
from clonalnet_jax.workdir.meaning import name_experiment

# Streams of random numbers. A run draws its order, augmentation and initialisation from
# one of them. All runs but the baseline share the second.
BASELINE, OTHERS = 0, 1


_make_preprocess = made_once(data.make_preprocess)
_make_eval_step = made_once(steps.make_eval_step)
_make_predict_step = made_once(steps.make_predict_step)


class Experiment(NamedTuple):
    """The config and what it opens."""

    config: ConfigDict
    workdir: Path
    dataset: data.Dataset
    mesh: Mesh
    journal: Journal

    @property
    def steps_per_epoch(self) -> float:
        """Steps of an epoch, a fraction where the batch does not divide the data."""
        return len(self.dataset.train) / self.config.batch_size

    @property
    def num_steps(self) -> int:
        """Updates of every run: `config.steps`, or else those of `config.epochs`."""
        if self.config.steps is not None:
            return self.config.steps
        return max(1, round(self.config.epochs * self.steps_per_epoch))

    @property
    def curve_split(self) -> str:
        """The images of a curve's evaluations: `holdout` where some are held out."""
        held_out = len(self.dataset.holdout) or self.config.data.test_on == "holdout"
        return "holdout" if held_out else "test"

    def make_network(self, network: ConfigDict) -> Model:
        """Builds `config.baseline` or `config.clone` for the data's classes."""
        return create_model(
            network.model,
            self.dataset.num_classes,
            dtype=self.config.compute_dtype,
            **network.options,
        )

    def new_meta(self, method: str, network: ConfigDict) -> Meta:
        """Makes what a checkpoint of `config.baseline` or `.clone` says of itself."""
        return Meta(
            model=network.model,
            options=network.options.to_dict(),
            class_names=list(self.dataset.class_names),
            image_shape=list(self.dataset.image_shape),
            method=method,
            num_steps=self.num_steps,
            experiment=name_experiment(self.config),
        )

    def place_state(self, model: Model, shapes: TrainState) -> TrainState:
        """Shapes of a state, each with the sharding that `config.partition` means."""
        chosen = self.config.partition
        head = head_path(model, self.dataset.image_shape) if chosen.model > 1 else ()
        return partition.shard_state(self.mesh, shapes, fsdp=chosen.fsdp, head=head)

    def make_preprocess(self) -> PreprocessFn:
        """The config's augmentation and normalisation; see `data.make_preprocess`."""
        return _make_preprocess(
            **data.preprocess_options(self.config.data),
            num_classes=self.dataset.num_classes,
        )

    def keys(self, stream: int) -> tuple[chex.PRNGKey, chex.PRNGKey]:
        """Keys of initialisation and augmentation, on every device; see `BASELINE`."""
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
        """Brings a source's examples onto the devices."""
        config = self.config.data
        loading = data.Loading(
            shape=self.dataset.image_shape,
            on_error=config.on_error,
            # A cluster may give this process fewer cores than the machine has.
            threads=config.threads or usable_cores(),
            workers=config.workers,
        )
        return Feed(self.mesh, source, loading, self.journal.warn)

    def make_evaluator(
        self, model: Model
    ) -> Callable[[Any, data.Source], dict[str, float]]:
        """`(variables, source) -> metrics`, every example counted exactly once."""
        config = self.config
        step = partition.jit_eval_step(
            self.mesh, _make_eval_step(model, self.make_preprocess())
        )

        def evaluator(variables: Any, source: data.Source) -> dict[str, float]:
            batches = self.feed(source).once(batch_size=config.batch_size)
            return summarise_batches(step, variables, batches)

        return evaluator

    def make_predictor(
        self, model: Model
    ) -> Callable[[Any, data.Source], tuple[np.ndarray, np.ndarray]]:
        """`(variables, source) -> (logits, labels)`; see `collect_logits`."""
        batch_size = self.config.batch_size
        step = partition.jit_eval_step(
            self.mesh, _make_predict_step(model, self.make_preprocess())
        )

        def predictor(
            variables: Any, source: data.Source
        ) -> tuple[np.ndarray, np.ndarray]:
            batches = self.feed(source).once(batch_size=batch_size)
            return collect_logits(step, variables, batches)

        return predictor


def open_experiment(config: ConfigDict, workdir: Path) -> Experiment:
    """Checks a config against itself, the devices and the data; opens the data.

    Args:
      config: The whole config.
      workdir: Directory of the results; nothing is written yet.

    Returns:
      The experiment.

    Raises:
      UserError: A value is impossible or the data set cannot be used.
    """
    check_config(config)
    mesh = partition.make_mesh(model=config.partition.model)
    parts = config.accumulate_steps
    partition.check_batch_size(config.batch_size, mesh, parts=parts)
    dataset = data.open_dataset(config.data, seed=config.seed)
    experiment = Experiment(config, workdir, dataset, mesh, Journal(workdir))
    check_with_data(config, dataset, num_steps=experiment.num_steps)
    for note in dataset.notes:
        experiment.journal.warn(note)
    return experiment
