"""Gradients in float32 of layers in bfloat16: the same numbers, rounded less."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.models import create_model, wide_gradients
from clonalnet_jax.models.layers import conv, dense
from clonalnet_jax.runtime import partition, splitting
from tests.marks import quickly

MODELS = {
    "resnet8": {"width": 4},
    "mobilenet_v3_small": {},
    "convnext_tiny": {},
    "vit_small_patch16_224": {"image_size": 32},
    "swin_t": {},
}


def gradient_of(layer, x, weight, **context):
    """The gradient of a layer's parameters and its input."""
    params = layer.init(jax.random.key(0), x)

    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(params, x):
        with wide_gradients.gradients_in_float32(**context):
            return jnp.sum(layer.apply(params, x).astype(jnp.float32) * weight)

    return jax.jit(gradient)(params, x)


def make_conv(kernel, stride, groups, dtype):
    return conv(8, kernel, stride, groups=groups, bias=True, dtype=dtype, name=None)


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "size"),
    [(1, 1, 1, 9), (1, 2, 1, 16), (2, 2, 2, 9), (3, 1, 4, 16), (3, 2, 4, 9),
     (3, 3, 1, 16), (4, 4, 1, 16), (7, 2, 1, 9)],
)  # fmt: skip
def test_the_gradient_of_a_convolution_is_jaxs(rng, kernel, stride, groups, size):
    x = jnp.asarray(rng.normal(size=(4, size, size, 4)), jnp.bfloat16)
    make = functools.partial(make_conv, kernel, stride, groups)
    out = jax.eval_shape(
        lambda x: make(jnp.float32).init_with_output(jax.random.key(0), x)[0], x
    )
    weight = jnp.asarray(rng.normal(size=out.shape), jnp.bfloat16).astype(jnp.float32)
    exact = gradient_of(make(jnp.float32), x, weight, wanted=False)
    found = gradient_of(make(jnp.bfloat16), x, weight)
    # Products of two numbers in bfloat16 are exact in float32, in which they are added.
    for name, value in found[0]["params"].items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(
            value, exact[0]["params"][name], rtol=1e-5, atol=1e-4
        )
    narrow = gradient_of(make(jnp.bfloat16), x, weight, wanted=False)
    np.testing.assert_array_equal(found[1], narrow[1])


def test_the_gradient_of_a_dense_layer_is_jaxs(rng):
    x = jnp.asarray(rng.normal(size=(4, 5, 6)), jnp.bfloat16)
    weight = jnp.asarray(rng.normal(size=(4, 5, 3)), jnp.bfloat16).astype(jnp.float32)
    make = functools.partial(dense, 3, name=None)
    exact = gradient_of(make(dtype=jnp.float32), x, weight, wanted=False)
    found = gradient_of(make(dtype=jnp.bfloat16), x, weight)
    for name, value in found[0]["params"].items():
        np.testing.assert_allclose(
            value, exact[0]["params"][name], rtol=1e-5, atol=1e-5
        )
    narrow = gradient_of(make(dtype=jnp.bfloat16), x, weight, wanted=False)
    np.testing.assert_allclose(
        found[1].astype(jnp.float32), narrow[1].astype(jnp.float32), rtol=0.01
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("fsdp", [False, True])
def test_devices_that_compute_in_bfloat16_add_up_in_float32(
    rng, monkeypatch, stride, groups, fsdp
):
    monkeypatch.setattr(splitting, "_WORTH_SPLITTING", 8)
    mesh = partition.make_mesh(jax.devices()[:8], model=2)
    x = jnp.asarray(rng.normal(size=(8, 8, 8, 4)), jnp.bfloat16)
    layer = make_conv(3, stride, groups, jnp.bfloat16)
    found, of_x = gradient_of(layer, x, 1.0, add_up=partition.adder(mesh, fsdp=fsdp))
    exact, _ = gradient_of(layer.clone(dtype=jnp.float32), x, 1.0, wanted=False)
    assert of_x.dtype == jnp.bfloat16
    kernel, expected = (tree["params"]["kernel"] for tree in (found, exact))
    assert kernel.dtype == jnp.float32
    assert kernel.is_fully_replicated != fsdp
    # Each of the four parts may be rounded to eight bits.
    np.testing.assert_allclose(kernel, expected, atol=0.01 * jnp.abs(expected).max())


@pytest.mark.parametrize("name", quickly(MODELS, ("resnet8", "convnext_tiny")))
def test_every_parameter_of_a_network_has_a_wide_gradient(name):
    model = create_model(name, 10, **MODELS[name]).clone(dtype=jnp.bfloat16)
    side = 224 if name == "swin_t" else 32
    images = jnp.zeros((2, side, side, 3))
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), images
    )

    def rounded(wanted):
        """The parameters whose gradient has only the digits of bfloat16."""

        def loss(params, rest):
            with wide_gradients.gradients_in_float32(wanted):
                logits, _ = model.apply(
                    {**rest, "params": params},
                    images,
                    train=True,
                    mutable=["batch_stats"],
                )
            return jnp.mean(jnp.sin(logits))

        params = variables["params"]
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        program = jax.make_jaxpr(jax.grad(loss))(params, rest).jaxpr
        made_by = {id(out): eqn for eqn in program.eqns for out in eqn.outvars}
        names = [
            jax.tree_util.keystr(path)
            for path, _ in jax.tree_util.tree_leaves_with_path(params)
        ]
        return {
            name
            for name, out in zip(names, program.outvars, strict=True)
            if is_rounded(made_by, out)
        }

    assert rounded(True) == set()
    assert any("kernel" in name for name in rounded(False))


def is_rounded(made_by, variable):
    """Whether a variable is one of bfloat16 in another type or shape."""
    while id(variable) in made_by:
        eqn = made_by[id(variable)]
        if eqn.primitive.name not in ("convert_element_type", "reshape", "transpose"):
            break
        variable = eqn.invars[0]
    return variable.aval.dtype == jnp.bfloat16
