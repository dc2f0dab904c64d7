"""Pure functions of one step, closed over what is static: model, optimiser, loss.

They do no I/O and log nothing. A `partition.Layout` tells them all that they must know
about the devices. The module `partition` jits and shards them.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from clonalnet_jax.analysis.metrics import MetricSums, metric_sums
from clonalnet_jax.models import batch_norm, convolution, eval_logits
from clonalnet_jax.models.attention import attention_in_parts
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.models.vit import tokens_in_eights
from clonalnet_jax.models.wide_gradients import gradients_in_float32
from clonalnet_jax.runtime.partition import ANYWHERE, Layout
from clonalnet_jax.state import (
    AnswerFn,
    Batch,
    LossFn,
    Metrics,
    PreprocessFn,
    TrainState,
)

_DROPOUT = 0x64726F70  # A stream apart from those of the augmentation.


def init_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    key: chex.PRNGKey,
    image_shape: tuple[int, int, int],
    *,
    average: bool = False,
) -> TrainState:
    """Makes random parameters and a fresh state of the optimiser.

    Args:
      model: A network of `clonalnet_jax.models`.
      optimizer: An optax transformation.
      key: Random key of the initialisation.
      image_shape: `(height, width, channels)`.
      average: Whether the state carries a moving average.

    Returns:
      The state at step 0.
    """
    images = jnp.zeros((1, *image_shape), jnp.float32)
    variables = model.init(key, images, train=False)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )
    # The average is a copy, because one buffer must not be donated twice.
    copy = jax.tree.map(jnp.copy, state.trained) if average else {}
    return dataclasses.replace(state, average=copy)


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    loss_fn: LossFn,
    preprocess: PreprocessFn,
    answer: AnswerFn = lambda variables, images, packed: None,
    *,
    steps_per_epoch: float = 1.0,
    accumulate_steps: int = 1,
    ema_decay: float = 0.0,
    wide_gradients: bool = True,
    layout: Layout = ANYWHERE,
) -> Callable[[TrainState, Any, Batch, chex.PRNGKey], tuple[TrainState, Metrics]]:
    """Makes the function of one update: baseline, clone, loss, gradient, optimiser.

    Args:
      model: The network being trained.
      optimizer: An optax transformation.
      loss_fn: The loss, by named terms; see `state.LossFn`.
      preprocess: `(batch, key) -> (images, labels)`; see `data.make_preprocess`.
      answer: The function `(baseline_variables, images, packed) -> answer` of a
        `teacher.Teacher`. The images are the very ones that the clone sees. By default
        nobody answers.
      steps_per_epoch: Steps of an epoch, which the loss is told.
      accumulate_steps: Number of parts that the batch is computed in, one after the
        other. The gradient is the same and takes less memory, but batch norm sees each
        part alone.
      ema_decay: Decay of the moving average of the variables, reached after a warm-up
        of `(1 + step) / (10 + step)`. It is unused where the state carries no average.
      wide_gradients: Whether a network in bfloat16 has gradients in float32; see
        `models.wide_gradients`.
      layout: How the step is laid out for its devices; see `partition.layout_of`.

    Returns:
      `(state, baseline_variables, batch, key) -> (state, metrics)`; the metrics are
      scalars: The mean of each loss term, `top1` and `grad_norm`.
    """

    def gradient_of(
        params: chex.ArrayTree,
        baseline_variables: Any,
        epoch: Array,
        batch_stats: chex.ArrayTree,
        part: tuple[Array, Array, Any, chex.PRNGKey],
    ) -> tuple[chex.ArrayTree, tuple[chex.ArrayTree, Metrics]]:
        """Returns new statistics, and the means of gradient and metrics."""
        images, labels, packed, dropout_key = part
        labels = layout.shard_logits(labels)
        # A profile shows this name.
        with jax.named_scope("baseline"), _transformers_as(layout):
            of_baseline = jax.tree.map(
                lambda x: layout.shard_logits(jax.lax.stop_gradient(x)),
                answer(baseline_variables, images, packed),
            )

        def objective(params: chex.ArrayTree) -> tuple[Array, tuple[Any, ...]]:
            with (
                convolution.gradients_in_parts(layout.gradients_in_parts),
                batch_norm.statistics_in_one_pass(layout.statistics_in_one_pass),
                _transformers_as(layout),
                gradients_in_float32(wide_gradients, add_up=layout.add_up),
            ):
                logits, updated = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    images,
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": dropout_key},
                )
            logits = layout.shard_logits(logits)
            with jax.named_scope("loss"):
                terms = loss_fn(logits, of_baseline, labels, epoch)
            return jnp.mean(terms["loss"]), (terms, logits, updated)

        gradient, (terms, logits, updated) = jax.grad(objective, has_aux=True)(params)
        metrics = {name: jnp.mean(term) for name, term in terms.items()}
        likeliest = jnp.argmax(labels, axis=-1) if labels.ndim == 2 else labels
        metrics["top1"] = jnp.mean(jnp.argmax(logits, axis=-1) == likeliest)
        return updated.get("batch_stats", {}), (gradient, metrics)

    def train_step(
        state: TrainState, baseline_variables: Any, batch: Batch, key: chex.PRNGKey
    ) -> tuple[TrainState, Metrics]:
        examples = (*preprocess(batch, key), batch.get("answers"))
        # Of the step alone, so that a run that resumes drops the same.
        dropout = jax.random.fold_in(jax.random.fold_in(key, _DROPOUT), state.step)
        epoch = state.step.astype(jnp.float32) / steps_per_epoch
        of_part = partial(gradient_of, state.params, baseline_variables, epoch)
        if accumulate_steps == 1:
            part = (*examples, dropout)
            batch_stats, (gradient, metrics) = of_part(state.batch_stats, part)
        else:
            dropouts = jax.random.split(dropout, accumulate_steps)
            batch_stats, gathered = jax.lax.scan(
                of_part,
                state.batch_stats,
                (*_split(examples, accumulate_steps), dropouts),
                unroll=not layout.loops_are_fast,
            )
            gradient, metrics = jax.tree.map(lambda x: jnp.mean(x, 0), gathered)
        metrics["grad_norm"] = optax.tree.norm(gradient)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(
                gradient, state.opt_state, state.params
            )
            params = optax.apply_updates(state.params, updates)
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        if state.average:
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            new_state = dataclasses.replace(
                new_state,
                average=optax.incremental_update(
                    new_state.trained, state.average, 1.0 - decay
                ),
            )
        return new_state, metrics

    return train_step


@flax.struct.dataclass
class PackedMetrics:
    """The metrics of one or several steps, in one array for one transfer to the host.

    Attributes:
      values: The metrics, `[..., metrics]`.
      names: Names of the metrics, in their order.
    """

    values: Array
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)

    def by_step(self) -> Iterator[dict[str, float]]:
        """Yields the metrics of each step. The values must be on the host."""
        for row in np.atleast_2d(self.values).tolist():
            yield dict(zip(self.names, row, strict=True))


@contextlib.contextmanager
def _transformers_as(layout: Layout) -> Iterator[None]:
    with (
        tokens_in_eights(layout.tokens_in_eights),
        attention_in_parts(layout.attention_in_parts),
    ):
        yield


def pack_metrics(
    train_step: Callable[..., tuple[TrainState, Metrics]],
) -> Callable[..., tuple[TrainState, PackedMetrics]]:
    """Makes a step, or several, return their metrics in one array."""

    def packed(*arguments: Any) -> tuple[TrainState, PackedMetrics]:
        state, metrics = train_step(*arguments)
        values = jnp.stack(list(metrics.values()), axis=-1)
        return state, PackedMetrics(values, tuple(metrics))

    # Profiles and logs of compilations show this name.
    packed.__name__ = train_step.__name__
    return packed


def make_many_steps(
    train_step: Callable[..., tuple[TrainState, Metrics]],
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Makes one program of several steps, for devices that would wait for their host.

    Args:
      train_step: A step of `make_train_step`.

    Returns:
      `(state, baseline_variables, batches, key) -> (state, metrics)`, where `batches`
      is a sequence; each of the metrics is `[len(batches)]`.
    """

    def many_steps(
        state: TrainState,
        baseline_variables: Any,
        batches: Sequence[Batch],
        key: chex.PRNGKey,
    ) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            return train_step(state, baseline_variables, batch, key)

        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
        return jax.lax.scan(body, state, stacked)

    return many_steps


def _split(examples: chex.ArrayTree, parts: int) -> chex.ArrayTree:
    """Reshapes `[b, ...]` to `[parts, b / parts, ...]`; devices keep their examples."""

    def split(x: Array) -> Array:
        return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)

    return jax.tree.map(split, examples)


def make_eval_step(
    model: Model, preprocess: PreprocessFn
) -> Callable[[Any, Batch], MetricSums]:
    """Makes the evaluation of one padded batch.

    Args:
      model: The network.
      preprocess: The function of `make_train_step`; it is called with key None.

    Returns:
      `(variables, batch) -> MetricSums`; examples whose `mask` is 0 do not count.
    """

    def eval_step(variables: Any, batch: Batch) -> MetricSums:
        images, labels = preprocess(batch, None)
        return metric_sums(eval_logits(model, variables, images), labels, batch["mask"])

    return eval_step


def make_predict_step(
    model: Model, preprocess: PreprocessFn
) -> Callable[[Any, Batch], tuple[Array, Array, Array]]:
    """Makes the prediction of one padded batch; see `evaluation.collect_logits`.

    Args:
      model: The network.
      preprocess: The function of `make_train_step`; it is called with key None.

    Returns:
      `(variables, batch) -> (logits, labels, mask)`.
    """

    def predict_step(variables: Any, batch: Batch) -> tuple[Array, Array, Array]:
        images, labels = preprocess(batch, None)
        return eval_logits(model, variables, images), labels, batch["mask"]

    return predict_step


def all_finite(tree: chex.ArrayTree) -> Array:
    """Whether every floating value of a tree is finite, as one boolean on device."""
    floating = [
        x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floating]))
