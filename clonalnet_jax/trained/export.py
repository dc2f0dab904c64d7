"""Writes the network of a workdir in the formats that other programs read."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy
from jax import export as jax_export
from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models.import_paths import is_frozen, is_own
from clonalnet_jax.runtime import partition
from clonalnet_jax.trained.classifier import Classifier, load_classifier
from clonalnet_jax.weights import to_paths, to_torch
from clonalnet_jax.workdir.files import temporary_beside, write_atomically

_PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    config: ConfigDict,
    workdir: Path,
    *,
    format: str,
    run: str = "clone",
    output: Path | None = None,
) -> Path:
    """Writes a network of a workdir in another format, with a JSON file beside it.

    The JSON says what the network is: model, options, class names in the order of the
    logits, image shape, and the normalisation that `safetensors` and `orbax` leave to
    the reader. `stablehlo` and `onnx` take float32 images NHWC with pixels in [0, 1],
    normalise them themselves, and have a symbolic batch size.

    Both appear under their names once they are whole; nothing there is replaced.

    Args:
      config: The config that the workdir was trained with; its data are not needed.
      workdir: The workdir of a `train`.
      format: `safetensors` (a state dict that torchvision or timm loads strictly; by
        the paths in Flax for a network of the user's own),
        `orbax`, `stablehlo` (through `jax.export`) or `onnx` (through jax2onnx).
      run: Name of the network.
      output: File or, for `orbax`, directory to write; `~` is the user's home. By
        default it lies below `<workdir>/export`.

    Returns:
      The path that was written.

    Raises:
      UserError: The format or run is unknown, or the output cannot be written.
    """
    if format not in _WRITERS:
        raise unknown_name("--format", format, _WRITERS)
    write, suffix = _WRITERS[format]
    output = (output or workdir / "export" / f"{run}{suffix}").expanduser()
    _check_free(output)
    mesh = partition.make_mesh(jax.local_devices()[:1])
    classifier = load_classifier(config, workdir, run, mesh)
    description = describe(classifier)
    beside = json.dumps(description, indent=2) + "\n"
    sidecar = output.with_name(output.name + ".json")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # One of the same content was left by an export that was killed: it may go.
        if _exists(sidecar) and not _holds(sidecar, beside):
            raise _taken(sidecar)
        # It goes first: with the network, the last step, the export is whole.
        write_atomically(sidecar, beside)
        try:
            write(classifier, output, description)
        except BaseException:
            sidecar.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(output, error) from error
    return output


def describe(classifier: Classifier) -> dict[str, Any]:
    """Returns what a reader of the exported file must know."""
    meta = classifier.network.meta
    return {
        "model": meta.model,
        "options": meta.options,
        "class_names": meta.class_names,
        "image_shape": meta.image_shape,
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "method": meta.method,
        "step": meta.step,
    }


def write_onnx(classifier: Classifier, output: Path, about: dict[str, Any]) -> None:
    """Converts a classifier through jax2onnx.

    Args:
      classifier: The network; its normalisation becomes part of the graph.
      output: The file to write.
      about: The description that `describe` gives.

    Raises:
      UserError: The package jax2onnx is not installed, or cannot convert the network.
    """
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(
            "--format=onnx",
            got="jax2onnx is not installed",
            expected="it, to convert JAX to ONNX",
            remedy='pip install "clonalnet-jax[onnx]"',
        ) from error
    try:
        model = to_onnx(_closed(classifier), [("batch", *about["image_shape"])])
    except Exception as error:  # a converter fails in as many ways as it has rules
        raise UserError(
            f"--format=onnx of {about['model']}",
            got=f"{type(error).__name__}: {error}",
            expected="a network that jax2onnx can convert",
            remedy="export safetensors, load them into PyTorch's definition and use "
            "torch.onnx.export",
        ) from error
    write_atomically(output, model.SerializeToString())


def _safetensors(classifier: Classifier, output: Path, about: dict[str, Any]) -> None:
    if is_frozen(about["model"]):
        raise UserError(
            "--format=safetensors",
            got=f"{about['model']}, a function that only its file describes",
            expected="a network whose tensors have names",
            remedy="choose --format=stablehlo, or copy that file",
        )
    metadata = {key: json.dumps(value) for key, value in about.items()}
    named = to_paths if is_own(about["model"]) else to_torch
    tensors = named(classifier.network.variables)
    # The library's save_file ignores the umask: nobody else could read the file.
    content = safetensors.numpy.save(tensors, {"format": "pt"} | metadata)
    write_atomically(output, content)


def _orbax(classifier: Classifier, output: Path, about: dict[str, Any]) -> None:
    del about
    temporary = temporary_beside(output)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(temporary.absolute(), classifier.network.variables)
        temporary.rename(output)
    except OSError:
        raise
    except Exception as error:  # Orbax and TensorStore raise a dozen types
        raise OSError(None, str(error).splitlines()[0], str(output)) from error
    finally:
        for left in output.parent.glob(f"{temporary.name}*"):
            with contextlib.suppress(OSError):
                shutil.rmtree(left)


def _stablehlo(classifier: Classifier, output: Path, about: dict[str, Any]) -> None:
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *about["image_shape"]), jnp.float32)
    exported = jax_export.export(jax.jit(_closed(classifier)), platforms=_PLATFORMS)(
        images
    )
    write_atomically(output, bytes(exported.serialize()))


def _closed(classifier: Classifier) -> Callable[[jax.Array], jax.Array]:
    """Images to logits, the weights built in as constants."""
    variables = jax.tree.map(np.asarray, classifier.network.variables)

    def forward(images: jax.Array) -> jax.Array:
        return classifier.forward(variables, images)

    return forward


def _check_free(output: Path) -> None:
    if _exists(output):
        raise _taken(output)


def _exists(path: Path) -> bool:
    """Whether a name is taken, by a link that leads nowhere, too."""
    try:
        return path.is_symlink() or path.exists()
    except OSError as error:
        raise _unwritable(path, error) from error


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_bytes() == content.encode()


def _taken(path: Path) -> UserError:
    return UserError(
        f"--output {path}",
        got="it exists",
        expected="a path that is free",
        remedy="remove it or choose another --output",
    )


def _unwritable(output: Path, error: OSError) -> UserError:
    return UserError(
        f"--output {output}",
        got=f"it cannot be written: {error.strerror or error}",
        expected="a directory that can be written and has space left",
        remedy="make room or choose another --output; nothing was left there",
    )


_WRITERS: dict[str, tuple[Callable[[Classifier, Path, dict[str, Any]], None], str]] = {
    "safetensors": (_safetensors, ".safetensors"),
    "orbax": (_orbax, ".orbax"),
    "stablehlo": (_stablehlo, ".stablehlo"),
    "onnx": (write_onnx, ".onnx"),
}
