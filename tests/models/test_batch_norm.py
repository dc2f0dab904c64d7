"""Batch norm: what it returns, what it remembers, and that devices do not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from clonalnet_jax.models.batch_norm import normalise, statistics_in_one_pass
from clonalnet_jax.models.layers import BatchNorm
from clonalnet_jax.planning.hlo import read_text


def run(x, *, train=True, dtype="float32"):
    norm = BatchNorm(train=train, dtype=dtype)
    variables = norm.init(jax.random.key(0), x)
    return norm.apply(variables, x, mutable=["batch_stats"])


def test_running_statistics_take_a_tenth_of_the_unbiased_batch(rng):
    x = rng.normal(3, 2, (2, 3, 4, 5)).astype(np.float32)
    y, updated = run(x)
    stats = updated["batch_stats"]
    mean = x.mean((0, 1, 2))
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-5)
    unbiased = x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * unbiased, rtol=1e-5)
    expected = (x - mean) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_updates_nothing(rng):
    x = rng.normal(3, 2, (2, 3, 4, 5)).astype(np.float32)
    y, updated = run(x, train=False)
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], np.zeros(5))
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_the_variance_survives_a_mean_that_dwarfs_it(rng):
    x = (1e4 + rng.normal(0, 1, (8, 8, 8, 2))).astype(np.float32)
    y, updated = run(x)
    expected = 0.9 + 0.1 * x.astype(np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["var"], expected, rtol=1e-3)
    np.testing.assert_allclose(np.std(y), 1, rtol=1e-3)


def test_a_single_value_is_no_division_by_zero():
    y, updated = run(jnp.ones((1, 1, 1, 3)))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((y, updated)))


def test_statistics_stay_float32_under_bfloat16(rng):
    x = jnp.array(rng.normal(3, 2, (2, 3, 4, 5)), jnp.bfloat16)
    y, updated = run(x, dtype="bfloat16")
    assert y.dtype == jnp.bfloat16
    assert {s.dtype for s in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


def jitted():
    """Not `jax.jit(run)`, whose trace would be that of another test."""
    return jax.jit(lambda x: run(x))


def normal(x):
    """In float64, by definition."""
    x = x.astype(np.float64)
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


@pytest.mark.parametrize("distance", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("one_pass", [True, False])
def test_the_first_step_is_that_of_float64(rng, distance, one_pass):
    x = rng.normal(2 * distance, 2, (16, 8, 8, 5)).astype(np.float32)
    with statistics_in_one_pass(one_pass):
        y, updated = jitted()(x)
    np.testing.assert_allclose(y, normal(x), rtol=1e-4, atol=1e-4)
    expected = 0.9 + 0.1 * x.astype(np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["var"], expected, rtol=1e-4)


def test_one_pass_is_exact_once_the_running_mean_is_near(rng):
    x = rng.normal(1000, 1, (16, 8, 8, 3)).astype(np.float32)
    norm = BatchNorm(train=True)
    variables = norm.init(jax.random.key(0), x)
    apply = jax.jit(lambda v, x: norm.apply(v, x, mutable=["batch_stats"]))
    with statistics_in_one_pass():
        for _ in range(60):
            y, updated = apply(variables, x)
            assert jnp.isfinite(y).all()
            variables = {**variables, **updated}
    np.testing.assert_allclose(y, normal(x), rtol=1e-3, atol=1e-3)


def test_channels_that_never_change_are_zero_in_one_pass_too():
    with statistics_in_one_pass():
        y, updated = run(jnp.full((4, 5, 5, 2), 7.0))
    assert (updated["batch_stats"]["var"] >= 0).all()
    np.testing.assert_allclose(y, 0, atol=1e-3)


def definition(x, scale, bias):
    """In plain operations, for autodiff."""
    mean = jnp.mean(x, (0, 1, 2))
    var = jnp.mean(jnp.square(x - mean), (0, 1, 2))
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def weigh(rng, function, relu):
    """A number that depends on every element, in a way of its own."""
    weight = rng.normal(size=(8, 4, 4, 6))

    def objective(x, scale, bias):
        y = function(x, scale, bias).astype(jnp.promote_types(x.dtype, jnp.float32))
        return jnp.sum(weight * (jax.nn.relu(y) if relu else jnp.sin(y)))

    return objective


def arguments(rng, dtype):
    x = jnp.asarray(rng.normal(3, 2, (8, 4, 4, 6)), dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    return x, *(jnp.asarray(rng.normal(1, 0.5, 6), wide) for _ in "sb")


def ours(x, scale, bias):
    return normalise(x, scale, bias, jnp.full_like(bias, 2.5), 1e-5, x.dtype)[0]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float64", 1e-10), ("float32", 1e-4), ("bfloat16", 2e-2)],
)
def test_the_gradient_is_that_of_autodiff(rng, dtype, tolerance, one_pass, relu):
    seed = rng.bit_generator.seed_seq
    with jax.enable_x64(dtype == "float64"), statistics_in_one_pass(one_pass):
        values = arguments(rng, dtype)
        found, expected = (
            jax.grad(
                weigh(np.random.default_rng(seed), function, relu), argnums=(0, 1, 2)
            )(*values)
            for function in (ours, definition)
        )
    for one, other, value in zip(found, expected, values, strict=True):
        assert one.dtype == value.dtype
        scale = np.abs(np.asarray(other, np.float64)).max()
        np.testing.assert_allclose(
            np.asarray(one, np.float64) / scale,
            np.asarray(other, np.float64) / scale,
            atol=tolerance,
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_is_that_of_two_passes(rng, dtype):
    x = jnp.asarray(rng.normal(3, 2, (8, 4, 4, 6)), dtype)
    weight = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    norm = BatchNorm(train=True)
    variables = norm.init(jax.random.key(0), x)

    def objective(params, x):
        y, _ = norm.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(weight * jnp.sin(y))

    def gradient():
        return jax.jit(jax.grad(objective, argnums=(0, 1)))(variables["params"], x)

    expected = gradient()
    with statistics_in_one_pass():
        found = gradient()
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        tolerance = 1e-4 if dtype == "float32" else 1e-2
        np.testing.assert_allclose(
            one.astype(np.float32), other.astype(np.float32), tolerance, tolerance
        )


@pytest.mark.parametrize("one_pass", [False, True])
def test_the_gradient_is_that_of_finite_differences(rng, one_pass):
    with jax.enable_x64(True), statistics_in_one_pass(one_pass):
        check_grads(ours, arguments(rng, "float64"), order=2, modes=["rev"], rtol=1e-5)


def test_a_hessian_is_multiplied_forward_over_reverse(rng):
    """As Hessian-vector products are commonly computed."""
    with jax.enable_x64(True):
        x, scale, bias = arguments(rng, "float64")
        direction = jnp.asarray(rng.normal(size=x.shape))
        seed = rng.bit_generator.seed_seq
        found, expected = (
            jax.jvp(
                jax.grad(
                    lambda x, f=function: weigh(np.random.default_rng(seed), f, False)(
                        x, scale, bias
                    )
                ),
                (x,),
                (direction,),
            )[1]
            for function in (ours, definition)
        )
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_the_statistics_have_no_gradient(rng):
    same = jnp.ones(6), jnp.zeros(6), jnp.zeros(6)

    def statistics(x):
        return sum(jnp.sum(s) for s in normalise(x, *same, 1e-5, x.dtype)[1:])

    x = rng.normal(size=(8, 4, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(jax.grad(statistics)(x), 0)


@pytest.mark.parametrize("one_pass", [False, True])
def test_the_gradient_sums_over_all_devices(rng, one_pass):
    values = arguments(rng, "float32")
    gradient = jax.grad(weigh(rng, ours, True), argnums=(0, 1, 2))
    mesh = Mesh(jax.devices()[:8], ("data",))
    split = jax.device_put(values[0], NamedSharding(mesh, PartitionSpec("data")))
    with statistics_in_one_pass(one_pass):
        expected = gradient(*values)
        compiled = jax.jit(gradient).lower(split, *values[1:]).compile()
        found = compiled(split, *values[1:])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        found,
        expected,
    )
    exchanged = [one.number for one in read_text(compiled.as_text()).collectives]
    assert sum(exchanged) <= (2 if one_pass else 4)


def test_one_pass_exchanges_its_sums_together(rng):
    mesh = Mesh(jax.devices(), ("data",))
    x = jax.device_put(
        rng.normal(size=(8, 3, 4, 5)).astype(np.float32),
        NamedSharding(mesh, PartitionSpec("data")),
    )

    def exchanges():
        text = jitted().lower(x).compile().as_text()
        return sum(one.number for one in read_text(text).collectives)

    with statistics_in_one_pass():
        together = exchanges()
    assert together < exchanges()


@pytest.mark.parametrize("num_devices", [2, 8])
def test_statistics_are_those_of_the_global_batch(num_devices, rng):
    x = rng.normal(3, 2, (8, 3, 4, 5)).astype(np.float32)
    mesh = Mesh(jax.devices()[:num_devices], ("data",))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    y, updated = run(x)
    y_sharded, updated_sharded = jax.jit(run)(sharded)
    np.testing.assert_allclose(y_sharded, y, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        jax.tree.leaves(updated_sharded), jax.tree.leaves(updated), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)
