"""Variables of one of our networks from somebody else's file."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.models.protocol import Model
from clonalnet_jax.state import Variables
from clonalnet_jax.weights.big_vision import is_vit, rename_vit
from clonalnet_jax.weights.names import from_torch, wanted_names
from clonalnet_jax.weights.paths import are_paths, from_paths
from clonalnet_jax.weights.reading import read_checkpoint
from clonalnet_jax.weights.sources import check_architecture, find_weights
from clonalnet_jax.weights.spellings import respell


def read_weights(
    config: ConfigDict,
    model: Model,
    image_shape: Sequence[int],
    *,
    without: tuple[str, ...] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Variables:
    """Variables of a network from the file of `config.baseline.weights`.

    Its arrays go by PyTorch's names, or by their paths in Flax; see `paths`.

    Args:
      config: Section `config.baseline`.
      model: Network that the weights are of.
      image_shape: Height, width and channels of an image.
      without: Path of a layer to leave out; see `weights.from_torch`.
      say: Called with what was taken from the file and under which other names.

    Returns:
      NumPy arrays, float32.

    Raises:
      UserError: The file cannot be read, its tensors are not the network's, or they
        hold what no trained network can.
    """
    check_architecture(config.weights, config.model)
    path = find_weights(config.weights)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    state = read_checkpoint(path, key=config.weights_key)
    source = str(path) if ":" not in config.weights else f"{config.weights} ({path})"
    if is_vit(state.tensors):
        state = state._replace(tensors=rename_vit(state.tensors))
        say(f"weights {source}: the arrays of a ViT of big_vision, by other names")
    names = [*state.tensors, *state.others]
    if without is None and are_paths(names, shapes):
        return _as_float32(from_paths(state.tensors, shapes, source=source))
    ours, spellings = respell(names, wanted_names(shapes), source=source)
    if notes := [*state.notes, *spellings]:
        say(f"weights {source}: {'; '.join(notes)}")
    variables = from_torch(
        {ours[name]: array for name, array in state.tensors.items()},
        shapes,
        source=source,
        without=without,
        others={ours[name]: what for name, what in state.others.items()},
    )
    return _as_float32(variables)


def _as_float32(variables: Variables) -> Variables:
    return jax.tree.map(lambda x: np.asarray(x, np.float32), variables)
