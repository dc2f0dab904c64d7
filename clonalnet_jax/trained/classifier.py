"""A trained network of a workdir, ready to be used: pixels in, logits out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from clonalnet_jax.errors import unknown_name
from clonalnet_jax.models import create_model, eval_logits
from clonalnet_jax.runtime.precision import refuse_x64
from clonalnet_jax.trained.network import Network, load_network
from clonalnet_jax.training.baseline import read_weights
from clonalnet_jax.workdir.checkpoints import read_meta
from clonalnet_jax.workdir.directory import trained_runs


class Classifier(NamedTuple):
    """A network with the normalisation that it was trained with.

    Attributes:
      network: module, variables and meta.
      mean: per channel or one for all, of pixels in [0, 1].
      std: likewise.
    """

    network: Network
    mean: Sequence[float]
    std: Sequence[float]

    def logits(
        self, variables: Any, images: Float[Array, "b h w c"]
    ) -> Float[Array, "b classes"]:
        """Float32 logits of images with pixels in [0, 1]; pure, to be jitted."""
        normalised = self.normalise(images)
        return eval_logits(self.network.model, variables, normalised).astype(
            jnp.float32
        )

    def normalise(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """What the network takes, of images with pixels in [0, 1]."""
        return (images - jnp.asarray(self.mean)) / jnp.asarray(self.std)


def load_classifier(
    config: ConfigDict, workdir: Path, run: str, mesh: Mesh
) -> Classifier:
    """Restores a run of a workdir, or the baseline that its config gives.

    Args:
      config: that the workdir was trained with; its data are not needed.
      workdir: of a `train`.
      run: name of a run, such as `clone`.
      mesh: where the arrays go.

    Returns:
      The classifier, computing in float32.

    Raises:
      UserError: there is no such run, or it cannot be read.
    """
    refuse_x64()
    network = _load(config, workdir, run, mesh)
    return Classifier(network, tuple(config.data.mean), tuple(config.data.std))


def _load(config: ConfigDict, workdir: Path, run: str, mesh: Mesh) -> Network:
    known = trained_runs(workdir)
    if run in known:
        return load_network(workdir / run, mesh, which=config.select, run=run)
    given = config.baseline
    if run == "baseline" and given.checkpoint is not None:
        return load_network(Path(given.checkpoint).expanduser(), mesh)
    if run == "baseline" and given.weights is not None and known:
        # Weights do not say what they are of; a run that learned from them does.
        meta = read_meta(workdir / known[0])
        model = create_model(given.model, len(meta.class_names), **given.options)
        variables = read_weights(given, model, meta.image_shape)
        own = {"model": given.model, "options": given.options.to_dict()}
        meta = dataclasses.replace(meta, method="baseline", step=0, **own)
        return Network(model, variables, meta)
    raise unknown_name(f"run of workdir {workdir}", run, known)
