"""The baseline: where it comes from, and whether it is good enough to learn from."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError
from clonalnet_jax.models.import_paths import is_frozen
from clonalnet_jax.runtime.partition import replicate
from clonalnet_jax.state import Variables
from clonalnet_jax.trained.network import Network, load_network
from clonalnet_jax.training.experiment import Experiment
from clonalnet_jax.weights import (
    head_path,
    read_weights,
)
from clonalnet_jax.workdir.checkpoints import Meta


def is_given(config: ConfigDict) -> bool:
    """Whether the baseline was trained elsewhere, on images that nobody here knows.

    What is held out of our training images may be among them, so nothing may be
    fitted on it for such a baseline.

    Args:
      config: The whole config.

    Returns:
      Whether it is given by `config.baseline`, and not trained here.
    """
    given = config.baseline
    from_weights = given.weights is not None and not given.replace_head
    return given.checkpoint is not None or from_weights or is_frozen(given.model)


def given_baseline(experiment: Experiment) -> Network | None:
    """The baseline of `config.baseline`, if it is given and not to be trained.

    Args:
      experiment: The run. The baseline must have been trained for its data.

    Returns:
      The baseline; None where it is to be trained, from scratch or under a new head.

    Raises:
      UserError: The checkpoint or file is missing or damaged, of another architecture,
        or of other classes or image shapes than the data set's.
    """
    config = experiment.config.baseline
    if config.checkpoint is not None:
        return _from_checkpoint(experiment)
    if is_frozen(config.model):
        function = experiment.make_network(config)
        return Network(
            function,
            replicate(experiment.mesh, function.init(None)),
            experiment.new_meta("baseline", config),
        )
    if config.weights is None or config.replace_head:
        return None
    model = experiment.make_network(config)
    shape, say = experiment.dataset.image_shape, experiment.journal.say
    variables = read_weights(config, model, shape, say=say)
    experiment.journal.say(f"baseline: {config.model} from {config.weights}")
    return Network(
        model,
        replicate(experiment.mesh, variables),
        experiment.new_meta("baseline", config),
    )


def starting_weights(experiment: Experiment) -> Variables | None:
    """The weights, without classifier, that the baseline's own training starts from.

    Args:
      experiment: Its `config.baseline.weights` and `.replace_head` decide.

    Returns:
      Variables without the classifier's, which stays random; None for random ones.

    Raises:
      UserError: The weights cannot be read or are not of the baseline's network.
    """
    config = experiment.config.baseline
    if config.weights is None or not config.replace_head:
        return None
    model = experiment.make_network(config)
    shape = experiment.dataset.image_shape
    head = head_path(model, shape)
    experiment.journal.say(
        f"baseline: {config.model} from {config.weights}, but for its classifier "
        f"{'.'.join(head)}, which starts random; it is trained before it teaches"
    )
    return read_weights(config, model, shape, without=head, say=experiment.journal.say)


def _from_checkpoint(experiment: Experiment) -> Network:
    config = experiment.config.baseline
    directory = Path(config.checkpoint).expanduser()
    network = load_network(
        directory, experiment.mesh, dtype=experiment.config.compute_dtype
    )
    meta = network.meta
    saved = {"model": meta.model, "options": meta.options}
    asked = {"model": config.model, "options": config.options.to_dict()}
    if saved != asked:
        raise UserError(
            f"config.baseline.checkpoint {directory}",
            got=f"a {_describe(saved)}",
            expected=f"a {_describe(asked)}, as config.baseline says",
            remedy="set config.baseline.model and .options to what it holds",
        )
    _check_classes(directory, meta, experiment.dataset.class_names)
    if tuple(meta.image_shape) != experiment.dataset.image_shape:
        raise UserError(
            f"config.baseline.checkpoint {directory}",
            got=f"trained on images of shape {tuple(meta.image_shape)}",
            expected=f"{experiment.dataset.image_shape}, as the data set's",
            remedy="give a baseline that was trained on such images",
        )
    return network


def check_better_than_chance(experiment: Experiment, top1: float) -> None:
    """Refuses a baseline that knows nothing.

    A teacher whose weights silently failed to load is the commonest way in which
    distillation goes wrong, and training on beside it looks quite normal.

    Args:
      experiment: The run, with the labels and `config.baseline.min_top1`.
      top1: The baseline's top-1 on the test split, in percent.

    Raises:
      UserError: `top1` is below the limit.
    """
    if experiment.config.data.synthetic:
        return  # In a dry run, there is nothing to learn.
    limit = experiment.config.baseline.min_top1
    reason = "config.baseline.min_top1"
    if limit is None:
        limit = chance_limit(experiment)
        reason = "what always naming the commonest class may reach by luck"
    if top1 < limit:
        raise UserError(
            "the baseline is too poor to learn from",
            got=f"top-1 {top1:.2f} % on the test split",
            expected=f"at least {limit:.2f} %, {reason}",
            remedy="check that its weights, class order and normalisation are the data "
            "set's, or train it longer; --config.baseline.min_top1=0 goes on all the "
            "same",
        )


def chance_limit(experiment: Experiment) -> float:
    """Returns the top-1 in percent that knowing nothing may reach by luck."""
    labels = experiment.dataset.test.labels()
    share = np.bincount(labels).max() / len(labels)
    # Three standard errors above the accuracy of always naming the commonest class.
    return 100 * min(share + 3 * math.sqrt(share * (1 - share) / len(labels)), 1)


def _check_classes(directory: Path, meta: Meta, class_names: tuple[str, ...]) -> None:
    saved = meta.class_names
    if saved == list(class_names):
        return
    if len(saved) != len(class_names):
        got, expected = f"{len(saved)} classes", f"{len(class_names)} classes"
    else:
        index = next(i for i, name in enumerate(saved) if name != class_names[i])
        got = f"class {index} is {saved[index]!r}"
        expected = f"class {index} to be {class_names[index]!r}"
    raise UserError(
        f"config.baseline.checkpoint {directory}",
        got=got,
        expected=f"{expected}, as in the data set",
        remedy="give a baseline that was trained on these classes in this order",
    )


def _describe(network: Mapping[str, object]) -> str:
    options = network["options"]
    return (
        f"{network['model']} with options {options}"
        if options
        else str(network["model"])
    )
