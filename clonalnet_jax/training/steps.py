"""Pure step functions, closed over what is static (model, optimiser, loss).

They do no I/O and log nothing. What they must know of the devices is one value, a
`partition.Layout`; `partition` jits and shards them.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from clonalnet_jax.analysis.metrics import MetricSums, metric_sums
from clonalnet_jax.models import convolution, eval_logits
from clonalnet_jax.runtime.partition import ANYWHERE, Layout
from clonalnet_jax.state import (
    AnswerFn,
    Batch,
    LossFn,
    Metrics,
    PreprocessFn,
    TrainState,
)


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: chex.PRNGKey,
    image_shape: tuple[int, int, int],
    *,
    average: bool = False,
) -> TrainState:
    """Random parameters and a fresh optimiser.

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
    # A copy: two outputs of one program must not be one buffer when they are donated.
    copy = jax.tree.map(jnp.copy, state.trained) if average else {}
    return dataclasses.replace(state, average=copy)


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss_fn: LossFn,
    preprocess: PreprocessFn,
    answer: AnswerFn = lambda variables, images, packed: None,
    *,
    accumulate_steps: int = 1,
    ema_decay: float = 0.0,
    layout: Layout = ANYWHERE,
) -> Callable[[TrainState, Any, Batch, chex.PRNGKey], tuple[TrainState, Metrics]]:
    """One update: baseline forward (frozen), clone forward, gradient, optimiser.

      model: The network being trained.
      optimizer: An optax transformation.
      loss_fn: Logits, the baseline's answer and labels to named terms; see
        `state.LossFn`.
      preprocess: `(batch, key) -> (images, labels)`; see `data.make_preprocess`.
      answer: `(baseline_variables, images, packed)` to what the loss is told of the
        baseline, on the very images that the clone sees; a `teacher.Teacher` has one.
        By default nobody answers.
      accumulate_steps: Number of parts that the batch is computed in, one after the
        other: the same gradient with less memory, but batch norm sees each part alone.
      ema_decay: Decay of the moving average of the variables, reached after a warm-up
        of `(1 + step) / (10 + step)`. It is unused where the state carries no average.
      layout: How the step is laid out for its devices; see `partition.layout_of`.

    Returns:
      `(state, baseline_variables, batch, key) -> (state, metrics)`; the metrics are
      scalars: the mean of each loss term, `top1` and `grad_norm`.
    """

    def gradient_of(
        params: chex.ArrayTree,
        baseline_variables: Any,
        batch_stats: chex.ArrayTree,
        part: tuple[Array, Array, Any],
    ) -> tuple[chex.ArrayTree, tuple[chex.ArrayTree, Metrics]]:
        """Updated statistics; gradient and metrics, both means over the part."""
        images, labels, packed = part
        with jax.named_scope("baseline"):  # The name is what a profile shows.
            of_baseline = jax.tree.map(
                lambda x: layout.shard_logits(jax.lax.stop_gradient(x)),
                answer(baseline_variables, images, packed),
            )

        def objective(params: chex.ArrayTree) -> tuple[Array, tuple[Any, ...]]:
            with convolution.gradients_in_parts(layout.gradients_in_parts):
                logits, updated = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    images,
                    train=True,
                    mutable=["batch_stats"],
                )
            logits = layout.shard_logits(logits)
            with jax.named_scope("loss"):
                terms = loss_fn(logits, of_baseline, labels)
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
        of_part = partial(gradient_of, state.params, baseline_variables)
        if accumulate_steps == 1:
            batch_stats, (gradient, metrics) = of_part(state.batch_stats, examples)
        else:
            batch_stats, gathered = jax.lax.scan(
                of_part,
                state.batch_stats,
                _split(examples, accumulate_steps),
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
    """Metrics of a step, or of several, that are one transfer to the host.

    Attributes:
      values: The metrics, `[..., metrics]`.
      names: Names of the metrics, in their order.
    """

    values: Array
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)

    def by_step(self) -> Iterator[dict[str, float]]:
        """The metrics of each step, of values that are on the host."""
        for row in np.atleast_2d(self.values).tolist():
            yield dict(zip(self.names, row, strict=True))


def pack_metrics(
    train_step: Callable[..., tuple[TrainState, Metrics]],
) -> Callable[..., tuple[TrainState, PackedMetrics]]:
    """The same step or steps, with their metrics in one array."""

    def packed(*arguments: Any) -> tuple[TrainState, PackedMetrics]:
        state, metrics = train_step(*arguments)
        values = jnp.stack(list(metrics.values()), axis=-1)
        return state, PackedMetrics(values, tuple(metrics))

    # A program's name is what a profile and a log of compilations show.
    packed.__name__ = train_step.__name__
    return packed


def make_many_steps(
    train_step: Callable[..., tuple[TrainState, Metrics]],
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Several steps as one program, for devices that wait for their host.

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
    """`[b, ...]` to `[parts, b / parts, ...]`; every device keeps its own examples."""

    def split(x: Array) -> Array:
        return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)

    return jax.tree.map(split, examples)


def make_eval_step(
    model: nn.Module, preprocess: PreprocessFn
) -> Callable[[Any, Batch], MetricSums]:
    """Evaluation of one padded batch.

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
    model: nn.Module, preprocess: PreprocessFn
) -> Callable[[Any, Batch], tuple[Array, Array, Array]]:
    """Prediction of one padded batch; see `evaluation.collect_logits`.

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
