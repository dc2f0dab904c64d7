"""A function of images as one file: its compiled form, exported, and its variables.

Any function that JAX can trace becomes such a file, with the code of no package in it:
StableHLO, and safetensors around it. So whoever reads it needs neither the function's
source nor its libraries, and runs no Python of somebody else.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax
from jax import export
from jaxtyping import Array, Float

from clonalnet_jax.errors import UserError
from clonalnet_jax.models.import_paths import FROZEN

_FORMAT = "clonalnet frozen function"
_PROGRAM = "program"
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_VERSION = "1"


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedNetwork:
    """A function that a file holds, as a network that is never trained.

    It answers `protocol.Model` in eval mode.

    Attributes:
      program: Function of the variables' leaves and of images `[b, h, w, c]`.
      variables: Its leaves by number: `params`, those that Flax calls so or all, and
        the others as `batch_stats`.
    """

    program: export.Exported
    variables: dict[str, dict[str, Array]]

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the variables of the file, for any key."""
        return self.variables

    def init_with_output(
        self, rngs: Any, images: jax.Array, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Returns the logits of images, and the variables of the file."""
        return self.apply(self.variables, images), self.variables

    def apply(
        self,
        variables: Mapping[str, Any],
        images: Float[Array, "b h w c"],
        *,
        train: bool = False,
        mutable: Any = False,
        rngs: Any = None,
    ) -> Any:
        """Computes logits; see `protocol.Model`."""
        assert not train, "a frozen function is never trained"
        leaves = {**variables["params"], **variables.get("batch_stats", {})}
        ordered = [leaves[number] for number in sorted(leaves)]
        logits = self.program.call(ordered, images.astype(jnp.float32))
        return (logits, {}) if mutable else logits

    def clone(self, *, dtype: Any) -> "ExportedNetwork":
        """Returns itself: it was exported with the dtypes that it computes in."""
        return self


def export_function(
    function: Callable[..., Any], variables: Any, image_shape: tuple[int, ...]
) -> bytes:
    """Makes the content of a file.

    Args:
      function: `(variables, images) -> logits`, or a function of images alone where
        `variables` is None. It is traced once, for any number of images.
      variables: Any pytree of arrays; None if there are none.
      image_shape: Height, width and channels of an image.

    Returns:
      The bytes.

    Raises:
      UserError: The function fails, cannot be traced for any number of images, or
        gives no logits.
    """
    leaves, tree = jax.tree.flatten(variables)
    arrays = [_as_array(leaf) for leaf in leaves]
    keys = [_is_key(leaf) for leaf in leaves]

    def call(arrays: list[Array], images: Float[Array, "b h w c"]) -> Array:
        given = [
            jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
            if key
            else array
            for array, leaf, key in zip(arrays, leaves, keys, strict=True)
        ]
        whole = jax.tree.unflatten(tree, given)
        return function(images) if variables is None else function(whole, images)

    (batch,) = export.symbolic_shape("batch", constraints=["batch >= 1"])
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    try:
        program = export.export(jax.jit(call), platforms=_PLATFORMS)(arrays, images)
    except Exception as error:  # it is somebody else's code
        raise _unusable(
            f"for images [batch, {', '.join(map(str, image_shape))}] it raises "
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error
    shapes = [answer.shape for answer in program.out_avals]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != batch:
        raise _unusable(
            f"its result has the shape {', '.join(map(str, shapes)) or 'of nothing'}"
        )
    paths = jax.tree_util.tree_leaves_with_path(variables)
    flax = isinstance(variables, Mapping) and "params" in variables
    packed = np.frombuffer(program.serialize(), np.uint8)
    tensors: dict[str, Array] = {_PROGRAM: jnp.asarray(packed)}
    for number, (array, (path, _)) in enumerate(zip(arrays, paths, strict=True)):
        other = flax and getattr(path[0], "key", None) != "params"
        name = "batch_stats" if other else "params"
        tensors[f"{name}.{number:06}"] = array
    about = {"format": _FORMAT, "version": _VERSION}
    content: bytes = safetensors.flax.save(tensors, about)
    return content


def read_exported(name: str, num_classes: int) -> ExportedNetwork:
    """Opens the file that a name `frozen:<path>` means.

    Args:
      name: The name.
      num_classes: Number of logits that it must have.

    Returns:
      The network.

    Raises:
      UserError: The file is not there, is damaged, is of another kind, or its function
        has another number of logits.
    """
    path = Path(name.removeprefix(FROZEN)).expanduser()
    try:
        with safetensors.safe_open(path, framework="flax") as file:
            about = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if (about.get("format"), about.get("version")) != (_FORMAT, _VERSION):
            raise _wrong_file(path, f"a file that says of itself {about}")
        program = export.deserialize(bytearray(np.asarray(tensors.pop(_PROGRAM))))
        _refuse_callbacks(path, program)
    except UserError:
        raise
    except Exception as error:  # of the file system, of safetensors and of JAX
        message = (str(error).splitlines() or [""])[0]
        raise _wrong_file(path, f"{type(error).__name__}: {message}") from error
    variables: dict[str, dict[str, Array]] = {"params": {}, "batch_stats": {}}
    for key, array in tensors.items():
        collection, _, number = key.partition(".")
        variables[collection][number] = array
    found = program.out_avals[0].shape[-1]
    if found != num_classes:
        raise UserError(
            f"model {name}",
            got=f"{found} logits",
            expected=f"{num_classes}, one for each class of the data",
            remedy="freeze a function of these classes, in this order",
        )
    return ExportedNetwork(program, variables)


def _refuse_callbacks(path: Path, program: export.Exported) -> None:
    """Refuses a program that would call Python; `jax.export` itself writes none."""
    if b"callback" not in program.mlir_module_serialized:
        return
    # It may be the name of a file or variable in the function's source alone.
    calls = [
        line for line in program.mlir_module().splitlines() if "custom_call" in line
    ]
    if any("callback" in line for line in calls):
        raise _wrong_file(path, "a program that calls back into Python")


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _as_array(leaf: Any) -> Array:
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    try:
        return jnp.asarray(leaf)
    except TypeError as error:
        raise _unusable(f"its variables hold a {type(leaf).__name__}") from error


def _unusable(got: str) -> UserError:
    return UserError(
        "the function of cn.frozen",
        got=got,
        expected="a function (variables, images) -> logits [batch, classes] that JAX "
        "can trace for any number of normalised images",
        remedy="call it under jax.jit with two images of that shape to see more; a "
        "shape inside it that depends on the number of images is images.shape[0]",
    )


def _wrong_file(path: Path, got: str) -> UserError:
    return UserError(
        f"frozen function {path}",
        got=got,
        expected="a file that cn.frozen(...) has written, whole",
        remedy="restore it, or give the baseline to cn.train again",
    )
