"""The settings that a method is tried with, from the lists of `config.tune.space`."""

import ast
import itertools
import random
from typing import Any

from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.training.checks import RULES, check_config
from clonalnet_jax.training.methods import METHODS
from clonalnet_jax.training.variants import loss_values, with_values
from clonalnet_jax.workdir.files import flatten

Setting = dict[str, Any]
"""Values by key, such as `{"loss.temperature": 2.0}`."""

# Whatever a method's loss is, its optimiser may be tried. The baseline keeps its own.
_OF_ALL = "optimizer."
_OF_CLONE = "loss."


def read_space(config: ConfigDict) -> dict[str, tuple[Any, ...]]:
    """Reads `config.tune.space`.

    Args:
      config: The whole config.

    Returns:
      The values of each key, in order; the config's own value is among them.

    Raises:
      UserError: A line is no `key=value,value`, or a key or a value is impossible.
    """
    rates = flatten(config.to_dict()["optimizer"], _OF_ALL)
    own = loss_values(config, METHODS) | rates
    space = dict[str, tuple[Any, ...]]()
    for line in config.tune.space:
        key, equals, values = line.partition("=")
        if key not in own:
            raise unknown_name("config.tune.space", key, own)
        found = _values(line, values) if equals else None
        if not found:
            raise UserError(
                "config.tune.space",
                got=repr(line),
                expected="a key, '=' and values between commas",
                remedy=f"write '{key}={own[key]},...'",
            )
        for value in found:
            RULES[key].check(f"config.tune.space: config.{key}", value)
        several = (own[key], *found)
        space[key] = tuple(dict.fromkeys(several))
    return space


def settings_of(
    config: ConfigDict, method: str, space: dict[str, tuple[Any, ...]]
) -> list[Setting]:
    """Lists the grid of a method, the config's own setting first.

    Args:
      config: The whole config.
      method: A name of `config.tune.methods`.
      space: The values of each key; see `read_space`.

    Returns:
      Every combination of the values of the keys that the method reads. Where they are
      more than `config.tune.budget`, the first and a sample of the others, drawn with
      `config.seed`, so that every method gets the same budget.

    Raises:
      UserError: The method reads none of the keys.
    """
    keys = [key for key in space if reads(method, key)]
    if not keys:
        raise UserError(
            "config.tune.methods",
            got=f"{method!r}, of which config.tune.space has no key",
            expected="methods that have something to tune",
            remedy="leave it out, or add a line such as "
            "'optimizer.learning_rate=0.05,0.1' to config.tune.space",
        )
    values = (space[key] for key in keys)
    grid = [dict(zip(keys, point, strict=True)) for point in itertools.product(*values)]
    budget = config.tune.budget
    if len(grid) <= budget:
        return grid
    drawn = random.Random(f"{config.seed} {method}").sample(grid[1:], budget - 1)
    return [grid[0], *drawn]


def reads(method: str, key: str) -> bool:
    """Whether a method depends on a key.

    Args:
      method: A name of `config.methods`.
      key: A key of the config, such as `loss.temperature`.
    """
    if key == "loss.label_smoothing" and method == "label_smoothing":
        return True
    if key.startswith(_OF_CLONE):
        left_out = method.removeprefix("clone_without_")
        return method.split("_")[0] == "clone" and key != f"loss.{left_out}_weight"
    return key.startswith((f"{method}.", _OF_ALL))


def with_setting(config: ConfigDict, setting: Setting) -> ConfigDict:
    """Returns a copy of a config that has a setting.

    Args:
      config: The whole config.
      setting: Values by key.

    Raises:
      UserError: The values do not go together.
    """
    result = with_values(config, setting)
    check_config(result)
    return result


def as_flags(setting: Setting) -> str:
    """Writes a setting for a command line."""
    return " ".join(
        f"--config.{key}={_quoted(value)}" for key, value in setting.items()
    )


def _values(line: str, values: str) -> list[Any]:
    try:
        return list(ast.literal_eval(f"[{values}]"))
    except (SyntaxError, ValueError) as error:
        raise UserError(
            "config.tune.space",
            got=repr(line),
            expected="values between commas, as Python writes them",
            remedy="such as 'loss.temperature=1,2,4'",
        ) from error


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, tuple | list) else str(value)
