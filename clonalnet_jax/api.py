"""The modes of the program as Python functions, with paths as strings."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from ml_collections import ConfigDict

from clonalnet_jax.configuration import changed, config_names, load_config
from clonalnet_jax.data import open_dataset
from clonalnet_jax.data.arrays import ArrayData, from_arrays
from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.runtime.processes import wait_for_all
from clonalnet_jax.runtime.retracing import forget
from clonalnet_jax.trained.classifier import Classifier, load_classifier
from clonalnet_jax.trained.freezing import FrozenFunction, frozen
from clonalnet_jax.trained.predict import Prediction, predict_files
from clonalnet_jax.training import story
from clonalnet_jax.workdir.journal import Journal, results_table
from clonalnet_jax.workdir.saved_config import saved_config

if TYPE_CHECKING:
    from clonalnet_jax.report import ReportPage

__all__ = [
    "Results",
    "compare",
    "config",
    "config_names",
    "evaluate",
    "export",
    "from_arrays",
    "frozen",
    "load",
    "predict",
    "train",
    "write_report",
]

StrPath = str | os.PathLike[str]


class Results(dict[str, dict[str, Any]]):
    """The figures of every run of a workdir, and what was trained there.

    A dict by run: `top1`, `top5` and `ece` in percent, `nll` in nats,
    `num_parameters`, `train_seconds` and `images_per_second`. A notebook shows it as a
    table.

    Attributes:
      workdir: Directory where everything is kept.
    """

    def __init__(self, figures: Mapping[str, dict[str, Any]], workdir: Path) -> None:
        """Takes the content of `results.json`."""
        super().__init__(figures)
        self.workdir = workdir

    @functools.cached_property
    def clone(self) -> Classifier:
        """The trained clone, ready to predict; raises as `load` does."""
        return load(self.workdir, "clone")

    @functools.cached_property
    def baseline(self) -> Classifier:
        """The baseline, ready to predict; raises as `load` does."""
        return load(self.workdir, "baseline")

    def report(self, run: str = "clone") -> "ReportPage":
        """Writes the page of `write_report`; a notebook shows it below the cell."""
        from clonalnet_jax.report import ReportPage

        return ReportPage(write_report(self.workdir, run))

    def _repr_mimebundle_(self, **asked: Any) -> dict[str, str]:
        return results_table(self)._repr_mimebundle_(**asked)


def config(name: StrPath = "default", **changes: Any) -> ConfigDict:
    """Loads a config and changes some of its values.

    Args:
      name: One of `config_names()`, such as `"digits"`; the path of a file with a
        function `get_config`; or `"default"`, which names no data set.
      **changes: New values by key. A mapping changes some keys of a group, such as
        `clone={"model": "resnet8", "width": 8}`; `width`, which is no key of
        `config.clone`, is an option of that network.

    Returns:
      The config, locked. `configs/default.py` documents every key.

    Raises:
      UserError: There is no such config or key, or a value has the wrong type.
    """
    return changed(load_config(os.fspath(name)), changes)


@partition.in_own_context
def train(
    config: ConfigDict | StrPath,
    workdir: StrPath,
    *,
    data: ArrayData | None = None,
    baseline: FrozenFunction | None = None,
    force_config: bool = False,
) -> Results:
    """Trains what a config asks for, or what is still missing of it.

    Args:
      config: A config, or the name or path of one.
      workdir: Directory where everything is kept. A second call resumes.
      data: Images in memory, of `from_arrays`, instead of those that the config names.
        They are kept in the workdir, so that it can be opened without them.
      baseline: A function of `frozen` that is the baseline, instead of the network that
        the config names. It is kept in the workdir, too.
      force_config: Goes on although the config differs from the workdir's.

    Returns:
      The figures of every run, with the networks and the report behind them.

    Raises:
      UserError: Something that the user can mend.
    """
    workdir = _path(workdir)
    resolved = _with_data(_config(config, workdir), workdir, data)
    resolved = _with_baseline(resolved, workdir, baseline)
    return Results(story.train(resolved, workdir, force_config=force_config), workdir)


@partition.in_own_context
def evaluate(workdir: StrPath, config: ConfigDict | StrPath | None = None) -> Results:
    """Measures every network of a workdir once more, from its checkpoint.

    Args:
      workdir: Directory that `train` has written.
      config: Config that it was trained with; by default the one saved there.

    Returns:
      The same as `train`.

    Raises:
      UserError: There is nothing to evaluate, or something that the user can mend.
    """
    workdir = _path(workdir)
    return Results(story.evaluate(_config(config, workdir), workdir), workdir)


@partition.in_own_context
def compare(
    config: ConfigDict | StrPath,
    workdir: StrPath,
    *,
    data: ArrayData | None = None,
    baseline: FrozenFunction | None = None,
) -> Mapping[str, Any]:
    """Trains `config.compare.methods` over several seeds and compares them.

    Args:
      config: A config, or the name or path of one.
      workdir: Directory where everything is kept. A second call resumes.
      data: Images in memory; see `train`.
      baseline: A function that is the baseline of every seed; see `train`.

    Returns:
      The content of `compare.json`: figures and tests of every method.

    Raises:
      UserError: Something that the user can mend.
    """
    from clonalnet_jax.comparing import running

    workdir = _path(workdir)
    resolved = _with_data(_config(config, workdir), workdir, data)
    return running.compare(_with_baseline(resolved, workdir, baseline), workdir)


@partition.in_own_context
def tune(
    config: ConfigDict | StrPath,
    workdir: StrPath,
    *,
    data: ArrayData | None = None,
    baseline: FrozenFunction | None = None,
) -> Mapping[str, Any]:
    """Tries the settings of `config.tune` on held-out training images.

    Args:
      config: A config, or the name or path of one.
      workdir: Directory where everything is kept. A second call goes on.
      data: Images in memory; see `train`.
      baseline: A function that is the baseline; see `train`.

    Returns:
      The content of `tune.json`: by method, its settings and scores, the best first.

    Raises:
      UserError: Something that the user can mend.
    """
    from clonalnet_jax.tuning import running

    workdir = _path(workdir)
    resolved = _with_data(_config(config, workdir), workdir, data)
    return running.tune(_with_baseline(resolved, workdir, baseline), workdir)


@partition.in_own_context
def load(workdir: StrPath, run: str = "clone") -> Classifier:
    """Loads a trained network, ready to predict.

    Args:
      workdir: Directory that `train` has written. It holds the config, too.
      run: Name of the network, such as `"clone"` or `"baseline"`.

    Returns:
      The network with its class names and normalisation, on the first device.

    Raises:
      UserError: There is no such run, or it cannot be read.
    """
    workdir = _path(workdir)
    mesh = partition.make_mesh(jax.local_devices()[:1])
    return load_classifier(_saved_config(workdir), workdir, run, mesh)


@partition.in_own_context
def predict(
    workdir: StrPath, images: StrPath | Sequence[StrPath], run: str = "clone"
) -> Iterator[Prediction]:
    """Classifies image files and the images of folders.

    Args:
      workdir: Directory that `train` has written.
      images: A file or folder, or several. Folders are searched through.
      run: Name of the network.

    Returns:
      A prediction for each file, in order, one batch of files after the other. Files
      that cannot be read are among them, with `error`.

    Raises:
      UserError: There are no images, or a network cannot be read.
    """
    workdir = _path(workdir)
    several = [images] if isinstance(images, str | os.PathLike) else images
    paths = [_path(path) for path in several]
    return predict_files(_saved_config(workdir), workdir, paths, run=run)


@partition.in_own_context
def export(
    workdir: StrPath,
    run: str = "clone",
    *,
    format: str = "safetensors",
    output: StrPath | None = None,
) -> Path:
    """Writes a trained network in another format, with a JSON file beside it.

    Args:
      workdir: Directory that `train` has written.
      run: Name of the network.
      format: `safetensors`, `orbax`, `stablehlo` or `onnx`.
      output: File or, for `orbax`, directory; by default below `<workdir>/export`.

    Returns:
      The path that was written.

    Raises:
      UserError: The format or run is unknown, or the output cannot be written.
    """
    from clonalnet_jax.trained import export as exporting

    workdir = _path(workdir)
    return exporting.export(
        _saved_config(workdir),
        workdir,
        format=format,
        run=run,
        output=None if output is None else _path(output),
    )


@partition.in_own_context
def write_report(workdir: StrPath, run: str = "clone") -> Path:
    """Writes `report/index.html`, one page that shows whether a run wins, and why.

    Args:
      workdir: Directory that `train` or `compare` has written.
      run: Name of the network that is compared with the baseline.

    Returns:
      The path of the page.

    Raises:
      UserError: There is no such run, or the data cannot be read.
    """
    from clonalnet_jax import report

    return report.write_report(_path(workdir), run=run)


def _config(given: ConfigDict | StrPath | None, workdir: Path) -> ConfigDict:
    """The config that is given, or else the workdir's, with all that it asks for."""
    # A network or a loss may call what a notebook has redefined since.
    forget()
    if given is None:
        return saved_config(workdir)
    from clonalnet_jax.weights.preprocessing import follow_weights

    chosen = given if isinstance(given, ConfigDict) else config(given)
    return follow_weights(chosen, Journal(workdir).say)


def _with_data(config: ConfigDict, workdir: Path, data: ArrayData | None) -> ConfigDict:
    """Keeps data in a workdir, and returns a config that names them."""
    if data is None:
        return config
    if not isinstance(data, ArrayData):
        raise _made_otherwise("data", data, "cn.from_arrays")
    if jax.process_index() == 0:
        data.keep(workdir / "data")
    wait_for_all(f"{workdir} holds the data")
    changes = {
        "source": "arrays",
        "path": os.path.abspath(data.keep(workdir / "data")),
        "train_split": "train",
        "test_split": "test",
        "synthetic": False,
    }
    return changed(config, {"data": changes})


def _with_baseline(
    config: ConfigDict, workdir: Path, baseline: FrozenFunction | None
) -> ConfigDict:
    """Keeps a frozen function in a workdir, and returns a config that names it."""
    if baseline is None:
        return config
    if not isinstance(baseline, FrozenFunction):
        raise _made_otherwise("baseline", baseline, "cn.frozen")
    # Only to know its shape and classes, so that no image but the first is decoded.
    looked_at = changed(config, {"data": {"on_device": False}})
    dataset = open_dataset(looked_at.data, seed=config.seed)
    name = baseline.keep(workdir, dataset.image_shape, dataset.num_classes)
    result = changed(config, {"baseline": {"model": name}})
    with result.baseline.unlocked():
        result.baseline.options = ConfigDict()  # of the network that it replaces
    return result


def _made_otherwise(name: str, given: object, maker: str) -> UserError:
    return UserError(
        name,
        got=f"an object of type {type(given).__name__}",
        expected=f"what {maker} returns",
        remedy=f"cn.train(config, workdir, {name}={maker}(...))",
    )


def _saved_config(workdir: Path) -> ConfigDict:
    """Reads a workdir's config and refuses what the program itself refuses."""
    from clonalnet_jax.training.checks import check_config

    config = saved_config(workdir)
    check_config(config)
    return config


def _path(path: StrPath) -> Path:
    return Path(path).expanduser()
