"""The flags --config and --config.<key>, and the help that lists them."""

import ast
import difflib
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from clonalnet_jax.configs import default
from clonalnet_jax.configuration import (
    OPEN_GROUPS,
    can_be_none,
    config_names,
    explain,
    load_config,
)
from clonalnet_jax.workdir.files import flatten
from clonalnet_jax.workdir.saved_config import saved_config

_USAGE = """Trains a baseline, its clone and the controls that a config asks for.

clonalnet-jax --config=digits [--config.KEY=VALUE ...]
"""
_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull"}


def parse(
    argv: Sequence[str],
    *,
    takes_arguments: Callable[[], bool],
    config_in: Callable[[], Path | None],
    needs_config: Callable[[], bool] = lambda: True,
) -> tuple[ConfigDict | None, list[str]]:
    """Reads a command line; the flags of the program are absl's.

    Args:
      argv: The program and its arguments.
      takes_arguments: Whether anything but flags may stand there.
      config_in: The workdir whose saved config is taken where --config is not given;
        None where there must be one.
      needs_config: Whether there must be a config at all.

    Returns:
      The config with its changes, or None; and the arguments that are no flags.

    Raises:
      flags.Error: The command line is wrong.
      UserError: A config is wrong.
      SystemExit: The help was asked for, and has been printed.
    """
    known = flags.FLAGS
    known.set_gnu_getopt()  # flags may also follow the arguments
    program, *rest = argv
    rest = known.read_flags_from_files(rest, force_gnu=True)
    if _HELP & set(rest):
        print(help_text())
        sys.exit(0)
    named, rest = _split(rest)
    # The flags that say where the config lies are read before the config.
    known([program, *rest], known_only=True)
    # All are read again; a flag that may be repeated would add to what it has.
    for name in known:
        if isinstance(known[name], flags.MultiFlag):
            known[name].present = 0
    if not needs_config():
        if named is not None:
            raise flags.Error(f"--config={named} means nothing in this mode.")
        return None, list(known([program, *rest])[1:])
    workdir = config_in() if named is None else None
    if named is None and workdir is None:
        known([program, *(a for a in rest if not re.match(r"--?(no)?config\.", a))])
        raise flags.Error("--config is missing: try --config=configs/digits.py")
    config = load_config(named) if named is not None else saved_config(workdir)  # type: ignore[arg-type]
    _define_overrides(config, [program, *rest])
    arguments = known([program, *rest])[1:]
    _check_overrides()
    if arguments and not takes_arguments():
        raise flags.Error(f"Unexpected argument {arguments[0]!r}.")
    return config, list(arguments)


def named_config(argv: Sequence[str]) -> str | None:
    """Returns what --config of a command line says, if it is there."""
    return _split(flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=True))[0]


def help_text() -> str:
    """Returns the help: the program, its flags, and every key of a config."""
    program = sys.modules["__main__"].__doc__ or _USAGE
    names = ", ".join(config_names())
    lines = [program.strip(), "", "Flags:", ""]
    config = f"Experiment: the path of a file, or one of {names}."
    entries = [("--config=CONFIG", config), *_flags()]
    lines += [_entry(*entry) for entry in entries]
    lines += ["", "Keys of a config, with their defaults:", ""]
    lines += [_entry(*entry) for entry in _keys()]
    return "\n".join(lines)


def _flags() -> list[tuple[str, str]]:
    """The flags of this package's modules and of the program."""
    modules = flags.FLAGS.flags_by_module_dict()
    return [
        (f"--{flag.name}={'...' if flag.default is None else flag.default}", flag.help)
        for module, found in sorted(modules.items())
        if module.startswith("clonalnet_jax") or module == sys.argv[0]
        for flag in found
    ]


def _keys() -> list[tuple[str, str]]:
    """Every key of default.py with its default, and the comments on it."""
    source = Path(default.__file__).read_text()
    values = flatten(default.get_config().to_dict())
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    whole = {
        number
        for number, line in enumerate(source.splitlines(), 1)
        if line.lstrip().startswith("#")
    }
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign):
            continue
        key = ast.unparse(node.targets[0]).removeprefix("config.")
        above = node.lineno
        while above - 1 in whole:
            above -= 1
        text = [comments[line] for line in range(above, node.lineno)]
        text.append(comments.get(node.lineno, ""))
        if key in values or key in OPEN_GROUPS:
            entry = f"--config.{key}={values.get(key, {})}"
            found.append((entry, " ".join(text).strip()))
    return found


def _entry(head: str, text: str) -> str:
    indent = " " * 6
    body = textwrap.fill(
        " ".join(text.split()), 88, initial_indent=indent, subsequent_indent=indent
    )
    return f"  {head}\n{body}".rstrip()


def _split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Takes --config out of a command line; the last one counts."""
    named: str | None = None
    rest: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--":
            return named, [*rest, *arguments[position:]]
        if match := re.fullmatch(r"--?config(=(?s:(.*)))?", argument):
            position += match[1] is None
            if position < len(arguments):
                named = arguments[position] if match[1] is None else match[2]
            if not named or position == len(arguments):
                raise flags.Error("--config has no value: try --config=digits")
        else:
            rest.append(argument)
        position += 1
    return named, rest


def _define_overrides(config: ConfigDict, argv: list[str]) -> None:
    """Defines a flag for every --config.<key> on the command line."""
    for kind, parser in _PARSERS.items():
        config_flags.register_flag_parser_for_type(kind, parser)
    for argument in argv:
        _check_group(config, argument)
        for group in OPEN_GROUPS:
            match = re.match(rf"--?(?:no)?config\.{re.escape(group)}\.(\w+)", argument)
            options = _at(config, group)
            if match and match[1] not in options:
                # The options depend on the network, so any literal is accepted here.
                with options.unlocked():
                    options[match[1]] = config_dict.placeholder(object)
    try:
        config_flags.DEFINE_config_dict("config", config, sys_argv=argv)
    except flags.Error:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise flags.Error(explain(error)) from error


def _check_group(config: ConfigDict, argument: str) -> None:
    """Shows where a network's options are, which are easily taken for its keys."""
    match = re.match(r"--?(?:no)?config\.(baseline|clone)\.(\w+)", argument)
    if match and match[2] not in config[match[1]]:
        group, name = match.groups()
        close = difflib.get_close_matches(name, list(config[group]), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "it has no such key;"
        raise flags.Error(
            f"unknown config key '{group}.{name}': {hint} "
            f"Options of the network are set with --config.{group}.options.{name}."
        )


def _check_overrides() -> None:
    """Refuses None for a key whose default is not None."""
    flag: Any = flags.FLAGS["config"]
    for key, value in flag.override_values.items():
        if value in (None, (None,)) and not can_be_none(key):
            raise flags.Error(f"--config.{key}=None: this key cannot be None")


def _at(config: ConfigDict, key: str) -> ConfigDict:
    for part in key.split("."):
        config = config[part]
    return config


class _OrNone(flags.ArgumentParser):
    """Parses `None`, which unsets a key, and else as another parser does."""

    def __init__(self, parser: flags.ArgumentParser, expected: str) -> None:
        self._parser = parser
        self._expected = expected
        self.syntactic_help = parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        if argument == "None":
            return None
        try:
            return self._parser.parse(argument)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected {self._expected}") from error

    def flag_type(self) -> str:
        return self._parser.flag_type()


_PARSERS = {
    int: _OrNone(flags.IntegerParser(), "a whole number"),
    float: _OrNone(flags.FloatParser(), "a number"),
    bool: _OrNone(flags.BooleanParser(), "True or False"),
    str: _OrNone(flags.ArgumentParser(), "text"),
}
