"""What `main.py --mode=...` does; new modes join here."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clonalnet_jax.runtime import interruption
from clonalnet_jax.training import story
from clonalnet_jax.training.checks import check_config


def run_mode(
    mode: str,
    config: ConfigDict | None,
    workdir: Path,
    *,
    images: list[Path],
    run: str,
    format: str,
    output: str | None,
    force_config: bool,
) -> int:
    """Runs a mode.

    Args:
      mode: `train`, `evaluate`, `compare`, `predict`, `export` or `report`.
      config: the whole config; only a report can do without, from the workdir's.
      workdir: where the runs lie.
      images: to predict.
      run: network that is predicted with, exported or reported on.
      format: of the export.
      output: of the export; None for below the workdir.
      force_config: goes on although the config differs from the workdir's.

    Returns:
      The exit code; `interruption.EXIT_PREEMPTED` after a stop that was asked for.

    Raises:
      UserError: something that the user can mend.
    """
    # Each imports what it alone needs, such as Matplotlib, SciPy or ONNX.
    if mode == "report":
        from clonalnet_jax.report import write_report

        print(f"Report: {write_report(workdir, config, run=run)}")
        return 0
    assert config is not None, "every other mode has one"
    check_config(config)
    configure_jax(config, workdir)
    if mode == "predict":
        from clonalnet_jax.trained.predict import run_predict

        return run_predict(config, workdir, images, run=run)
    if mode == "export":
        from clonalnet_jax.trained.export import export

        path = Path(output) if output else None
        print(export(config, workdir, format=format, run=run, output=path))
        return 0
    act: Callable[..., Any] = story.train
    if mode == "evaluate":
        act = story.evaluate
    elif mode == "compare":
        from clonalnet_jax.comparing.running import compare as act
    interruption.listen(watchdog_minutes=config.watchdog_minutes)
    try:
        act(config, workdir, force_config=force_config)
    except interruption.PreemptedError:
        print("Stopped as asked; the same command resumes.", file=sys.stderr)
        return interruption.EXIT_PREEMPTED
    finally:
        interruption.rest()
    return 0


def configure_jax(config: ConfigDict, workdir: Path) -> None:
    """Says what has to be said before the devices are first used.

    Compiled programs are kept in the workdir, unless JAX has been told where already,
    so that a second start begins at once.

    Args:
      config: the whole config.
      workdir: of the run.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if config.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
