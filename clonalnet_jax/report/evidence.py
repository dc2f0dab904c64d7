"""What a report rests on: a workdir's networks and what they answer to every image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from clonalnet_jax.analysis.grad_cam import grad_cam
from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models import eval_logits, marks_features
from clonalnet_jax.runtime import partition
from clonalnet_jax.state import Batch
from clonalnet_jax.trained.classifier import load_classifier
from clonalnet_jax.trained.network import Network
from clonalnet_jax.training.baseline import is_given
from clonalnet_jax.training.experiment import Experiment, open_experiment
from clonalnet_jax.workdir.directory import read_results, trained_runs
from clonalnet_jax.workdir.records import METRICS
from clonalnet_jax.workdir.saved_config import saved_config
from clonalnet_jax.workdir.saved_logits import SavedLogits, logits_path, read_logits
from clonalnet_jax.workdir.sealed import lost_files

_BATCH = 16


class Evidence(NamedTuple):
    """Answers of a baseline and of what was trained beside it.

    Attributes:
      workdir: The workdir that was asked about, where the report goes.
      experiment: Config and data; its workdir holds the networks.
      clone: Name of the run that is compared with the baseline.
      logits: Float32 `[n, classes]` of the test split by run, the baseline's first.
      labels: Class of each `[n]`.
      positions: Position of each image in the test split `[n]`; unreadable images
        are left out.
      holdout: Logits and labels of held-out training images by run. A run is missing
        where none are saved, and a given baseline, which may have seen those images.
    """

    workdir: Path
    experiment: Experiment
    clone: str
    logits: dict[str, Float[np.ndarray, "n classes"]]
    labels: Int[np.ndarray, " n"]
    positions: Int[np.ndarray, " n"]
    holdout: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def class_names(self) -> Sequence[str]:
        """In the order of the logits."""
        return self.experiment.dataset.class_names

    @property
    def drawn(self) -> list[str]:
        """The runs that curves are drawn of: all, or the main ones of very many."""
        main = ("baseline", self.clone, "cross_entropy", "distillation")
        many = len(self.logits) > 6
        return [run for run in self.logits if run in main or not many]

    def right(self, run: str) -> np.ndarray:
        """Which images a run classifies correctly, bool `[n]`."""
        return self.logits[run].argmax(axis=-1) == self.labels

    def pixels(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """The image that a row of the logits belongs to."""
        return self.experiment.dataset.test[int(self.positions[index])].image


def collect_evidence(workdir: Path, config: ConfigDict | None, *, run: str) -> Evidence:
    """Reads or computes what every network of a workdir answers.

    Args:
      workdir: The workdir of a `train`; or one that holds such workdirs as
        `seed<number>`, the first of
        which is taken.
      config: None for the one that the workdir was trained with.
      run: The run that is compared with the baseline.

    Returns:
      The evidence.

    Raises:
      UserError: There is no baseline, no such run, or the data cannot be read.
    """
    directory = _directory_of_runs(workdir)
    known = list(read_results(directory))
    if not known:
        raise _without_results(directory)
    for name in ("baseline", run):
        if name not in known:
            raise unknown_name(f"run of workdir {directory}", name, known)
    experiment = _open(directory, config)
    _warn_of_lost_files(workdir, experiment)
    names = ["baseline", run, *(n for n in known if n not in ("baseline", run))]
    answers = {}
    for name in names:
        saved = _saved(experiment, name)
        if saved is None:
            experiment.journal.say(f"report: {name} on the test split")
        answers[name] = saved or _compute(experiment, name)
    first, positions = answers["baseline"]
    logits = {name: answer.logits for name, (answer, _) in answers.items()}
    holdout = {
        name: (answer.holdout_logits, answer.holdout_labels)
        for name, (answer, _) in answers.items()
        if answer.holdout_logits is not None and answer.holdout_labels is not None
        if not (name == "baseline" and is_given(experiment.config))
    }
    return Evidence(workdir, experiment, run, logits, first.labels, positions, holdout)


def _without_results(directory: Path) -> UserError:
    return UserError(
        f"{directory / 'results.json'}",
        got="no figures of any run",
        expected="those of a finished baseline and of what was trained beside it",
        remedy="start --mode=evaluate, which makes it again from the checkpoints, or "
        "--mode=train to go on where it was stopped",
    )


def _warn_of_lost_files(workdir: Path, experiment: Experiment) -> None:
    """Says which parts a report has to do without."""
    own = lost_files(experiment.workdir, (METRICS, "environment.json"))
    for path in [*own, *lost_files(workdir, ("compare.json",))]:
        journal = experiment.journal
        journal.warn(f"{path} is missing; the report goes on without what it held")


def heat_maps(
    evidence: Evidence, run: str, indices: Sequence[int]
) -> Iterator[Float[np.ndarray, "h w"] | None]:
    """Grad-CAM of test images for the run's own answer to each.

    Args:
      evidence: The evidence of `collect_evidence`.
      run: Name of the network's run.
      indices: Rows of the logits.

    Yields:
      A heat map an image, of its size, from 0 to 1; None where the network, one of the
      user's own, does not say what its features are.
    """
    mesh = partition.make_mesh(jax.local_devices()[:1])
    network = _network(evidence.experiment, run, mesh)
    shape = (1, *evidence.experiment.dataset.image_shape)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    if not marks_features(network.model, network.variables, images):
        yield from [None] * len(indices)
        return
    prepare = evidence.experiment.make_preprocess()

    @jax.jit
    def look(variables: Any, pixels: jax.Array) -> jax.Array:
        batch = {"image": pixels, "label": jnp.zeros(_BATCH, jnp.int32)}
        images, _ = prepare(batch, None)
        return grad_cam(network.model, variables, images)[1]

    for start in range(0, len(indices), _BATCH):
        chunk = [evidence.pixels(index) for index in indices[start : start + _BATCH]]
        # Always a whole batch, so that nothing is compiled twice.
        pixels = np.zeros((_BATCH, *chunk[0].shape), np.uint8)
        pixels[: len(chunk)] = chunk
        yield from np.asarray(look(network.variables, pixels))[: len(chunk)]


def _directory_of_runs(workdir: Path) -> Path:
    """The workdir itself, or the first seed's below it."""
    found = [p for p in workdir.glob("seed*") if p.name[4:].isdecimal()]
    for directory in (workdir, *sorted(found, key=lambda path: int(path.name[4:]))):
        if trained_runs(directory) and (directory / "config.json").exists():
            return directory
    lost = bool(trained_runs(workdir))
    raise UserError(
        f"workdir {workdir}",
        got="checkpoints, but no config.json" if lost else "nothing trained there",
        expected="a directory that --mode=train has written, or seed<number> in it",
        remedy="start --mode=train with the config it was trained with, which writes it"
        if lost
        else "train first, or check --workdir",
    )


def _open(directory: Path, config: ConfigDict | None) -> Experiment:
    return open_experiment(config or saved_config(directory), directory)


def _saved(experiment: Experiment, run: str) -> tuple[SavedLogits, np.ndarray] | None:
    """What was saved with the run's figures, if it is of this whole test split."""
    if not logits_path(experiment.workdir, run).exists():
        return None
    saved = read_logits(experiment.workdir, run)
    images = len(experiment.dataset.test)
    if saved.logits.shape != (images, experiment.dataset.num_classes):
        return None
    return saved, np.arange(images)


def _compute(experiment: Experiment, run: str) -> tuple[SavedLogits, np.ndarray]:
    """Evaluates a run's checkpoint on the test split; also gives the positions."""
    network = _network(experiment, run, experiment.mesh)
    prepare = experiment.make_preprocess()

    def step(variables: Any, batch: Batch) -> dict[str, jax.Array]:
        images, labels = prepare(batch, None)
        logits = eval_logits(network.model, variables, images).astype(jnp.float32)
        return {"logits": logits, "labels": labels, "mask": batch["mask"]}

    jitted = partition.jit_eval_step(experiment.mesh, step)
    feed = experiment.feed(experiment.dataset.test)
    parts = [
        jax.device_get(jitted(network.variables, batch))
        for batch in feed.once(batch_size=experiment.config.batch_size)
    ]
    whole = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    positions = np.flatnonzero(whole["mask"])
    predictions = SavedLogits(whole["logits"][positions], whole["labels"][positions])
    return predictions, positions


def _network(experiment: Experiment, run: str, mesh: Mesh) -> Network:
    classifier = load_classifier(experiment.config, experiment.workdir, run, mesh)
    return classifier.network
