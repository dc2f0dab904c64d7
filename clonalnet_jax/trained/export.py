"""A trained network out of its workdir, into the formats that others read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import export as jax_export
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.runtime import partition
from clonalnet_jax.trained.classifier import Classifier, load_classifier
from clonalnet_jax.weights import to_torch

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

    Args:
      config: that the workdir was trained with; its data are not needed.
      workdir: of a `train`.
      format: `safetensors` (a state dict that torchvision or timm loads strictly),
        `orbax`, `stablehlo` (through `jax.export`) or `onnx` (through jax2onnx).
      run: which network.
      output: file or, for `orbax`, directory; by default below `<workdir>/export`.

    Returns:
      What was written.

    Raises:
      UserError: the format or run is unknown, or the output cannot be written.
    """
    if format not in _WRITERS:
        raise unknown_name("--format", format, _WRITERS)
    write, suffix = _WRITERS[format]
    mesh = partition.make_mesh(jax.local_devices()[:1])
    classifier = load_classifier(config, workdir, run, mesh)
    output = output or workdir / "export" / f"{run}{suffix}"
    if output.exists():
        raise UserError(
            f"--output {output}",
            got="it exists",
            expected="a path that is free",
            remedy="remove it or choose another --output",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    description = describe(classifier)
    write(classifier, output, description)
    sidecar = output.with_name(output.name + ".json")
    sidecar.write_text(json.dumps(description, indent=2) + "\n")
    return output


def describe(classifier: Classifier) -> dict[str, Any]:
    """What a reader of the exported file must know."""
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
      classifier: the network; its normalisation becomes part of the graph.
      output: the file.
      about: from `describe`.

    Raises:
      UserError: jax2onnx is not installed.
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
    output.write_bytes(model.SerializeToString())


def _safetensors(classifier: Classifier, output: Path, about: dict[str, Any]) -> None:
    metadata = {key: json.dumps(value) for key, value in about.items()}
    save_file(
        to_torch(classifier.network.variables), output, {"format": "pt"} | metadata
    )


def _orbax(classifier: Classifier, output: Path, about: dict[str, Any]) -> None:
    del about
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(output.absolute(), classifier.network.variables)


def _stablehlo(classifier: Classifier, output: Path, about: dict[str, Any]) -> None:
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *about["image_shape"]), jnp.float32)
    exported = jax_export.export(jax.jit(_closed(classifier)), platforms=_PLATFORMS)(
        images
    )
    output.write_bytes(exported.serialize())


def _closed(classifier: Classifier) -> Callable[[jax.Array], jax.Array]:
    """Images to logits, the weights built in as constants."""
    variables = jax.tree.map(np.asarray, classifier.network.variables)

    def forward(images: jax.Array) -> jax.Array:
        return classifier.forward(variables, images)

    return forward


_WRITERS: dict[str, tuple[Callable[[Classifier, Path, dict[str, Any]], None], str]] = {
    "safetensors": (_safetensors, ".safetensors"),
    "orbax": (_orbax, ".orbax"),
    "stablehlo": (_stablehlo, ".stablehlo"),
    "onnx": (write_onnx, ".onnx"),
}
