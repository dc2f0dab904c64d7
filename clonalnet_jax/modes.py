"""What `main.py --mode=...` does; new modes join here."""

import atexit
import contextlib
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def run_mode(
    mode: str,
    config: "ConfigDict | None",
    workdir: Path,
    *,
    paths: list[Path],
    run: str,
    format: str | None,
    output: str | None,
    topology: str | None = None,
    force_config: bool,
) -> int:
    """Runs a mode.

    Args:
      mode: `train`, `evaluate`, `compare`, `gather`, `tune`, `predict`, `export`,
        `report` or `plan`.
      config: The whole config; a report can do without, from the workdir's, and
        `gather` does.
      workdir: Directory where the runs lie.
      paths: Files and folders to predict, or workdirs to gather.
      run: Network that is predicted with, exported or reported on.
      format: Format of the export, the predictions or the plan; None for the usual one.
      output: File of the export or the plan; None for one below the workdir.
      topology: Name of the devices to plan for.
      force_config: Goes on although the config differs from the workdir's.

    Returns:
      The exit code; `interruption.EXIT_PREEMPTED` after a stop that was asked for.

    Raises:
      UserError: Something that the user can mend.
    """
    # Each mode imports the libraries that only it needs, such as Matplotlib or ONNX.
    if mode == "report":
        from clonalnet_jax.report import write_report

        _begin()
        print(f"Report: {write_report(workdir, config, run=run)}")
        return 0
    if mode == "gather":
        from clonalnet_jax.comparing.gathering import gather

        _begin()
        print(gather(paths, workdir)[1])
        print(f"Also {workdir}/compare.json, compare.csv and compare.md")
        return 0
    assert config is not None, "every other mode has one"
    from clonalnet_jax.training.checks import check_config

    check_config(config)
    if mode == "plan":
        from clonalnet_jax.planning.running import run_plan_apart

        return run_plan_apart(
            _begun(config, workdir),
            workdir,
            topology=topology,
            format=format or "text",
            output=Path(output).expanduser() if output else None,
        )
    if mode == "predict":
        from clonalnet_jax.trained.printing import run_predict

        config = _begun(config, workdir)
        return run_predict(config, workdir, paths, run=run, format=format or "text")
    if mode == "export":
        from clonalnet_jax.trained.export import export

        config = _begun(config, workdir)
        path = Path(output).expanduser() if output else None
        format = format or "safetensors"
        print(export(config, workdir, format=format, run=run, output=path))
        return 0
    from clonalnet_jax.training import story

    act: Callable[..., Any] = story.train
    if mode == "evaluate":
        act = story.evaluate
    elif mode == "compare":
        from clonalnet_jax.comparing.running import compare as act
    elif mode == "tune":
        from clonalnet_jax.tuning.running import tune as act
    config = _begun(config, workdir)
    code = _until_stopped(act, config, workdir, force_config=force_config)
    if mode == "train" and code == 0:
        _say_what_next(config, workdir)
    return code


def _say_what_next(config: "ConfigDict", workdir: Path) -> None:
    import jax

    if jax.process_index() == 0 and config.methods:
        last = config.methods[-1]
        run = "" if last == "clone" else f" --run={shlex.quote(last)}"
        print(
            f"Next: --mode=report, predict IMAGE... or export, each with "
            f"--workdir={shlex.quote(str(workdir))}{run}"
        )


def _until_stopped(
    act: Callable[..., Any], config: "ConfigDict", workdir: Path, *, force_config: bool
) -> int:
    """Runs what may take long, listening to who wants to stop it."""
    from clonalnet_jax.runtime import interruption

    interruption.listen(watchdog_minutes=config.watchdog_minutes)
    try:
        act(config, workdir, force_config=force_config)
    except interruption.PreemptedError:
        print("Stopped as asked; the same command resumes.", file=sys.stderr)
        return interruption.EXIT_PREEMPTED
    finally:
        interruption.rest()
    return 0


def _begin(config: "ConfigDict | None" = None, workdir: Path = Path()) -> None:
    """Finds the devices, after which a Ctrl-C may interrupt work."""
    import jax

    from clonalnet_jax.runtime.keyboard import interrupt_raises

    if config is not None:
        configure_jax(config, workdir)
    jax.devices()
    interrupt_raises()


def _begun(config: "ConfigDict", workdir: Path) -> "ConfigDict":
    """Finds the devices, and what the config leaves to the weights that it names."""
    _begin(config, workdir)
    from clonalnet_jax.weights.preprocessing import follow_weights
    from clonalnet_jax.workdir.journal import Journal

    return follow_weights(config, Journal(workdir).say)


def configure_jax(config: "ConfigDict", workdir: Path) -> None:
    """Says what has to be said before the devices are first used.

    Compiled programs are kept in the workdir, unless JAX has been told where already,
    so that a second start begins at once.

    Args:
      config: The whole config.
      workdir: Directory of the runs.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        _trust_compiled(workdir / "compiled")
        jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if config.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def _trust_compiled(directory: Path) -> None:
    """Drops damaged programs now, and vouches for those that are there at the end."""
    from clonalnet_jax.workdir import compiled

    # A directory that cannot be read or written is told of by what needs it more.
    with contextlib.suppress(OSError):
        compiled.drop_damaged(directory)
    atexit.register(_seal_compiled, directory)


def _seal_compiled(directory: Path) -> None:
    from clonalnet_jax.workdir import compiled

    with contextlib.suppress(OSError):
        compiled.seal(directory)
