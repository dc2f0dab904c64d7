"""One temperature of a network, folded into its classifier.

Guo et al. 2017 (arXiv 1706.04599), section 4.2: the logits are divided by one number,
so that the answer stays what it is and its probability becomes what it is worth. A
dense layer can divide its kernel and bias instead, which any format holds.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import eval_logits
from clonalnet_jax.trained.network import Network
from clonalnet_jax.weights import head_path

_CLOSE = 1e-2


def fold_temperature(network: Network, temperature: float) -> Network:
    """Divides a network's logits by a number, in the weights of its classifier.

    Args:
      network: A network whose logits are what its last dense layer gives.
      temperature: The number, above 0.

    Returns:
      The network with other variables.

    Raises:
      UserError: There is no dense layer whose output the logits are.
    """
    images = jnp.asarray(
        np.random.default_rng(0)
        .normal(size=(2, *network.meta.image_shape))
        .astype(np.float32)
    )
    answer = jax.jit(lambda v: eval_logits(network.model, v, images))
    expected = np.asarray(answer(network.variables), np.float32) / temperature
    close = _CLOSE * np.abs(expected).max()
    for head in _heads(network):
        variables = _divided(network, head, temperature)
        # Something may follow the layer: a scale, a cap, another head.
        divided = np.asarray(answer(variables), np.float32)
        if np.allclose(divided, expected, atol=close):
            return network._replace(variables=variables)
    raise UserError(
        "the network's classifier",
        got="logits that are not what a dense layer of it gives",
        expected="a last layer that a temperature can be folded into",
        remedy="set --config.calibrate=False",
    )


def _heads(network: Network) -> Iterator[tuple[str, ...]]:
    """Where the classifier may be: as Flax Linen says, or whatever has its shape."""
    height, width, channels = network.meta.image_shape
    with contextlib.suppress(UserError):
        yield head_path(network.model, (height, width, channels))
    classes = len(network.meta.class_names)
    flat = flatten_dict(dict(network.variables["params"]))
    for path, leaf in reversed(flat.items()):
        if leaf.ndim == 2 and leaf.shape[-1] == classes:
            yield path[:-1]


def _divided(
    network: Network, head: tuple[str, ...], temperature: float
) -> dict[str, Any]:
    flat = {
        path: leaf / temperature if path[:-1] == head else leaf
        for path, leaf in flatten_dict(dict(network.variables["params"])).items()
    }
    return {**network.variables, "params": unflatten_dict(flat)}
