"""Both forms of attention are the definition, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.models.attention import Projections, attend, attention_in_parts
from tests.shallow import make_shallow

BATCH, QUERIES, KEYS, HEADS, CHANNELS = 2, 5, 7, 3, 4


def definition(query, key, value, bias):
    """In NumPy, a query at a time."""
    y = np.zeros((*query.shape[:-1], value.shape[-1]), np.float64)
    for b, q, h in np.ndindex(query.shape[:-1]):
        scores = key[b, :, h] @ query[b, q, h] / np.sqrt(query.shape[-1])
        scores = scores + np.broadcast_to(bias, (BATCH, HEADS, QUERIES, KEYS))[b, h, q]
        weights = np.exp(scores - scores.max())
        y[b, q, h] = weights @ value[b, :, h] / weights.sum()
    return y


def inputs(dtype=np.float64, scale=1.0):
    rng = np.random.default_rng(0)
    lengths = QUERIES, KEYS, KEYS
    query, key, value = (
        rng.normal(scale=scale, size=(BATCH, n, HEADS, CHANNELS)).astype(dtype)
        for n in lengths
    )
    return query, key, value


# A bias of each head, and keys, two of which nobody looks at.
OPTIONS = {
    "none": {},
    "bias": {"bias": np.random.default_rng(1).normal(size=(1, HEADS, QUERIES, KEYS))},
    "seen": {"seen": np.arange(KEYS) < 5},
}


@pytest.fixture(params=OPTIONS)
def options(request):
    return OPTIONS[request.param]


def added(options):
    """What is added to the scores."""
    return options.get("bias", 0.0) + np.where(options.get("seen", True), 0, -np.inf)


def attend_windows(*arrays, bias=None, seen=None):
    """As `attend`, of arrays with one more axis in front."""
    lead = [jnp.stack([a, -a]) for a in arrays]
    return attend(*lead, bias=bias, seen=seen)[0]


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("function", [attend, attend_windows])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_it_is_the_definition(in_parts, function, options, scale):
    arrays = inputs(scale=scale)
    with jax.enable_x64(True), attention_in_parts(in_parts):
        y = function(*map(jnp.asarray, arrays), **options)
    assert y.dtype == np.float64
    expected = definition(*arrays, added(options))
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("function", [attend, attend_windows])
def test_its_gradient_is_that_of_finite_differences(in_parts, function, options):
    arrays = inputs()
    options = dict(options)
    bias = options.pop("bias", None)
    if bias is not None:
        arrays = *arrays, bias

    def attended(query, key, value, bias=None):
        return function(query, key, value, bias=bias, **options)

    with jax.enable_x64(True), attention_in_parts(in_parts):
        jax.test_util.check_grads(
            attended,
            tuple(map(jnp.asarray, arrays)),
            order=2,
            modes=("rev",),
        )
        # And in forward mode, of the gradient.
        jax.test_util.check_grads(
            jax.grad(lambda *parts: jnp.sum(jnp.sin(attended(*parts)))),
            tuple(map(jnp.asarray, arrays)),
            order=1,
            modes=("fwd",),
        )


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("shape", [(), (KEYS,), (QUERIES, 1), (HEADS, 1, KEYS)])
def test_the_gradient_of_a_bias_has_its_shape(in_parts, shape):
    bias = np.random.default_rng(1).normal(size=shape)
    with jax.enable_x64(True), attention_in_parts(in_parts):
        arrays = list(map(jnp.asarray, inputs()))
        jax.test_util.check_grads(
            lambda bias: attend(*arrays, bias=bias), (bias,), order=1, modes=("rev",)
        )


@pytest.mark.parametrize("in_parts", [False, True])
def test_bfloat16_gradients_are_those_of_float32(in_parts, options):
    arrays = [jnp.asarray(a, jnp.bfloat16) for a in inputs(np.float32)]
    towards = jnp.asarray(inputs(np.float32)[0], jnp.bfloat16)

    def gradients(*arrays):
        def product(*arrays):
            y = attend(*arrays, **options)
            return jnp.sum(y.astype(jnp.float32) * towards)

        return jax.grad(product, (0, 1, 2))(*arrays)

    with attention_in_parts(in_parts):
        narrow = gradients(*arrays)
        wide = gradients(*(a.astype(jnp.float32) for a in arrays))
    for one, exact in zip(narrow, wide, strict=True):
        assert one.dtype == jnp.bfloat16
        error = jnp.abs(one.astype(jnp.float32) - exact).max()
        assert error <= 0.02 * jnp.abs(exact).max()


def test_divided_last_bfloat16_is_no_less_exact(options):
    arrays = [jnp.asarray(a, jnp.bfloat16) for a in inputs(np.float32)]
    exact = definition(*(np.asarray(a, np.float64) for a in arrays), added(options))
    errors = []
    for in_parts in (False, True):
        with attention_in_parts(in_parts):
            y = attend(*arrays, **options)
        assert y.dtype == jnp.bfloat16
        errors.append(np.abs(np.asarray(y, np.float64) - exact).max())
    assert errors[1] <= 1.5 * errors[0] < 0.05


@pytest.mark.parametrize("in_parts", [False, True])
def test_queries_keys_and_values_come_of_one_product_or_three(in_parts):
    layer = Projections(jnp.bfloat16)
    x = jnp.zeros((2, 5, 8))

    def project(key):
        with attention_in_parts(in_parts):
            return layer.init_with_output(key, x)

    program = str(jax.make_jaxpr(project)(jax.random.key(0)))
    assert program.count("dot_general") == (3 if in_parts else 1)
    parts, variables = jax.eval_shape(project, jax.random.key(0))
    assert [(part.shape, part.dtype) for part in parts] == [(x.shape, jnp.bfloat16)] * 3
    assert variables["params"]["kernel"].shape == (8, 24)


@pytest.mark.parametrize(
    ("name", "options"),
    # The windows of swin_t have tests of their own, above.
    [
        ("vit_small_patch16_224", {"image_size": 32}),
        pytest.param("swin_t", {}, marks=pytest.mark.slow),
    ],
)
def test_a_network_is_the_same_in_either_form(name, options):
    model = make_shallow(name, 5, **options)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))

    def traced(in_parts):
        with attention_in_parts(in_parts):
            variables = jax.jit(lambda k: model.init(k, images, train=False))(
                jax.random.key(1)
            )
            logits = jax.jit(lambda v: model.apply(v, images, train=False))(variables)
        return variables, logits

    (one, logits), (other, in_parts) = traced(False), traced(True)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    np.testing.assert_allclose(in_parts, logits, rtol=1e-4, atol=1e-5)
