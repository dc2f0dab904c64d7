"""Variables of one of our networks from somebody else's file."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.state import Variables
from clonalnet_jax.weights.names import from_torch
from clonalnet_jax.weights.reading import read_state_dict
from clonalnet_jax.weights.sources import find_weights


def read_weights(
    config: ConfigDict,
    model: nn.Module,
    image_shape: Sequence[int],
    *,
    without: tuple[str, ...] | None = None,
) -> Variables:
    """Variables of a network from the PyTorch file of `config.baseline.weights`.

    Args:
      config: `config.baseline`.
      model: the network.
      image_shape: `(height, width, channels)`.
      without: Path of a layer to leave out; see `weights.from_torch`.

    Returns:
      NumPy arrays, float32.

    Raises:
      UserError: the file cannot be read, or its tensors are not the network's.
    """
    path = find_weights(config.weights)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    state = read_state_dict(path)
    source = str(path) if ":" not in config.weights else f"{config.weights} ({path})"
    variables = from_torch(state, shapes, source=source, without=without)
    return jax.tree.map(lambda x: np.asarray(x, np.float32), variables)
