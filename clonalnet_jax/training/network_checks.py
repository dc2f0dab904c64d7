"""The networks of a config: whether there are such, and whether they fit the data."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from clonalnet_jax.data.dataset import Dataset
from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model, model_names
from clonalnet_jax.models.import_paths import FROZEN, is_frozen, is_own
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.rules import Rule

_WIDEST = 65_536  # Channels or pixels. No device has the memory for more.
# Arguments of `create_model` that this program sets, and not `options`.
_NOT_OPTIONS = ("name", "num_classes", "dtype")


def _is_network(value: object) -> bool:
    return value in model_names() or is_own(value) or is_frozen(value)


NETWORK = Rule(
    _is_network,
    "one of {names}; or the import path of your own, such as my_package.nets:SmallNet",
    model_names()[0],
    model_names(),
)
"""What the name of a network may be."""


def check_options(section: str, network: ConfigDict) -> None:
    """Refuses options that the network does not have, or values that they cannot have.

    Args:
      section: Name of the section, `baseline` or `clone`.
      network: Section of the config of that name.

    Raises:
      UserError: An option is unknown or impossible, or there is no such network.
    """
    if is_frozen(network.model):
        _check_frozen(section, network)
    if is_own(network.model):
        # Its options may depend on one another: all at once.
        _make_own(section, network, num_classes=2)
    for option, value in network.options.items():
        key = f"config.{section}.options.{option}"
        too_wide = isinstance(value, int) and value > _WIDEST
        if option in _NOT_OPTIONS or too_wide:
            raise UserError(
                key,
                got=repr(value),
                expected=f"at most {_WIDEST:,}"
                if too_wide
                else "options of the network's shape; the data say how many classes "
                "there are, and config.compute_dtype how to compute",
                remedy=f"leave {option} out, or set a smaller one"
                if too_wide
                else f"leave {option} out",
            )
        if is_own(network.model) or is_frozen(network.model):
            continue
        try:
            create_model(network.model, 2, **{option: value})
        except UserError as error:
            raise error.about(f"{key} of {network.model}") from error


def check_network(section: str, network: ConfigDict, dataset: Dataset) -> None:
    """Traces a network on the data's images, which computes nothing.

    Args:
      section: Name of the section, `baseline` or `clone`.
      network: Section of the config of that name.
      dataset: The data set that it is trained on.

    Raises:
      UserError: The network does not take them, or its options do not go together.
    """
    if is_own(network.model):
        _check_own(section, network, dataset)
        return
    if is_frozen(network.model):
        _trace_frozen(section, network, dataset)
        return
    model = create_model(network.model, dataset.num_classes, **network.options)
    image = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    try:
        jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
    except UserError as error:
        raise _about_network(section, network, error) from error
    except Exception as error:  # Layers of impossible shapes raise many types.
        raise UserError(
            f"config.{section}.options",
            got=f"{network.options.to_dict()} for {network.model} and images of shape "
            f"{dataset.image_shape}: {type(error).__name__}: {error}",
            expected="options with which the network takes such images",
            remedy=f"change or leave out config.{section}.options, or choose another "
            f"--config.{section}.model",
        ) from error


def _check_frozen(section: str, network: ConfigDict) -> None:
    """Refuses to train a frozen function, or to change what it computes."""
    if section != "baseline":
        raise UserError(
            f"config.{section}.model",
            got=f"{network.model!r}, a function that cannot be trained",
            expected="the name of a network, or the import path of your own",
            remedy=f"choose another --config.{section}.model; a baseline may be frozen",
        )
    for option in network.options:
        raise UserError(
            f"config.{section}.options.{option}",
            got=f"{network.options[option]!r} for {network.model!r}",
            expected="no options: a frozen function has none",
            remedy=f"leave {option} out",
        )


def _trace_frozen(section: str, network: ConfigDict, dataset: Dataset) -> None:
    """Refuses a frozen function of images of another shape, or of other classes."""
    try:
        model = create_model(network.model, dataset.num_classes)
    except UserError as error:
        raise error.about(f"config.{section}.model: {error.culprit}") from error
    images = jax.ShapeDtypeStruct((2, *dataset.image_shape), jnp.float32)
    try:
        jax.eval_shape(model.apply, model.init(None), images)
    except Exception as error:  # JAX compares the shapes
        line = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"config.{section}.model = {network.model}",
            got=f"images of shape {dataset.image_shape}: {line}",
            expected="images of the shape that it was frozen for",
            remedy="set config.data so that the images have it, or freeze it anew: "
            f"delete {network.model.removeprefix(FROZEN)} and give cn.train the "
            "function",
        ) from error


def _about_network(section: str, network: ConfigDict, error: UserError) -> UserError:
    """The error of a network, which names the key of the config that it is about."""
    _, _, what = error.culprit.partition(": ")
    if what in network.options:
        return error.about(f"config.{section}.options.{what} of {network.model}")
    return error.about(f"config.{section}.model = {network.model}: {what}")


def _make_own(section: str, network: ConfigDict, *, num_classes: int) -> Model:
    try:
        return create_model(network.model, num_classes, **network.options)
    except UserError as error:
        raise error.about(f"config.{section}.model: {error.culprit}") from error


def _check_own(section: str, network: ConfigDict, dataset: Dataset) -> None:
    """Traces a step of training and an evaluation of somebody else's network.

    Raises:
      UserError: It fails, or gives something else than a logit a class.
    """
    from clonalnet_jax.models.own import explain_own

    model = _make_own(section, network, num_classes=dataset.num_classes)
    images = jax.ShapeDtypeStruct((2, *dataset.image_shape), jnp.float32)
    expected = (2, dataset.num_classes)

    def run(images: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        evaluated, variables = model.init_with_output(
            jax.random.key(0), images, train=False
        )
        trained, changed = model.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return evaluated, trained, (variables, changed)

    try:
        *logits, (variables, changed) = jax.eval_shape(run, images)
    except (Exception, SystemExit) as error:  # it is somebody else's code
        raise _failed(section, network, explain_own(network.model, error)) from error
    for found in logits:
        shape = getattr(found, "shape", type(found).__name__)
        if shape != expected:
            got = f"{shape} of images of shape {images.shape}"
            raise _failed(section, network, f"logits {got}", f"logits {expected}")
    if not jax.tree.leaves(variables["params"]):
        raise _failed(section, network, "it has no parameters", "some to train")
    before, after = variables.get("batch_stats", {}), changed["batch_stats"]
    if before != after:
        got, statistics = f"a step makes {after} of its statistics", f"again {before}"
        raise _failed(section, network, got, statistics)


def _failed(
    section: str, network: ConfigDict, got: str, expected: str = "logits of each image"
) -> UserError:
    return UserError(
        f"config.{section}.model = {network.model}",
        got=got,
        expected=expected,
        remedy="mend the network, or change its options; docs/networks.md says what it "
        "is called with",
    )
