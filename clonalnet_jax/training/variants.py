"""Methods with settings of their own, beside which the method itself may be trained."""

import ast
import copy
from collections.abc import Collection
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.workdir.files import flatten


class Variant(NamedTuple):
    """A method by another name, with other settings.

    Attributes:
      method: The method.
      setting: Values by key, such as `{"loss.temperature": 1.0}`.
    """

    method: str
    setting: dict[str, Any]


def read_variants(config: ConfigDict, known: Collection[str]) -> dict[str, Variant]:
    """Reads `config.variants`.

    Args:
      config: The whole config.
      known: The names of the methods that there are.

    Returns:
      The variants by their names.

    Raises:
      UserError: A line is no `name = method key=value ...`, its name is a method's or
        there twice, or the method or a key is unknown.
    """
    found = dict[str, Variant]()
    for line in config.variants:
        name, _, rest = (part.strip() for part in line.partition("="))
        method, *pairs = rest.split() or [""]
        if not name.isidentifier() or name in known or name in found or not pairs:
            raise _malformed(line)
        if method not in known:
            raise unknown_name(f"config.variants {name}", method, known)
        setting = dict(_pair(config, line, pair, known) for pair in pairs)
        found[name] = Variant(method, setting)
    return found


def with_values(config: ConfigDict, setting: dict[str, Any]) -> ConfigDict:
    """Returns a copy of a config that has other values.

    Args:
      config: The whole config.
      setting: Values by key.
    """
    result = copy.deepcopy(config)
    with result.unlocked():
        result.update_from_flattened_dict(setting)
    return result


def loss_values(config: ConfigDict, methods: Collection[str]) -> dict[str, Any]:
    """The values of a config that a loss reads, by their keys.

    Args:
      config: The whole config.
      methods: The names of the methods that there are; `config.clone` is a network.
    """
    sections = {"loss", *methods} - {"clone"}
    values = flatten(config.to_dict())
    return {k: v for k, v in values.items() if k.split(".")[0] in sections}


def as_variant(name: str, variant: Variant) -> str:
    """Writes a line of `config.variants`.

    Args:
      name: The name of the variant.
      variant: The variant.
    """
    pairs = (f"{key}={value}" for key, value in variant.setting.items())
    return f"{name} = {variant.method} {' '.join(pairs)}"


def _pair(
    config: ConfigDict, line: str, pair: str, methods: Collection[str]
) -> tuple[str, Any]:
    key, _, text = pair.partition("=")
    if key not in (known := loss_values(config, methods)):
        raise unknown_name(f"config.variants {line!r}", key, known)
    try:
        return key, ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise _malformed(line) from error


def _malformed(line: str) -> UserError:
    return UserError(
        "config.variants",
        got=repr(line),
        expected="a new name, '=', a method, and at least one key=value of its loss, "
        "without spaces in it; each name once",
        remedy="such as 'softer = distillation distillation.temperature=8'",
    )
