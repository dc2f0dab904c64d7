"""One temperature of a network, folded into its classifier.

Guo et al. 2017 (arXiv 1706.04599), section 4.2: the logits are divided by one number,
so that the answer stays what it is and its probability becomes what it is worth. A
dense layer can divide its kernel and bias instead, which any format holds.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import eval_logits
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.state import Variables
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
      UserError: The network has no dense layer of Flax Linen, or its logits are not
        what the last one gives.
    """
    height, width, channels = network.meta.image_shape
    shape = (height, width, channels)
    head = head_path(network.model, shape)
    flat = flatten_dict(dict(network.variables["params"]))
    for name in ("kernel", "bias"):
        if (path := (*head, name)) in flat:
            flat[path] = flat[path] / temperature
    folded = {**network.variables, "params": unflatten_dict(flat)}
    _check(network.model, network.variables, folded, shape, temperature)
    return network._replace(variables=folded)


def _check(
    model: Model,
    before: Variables,
    after: dict[str, Any],
    shape: tuple[int, ...],
    temperature: float,
) -> None:
    """Refuses where something follows the layer: a scale, a cap, another head."""
    images = jnp.asarray(
        np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    )
    answer = jax.jit(lambda variables: eval_logits(model, variables, images))
    logits, divided = (np.asarray(answer(v), np.float32) for v in (before, after))
    expected = logits / temperature
    if not np.allclose(divided, expected, atol=_CLOSE * np.abs(expected).max()):
        raise UserError(
            "the network's classifier",
            got="logits that are not what its last dense layer gives",
            expected="a last layer that a temperature can be folded into",
            remedy="set --config.calibrate=False",
        )
