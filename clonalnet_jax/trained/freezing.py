"""A baseline that is any function of images: `cn.frozen(apply_fn, variables)`."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from clonalnet_jax.errors import UserError
from clonalnet_jax.models.exported import export_function, read_exported
from clonalnet_jax.models.import_paths import FROZEN
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.runtime.processes import wait_for_all
from clonalnet_jax.workdir.files import write_atomically

_FILE = "baseline.frozen"
_PROBES = 4
# The same function on another processor, or compiled by another version, rounds
# otherwise; other weights change the answers more.
_TOLERANCE = 1e-2


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenFunction:
    """A classifier that answers and is not trained; `frozen` makes it.

    Attributes:
      function: `(variables, images) -> logits`; of images alone without variables.
      variables: A pytree of arrays, or None.
      mesh: The mesh, of one device, that it is traced under; empty for most.
    """

    function: Callable[..., Any]
    variables: Any
    mesh: Mesh

    def keep(self, workdir: Path, image_shape: tuple[int, ...], classes: int) -> str:
        """Writes it into a workdir, unless it is there already.

        Args:
          workdir: Directory of a `train` or `compare`.
          image_shape: Height, width and channels of an image.
          classes: Number of classes of the data.

        Returns:
          Its name for `config.baseline.model`.

        Raises:
          UserError: The function cannot be traced, it has not these classes, the file
            cannot be written, or another baseline lies there.
        """
        path = Path(os.path.abspath(workdir / _FILE))
        name, kept = f"{FROZEN}{path}", path.exists()
        wait_for_all(f"{path} looked for")
        if kept:
            self._compare(read_exported(name, classes), path, image_shape)
        elif jax.process_index() == 0:
            with jax.set_mesh(self.mesh):
                content = export_function(self.function, self.variables, image_shape)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
            except OSError as error:
                raise UserError(
                    f"frozen function {path}",
                    got=f"cannot be written: {error.strerror or error}",
                    expected="a directory that can be written and has space left",
                    remedy="make room, or choose another workdir",
                ) from error
        wait_for_all(f"{path} written")
        return name

    def _compare(self, kept: Model, path: Path, image_shape: tuple[int, ...]) -> None:
        """Refuses to go on with another function than the one that is kept."""
        shape = (_PROBES, *image_shape)
        images = jax.random.normal(jax.random.key(0), shape, jnp.float32)
        given = () if self.variables is None else (self.variables,)
        before = np.asarray(kept.apply(kept.init(None), images), np.float32)
        with jax.set_mesh(self.mesh):
            now = np.asarray(jax.jit(self.function)(*given, images), np.float32)
        difference = float(np.abs(before - now).max())
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(before).max())):
            raise UserError(
                f"frozen function {path}",
                got=f"a function whose logits differ by {difference:.3g} from those of "
                "the one that this workdir was started with",
                expected="the same function and variables",
                remedy="choose another workdir, or give the first baseline again",
            )


def frozen(function: Callable[..., Any], variables: Any = None) -> FrozenFunction:
    """Makes a baseline of any function that JAX can trace.

    It is exported into the workdir, with its variables, so that a resumed run,
    `evaluate` and the report need none of its code.

    A network that asks for a mesh, such as those of `jax-image-models`, is made and
    frozen under `jax.set_mesh`. It is traced for one device, and the program has a mesh
    of its own.

    Args:
      function: `(variables, images) -> logits`, in evaluation mode. Images are float32
        `[batch, height, width, channels]`, normalised by `config.data.mean` and `.std`;
        logits are `[batch, classes]`, in the order of the data's classes.
      variables: A pytree of arrays. None: `function` takes images alone, and what
        it closes over becomes constants, which is slow to compile where they are large.

    Returns:
      The baseline, for `train` and `compare`.
    """
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        one = np.asarray(jax.local_devices()[:1]).reshape((1,) * len(mesh.axis_names))
        mesh = Mesh(one, mesh.axis_names)
    return FrozenFunction(function, jax.tree.map(_without_mesh, variables), mesh)


def _without_mesh(leaf: Any) -> Any:
    """Takes to the host what lies on a mesh of this process.

    Its type may name that mesh, of whatever size, and wherever it is put.
    """
    if not isinstance(leaf, jax.Array) or not leaf.is_fully_addressable:
        return leaf
    if isinstance(leaf.sharding, SingleDeviceSharding):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data: Any = np.asarray(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return np.asarray(leaf)
