"""Trains a baseline, its clone and the controls that a config asks for.

python main.py --config=configs/digits.py
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from clonalnet_jax.command import start
from clonalnet_jax.runtime import processes

_MODES = """train whatever is missing, evaluate what the workdir holds, compare
methods over seeds (config.compare), predict IMAGE..., export a network, or report on
a workdir as a web page"""
_WORKDIR = flags.DEFINE_string("workdir", None, "By default runs/<config name>.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "compare", "predict", "export", "report"],
    _MODES,
)
_FORCE = flags.DEFINE_bool("force_config", False, "Go on with a config that differs.")
_RUN = flags.DEFINE_string(
    "run", "clone", "Network to predict with, to export or to report on."
)
_FORMAT = flags.DEFINE_string(
    "format", "safetensors", "To export: safetensors, orbax, stablehlo or onnx."
)
_OUTPUT = flags.DEFINE_string("output", None, "By default <workdir>/export/<run>.*")


_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    processes.MODES,
    "Whether to join other processes; auto: where Slurm, Cloud TPU or the like says.",
)


def main(config: ConfigDict | None, arguments: list[str]) -> int:
    """Hands over to the package."""
    # Before the first array, which an import below makes.
    processes.start(_DISTRIBUTED.value)
    # Imported late, so that --help and a mistyped key are answered at once.
    from clonalnet_jax.modes import run_mode

    workdir = _WORKDIR.value and Path(_WORKDIR.value).expanduser()
    if not workdir:
        name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
        workdir = Path("runs") / name
    return run_mode(
        _MODE.value,
        config,
        workdir,
        images=[Path(argument) for argument in arguments],
        run=_RUN.value,
        format=_FORMAT.value,
        output=_OUTPUT.value,
        force_config=_FORCE.value,
    )


if __name__ == "__main__":
    start(
        main,
        takes_arguments=lambda: _MODE.value == "predict",
        # A workdir holds its config.
        needs_config=lambda: _MODE.value != "report" or _WORKDIR.value is None,
    )
