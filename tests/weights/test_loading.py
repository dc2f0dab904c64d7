"""From a file to a network: what is taken, what is said, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clonalnet_jax.configs import default
from written_by_torch import Call, save_legacy, save_safetensors, save_zip

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.weights import read_weights, to_torch

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def variables():
    """Of a ResNet-8, random."""
    model = create_model("resnet8", 10)
    images = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.exponential(size=leaf.shape).astype(np.float32), shapes
    )


@pytest.fixture
def state(variables):
    """Their state dict."""
    return to_torch(variables)


def read(path, *, key="", **keywords):
    """What was read, and what was said."""
    config = default.get_config().baseline
    config.model, config.weights, config.weights_key = "resnet8", str(path), key
    said = []
    model = create_model("resnet8", 10)
    return read_weights(config, model, SHAPE, say=said.append, **keywords), said


def respelt(state):
    """The names of kuangliu's pytorch-cifar, from data-parallel training."""
    return {
        f"module.{name.replace('downsample', 'shortcut').replace('fc.', 'linear.')}": x
        for name, x in state.items()
    }


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_a_training_programs_file_is_read_and_said(tmp_path, variables, state, save):
    saved = {
        "net": respelt(state),
        "ema": {name: 0 * array for name, array in state.items()},
        "args": Call("argparse", "Namespace", state={"lr": 0.1}),
        "acc": 92.12,
    }
    found, said = read(save(saved, tmp_path / "ckpt.pth"))
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert said == [
        f"weights {tmp_path / 'ckpt.pth'}: takes 'net'; "
        'not "ema", which --config.baseline.weights_key can name; '
        "leaves out 'module.' before every name; "
        "leaves out counters: 9 num_batches_tracked; "
        "'linear' is 'fc'; 'shortcut' is 'downsample'"
    ]
    with pytest.raises(UserError, match="has no 'other' there"):
        read(tmp_path / "ckpt.pth", key="other")


def test_an_average_is_read_on_request(tmp_path, variables, state):
    average = {name: 2 * array for name, array in state.items()}
    path = save_zip({"model": state, "ema": average}, tmp_path / "a.pth")
    found, _ = read(path, key="ema")
    doubled = jax.tree.map(lambda leaf: 2 * leaf, variables)
    jax.tree.map(np.testing.assert_array_equal, found, doubled)


def test_low_precision_becomes_float32(tmp_path, variables, state):
    low = {n: x.astype(jnp.bfloat16) for n, x in state.items() if "num_" not in n}
    found, said = read(save_safetensors(low, tmp_path / "a.safetensors"))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), found, variables
    )
    assert not said


def test_a_needed_tensor_that_hangs_on_an_object_is_refused(tmp_path, state):
    state["fc.bias"] = Call("numpy.core.multiarray", "_reconstruct", 0)
    path = save_zip(respelt(state), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"fc\.bias \(the file asks for numpy\.core"):
        read(path)
    found, _ = read(path, without=("fc",))
    assert "fc" not in found["params"]


@pytest.mark.parametrize(
    ("name", "value"), [("layer1.0.conv1.weight", np.nan), ("bn1.running_var", -1)]
)
def test_a_network_that_would_answer_zeros_is_refused(tmp_path, state, name, value):
    # On a CPU, the mean of ReLU of NaN can be 0, so that no logit would show it.
    state[name].flat[0] = value
    with pytest.raises(UserError, match=f"1 bad of 47 tensors: {name}"):
        read(save_zip(state, tmp_path / "a.pth"))
