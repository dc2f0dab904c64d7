"""Starts programs that take --config, and turns errors into a message and a code."""

import atexit
import contextlib
import faulthandler
import functools
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from clonalnet_jax.errors import UserError, displayable_lines
from clonalnet_jax.runtime.keyboard import (
    EXIT_INTERRUPTED,
    ignore_interrupt,
    interrupt_ends_with,
)

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_BROKEN_PIPE = 1  # as Python's documentation advises


def start(
    main: Callable[[Any, list[str]], int],
    *,
    check: Callable[[Any], None] = lambda config: None,
    takes_arguments: Callable[[], bool] = lambda: False,
    config_in: Callable[[], Path | None] = lambda: None,
    needs_config: Callable[[], bool] = lambda: True,
) -> NoReturn:
    """Runs a program and exits with its code; a user's mistake is 2 and a message.

    Args:
      main: Function `(config, arguments) -> exit code`.
      check: Function that refuses an impossible config before anything is done;
        `training.checks.check_config` but where `main` itself begins with it.
      takes_arguments: Whether anything but flags may stand on the command line.
      config_in: The workdir whose saved config is taken where --config is not given;
        None where there must be one.
      needs_config: Whether there must be a config at all.
    """
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        # Names of files may have characters that a terminal's encoding lacks.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    atexit.register(ignore_interrupt)  # The first one that is registered is run last.
    code = _run(
        main,
        check,
        functools.partial(
            _parse,
            takes_arguments=takes_arguments,
            config_in=config_in,
            needs_config=needs_config,
        ),
    )
    interrupt_ends_with(code)
    sys.exit(code)


def _run(
    main: Callable[[Any, list[str]], int],
    check: Callable[[Any], None],
    parse: Callable[[list[str]], tuple["ConfigDict | None", list[str]]],
) -> int:
    try:
        config, arguments = parse(sys.argv)
        _import_jax()
        check(config)
        code = main(config, arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _complain(str(error), code=error.exit_code)
    except BrokenPipeError:
        # A reader such as `head` has closed the pipe. Python's flush at the end would
        # fail, too, so it is given another place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        return _complain(
            f"{error.filename or 'input or output'}: {error.strerror or error}\n"
            "What was saved so far still loads; mend this and start again."
        )
    except (RuntimeError, AssertionError) as error:
        if not _is_about_backends(error):
            raise
        return _complain(str(_no_backend(error)))
    except KeyboardInterrupt:
        _complain("Interrupted; the same command resumes.", code=EXIT_INTERRUPTED)
        # All files are closed. An orderly end would crash if JAX is still compiling.
        for child in multiprocessing.active_children():
            child.terminate()
        sys.stdout.flush()
        os._exit(EXIT_INTERRUPTED)


def _parse(argv: list[str], **asked: Any) -> tuple["ConfigDict | None", list[str]]:
    """Reads the command line; prints the help and leaves where it is asked for."""
    from absl import flags

    from clonalnet_jax import command_line

    try:
        return command_line.parse(argv, **asked)
    except flags.Error as error:
        sys.exit(_complain(str(error)))


def _import_jax() -> None:
    """Imports JAX, which reads its environment variables then."""
    from clonalnet_jax.runtime.quiet import quieten

    quieten()
    try:
        import jax  # noqa: F401
    except ValueError as error:
        names = [name for name in os.environ if name.startswith("JAX_")]
        raise UserError(
            f"an environment variable of JAX: one of {', '.join(names) or 'none'}",
            got=str(error),
            expected="a value that JAX understands",
            remedy="correct it, or unset it",
        ) from error


def _is_about_backends(error: Exception) -> bool:
    """Says whether JAX found no device, which it reports in several ways."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.endswith("xla_bridge.py")


def _no_backend(error: Exception) -> UserError:
    asked = os.environ.get("JAX_PLATFORMS")
    return UserError(
        f"JAX_PLATFORMS={asked}" if asked else "JAX's device",
        got=(str(error) or "no such device, or no plugin of JAX for it").split("\n")[0],
        expected="a device of this machine, and its plugin installed",
        remedy='set JAX_PLATFORMS=cpu or unset it; for a GPU: pip install "'
        'clonalnet-jax[cuda]"',
    )


def _complain(message: str, *, code: int = 2) -> int:
    print(f"ERROR: {displayable_lines(message)}", file=sys.stderr)
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        # An orderly end would wait for other processes, which wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
