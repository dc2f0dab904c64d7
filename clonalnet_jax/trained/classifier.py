"""A trained network of a workdir, ready to predict: it takes pixels, returns logits."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float, Num
from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models import create_model, eval_logits
from clonalnet_jax.models.import_paths import is_frozen
from clonalnet_jax.runtime.partition import in_own_context
from clonalnet_jax.runtime.precision import refuse_x64
from clonalnet_jax.trained.calibrated import fold_temperature
from clonalnet_jax.trained.network import Network, load_network
from clonalnet_jax.weights import read_weights
from clonalnet_jax.workdir.checkpoints import read_meta
from clonalnet_jax.workdir.directory import read_results, trained_runs

_BATCH = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network together with the normalisation of its images.

    `network` alone takes normalised images; a classifier takes images as they are.
    Images are uint8 from 0 to 255 or floating numbers from 0 to 1, `[b, h, w, c]`, of
    the network's `image_shape`. Files of any size are for `predict_files`.

    Attributes:
      network: Module, variables and meta of the checkpoint.
      mean: Mean that is subtracted, per channel or one for all, of pixels in [0, 1].
      std: Deviation that is divided by, per channel or one for all.
    """

    network: Network
    mean: Sequence[float]
    std: Sequence[float]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(self.network.meta.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of an image: `(height, width, channels)`."""
        return tuple(self.network.meta.image_shape)

    @in_own_context
    def predict(self, images: Num[ArrayLike, "b h w *c"]) -> Float[np.ndarray, "b k"]:
        """Computes the probability of every class.

        Args:
          images: Images `[b, h, w, c]`, or `[b, h, w]` where there is one channel;
            uint8 from 0 to 255 or floats from 0 to 1.

        Returns:
          Float32 probabilities `[b, classes]`, in the order of `class_names`.

        Raises:
          UserError: The images have another shape, type or range.
        """
        return np.asarray(jax.nn.softmax(self.logits(images), axis=-1))

    @in_own_context
    def logits(self, images: Num[ArrayLike, "b h w *c"]) -> Float[np.ndarray, "b k"]:
        """Computes the logit of every class; many images are taken in batches.

        Args:
          images: Images `[b, h, w, c]`, or `[b, h, w]` where there is one channel;
            uint8 from 0 to 255 or floats from 0 to 1.

        Returns:
          Float32 logits `[b, classes]`, in the order of `class_names`.

        Raises:
          UserError: The images have another shape, type or range.
        """
        pixels = _pixels(np.asarray(images), self.image_shape)
        parts = [np.zeros((0, len(self.class_names)), np.float32)]
        for start in range(0, len(pixels), _BATCH):
            part = pixels[start : start + _BATCH]
            # Whole batches, so that the last one compiles no second program.
            rest = _BATCH - len(part) if len(pixels) > _BATCH else 0
            whole = np.pad(part, ((0, rest), *[(0, 0)] * 3))
            answer = self._jitted(self.network.variables, whole)
            parts.append(np.asarray(answer)[: len(part)])
        return np.concatenate(parts)

    def forward(
        self, variables: Any, images: Float[Array, "b h w c"]
    ) -> Float[Array, "b classes"]:
        """Computes float32 logits of images in [0, 1]; pure, to be jitted.

        Args:
          variables: Variables of the network, which may be traced.
          images: Images with pixels in [0, 1].

        Returns:
          The logits.
        """
        normalised = self.normalise(images)
        return eval_logits(self.network.model, variables, normalised).astype(
            jnp.float32
        )

    def normalise(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Makes the network's input of images with pixels in [0, 1]."""
        return (images - jnp.asarray(self.mean)) / jnp.asarray(self.std)

    @functools.cached_property
    def _jitted(self) -> Callable[[Any, np.ndarray], jax.Array]:
        return jax.jit(self.forward)


def load_classifier(
    config: ConfigDict, workdir: Path, run: str, mesh: Mesh
) -> Classifier:
    """Restores a run of a workdir, or the baseline that its config gives.

    Args:
      config: Config that the workdir was trained with; its data are not needed.
      workdir: Directory of a `train`.
      run: Name of a run, such as `clone`.
      mesh: Devices that the arrays go to.

    Returns:
      The classifier, computing in float32, with the temperature that its run was
      given folded in.

    Raises:
      UserError: There is no such run, or it cannot be read.
    """
    refuse_x64()
    network = _load(config, workdir, run, mesh)
    temperature = read_results(workdir).get(run, {}).get("temperature")
    if config.calibrate and temperature is not None:
        network = fold_temperature(network, temperature)
    return Classifier(network, tuple(config.data.mean), tuple(config.data.std))


def _load(config: ConfigDict, workdir: Path, run: str, mesh: Mesh) -> Network:
    known = trained_runs(workdir)
    if run in known:
        return load_network(workdir / run, mesh, which=config.select, run=run)
    given = config.baseline
    if run == "baseline" and given.checkpoint is not None:
        return load_network(Path(given.checkpoint).expanduser(), mesh)
    without_meta = given.weights is not None or is_frozen(given.model)
    if run == "baseline" and without_meta and known:
        # Weights do not say what they are of; a run that learned from them does.
        meta = read_meta(workdir / known[0])
        model = create_model(given.model, len(meta.class_names), **given.options)
        if is_frozen(given.model):
            variables = model.init(None)
        else:
            variables = read_weights(given, model, meta.image_shape)
        own = {"model": given.model, "options": given.options.to_dict()}
        meta = dataclasses.replace(meta, method="baseline", step=0, **own)
        return Network(model, variables, meta)
    raise unknown_name(f"run of workdir {workdir}", run, known)


def _pixels(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 pixels in [0, 1]; refuses what would be silently misunderstood."""
    expected = f"images [b, {', '.join(map(str, shape))}]"
    if images.ndim == 3 and (*images.shape[1:], 1) == shape:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1:] != shape:
        raise UserError(
            "images",
            got=f"an array of shape {list(images.shape)}",
            expected=expected,
            remedy="resize them and stack them; predict_files does so with files",
        )
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 255
    floating = np.issubdtype(images.dtype, np.floating) or images.dtype == jnp.bfloat16
    if not floating or not np.all((images >= 0) & (images <= 1)):
        found = f" from {images.min()} to {images.max()}" if images.size else ""
        raise UserError(
            "images",
            got=f"{images.dtype}{found}",
            expected="uint8 from 0 to 255, or floating numbers from 0 to 1",
            remedy="convert them with .astype(np.uint8), or divide them by 255; the "
            "network's own mean and deviation are applied here",
        )
    return images.astype(np.float32)
