"""A trained network: module, variables, and what its checkpoint says of it."""

from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh
from jax.typing import DTypeLike

from clonalnet_jax.models import create_model
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.state import Variables
from clonalnet_jax.workdir.checkpoints import Meta, restore_variables


class Network(NamedTuple):
    """A network as its checkpoint holds it, without the normalisation of its images.

    Attributes:
      model: The Flax module, which takes normalised images.
      variables: Its `params` and `batch_stats`, replicated.
      meta: Description that its checkpoint holds.
    """

    model: Model
    variables: Variables
    meta: Meta


def load_network(
    directory: Path,
    mesh: Mesh,
    *,
    dtype: DTypeLike = "float32",
    which: str = "last",
    run: str | None = None,
) -> Network:
    """Restores a network from the directory of its run.

    Args:
      directory: Directory of a run, such as `runs/digits/clone`.
      mesh: Devices that the arrays go to.
      dtype: Type that the network computes in.
      which: Checkpoint to take, `last` or `best`.
      run: Name of the run that it must be of; None for any.

    Returns:
      The network.

    Raises:
      UserError: There is no checkpoint, or it cannot be read or is of another run.
    """
    variables, meta = restore_variables(directory, mesh, which=which, run=run)
    model = create_model(meta.model, len(meta.class_names), dtype=dtype, **meta.options)
    return Network(model, variables, meta)
