"""NumPy references written from the definitions, and what the losses' tests share."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from clonalnet_jax import losses
from clonalnet_jax.losses import focusing_picking_loss


def softmax(x):
    odds = np.exp(x - x.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def reference_warm(b, y, temperature=2.0):
    """Label by label: equal weights over the baseline's own set and this label."""
    own = softmax(b / temperature) > 1 / b.shape[-1]
    warm = np.zeros(y.shape)
    for label in np.flatnonzero((y != 0).any(tuple(range(y.ndim - 1)))):
        members = own.copy()
        members[..., label] = True
        equal = members / members.sum(-1, keepdims=True)
        warm += y[..., label : label + 1] * equal
    return warm


def reference_terms(z, b, y, temperature=2.0, eps=0.1):
    """Term by term from the method's definition; y is a distribution."""
    smoothed = (1 - eps) * y + eps / z.shape[-1]
    classification = -(smoothed * log_softmax(z + softmax(z) - softmax(b))).sum(-1)
    attention = -(reference_warm(b, y, temperature) * log_softmax(z)).sum(-1)
    negentropy = (softmax(z) * log_softmax(z)).sum(-1)
    return classification, attention, negentropy


def reference_loss(z, b, y, alpha=1.0, beta=1.0, **kwargs):
    classification, attention, negentropy = reference_terms(z, b, y, **kwargs)
    return classification + alpha * attention + beta * negentropy


def finite_differences(f, x, h=1e-2):
    """Gradient of the sum of f by a central stencil of sixth order."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        gradient[index] = sum(
            w * (f(x + k * step).sum() - f(x - k * step).sum()) / h
            for k, w in weights.items()
        )
    return gradient


def one_hot(labels, shape):
    """Labels as distributions of this shape."""
    y = np.zeros(shape)
    np.put_along_axis(y, np.asarray(labels)[..., None], 1.0, axis=-1)
    return y


# All losses of `(clone_logits, baseline_logits, labels)`, by name.
LOSSES = {
    "focusing_picking": losses.focusing_picking_loss,
    "distillation": lambda z, b, y: losses.distillation_loss(z, b, temperature=4.0),
    "decoupled": losses.decoupled_distillation_loss,
    "standardised": lambda z, b, y: losses.standardised_distillation_loss(z, b),
    "correlated": lambda z, b, y: losses.correlation_distillation_loss(z, b),
    "virtual": lambda z, b, y: losses.virtual_teacher_loss(z, y),
}


def make_example(rng, shape=(6, 10), scale=2.0, soft=False):
    """Logits of a clone and a baseline, labels, and these as distributions."""
    z, b = rng.normal(size=shape) * scale, rng.normal(size=shape) * scale
    labels = rng.integers(shape[-1], size=shape[:-1])
    y = one_hot(labels, shape)
    if soft:
        other = rng.integers(shape[-1], size=shape[:-1])
        labels = y = 0.7 * y + 0.3 * one_hot(other, shape)
    return z, b, labels, y


def value_and_gradient(z, b, labels, loss=focusing_picking_loss):
    """One value per example, and the gradient of their sum."""
    value, vjp = jax.vjp(lambda z: loss(z, b, labels), z)
    return value, vjp(jnp.ones_like(value))[0]


# Operation by operation takes longer, where that is not what is tested.
compiled_value_and_gradient = jax.jit(value_and_gradient, static_argnames="loss")

# A few sizes: each is compiled.
logit_rows = (
    st.sampled_from([2, 3, 12])
    .flatmap(
        lambda size: st.lists(
            # XLA takes subnormal numbers for 0.
            st.floats(-50, 50, width=32, allow_subnormal=False),
            min_size=size,
            max_size=size,
        )
    )
    .map(lambda row: np.asarray([row], np.float32))
)
