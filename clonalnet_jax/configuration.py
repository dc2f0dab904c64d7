"""Where a config comes from, a name or a file, and how it is changed."""

import copy
import difflib
import inspect
import re
import traceback
import types
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clonalnet_jax.configs import default
from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.workdir.files import flatten

OPEN_GROUPS = ("baseline.options", "clone.options")
"""Groups that may have any key, since each network has options of its own."""


def config_names() -> list[str]:
    """Returns the names of the configs that come with the package."""
    files = resources.files("clonalnet_jax.configs").iterdir()
    stems = (Path(file.name).stem for file in files if file.name.endswith(".py"))
    return sorted(set(stems) - {"__init__", "default"})


def load_config(named: str) -> ConfigDict:
    """Runs the config file that is named.

    Args:
      named: Path of a file, or a name of `config_names()`, or `"default"`. A path
        `configs/<name>.py` that is not there means the package's config, so that the
        documented commands work in any directory.

    Returns:
      The config, locked.

    Raises:
      UserError: There is no such config, or its file does not make one.
    """
    path, source = _find(named)
    get_config = _run(path, source)
    try:
        config = get_config()
    except (Exception, SystemExit) as error:
        raise _broken(path, error) from error
    if not isinstance(config, ConfigDict):
        raise _no_config(path, get_config, f"it returns {type(config).__name__}")
    _check_keys(path, config, get_config)
    return config.lock()


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Changes values of a config, which stays as it was.

    Args:
      config: A whole config.
      changes: New values by key; nested for a group, of which other keys stay. What
        is no key of `baseline` or `clone` is an option of that network. Its `model`
        may be the class of a network, and `methods` may hold losses.

    Returns:
      A changed copy, locked.

    Raises:
      UserError: A key does not exist, or a value has the wrong type.
    """
    result = copy.deepcopy(config)
    defaults = flatten(default.get_config().to_dict())
    for key, value in flatten(dict(changes)).items():
        group, _, name = key.rpartition(".")
        if name == "model" and callable(value):
            value = _import_path(key, value)
        if name == "methods" and isinstance(value, list | tuple):
            value = tuple(_import_path(key, v) if callable(v) else v for v in value)
        if f"{group}.options" in OPEN_GROUPS and name not in result[group]:
            key = f"{group}.options.{name}"
        try:
            set_value(result, key, value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"config.{key}",
                got=f"{value!r}: {explain(error)}",
                expected=f"a value like the default, {defaults.get(key)!r}",
                remedy="see configs/default.py, which documents every key",
            ) from error
    return result.lock()


def _import_path(key: str, network: Callable[..., Any]) -> str:
    """The path that finds a network or loss again, in this or another process."""
    path = f"{network.__module__}:{getattr(network, '__qualname__', '<object>')}"
    if "<" in path:
        raise UserError(
            f"config.{key}",
            got=f"{network!r}, which has no import path",
            expected="a class or function at the top of a module",
            remedy="define it there; what it is called with belongs into its options",
        )
    return path


def set_value(config: ConfigDict, key: str, value: Any) -> None:
    """Sets one value by its dotted key.

    Args:
      config: The config, which is changed.
      key: Dotted, such as `clone.options.width`.
      value: The new value; None only where the default is None.

    Raises:
      KeyError: The key does not exist.
      TypeError: The value has the wrong type.
    """
    group, _, name = key.rpartition(".")
    parent = config
    for part in group.split(".") if group else ():
        parent = parent[part]
    if value is None and not can_be_none(key):
        raise TypeError(f"{key} cannot be None")
    if group in OPEN_GROUPS:
        with parent.unlocked():
            parent[name] = value
    else:
        parent[name] = value


def can_be_none(key: str) -> bool:
    """Says whether a dotted key may be None: those may whose default is."""
    known = flatten(default.get_config().to_dict())
    return key.rpartition(".")[0] in OPEN_GROUPS or known.get(key, ...) is None


def _find(named: str) -> tuple[Path, bytes]:
    """Reads the file that a path or name means."""
    path = Path(named).expanduser()
    known = [*config_names(), "default"]
    of_package = path.parent == Path("configs") and path.suffix == ".py"
    if not path.is_file() and (of_package or named in known):
        packaged = resources.files("clonalnet_jax.configs") / f"{path.stem}.py"
        if packaged.is_file():
            return Path(str(packaged)), packaged.read_bytes()
    try:
        return path, path.read_bytes()
    except OSError as error:
        if path.suffix != ".py" and len(path.parts) == 1:
            raise unknown_name("--config", named, config_names()) from error
        close = difflib.get_close_matches(path.stem, known, n=1)
        raise UserError(
            f"--config={named}",
            got=error.strerror or str(error),
            expected="a file with get_config(), or the name of a config",
            remedy=f"did you mean {close[0]!r}?"
            if close
            else f"choose one of {', '.join(config_names())}, or check the path",
        ) from error


def _run(path: Path, source: bytes) -> Callable[[], Any]:
    """Executes a file and returns its `get_config`."""
    module = types.ModuleType("config_file")
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise _broken(path, error) from error
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise _no_config(path, None, "it has no function get_config")
    try:
        inspect.signature(get_config).bind()
    except TypeError as error:
        got = f"get_config{inspect.signature(get_config)} takes arguments"
        raise _no_config(path, get_config, got) from error
    return get_config


def _check_keys(path: Path, config: ConfigDict, get_config: Callable[[], Any]) -> None:
    """Refuses a config that was not made from the defaults, or has lost a value."""
    known = flatten(default.get_config().to_dict())
    given = flatten(config.to_dict())
    for key, value in given.items():
        if key not in known and not key.startswith(tuple(f"{g}." for g in OPEN_GROUPS)):
            raise unknown_name(f"{path}: config key", key, known)
        if value is None and not can_be_none(key):
            raise _no_config(path, get_config, f"config.{key} is None")
    missing = [key for key in known if key not in given]
    if missing:
        raise _no_config(path, get_config, f"config.{missing[0]} is missing")


def _no_config(path: Path, get_config: Callable[[], Any] | None, got: str) -> UserError:
    code = getattr(get_config, "__code__", None)
    return UserError(
        f"{path}, line {code.co_firstlineno}" if code else str(path),
        got=got,
        expected="get_config(), which returns default.get_config() with its changes",
        remedy="write it as configs/digits.py of the repository is written",
    )


def _broken(path: Path, error: BaseException) -> UserError:
    """Says where a config file fails, in its own lines."""
    if isinstance(error, UserError):
        return error
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    remedy = "mend that line"
    if isinstance(error, ModuleNotFoundError) and error.name == "configs":
        remedy = "write: from clonalnet_jax.configs import default"
    return UserError(
        f"{path}, line {line}" if line else str(path),
        got=explain(error),
        expected="a file of Python with get_config()",
        remedy=remedy,
    )


def explain(error: BaseException) -> str:
    """Says in a line what is wrong with a config, without a dump of the whole config.

    Args:
      error: Exception of a config file, of ml_collections or of absl.

    Returns:
      The line.
    """
    text = str(error.args[0]) if error.args else ""
    close = re.search(r'Did you mean "(\w+)" instead of "(\w+)"', text)
    alone = re.fullmatch(r"\W*(\w+)\W*", text) or re.search(
        r'Key "(\w+)" does not exist', text
    )
    if isinstance(error, AttributeError | KeyError) and (close or alone):
        key = close[2] if close else alone and alone[1]
        hint = f"did you mean {close[1]!r}? " if close else ""
        return f"unknown config key {key!r}: {hint}configs/default.py lists every key"
    if isinstance(error, SyntaxError):
        return error.msg
    if type(error).__module__.startswith("absl"):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")
