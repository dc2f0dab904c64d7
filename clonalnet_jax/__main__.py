"""The program: `clonalnet-jax`, `python -m clonalnet_jax` and `python main.py`.

The flags are defined when the program starts. Importing this module defines none.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clonalnet_jax.runtime.keyboard import leave_on_interrupt

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_TAKE_SAVED_CONFIG = ("evaluate", "predict", "export", "report")


def main() -> None:
    """Runs the program and exits with its code."""
    leave_on_interrupt()
    # This import takes a while, in which somebody may press Ctrl-C already.
    from clonalnet_jax.command import start

    _define_flags()
    start(
        run,
        takes_arguments=lambda: _flag("mode") in ("predict", "gather"),
        config_in=workdir_with_config,
        needs_config=lambda: _flag("mode") != "gather",
    )


def run(config: "ConfigDict | None", arguments: list[str]) -> int:
    """Runs the mode that the flags ask for.

    Args:
      config: The whole config; None where the mode needs none.
      arguments: The images to predict, or the workdirs to gather.

    Returns:
      The exit code.

    Raises:
      UserError: Something that the user can mend.
    """
    # Processes must be joined before the first array, which an import below makes.
    from clonalnet_jax.runtime import processes

    if _flag("mode") == "plan":
        processes.stay_alone()
    else:
        processes.start(_flag("distributed"))
    from clonalnet_jax.modes import run_mode

    return run_mode(
        _flag("mode"),
        config,
        _workdir() or Path("runs") / _config_name(),
        paths=[Path(argument).expanduser() for argument in arguments],
        run=_flag("run"),
        format=_flag("format"),
        output=_flag("output"),
        topology=_flag("topology"),
        force_config=_flag("force_config"),
    )


def workdir_with_config() -> Path | None:
    """Returns the workdir whose config may stand in for --config in this mode."""
    return _workdir() if _flag("mode") in _TAKE_SAVED_CONFIG else None


def _define_flags() -> None:
    from absl import flags

    modes = """train whatever is missing, evaluate what the workdir holds, compare
methods over seeds (config.compare), gather WORKDIR... of seeds that were compared
apart, tune settings on held-out training images (config.tune), predict IMAGE...,
export a network, report on a workdir as a web page, or plan a run on accelerators that
need not be here (--topology, config.plan)"""
    flags.DEFINE_enum(
        "mode",
        "train",
        [
            "train",
            "evaluate",
            "compare",
            "gather",
            "tune",
            "predict",
            "export",
            "report",
            "plan",
        ],
        modes,
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Directory that keeps everything; by default runs/<config name>. To evaluate, "
        "predict, export and report, it stands in for --config, which it holds.",
    )
    flags.DEFINE_bool("force_config", False, "Go on with a config that differs.")
    flags.DEFINE_string(
        "run", "clone", "Network to predict with, to export or to report on."
    )
    flags.DEFINE_string(
        "format",
        None,
        "To export: safetensors, orbax, stablehlo or onnx. To predict: text, csv or "
        "json. To plan: text or json.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "File of an export; by default <workdir>/export/<run>.*. Or of a plan; by "
        "default <workdir>/plan/<topology>.json",
    )
    flags.DEFINE_string(
        "topology",
        None,
        "Devices to plan for, such as v5e:4x4, v5p:2x2x1, v6e:2x4 or h100:8.",
    )
    flags.DEFINE_enum(
        "distributed",
        "auto",
        ["auto", "on", "off"],
        "Whether to join other processes; auto: where Slurm, Cloud TPU or the like "
        "says.",
    )


def _flag(name: str) -> Any:
    from absl import flags

    return flags.FLAGS[name].value


def _workdir() -> Path | None:
    return Path(_flag("workdir")).expanduser() if _flag("workdir") else None


def _config_name() -> str:
    from clonalnet_jax.command_line import named_config

    return Path(named_config(sys.argv) or "config").stem


if __name__ == "__main__":
    main()
