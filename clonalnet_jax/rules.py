"""Rules of what a config key may hold, and the check of a table of them.

A table maps the name of a key, such as `optimizer.momentum`, to its rule. Each room of
the package states the rules of its own keys; `training.checks` reads all of them.
"""

import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError, unknown_name

# Steps, epochs and indices of images are int32 on the devices.
LARGEST_COUNT = 2**31 - 1
# Weights and rates are float32 there. A larger number would become infinite.
_LARGEST_NUMBER = float(np.finfo(np.float32).max)
# A message shows only the beginning of a long value.
_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = _shorten.maxlong = 60


class Rule(NamedTuple):
    """The values that one key may hold.

    Attributes:
      accepts: Tells whether a value of any type is possible.
      expected: The possible values, in words; `{names}` stands for the known names.
      example: A possible value, for the remedy of a refusal.
      known: All names that the key may have, if it is a name. They are read anew by
        every check, so that more may join.
    """

    accepts: Callable[[Any], bool]
    expected: str
    example: Any
    known: Collection[str] = ()

    def in_words(self) -> str:
        """Returns `expected` with the names that are known by now."""
        return self.expected.replace("{names}", ", ".join(self.known))

    def check(self, key: str, value: Any) -> None:
        """Refuses a value that the key cannot have.

        Args:
          key: Name of the key, such as `config.seed`.
          value: The value that it has.

        Raises:
          UserError: The value is impossible.
        """
        if self.accepts(value):
            return
        for name in value if isinstance(value, tuple | list) else [value]:
            if not (self.known and isinstance(name, str)):
                continue
            if name not in self.known and not self.accepts((name,)):
                raise unknown_name(key, name, self.known)
        quote = '"' if isinstance(self.example, tuple) else ""
        raise UserError(
            key,
            got=_shorten.repr(value),
            expected=self.in_words(),
            remedy=f"--{key}={quote}{self.example}{quote}",
        )


def check_table(
    config: ConfigDict, table: Mapping[str, Rule], *, name: str = "config"
) -> None:
    """Checks every key of a config by its rule.

    Args:
      config: A config, or a section of one.
      table: The rule of each of its keys; those of a section are `section.key`.
      name: The name of the config in messages.

    Raises:
      UserError: A key is missing or unknown, or its value is impossible.
    """
    values = dict(_walk(config, table))
    for key, rule in table.items():
        if key not in values:
            raise UserError(
                f"{name}.{key}",
                got=f"the config has no key {key!r}",
                expected=rule.in_words(),
                remedy="begin a config with default.get_config(); where a workdir of "
                "another version lacks the key, name a config of now: --config=...",
            )
        rule.check(f"{name}.{key}", values[key])
    for key in values:
        if key not in table:
            raise unknown_name(f"unknown config key {name}.{key}", key, table)


def whole(
    least: int, most: int = LARGEST_COUNT, *, example: int, optional: bool = False
) -> Rule:
    """A rule for whole numbers; neither 3.0 nor True is one.

    Args:
      least: The smallest possible number.
      most: The largest possible number.
      example: A possible number.
      optional: Whether None is possible, too.

    Returns:
      The rule.
    """

    def accepts(value: Any) -> bool:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return is_whole and least <= value <= most

    rule = Rule(accepts, f"a whole number{_between(least, most)}", example)
    return _or_none(rule) if optional else rule


def number(
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    example: float,
    optional: bool = False,
    note: str = "",
) -> Rule:
    """A rule for finite numbers, of which a whole number is one.

    Args:
      least: The smallest possible number.
      above: A number that is just too small, also once it is rounded to float32.
      most: The largest possible number.
      below: A number that is just too large, also once it is rounded to float32.
      example: A possible number.
      optional: Whether None is possible, too.
      note: More about the possible numbers.

    Returns:
      The rule.
    """

    def accepts(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not abs(value) <= _LARGEST_NUMBER:  # This form refuses NaN, too.
            return False
        rounded = float(np.float32(value))
        return (
            (least is None or value >= least)
            and (above is None or rounded > above)
            and (most is None or value <= most)
            and (below is None or rounded < below)
        )

    expected = f"a finite number{_between(least, most, above, below)}{note}"
    rule = Rule(accepts, expected, example)
    return _or_none(rule) if optional else rule


def several(
    rule: Rule,
    *,
    lengths: Collection[int] = (),
    ascending: bool = False,
    example: tuple[Any, ...],
) -> Rule:
    """A rule for tuples or lists, each element of which obeys another rule.

    Args:
      rule: The rule of an element.
      lengths: The possible lengths; empty for any.
      ascending: Whether no element may be smaller than the one before.
      example: A possible tuple.

    Returns:
      The rule.
    """

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, tuple | list)
            and (not lengths or len(value) in lengths)
            and all(map(rule.accepts, value))
            and (not ascending or sorted(value) == list(value))
        )

    count = f" of {' or '.join(map(str, lengths))} values" if lengths else ""
    order = ", in ascending order" if ascending else ""
    expected = f"a tuple{count}{order}, each {rule.expected}"
    return Rule(accepts, expected, example, rule.known)


def choice(known: Collection[str], *, optional: bool = False) -> Rule:
    """A rule for one of some names.

    Args:
      known: The names, or the table that has them as keys.
      optional: Whether None is possible, too.

    Returns:
      The rule.
    """

    def accepts(value: Any) -> bool:
        return isinstance(value, str) and value in known

    rule = Rule(accepts, "one of {names}", next(iter(known)), known)
    return _or_none(rule) if optional else rule


def different_names(
    known: Collection[str],
    *,
    least: int = 0,
    also: Callable[[object], bool] = lambda name: False,
) -> Rule:
    """A rule for a tuple or list of names, none of them twice.

    Args:
      known: The names that there are, or the table that has them as keys.
      least: The least number of them.
      also: Says which other names are possible.

    Returns:
      The rule.
    """
    of_one = choice(known)
    either = of_one._replace(accepts=lambda name: of_one.accepts(name) or also(name))
    of_each = several(either, example=tuple(known)[:1])

    def accepts(value: Any) -> bool:
        return of_each.accepts(value) and least <= len(set(value)) == len(value)

    count = "at least one name" if least else "names"
    expected = f"a tuple of {count}, each once: {{names}}"
    return of_each._replace(accepts=accepts, expected=expected)


def count_or_share(*, example: float) -> Rule:
    """A rule for a number of things or, below 1, their share; flags give floats."""

    def accepts(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return 0 <= value < 1 or (value == value // 1 and value <= LARGEST_COUNT)

    expected = "a whole number, at least 0; or a share, above 0 and below 1"
    return Rule(accepts, expected, example)


def flag(*, optional: bool = False) -> Rule:
    """A rule for True and False, and None where it is `optional`."""
    rule = Rule(lambda value: isinstance(value, bool), "True or False", True)
    return _or_none(rule) if optional else rule


def text(example: str, *, optional: bool = False, empty: bool = False) -> Rule:
    """A rule for text.

    Args:
      example: A possible text.
      optional: Whether None is possible, too.
      empty: Whether the text may be empty.

    Returns:
      The rule.
    """

    def accepts(value: Any) -> bool:
        # No path can hold the character NUL.
        return isinstance(value, str) and (empty or value != "") and "\0" not in value

    rule = Rule(accepts, "text" if empty else "text, not empty", example)
    return _or_none(rule) if optional else rule


def options() -> Rule:
    """A rule for a section whose keys the table does not know."""

    def accepts(value: Any) -> bool:
        return isinstance(value, ConfigDict) and all(isinstance(k, str) for k in value)

    return Rule(accepts, "a ConfigDict", "ConfigDict()")


def _or_none(rule: Rule) -> Rule:
    return rule._replace(
        accepts=lambda value: value is None or rule.accepts(value),
        expected=f"{rule.expected}; or None",
    )


def _between(
    least: float | None,
    most: float | None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    """The bounds in words, such as `, at least 0 and below 1`."""
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    parts = [f"{word} {x:,}" for word, x in bounds.items() if x is not None]
    return f", {' and '.join(parts)}" if parts else ""


def _walk(
    config: ConfigDict, table: Mapping[str, Rule], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Keys and values of all sections that are not themselves in the table."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, ConfigDict) and path not in table:
            yield from _walk(value, table, f"{path}.")
        else:
            yield path, value
