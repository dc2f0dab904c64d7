"""The losses against NumPy references written from their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.measuring import communication, plain_loss
from clonalnet_jax import losses
from clonalnet_jax.losses import (
    confusing_categories,
    distillation_loss,
    focusing_picking_loss,
    focusing_picking_terms,
    multi_warm_labels,
)


def softmax(x):
    odds = np.exp(x - x.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def reference_terms(z, b, y, temperature=2.0, eps=0.1):
    """Term by term from the method's definition; y is a distribution."""
    num_classes = z.shape[-1]
    in_set = (softmax(b / temperature) > 1 / num_classes) | (y > 0)
    warm = in_set / in_set.sum(-1, keepdims=True)
    smoothed = (1 - eps) * y + eps / num_classes
    classification = -(smoothed * log_softmax(z + softmax(z) - softmax(b))).sum(-1)
    attention = -(warm * log_softmax(z)).sum(-1)
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


def make_example(rng, shape=(6, 10), scale=2.0, soft=False):
    z, b = rng.normal(size=shape) * scale, rng.normal(size=shape) * scale
    labels = rng.integers(shape[-1], size=shape[:-1])
    y = np.eye(shape[-1])[labels]
    if soft:
        y = 0.7 * y + 0.3 * np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]
        labels = y
    return z, b, labels, y


HYPERPARAMETERS = [
    {},
    {"temperature": 1.0, "label_smoothing": 0.0},
    {"temperature": 5.0, "attention_weight": 0.3, "negentropy_weight": 0.0},
]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kwargs", HYPERPARAMETERS)
def test_value_and_gradient_equal_the_definition_in_float64(rng, kwargs, soft):
    z, b, labels, y = make_example(rng, soft=soft)
    rename = {
        "label_smoothing": "eps",
        "attention_weight": "alpha",
        "negentropy_weight": "beta",
    }
    reference = functools.partial(
        reference_loss, b=b, y=y, **{rename.get(k, k): v for k, v in kwargs.items()}
    )
    with jax.enable_x64(True):
        loss = functools.partial(focusing_picking_loss, **kwargs)
        value = loss(z, b, labels)
        gradient = jax.grad(lambda z: loss(z, b, labels).sum())(jnp.asarray(z))
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, reference(z), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        gradient, finite_differences(reference, z), rtol=1e-10, atol=1e-10
    )


def test_labels_and_smoothing_are_differentiated_too(rng):
    # The set of confusing categories is a constant of the labels.
    z, b, _, y = make_example(rng, soft=True)
    with jax.enable_x64(True):
        gradients = jax.grad(
            lambda y, eps: focusing_picking_loss(z, b, y, label_smoothing=eps).sum(),
            argnums=(0, 1),
        )(jnp.asarray(y), 0.1)
    shifted = log_softmax(z + softmax(z) - softmax(b))
    np.testing.assert_allclose(gradients[0], -0.9 * shifted, rtol=1e-10)
    expected = ((y - 1 / z.shape[-1]) * shifted).sum()
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-10)


def test_the_gradient_can_be_differentiated_again(rng):
    z, b, labels, _ = make_example(rng, (2, 5))
    direction = rng.normal(size=z.shape)

    def gradient(z):
        return jax.grad(lambda z: focusing_picking_loss(z, b, labels).sum())(z)

    with jax.enable_x64(True):
        z = jnp.asarray(z)
        _, vjp = jax.vjp(gradient, z)
        (curvature,) = vjp(jnp.asarray(direction))
        h = 1e-5
        change = gradient(z + h * direction) - gradient(z - h * direction)
        change = change / (2 * h)
    # The Hessian is symmetric.
    np.testing.assert_allclose(curvature, change, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("soft", [False, True])
def test_the_backward_pass_keeps_nothing_as_large_as_the_logits(rng, dtype, soft):
    z, b, labels, _ = make_example(rng, (64, 100), soft=soft)
    z, b = jnp.asarray(z, dtype), jnp.asarray(b, dtype)
    labels = jnp.asarray(labels, jnp.float32 if soft else jnp.int32)
    _, vjp = jax.vjp(focusing_picking_loss, z, b, labels)
    large = [x for x in jax.tree.leaves(vjp) if x.size >= z.size]
    inputs = [z, b, labels] if soft else [z, b]
    assert len(large) <= len(inputs)
    for kept in large:
        assert any(kept.dtype == x.dtype and np.array_equal(kept, x) for x in inputs)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("soft", [False, True])
def test_many_rows_in_blocks_are_the_same_rows(rng, dtype, soft, monkeypatch):
    z, b, labels, _ = make_example(rng, (96, 10), soft=soft)
    arguments = jnp.asarray(z, dtype), jnp.asarray(b, dtype), jnp.asarray(labels)
    expected = value_and_gradient(*arguments)
    assert "while" not in jax.jit(value_and_gradient).lower(*arguments).as_text()
    monkeypatch.setattr(losses, "_BLOCK", 160)
    jax.clear_caches()
    program = jax.jit(value_and_gradient).lower(*arguments)
    assert "while" in program.as_text()
    for one, other in zip(program.compile()(*arguments), expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            *(np.asarray(x, np.float32) for x in (one, other)), rtol=1e-5, atol=1e-6
        )


def test_rows_in_blocks_need_little_memory_and_stay_on_their_device():
    def compile(loss, **shardings):
        logits = jax.ShapeDtypeStruct((512, 4096), jnp.float32, **shardings)
        labels = jax.ShapeDtypeStruct((512,), jnp.int32, **shardings)
        objective = jax.value_and_grad(lambda *x: jnp.mean(loss(*x)))
        return jax.jit(objective).lower(logits, logits, labels).compile()

    memory = {
        loss: compile(loss).memory_analysis().temp_size_in_bytes
        for loss in (focusing_picking_loss, plain_loss)
    }
    assert memory[focusing_picking_loss] < memory[plain_loss] / 2
    mesh = Mesh(jax.devices(), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    sent = communication(compile(focusing_picking_loss, sharding=rows))
    assert sent == {"all-reduce": 4}


@pytest.mark.parametrize("soft", [False, True])
def test_classes_may_be_split_over_devices(rng, soft):
    z, b, labels, _ = make_example(rng, (6, 40), soft=soft)
    arguments = jnp.asarray(z), jnp.asarray(b), jnp.asarray(labels)
    mesh = Mesh(jax.devices()[:4], ("model",))
    split, whole = PartitionSpec(None, "model"), PartitionSpec()
    loss = functools.partial(focusing_picking_loss, class_axis="model")
    specs = (split, split, split if soft else whole)
    sharded = jax.jit(jax.shard_map(loss, mesh=mesh, in_specs=specs, out_specs=whole))

    def inside(z, b, labels):
        value, vjp = jax.vjp(lambda z: loss(z, b, labels), z)
        return value, vjp(jnp.ones_like(value))[0]

    within = jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=(whole, split))
    expected = value_and_gradient(*arguments)
    outside = value_and_gradient(*arguments, loss=sharded)
    for actual in (outside, jax.jit(within)(*arguments)):
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_split_classes_that_jax_does_not_know_of_are_refused(rng):
    z, b, labels, _ = make_example(rng, (2, 8))
    loss = jax.shard_map(
        functools.partial(focusing_picking_loss, class_axis="model"),
        mesh=Mesh(jax.devices()[:4], ("model",)),
        in_specs=(PartitionSpec(None, "model"),) * 2 + (PartitionSpec(),),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    with pytest.raises(ValueError, match="check_vma"):
        loss(jnp.asarray(z), jnp.asarray(b), jnp.asarray(labels))


def test_a_label_out_of_range_is_seen_on_every_device(rng):
    z, b, _, _ = make_example(rng, (2, 8))
    mesh = Mesh(jax.devices()[:4], ("model",))
    split, whole = PartitionSpec(None, "model"), PartitionSpec()
    loss = jax.shard_map(
        functools.partial(focusing_picking_loss, class_axis="model"),
        mesh=mesh,
        in_specs=(split, split, whole),
        out_specs=whole,
    )
    values = jax.jit(loss)(jnp.asarray(z), jnp.asarray(b), jnp.asarray([7, 8]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])


def test_terms_equal_the_definition(rng):
    z, b, labels, y = make_example(rng)
    terms = focusing_picking_terms(z, b, labels)
    for term, reference in zip(terms, reference_terms(z, b, y), strict=True):
        np.testing.assert_allclose(term, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(10,), (4, 10), (2, 3, 7), (3, 21_841)])
def test_float32_equals_the_definition_for_any_leading_dimensions(rng, shape):
    z, b, labels, y = make_example(rng, shape)
    value = focusing_picking_loss(z.astype(np.float32), b.astype(np.float32), labels)
    assert value.dtype == jnp.float32
    assert value.shape == shape[:-1]
    np.testing.assert_allclose(value, reference_loss(z, b, y), rtol=1e-5, atol=1e-5)


def test_bfloat16_logits_are_computed_in_float32(rng):
    z, b, labels, _ = make_example(rng)
    z, b = jnp.asarray(z, jnp.bfloat16), jnp.asarray(b, jnp.bfloat16)
    low = focusing_picking_loss(z, b, labels)
    high = focusing_picking_loss(z.astype(jnp.float32), b.astype(jnp.float32), labels)
    assert low.dtype == jnp.float32
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize("num_classes", [2, 10, 1000, 21_841])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_values_and_gradients_are_finite_for_extreme_logits(rng, num_classes, scale):
    z = scale * rng.choice([-1.0, 0.0, 1.0], size=(4, num_classes))
    b = scale * rng.choice([-1.0, 0.0, 1.0], size=(4, num_classes))
    labels = rng.integers(num_classes, size=4)

    def total(z):
        return focusing_picking_loss(z, b, labels).sum()

    value, gradient = jax.value_and_grad(total)(jnp.asarray(z, jnp.float32))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, b: focusing_picking_loss(z, b, jnp.arange(6)),
        lambda z, b: distillation_loss(z, b, temperature=4.0),
    ],
)
def test_no_gradient_reaches_the_baseline(rng, loss):
    z, b, _, _ = make_example(rng)
    to_clone, to_baseline = jax.grad(lambda z, b: loss(z, b).sum(), argnums=(0, 1))(
        jnp.asarray(z), jnp.asarray(b)
    )
    assert np.abs(to_clone).max() > 0.01
    np.testing.assert_array_equal(to_baseline, 0.0)


def value_and_gradient(z, b, labels, loss=focusing_picking_loss):
    value, vjp = jax.vjp(lambda z: loss(z, b, labels), z)
    return value, vjp(jnp.ones_like(value))[0]


def under_shard_map(z, b, labels):
    mesh = Mesh(jax.devices()[:4], ("data",))
    split = PartitionSpec("data")
    return jax.shard_map(
        value_and_gradient, mesh=mesh, in_specs=(split,) * 3, out_specs=(split,) * 2
    )(z, b, labels)


def under_pmap(z, b, labels):
    parts = [x.reshape(4, 2, *x.shape[1:]) for x in (z, b, labels)]
    loss, gradient = jax.pmap(value_and_gradient, devices=jax.devices()[:4])(*parts)
    return loss.reshape(8), gradient.reshape(8, -1)


@pytest.mark.parametrize(
    "transformed",
    [
        pytest.param(jax.jit(value_and_gradient), id="jit"),
        pytest.param(jax.vmap(value_and_gradient), id="vmap"),
        pytest.param(under_shard_map, id="shard_map"),
        pytest.param(under_pmap, id="pmap"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*pmap.*:DeprecationWarning")
def test_transformations_change_nothing(rng, transformed):
    z, b, labels, _ = make_example(rng, (8, 10))
    arguments = [jnp.asarray(z, jnp.float32), jnp.asarray(b, jnp.float32)]
    expected = value_and_gradient(*arguments, jnp.asarray(labels))
    actual = transformed(*arguments, jnp.asarray(labels))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


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


@pytest.mark.parametrize(
    ("logits", "labels"), [(jnp.int32, jnp.int32), (jnp.float32, jnp.bool_)]
)
def test_wrong_dtypes_are_refused(logits, labels):
    with pytest.raises(TypeError, match="dtype"):
        focusing_picking_loss(
            jnp.zeros((4, 3), logits), jnp.zeros((4, 3), logits), jnp.zeros(4, labels)
        )


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"temperature": -1.0}, {"label_smoothing": 1.5}]
)
def test_impossible_hyperparameters_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        focusing_picking_loss(
            jnp.zeros((4, 3)), jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), **bad
        )


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_seen(label):
    logits = jnp.zeros((2, 3))
    loss = focusing_picking_loss(logits, logits, jnp.asarray([0, label]))
    assert np.isfinite(loss[0])
    assert np.isnan(loss[1])


def test_one_hot_distributions_equal_integer_labels(rng):
    z, b, labels, y = make_example(rng)
    np.testing.assert_allclose(
        focusing_picking_loss(z, b, y), focusing_picking_loss(z, b, labels), rtol=1e-6
    )


def test_confusing_categories_are_those_above_average_and_the_label():
    logits = jnp.asarray([[4.0, 3.9, -2.0, -2.0], [0.0, 0.0, 0.0, 0.0]])
    mask = confusing_categories(logits, jnp.asarray([2, 1]))
    expected = [[True, True, True, False], [False, True, False, False]]
    np.testing.assert_array_equal(mask, expected)


def test_every_category_with_label_weight_is_confusing():
    logits = jnp.asarray([[9.0, 0.0, 0.0, 0.0]])
    mask = confusing_categories(logits, jnp.asarray([[0.0, 0.6, 0.4, 0.0]]))
    np.testing.assert_array_equal(mask, [[True, True, True, False]])


def test_a_higher_temperature_finds_more_confusing_categories(rng):
    logits = rng.normal(size=(200, 20)) * 3
    labels = np.zeros(200, np.int32)
    sizes = [
        confusing_categories(logits, labels, temperature=t).sum() for t in (0.5, 2, 8)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


logit_rows = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12).map(
    lambda row: np.asarray([row], np.float32)
)


@settings(deadline=None, max_examples=50)
@given(logit_rows, st.integers(0, 100))
def test_multi_warm_labels_are_equal_weights_that_include_the_label(logits, number):
    label = number % logits.shape[-1]
    warm = np.asarray(multi_warm_labels(logits, np.asarray([label])))[0]
    np.testing.assert_allclose(warm.sum(), 1.0, rtol=1e-5)
    assert warm[label] > 0
    assert len(np.unique(warm[warm > 0])) == 1


@settings(deadline=None, max_examples=50)
@given(logit_rows, st.integers(0, 100), st.randoms(use_true_random=False))
def test_the_loss_does_not_depend_on_the_order_of_the_classes(logits, number, random):
    label = number % logits.shape[-1]
    order = list(range(logits.shape[-1]))
    random.shuffle(order)
    baseline = logits[:, ::-1]
    value = focusing_picking_loss(logits, baseline, np.asarray([label]))
    moved = focusing_picking_loss(
        logits[:, order], baseline[:, order], np.asarray([order.index(label)])
    )
    np.testing.assert_allclose(value, moved, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(logit_rows, st.integers(0, 100))
def test_terms_stay_within_their_bounds(logits, number):
    num_classes = logits.shape[-1]
    labels = np.asarray([number % num_classes])
    terms = focusing_picking_terms(logits, logits[:, ::-1], labels)
    assert terms.classification >= 0
    size = confusing_categories(logits[:, ::-1], labels).sum()
    # A distribution is never nearer to the warm label than the warm label itself.
    assert terms.attention >= np.log(size) - 1e-4
    assert -np.log(num_classes) - 1e-4 <= terms.negentropy <= 0


def test_distillation_equals_its_definition_in_float64(rng):
    student, teacher, _, _ = make_example(rng)
    p, log_q = softmax(teacher / 4), log_softmax(student / 4)
    expected = 16 * (p * (np.log(p) - log_q)).sum(-1)
    with jax.enable_x64(True):
        actual = distillation_loss(student, teacher, temperature=4.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_distillation_vanishes_with_its_gradient_at_the_teacher(rng):
    teacher = jnp.asarray(rng.normal(size=(5, 10)), jnp.float32)

    def total(student):
        return distillation_loss(student, teacher, temperature=3.0).sum()

    value, gradient = jax.value_and_grad(total)(teacher)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_distillation_names_both_shapes():
    with pytest.raises(ValueError, match=r"\(4, 10\), teacher_logits \(4, 9\)"):
        distillation_loss(jnp.zeros((4, 10)), jnp.zeros((4, 9)), temperature=1.0)
