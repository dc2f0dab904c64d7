"""Schedules at their corners; the optimiser against PyTorch's formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clonalnet_jax.configs import default
from hypothesis import given, settings
from hypothesis import strategies as st

from clonalnet_jax.errors import UserError
from clonalnet_jax.training.optimizers import make_optimizer, make_schedule


def optimizer_config(**overrides):
    config = default.get_config().optimizer
    config.update(overrides)
    return config


def rates(config, num_steps=100, steps_per_epoch=10.0):
    schedule = make_schedule(
        config, num_steps=num_steps, steps_per_epoch=steps_per_epoch
    )
    return np.asarray([schedule(step) for step in range(num_steps + 1)])


def test_cosine_falls_from_the_peak_to_nothing():
    values = rates(optimizer_config(schedule="cosine", learning_rate=0.4))
    np.testing.assert_allclose(values[[0, 50, 100]], [0.4, 0.2, 0.0], atol=1e-7)
    assert (np.diff(values) < 0).all()


def test_steps_multiply_the_rate_at_their_epochs():
    values = rates(
        optimizer_config(
            schedule="step", learning_rate=1.0, decay_epochs=(3.0, 6.0, 9.0)
        )
    )
    np.testing.assert_allclose(
        values[[0, 29, 30, 59, 60, 90]], [1, 1, 0.1, 0.1, 0.01, 0.001], rtol=1e-6
    )


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_warm_up_rises_in_a_line_to_the_peak(schedule):
    values = rates(optimizer_config(schedule=schedule, warmup_epochs=1.0))
    np.testing.assert_allclose(np.diff(values[:11], n=2), 0.0, atol=1e-7)
    assert 0 < values[0] < values[9] < values[10] == pytest.approx(0.1)


def test_steps_are_counted_from_the_start_also_with_a_warm_up():
    config = optimizer_config(
        schedule="step", learning_rate=1.0, decay_epochs=(3.0, 5.0), warmup_epochs=1.0
    )
    np.testing.assert_allclose(rates(config)[[29, 30]], [1.0, 0.1], rtol=1e-6)


DECAYS = st.lists(st.integers(0, 40), max_size=5)


@given(DECAYS, st.integers(0, 20), st.floats(0.05, 1.0))
@settings(max_examples=40, deadline=None)
def test_every_decay_counts_wherever_the_warm_up_ends(decays, warmup, rate):
    """As MultiStepLR is documented: the rate to the number of milestones reached."""
    config = optimizer_config(
        schedule="step",
        learning_rate=1.0,
        decay_epochs=tuple(map(float, decays)),
        decay_rate=rate,
        warmup_epochs=float(warmup),
    )
    steps = np.arange(46)
    values = jax.vmap(make_schedule(config, num_steps=45, steps_per_epoch=1.0))(steps)
    reached = (np.array(decays, int)[:, None] <= steps).sum(axis=0)
    start = 1 / (warmup + 1)
    ramp = np.minimum(1.0, start + (1 - start) * steps / max(1, warmup))
    ramp[warmup:] = 1.0
    np.testing.assert_allclose(values, ramp * rate**reached, rtol=1e-5)


def test_two_epochs_that_round_to_one_step_decay_twice():
    config = optimizer_config(
        schedule="step", learning_rate=1.0, decay_epochs=(3.01, 3.02)
    )
    np.testing.assert_allclose(rates(config)[[29, 30]], [1.0, 0.01], rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_pytorchs(nesterov):
    config = optimizer_config(nesterov=nesterov, weight_decay=0.01)
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    gradients = [np.asarray([1.0, -2.0]), np.asarray([0.5, 0.5])]
    params = jnp.asarray([3.0, 4.0])
    state = optimizer.init(params)
    expected, velocity = np.asarray(params), np.zeros(2)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        decayed = gradient + 0.01 * expected
        velocity = 0.9 * velocity + decayed
        direction = decayed + 0.9 * velocity if nesterov else velocity
        expected = expected - 0.1 * direction
    np.testing.assert_allclose(params, expected, rtol=1e-6)


def one_update(params, gradients, **overrides):
    """Parameters after one step at rate 0.1."""
    optimizer = make_optimizer(
        optimizer_config(**overrides), optax.constant_schedule(0.1)
    )
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


TREE = {"kernel": jnp.asarray([[3.0, -4.0]]), "bias": jnp.asarray([2.0])}
SLOPE = {"kernel": jnp.asarray([[0.6, 0.8]]), "bias": jnp.asarray([-0.5])}


def test_adamw_decays_beside_a_step_of_the_rates_size():
    moved = one_update(TREE, SLOPE, name="adamw", weight_decay=0.01)
    # Its first step is the sign of the gradient; the decay never enters it.
    for name, value in TREE.items():
        expected = value - 0.1 * (jnp.sign(SLOPE[name]) + 0.01 * value)
        np.testing.assert_allclose(moved[name], expected, rtol=1e-5)


def test_lars_takes_steps_in_proportion_to_a_kernels_norm():
    moved = one_update(TREE, SLOPE, name="lars", weight_decay=0.0)
    # Trust ratio 0.001 |w| / |g|, with |w| = 5 and |g| = 1; vectors step plainly.
    np.testing.assert_allclose(
        moved["kernel"], TREE["kernel"] - 0.1 * 0.005 * SLOPE["kernel"], rtol=1e-6
    )
    np.testing.assert_allclose(moved["bias"], TREE["bias"] - 0.1 * SLOPE["bias"])


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_vectors_can_be_kept_from_decay(name):
    still = {key: jnp.zeros_like(value) for key, value in TREE.items()}
    decay = {"name": name, "weight_decay": 0.1}
    both = one_update(TREE, still, **decay)
    assert float(both["bias"][0]) < 2.0
    kernels = one_update(TREE, still, **decay, decay_vectors=False)
    assert float(kernels["bias"][0]) == 2.0
    assert (abs(kernels["kernel"]) < abs(TREE["kernel"])).all()


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_position_embeddings_and_class_tokens_are_no_kernels(name):
    """As timm's vision transformers say in `no_weight_decay`."""
    tree = {"pos_embed": jnp.ones((1, 3, 2)), "cls_token": jnp.ones((1, 1, 2)), **TREE}
    still = jax.tree.map(jnp.zeros_like, tree)
    decay = {"name": name, "weight_decay": 0.1}
    moved = one_update(tree, still, **decay, decay_vectors=False)
    for kept in ("pos_embed", "cls_token", "bias"):
        np.testing.assert_array_equal(moved[kept], tree[kept])
    assert (abs(moved["kernel"]) < abs(tree["kernel"])).all()
    moved = one_update(tree, still, **decay)
    assert (moved["pos_embed"] < 1).all()


def test_a_long_gradient_is_cut_to_the_greatest_norm_and_a_short_one_is_not():
    plain = {"momentum": 0.0, "weight_decay": 0.0}
    cut = one_update(TREE, SLOPE, **plain, clip_norm=0.5)
    length = optax.tree.norm(optax.tree.sub(cut, TREE))
    assert float(length) == pytest.approx(0.1 * 0.5, rel=1e-5)
    left = one_update(TREE, SLOPE, **plain, clip_norm=100.0)
    jax.tree.map(np.testing.assert_array_equal, left, one_update(TREE, SLOPE, **plain))


@pytest.mark.parametrize(
    "overrides", [{"name": "sgdd"}, {"schedule": "cosin"}], ids=["name", "schedule"]
)
def test_an_unknown_name_suggests_the_nearest(overrides):
    config = optimizer_config(**overrides)
    with pytest.raises(UserError, match="did you mean"):
        make_optimizer(config, make_schedule(config, num_steps=2, steps_per_epoch=1.0))
