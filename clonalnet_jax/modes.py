"""What `main.py --mode=...` does; new modes join here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clonalnet_jax import compare, export, predict, training


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
      The exit code.

    Raises:
      UserError: something that the user can mend.
    """
    if mode == "report":
        # Imported late: nothing else needs Matplotlib.
        from clonalnet_jax.report import write_report

        print(f"Report: {write_report(workdir, config, run=run)}")
        return 0
    assert config is not None, "every other mode has one"
    if mode == "predict":
        return predict.run_predict(config, workdir, images, run=run)
    if mode == "export":
        path = Path(output) if output else None
        print(export.export(config, workdir, format=format, run=run, output=path))
        return 0
    act: dict[str, Callable[..., Any]] = {
        "train": training.train,
        "evaluate": training.evaluate,
        "compare": compare.compare,
    }
    act[mode](config, workdir, force_config=force_config)
    return 0
