"""Pure step functions, closed over what is static (model, optimiser, loss).

No I/O, no logging, no devices: `partition` jits and shards them.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from clonalnet_jax.data.augment import PrepareFn
from clonalnet_jax.evaluation import MetricSums, metric_sums
from clonalnet_jax.methods import LossFn
from clonalnet_jax.state import TrainState

Batch = Mapping[str, Array]
Metrics = dict[str, Array]
ForwardFn = Callable[[Any, Float[Array, "b h w c"]], Float[Array, "b classes"]]


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: chex.PRNGKey,
    image_shape: tuple[int, int, int],
) -> TrainState:
    """Random parameters and a fresh optimiser.

    Args:
      model: a network of `clonalnet_jax.models`.
      optimizer: an optax transformation.
      key: of the initialisation.
      image_shape: `(height, width, channels)`.

    Returns:
      The state at step 0.
    """
    images = jnp.zeros((1, *image_shape), jnp.float32)
    variables = model.init(key, images, train=False)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss_fn: LossFn,
    prepare: PrepareFn,
    baseline: ForwardFn | None = None,
) -> Callable[[TrainState, Any, Batch, chex.PRNGKey], tuple[TrainState, Metrics]]:
    """One update: baseline forward (frozen), clone forward, gradient, optimiser.

    Args:
      model: the network being trained.
      optimizer: an optax transformation.
      loss_fn: see `methods.LossFn`.
      prepare: `(batch, key) -> (images, labels)`; see `data.make_prepare`.
      baseline: `(baseline_variables, images) -> logits` of the frozen network, in eval
        mode; it sees the very images that the clone sees. None where the loss needs
        none.

    Returns:
      `(state, baseline_variables, batch, key) -> (state, metrics)`; the metrics are
      scalars: the mean of each loss term, `top1` and `grad_norm`.
    """

    def train_step(
        state: TrainState, baseline_variables: Any, batch: Batch, key: chex.PRNGKey
    ) -> tuple[TrainState, Metrics]:
        images, labels = prepare(batch, key)
        baseline_logits = None
        if baseline is not None:
            baseline_logits = jax.lax.stop_gradient(
                baseline(baseline_variables, images)
            )

        def objective(params: chex.ArrayTree) -> tuple[Array, tuple[Any, ...]]:
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            terms = loss_fn(logits, baseline_logits, labels)
            return jnp.mean(terms["loss"]), (terms, logits, updated)

        gradient, (terms, logits, updated) = jax.grad(objective, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=updated.get("batch_stats", {}),
            opt_state=opt_state,
        )
        metrics = {name: jnp.mean(term) for name, term in terms.items()}
        likeliest = jnp.argmax(labels, axis=-1) if labels.ndim == 2 else labels
        metrics["top1"] = jnp.mean(jnp.argmax(logits, axis=-1) == likeliest)
        metrics["grad_norm"] = optax.tree.norm(gradient)
        return new_state, metrics

    return train_step


def predict(
    model: nn.Module, variables: Any, images: Float[Array, "b h w c"]
) -> Float[Array, "b classes"]:
    """Logits in eval mode: running statistics, nothing random, nothing updated."""
    return cast(Array, model.apply(variables, images, train=False))


def make_eval_step(
    model: nn.Module, prepare: PrepareFn
) -> Callable[[Any, Batch], MetricSums]:
    """Evaluation of one padded batch.

    Args:
      model: the network.
      prepare: as `make_train_step`; called with key None.

    Returns:
      `(variables, batch) -> MetricSums`; examples whose `mask` is 0 do not count.
    """

    def eval_step(variables: Any, batch: Batch) -> MetricSums:
        images, labels = prepare(batch, None)
        return metric_sums(predict(model, variables, images), labels, batch["mask"])

    return eval_step


def make_predict_step(
    model: nn.Module, prepare: PrepareFn
) -> Callable[[Any, Batch], tuple[Array, Array, Array]]:
    """Prediction of one padded batch; see `evaluation.collect_logits`.

    Args:
      model: the network.
      prepare: as `make_train_step`; called with key None.

    Returns:
      `(variables, batch) -> (logits, labels, mask)`.
    """

    def predict_step(variables: Any, batch: Batch) -> tuple[Array, Array, Array]:
        images, labels = prepare(batch, None)
        return predict(model, variables, images), labels, batch["mask"]

    return predict_step


def all_finite(tree: chex.ArrayTree) -> Array:
    """Whether every floating value of a tree is finite, as one boolean on device."""
    floating = [
        x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floating]))
