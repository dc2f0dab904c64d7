"""Command lines that take --config: whatever is wrong with one is one message.

Imported by programs alone: it defines the flag.
"""

import os
import sys
from collections.abc import Callable

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from clonalnet_jax.errors import UserError, explain_flag_error
from clonalnet_jax.runtime.quiet import quieten

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Experiment, such as configs/digits.py.", lock_config=True
)


def start(
    main: Callable[[ConfigDict, list[str]], int],
    *,
    takes_arguments: Callable[[], bool] = lambda: False,
    needs_config: Callable[[], bool] = lambda: True,
) -> None:
    """Runs a program and exits with its code; a user's mistake is 2 and a message.

    Args:
      main: `(config, arguments) -> exit code`.
      takes_arguments: whether anything but flags may stand on the command line.
      needs_config: whether --config must be given; the config is None without.
    """
    quieten()

    def guarded(argv: list[str]) -> int:
        try:
            return main(CONFIG.value, argv[1:])
        except UserError as error:
            return _complain(str(error), code=error.exit_code)
        except OSError as error:
            return _complain(
                f"{error.filename or 'input or output'}: {error.strerror or error}\n"
                "What was saved so far still loads; mend this and start again."
            )
        except KeyboardInterrupt:
            return _complain("Interrupted; the same command resumes.", code=130)

    app.run(
        guarded, flags_parser=lambda argv: _parse(argv, takes_arguments, needs_config)
    )


def _parse(
    argv: list[str],
    takes_arguments: Callable[[], bool],
    needs_config: Callable[[], bool],
) -> list[str]:
    flags.FLAGS.set_gnu_getopt()  # flags may also follow the arguments
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1 and not takes_arguments():
            raise flags.Error(f"Unexpected argument {rest[1]!r}.")
        if CONFIG.value is not None:
            CONFIG.value.items()  # raises what kept the file from loading
        elif needs_config():
            raise flags.Error("--config is missing: try --config=configs/digits.py")
    except Exception as error:  # a config file is code and may raise anything
        sys.exit(_complain(explain_flag_error(error)))
    return list(rest)


def _complain(message: str, *, code: int = 2) -> int:
    print(f"ERROR: {message}", file=sys.stderr)
    if jax.distributed.is_initialized():
        # An orderly end would wait for processes that wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
