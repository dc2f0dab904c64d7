"""Trains a baseline, its clone and the controls that a config asks for.

python main.py --config=configs/digits.py
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from clonalnet_jax.errors import UserError, explain_flag_error
from clonalnet_jax.quiet import quieten

_MODES = """train whatever is missing, evaluate what the workdir holds, predict
IMAGE..., or export a network to another format"""
_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Experiment, such as configs/digits.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "By default runs/<config name>.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate", "predict", "export"], _MODES
)
_FORCE = flags.DEFINE_bool("force_config", False, "Go on with a config that differs.")
_RUN = flags.DEFINE_string("run", "clone", "Network to predict with or to export.")
_FORMAT = flags.DEFINE_string(
    "format", "safetensors", "To export: safetensors, orbax, stablehlo or onnx."
)
_OUTPUT = flags.DEFINE_string("output", None, "By default <workdir>/export/<run>.*")


def main(argv: list[str]) -> int:
    """Hands over to the package; a problem of the user's is one message and code 2."""
    # Imported late, so that --help and a mistyped key are answered at once.
    from clonalnet_jax.modes import run_mode

    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = Path(_WORKDIR.value or Path("runs") / name).expanduser()
    try:
        return run_mode(
            _MODE.value,
            _CONFIG.value,
            workdir,
            images=[Path(name) for name in argv[1:]],
            run=_RUN.value,
            format=_FORMAT.value,
            output=_OUTPUT.value,
            force_config=_FORCE.value,
        )
    except UserError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(
            f"{error.filename or workdir}: {error.strerror or error}\n"
            "What was saved so far still loads; mend this and start again."
        )
    except KeyboardInterrupt:
        return _complain("Interrupted; the same command resumes.", code=130)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; a mistake in it or in a config is one message."""
    flags.FLAGS.set_gnu_getopt()  # flags may also follow the images
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1 and _MODE.value != "predict":
            raise flags.Error(f"Unexpected argument {rest[1]!r}.")
        if _CONFIG.value is None:
            raise flags.Error("--config is missing: try --config=configs/digits.py")
        _CONFIG.value.items()  # raises what kept the file from loading
    except Exception as error:  # a config file is code and may raise anything
        sys.exit(_complain(explain_flag_error(error)))
    return rest


def _complain(message: str, *, code: int = 2) -> int:
    print(f"ERROR: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    quieten()
    app.run(main, flags_parser=parse_flags)
