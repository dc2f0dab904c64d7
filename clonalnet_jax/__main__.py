"""The program: `clonalnet-jax`, `python -m clonalnet_jax` and `python main.py`.

Its flags are defined here, so that no other module defines any.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from clonalnet_jax.runtime.keyboard import leave_on_interrupt

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_MODES = """train whatever is missing, evaluate what the workdir holds, compare
methods over seeds (config.compare), predict IMAGE..., export a network, or report on
a workdir as a web page"""
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "compare", "predict", "export", "report"],
    _MODES,
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Directory that keeps everything; by default runs/<config name>. To evaluate, "
    "predict, export and report, it stands in for --config, which it holds.",
)
_FORCE = flags.DEFINE_bool("force_config", False, "Go on with a config that differs.")
_RUN = flags.DEFINE_string(
    "run", "clone", "Network to predict with, to export or to report on."
)
_FORMAT = flags.DEFINE_string(
    "format",
    None,
    "To export: safetensors, orbax, stablehlo or onnx. To predict: text, csv or json.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File of an export; by default <workdir>/export/<run>.*"
)
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    ["auto", "on", "off"],
    "Whether to join other processes; auto: where Slurm, Cloud TPU or the like says.",
)
_TAKE_SAVED_CONFIG = ("evaluate", "predict", "export", "report")


def main() -> None:
    """Runs the program and exits with its code."""
    leave_on_interrupt()
    # Imported after that, since a Ctrl-C may come at once.
    from clonalnet_jax.command import start

    start(
        run,
        takes_arguments=lambda: MODE.value == "predict",
        config_in=workdir_with_config,
    )


def run(config: "ConfigDict", arguments: list[str]) -> int:
    """Runs the mode that the flags ask for.

    Args:
      config: The whole config.
      arguments: The images to predict.

    Returns:
      The exit code.

    Raises:
      UserError: Something that the user can mend.
    """
    # Before the first array, which an import below makes.
    from clonalnet_jax.runtime import processes

    processes.start(_DISTRIBUTED.value)
    from clonalnet_jax.modes import run_mode

    return run_mode(
        MODE.value,
        config,
        _workdir() or Path("runs") / _config_name(),
        images=[Path(argument).expanduser() for argument in arguments],
        run=_RUN.value,
        format=_FORMAT.value,
        output=_OUTPUT.value,
        force_config=_FORCE.value,
    )


def workdir_with_config() -> Path | None:
    """Returns the workdir whose saved config the mode can do with, if it can."""
    return _workdir() if MODE.value in _TAKE_SAVED_CONFIG else None


def _workdir() -> Path | None:
    return Path(_WORKDIR.value).expanduser() if _WORKDIR.value else None


def _config_name() -> str:
    from clonalnet_jax.command_line import named_config

    return Path(named_config(sys.argv) or "config").stem


if __name__ == "__main__":
    main()
