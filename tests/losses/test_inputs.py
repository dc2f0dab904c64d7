"""What the losses refuse, and how they say so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from clonalnet_jax import losses
from clonalnet_jax.losses import _blocks, focusing_picking_loss
from tests.losses.reference import make_example


@pytest.mark.parametrize(
    ("clone", "baseline", "labels", "named"),
    [
        ((4, 10), (4, 12), (4,), ["(4, 10)", "(4, 12)", "10 and 12 classes"]),
        ((4, 10), (3, 10), (4,), ["(4, 10)", "(3, 10)"]),
        ((4, 10), (4, 10), (3,), ["(3,)", "(4, 10)"]),
        ((4, 10), (4, 10), (4, 10), ["(4, 10)", "one-hot"]),
        ((), (), (), ["()"]),
    ],
)
def test_wrong_shapes_are_named(clone, baseline, labels, named):
    with pytest.raises(ValueError, match="shape") as caught:
        focusing_picking_loss(
            jnp.zeros(clone), jnp.zeros(baseline), jnp.zeros(labels, jnp.int32)
        )
    assert all(text in str(caught.value) for text in named)


def test_float_class_indices_are_refused():
    with pytest.raises(ValueError, match="integer dtype"):
        focusing_picking_loss(jnp.zeros((4, 10)), jnp.zeros((4, 10)), jnp.zeros(4))


def test_scalar_logits_are_refused():
    with pytest.raises(ValueError, match="logits are a scalar"):
        losses.confusing_categories(jnp.zeros(()))


@pytest.mark.parametrize(
    ("logits", "labels"), [(jnp.int32, jnp.int32), (jnp.float32, jnp.bool_)]
)
def test_wrong_dtypes_are_refused(logits, labels):
    with pytest.raises(TypeError, match="dtype"):
        focusing_picking_loss(
            jnp.zeros((4, 3), logits), jnp.zeros((4, 3), logits), jnp.zeros(4, labels)
        )


# Where the loss is computed as a whole, in blocks, and with its classes split.
def as_a_whole(z, b, labels, **kwargs):
    return focusing_picking_loss(z, b, labels, **kwargs)


def in_blocks(z, b, labels, **kwargs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "BLOCK", 1)
        return focusing_picking_loss(z, b, labels, **kwargs)


def with_classes_split(z, b, labels, **kwargs):
    split, whole = PartitionSpec(None, "model"), PartitionSpec()
    return jax.shard_map(
        functools.partial(focusing_picking_loss, class_axis="model", **kwargs),
        mesh=Mesh(jax.devices()[:4], ("model",)),
        in_specs=(split, split, whole),
        out_specs=whole,
    )(z, b, labels)


PATHS = [as_a_whole, in_blocks, with_classes_split]
TAKE_A_TEMPERATURE = [
    *PATHS,
    losses.focusing_picking_definition,
    losses.focusing_picking_terms,
    lambda z, b, labels, **kwargs: losses.confusing_categories(b, **kwargs),
    lambda z, b, labels, **kwargs: losses.multi_warm_labels(b, labels, **kwargs),
    lambda z, b, labels, **kwargs: losses.distillation_loss(z, b, **kwargs),
    losses.decoupled_distillation_loss,
    lambda z, b, labels, **kw: losses.standardised_distillation_loss(z, b, **kw),
]


@pytest.mark.parametrize("function", TAKE_A_TEMPERATURE)
@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (np.full(8, 2.0), r"has shape \(8,\)"),
        (jnp.full((8, 1), 2.0), r"has shape \(8, 1\)"),
        ([2.0], r"is \[2\.0\]"),
        (None, "is None"),
        (0.0, r"is 0\.0"),
        (jnp.float32(-1.0), r"is -1\.0"),
        (float("nan"), "is nan"),
    ],
)
def test_a_temperature_that_is_no_scalar_above_0_is_refused(rng, function, bad, got):
    # As many classes as rows: an array could be meant for either.
    z, b, labels, _ = make_example(rng, (8, 8))
    with pytest.raises(ValueError, match=f"temperature {got}"):
        function(z, b, labels, temperature=bad)


@pytest.mark.parametrize("function", PATHS)
def test_a_scalar_temperature_of_any_kind_is_the_same(rng, function):
    z, b, labels, _ = make_example(rng, (8, 8))
    expected = jax.jit(functools.partial(function, temperature=3.0))(z, b, labels)
    traced = jax.jit(lambda t: function(z, b, labels, temperature=t))
    known = jax.jit(functools.partial(function, temperature=jnp.asarray(3)))
    for value in (traced(3.0), known(z, b, labels)):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [np.float32(0.2), jnp.asarray(0.2)])
def test_a_known_smoothing_of_any_kind_is_the_same(rng, smoothing):
    z, b, labels, _ = make_example(rng, (8, 8))
    known = jax.jit(functools.partial(focusing_picking_loss, label_smoothing=smoothing))
    expected = focusing_picking_loss(z, b, labels, label_smoothing=0.2)
    np.testing.assert_allclose(known(z, b, labels), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"label_smoothing is 1\.2"):
        focusing_picking_loss(z, b, labels, label_smoothing=1 + smoothing)


def test_a_temperature_per_example_is_a_matter_of_vmap(rng):
    z, b, labels, _ = make_example(rng, (2, 8))
    temperatures = jnp.asarray([1.0, 5.0])
    value = jax.vmap(
        lambda z, b, label, t: focusing_picking_loss(z, b, label, temperature=t)
    )(z, b, labels, temperatures)
    for row, temperature in enumerate([1.0, 5.0]):
        expected = focusing_picking_loss(z, b, labels, temperature=temperature)[row]
        np.testing.assert_allclose(value[row], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        {"label_smoothing": 1.5},
        {"label_smoothing": jnp.float32(-0.1)},
        {"label_smoothing": np.full((4, 1), 0.1)},
        {"attention_weight": np.ones(4)},
        {"negentropy_weight": [1.0]},
    ],
)
def test_impossible_hyperparameters_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        focusing_picking_loss(
            jnp.zeros((4, 3)), jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), **bad
        )


@pytest.mark.parametrize("name", ["target_weight", "non_target_weight"])
def test_weights_of_the_decoupled_loss_are_scalars(name):
    logits = jnp.zeros((4, 3))
    with pytest.raises(ValueError, match=f"^{name} has shape"):
        losses.decoupled_distillation_loss(
            logits, logits, jnp.zeros(4, jnp.int32), **{name: np.ones(4)}
        )


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_seen(label):
    logits, labels = jnp.zeros((2, 3)), jnp.asarray([0, label])
    for function in (focusing_picking_loss, losses.focusing_picking_definition):
        loss = function(logits, logits, labels)
        np.testing.assert_array_equal(np.isnan(loss), [False, True])
    warm = losses.multi_warm_labels(logits, labels)
    np.testing.assert_array_equal(np.isnan(warm).any(axis=-1), [False, True])
