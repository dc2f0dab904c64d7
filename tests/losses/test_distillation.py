"""The rivals' losses against NumPy references written from their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clonalnet_jax.configs import default

from clonalnet_jax.losses import (
    correlation_distillation_loss,
    decoupled_distillation_loss,
    distillation_loss,
    focusing_picking_terms,
    standardised_distillation_loss,
    virtual_teacher_loss,
)
from clonalnet_jax.training.methods import make_method
from tests.losses.reference import (
    finite_differences,
    log_softmax,
    make_example,
    softmax,
)
from tests.marks import quickly

TERMS = ("difference", "attention", "negentropy")


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


def decoupled(student, teacher, labels, t=4.0, alpha=1.0, beta=8.0):
    """Row by row, the rest as an array without the target."""
    rows = []
    for s, b, label in zip(student / t, teacher / t, labels, strict=True):
        p, q = softmax(b), softmax(s)
        target = kl(*(np.array([x[label], 1 - x[label]]) for x in (p, q)))
        rest = kl(*(softmax(np.delete(x, label)) for x in (b, s)))
        rows.append(t**2 * (alpha * target + beta * rest))
    return np.array(rows)


def standardised(student, teacher, t=2.0):
    s, b = (
        (x - x.mean(-1, keepdims=True)) / (x.std(-1, ddof=1, keepdims=True) + 1e-7)
        for x in (student, teacher)
    )
    return t**2 * kl(softmax(b / t), softmax(s / t))


def away(a, b):
    """From a perfect correlation, of two vectors, with the authors' epsilon."""
    a, b = a - a.mean(), b - b.mean()
    return 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-8)


def correlated(student, teacher, t=1.0, beta=1.0, gamma=1.0):
    p, q = softmax(student / t), softmax(teacher / t)
    inter = [away(a, b) for a, b in zip(p, q, strict=True)]
    intra = [away(a, b) for a, b in zip(p.T, q.T, strict=True)]
    return t**2 * (beta * np.array(inter) + gamma * np.mean(intra))


def made_up(logits, labels, t=20.0, correct=0.99):
    classes = logits.shape[-1]
    teacher = np.full(logits.shape, (1 - correct) / (classes - 1))
    teacher[np.arange(len(labels)), labels] = correct
    return kl(softmax(teacher / t), softmax(logits))


LOSSES = {
    "correlated": (
        lambda s, t, labels, **kw: correlation_distillation_loss(s, t, **kw),
        lambda s, t, labels: correlated(s, t),
    ),
    "decoupled": (decoupled_distillation_loss, decoupled),
    "standardised": (
        lambda s, t, labels, **kw: standardised_distillation_loss(s, t, **kw),
        lambda s, t, labels: standardised(s, t),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_equal_the_definition_in_float64(rng, name):
    loss, reference = LOSSES[name]
    student, teacher, labels, _ = make_example(rng)
    with jax.enable_x64(True):
        value = loss(student, teacher, labels)
        gradient = jax.grad(lambda s: loss(s, teacher, labels).sum())(
            jnp.asarray(student)
        )
    np.testing.assert_allclose(value, reference(student, teacher, labels), rtol=1e-10)
    expected = finite_differences(lambda s: reference(s, teacher, labels), student)
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", quickly((0.0, 1.0, 1e4), (1e4,)))
def test_values_and_gradients_are_finite_for_extreme_logits(rng, name, scale):
    loss, _ = LOSSES[name]
    student, teacher = (
        jnp.asarray(scale * rng.choice([-1.0, 0.0, 1.0], size=(6, 9)), jnp.float32)
        for _ in range(2)
    )
    labels = rng.integers(9, size=6)
    value, gradient = jax.value_and_grad(lambda s: loss(s, teacher, labels).sum())(
        student
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_any_leading_dimensions_and_bfloat16(rng, name):
    student, teacher, labels, _ = make_example(rng, (2, 3, 7))
    low = [jnp.asarray(x, jnp.bfloat16) for x in (student, teacher)]
    value = LOSSES[name][0](*low, labels)
    assert value.shape == (2, 3)
    assert value.dtype == jnp.float32
    flat = LOSSES[name][0](*(x.reshape(6, 7) for x in low), labels.reshape(6))
    np.testing.assert_allclose(value.reshape(6), flat, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_bad_arguments_are_named(name):
    logits = jnp.zeros((4, 10))
    labels = jnp.zeros(4, jnp.int32)
    with pytest.raises(ValueError, match=r"\(4, 10\), teacher_logits \(4, 9\)"):
        LOSSES[name][0](logits, jnp.zeros((4, 9)), labels)
    with pytest.raises(ValueError, match="temperature"):
        LOSSES[name][0](logits, logits, labels, temperature=0.0)


def test_decoupling_with_the_teachers_own_weight_is_plain_distillation(rng):
    """Equation 6 of the paper."""
    student, teacher, labels, y = make_example(rng)
    rest = 1 - (softmax(teacher / 4) * y).sum(-1)
    with jax.enable_x64(True):
        parts = [
            decoupled_distillation_loss(
                student, teacher, labels, target_weight=a, non_target_weight=b
            )
            for a, b in ((1.0, 0.0), (0.0, 1.0))
        ]
        whole = distillation_loss(student, teacher, temperature=4.0)
    first, second = map(np.asarray, parts)
    np.testing.assert_allclose(first + rest * second, whole, rtol=1e-10)


def test_decoupling_takes_the_likeliest_category_of_a_mixed_label(rng):
    student, teacher, labels, y = make_example(rng)
    mixed = 0.7 * y + 0.3 * np.roll(y, 1, axis=-1)
    np.testing.assert_array_equal(
        decoupled_distillation_loss(student, teacher, mixed),
        decoupled_distillation_loss(student, teacher, labels),
    )


def test_a_label_out_of_range_is_seen(rng):
    student, teacher, _, _ = make_example(rng, (2, 10))
    loss = decoupled_distillation_loss(student, teacher, np.array([3, 10]))
    np.testing.assert_array_equal(np.isnan(loss), [False, True])


def test_standardised_logits_know_neither_shift_nor_scale(rng):
    student, teacher, _, _ = make_example(rng)
    value = standardised_distillation_loss(student, teacher)
    moved = standardised_distillation_loss(3 * student + 5, 0.2 * teacher - 1)
    np.testing.assert_allclose(value, moved, rtol=1e-4)


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


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("left_out", TERMS)
def test_an_ablation_leaves_out_one_term(rng, left_out, soft):
    clone, baseline, labels, y = make_example(rng, soft=soft)
    terms = focusing_picking_terms(clone, baseline, labels)
    plain = -((0.9 * y + 0.01) * log_softmax(clone)).sum(-1)
    expected = {
        "difference": plain + terms.attention + terms.negentropy,
        "attention": terms.classification + terms.negentropy,
        "negentropy": terms.classification + terms.attention,
    }
    method = make_method(f"clone_without_{left_out}", default.get_config())
    assert method.needs_baseline
    loss = method.loss_fn(clone, baseline, jnp.asarray(labels))["loss"]
    np.testing.assert_allclose(loss, expected[left_out], rtol=1e-5, atol=1e-5)


def test_the_rivals_weigh_their_terms_as_their_authors_do(rng):
    student, teacher, labels, y = make_example(rng)
    hard = -(y * log_softmax(student)).sum(-1)
    expected = {
        "dkd": hard + decoupled(student, teacher, labels),
        "logit_standardisation": 0.1 * hard + 9 * standardised(student, teacher),
        "dist": hard + correlated(student, teacher, 4.0, 2.0, 2.0),
        "born_again": kl(softmax(teacher), softmax(student)),
        "teacher_free": 0.9 * hard + 0.1 * made_up(student, labels),
    }
    for name, value in expected.items():
        method = make_method(name, default.get_config())
        terms = method.loss_fn(student, teacher, jnp.asarray(labels))
        np.testing.assert_allclose(terms["loss"], value, rtol=1e-4)


def test_a_made_up_teacher_equals_its_definition_in_float64(rng):
    logits, _, labels, y = make_example(rng)
    with jax.enable_x64(True):
        value = virtual_teacher_loss(logits, labels)
        soft = virtual_teacher_loss(logits, 0.5 * y + 0.5 * np.roll(y, 1, axis=-1))
        gradient = jax.grad(lambda z: virtual_teacher_loss(z, labels).sum())(
            jnp.asarray(logits)
        )
    np.testing.assert_allclose(value, made_up(logits, labels), rtol=1e-10)
    expected = finite_differences(lambda z: made_up(z, labels), logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)
    assert np.isfinite(soft).all()


def test_correlations_of_equal_networks_cost_nothing_and_know_no_scale(rng):
    student, teacher, _, _ = make_example(rng, (16, 5))
    loss = correlation_distillation_loss(teacher, teacher)
    np.testing.assert_allclose(loss, 0.0, atol=1e-4)
    constant = jnp.zeros((16, 5))
    value, gradient = jax.value_and_grad(
        lambda s: correlation_distillation_loss(s, teacher).sum()
    )(constant)
    np.testing.assert_allclose(value, 32.0)
    assert np.isfinite(gradient).all()
    assert not np.allclose(correlation_distillation_loss(student, teacher), 0.0)


@pytest.mark.parametrize(
    ("epoch", "share"), [(0.0, 0.05), (0.97, 0.05), (1.0, 0.1), (18.5, 0.95), (40.0, 1)]
)
def test_dkd_warms_up_as_its_authors_let_it(rng, epoch, share):
    student, teacher, labels, y = make_example(rng)
    hard = -(y * log_softmax(student)).sum(-1)
    method = make_method("dkd", default.get_config())
    terms = method.loss_fn(student, teacher, jnp.asarray(labels), jnp.float32(epoch))
    expected = hard + share * decoupled(student, teacher, labels)
    np.testing.assert_allclose(terms["loss"], expected, rtol=1e-4)
