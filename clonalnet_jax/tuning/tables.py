"""What was found, as JSON, CSV, Markdown and a figure."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from clonalnet_jax.analysis.significance import mean_over_seeds
from clonalnet_jax.comparing.tables import markdown_table
from clonalnet_jax.errors import csv_cell, displayable
from clonalnet_jax.training.variants import Variant, as_variant
from clonalnet_jax.tuning.space import as_flags
from clonalnet_jax.workdir.files import write_atomically
from clonalnet_jax.workdir.sealed import write_sealed

_SHOWN = 12
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "tune",
    "font.size": 9,
    "text.parse_math": False,  # a method may be called $x$
}
_GREY, _BLUE = "#7d8590", "#2f81c7"


def write_tuning(result: dict[str, Any], workdir: Path) -> None:
    """Writes `tune.json`, `tune.csv`, `tune.md` and `tune.svg`.

    Args:
      result: The content of `tune.json`.
      workdir: The directory that they are written to.
    """
    write_sealed(workdir, "tune.json", json.dumps(result, indent=2))
    write_atomically(workdir / "tune.csv", _csv(result))
    write_atomically(workdir / "tune.md", to_markdown(result))
    settings: dict[Any, Any] = {
        "svg.hashsalt": "tune",
        "font.size": 9,
        "text.parse_math": False,
    }
    with mpl.rc_context(settings):
        file = io.StringIO()
        # Grey and blue, without a ground, suit a light and a dark page.
        _draw(result).savefig(
            file,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            metadata={"Date": None},
        )
    write_atomically(workdir / "tune.svg", file.getvalue())


def to_markdown(result: dict[str, Any]) -> str:
    """Writes a table for each method, and the command line with what is best.

    Args:
      result: The content of `tune.json`.

    Returns:
      The text of `tune.md`.
    """
    parts = []
    for method, tried in result["methods"].items():
        keys = list(tried[0]["setting"])
        lines = []
        for one in tried[:_SHOWN]:
            values = [str(one["setting"][key]) for key in keys]
            nll = "broke down" if one["nll"] is None else f"{one['nll']:.3f}"
            lines.append([*values, _top1(one), nll])
        title = f"{displayable(method)}, the best of {len(tried)} settings:"
        table = markdown_table([*keys, "top-1 %", "nll"], lines)
        parts.append(f"{title}\n\n{table}")
    count = len(result["seeds"])
    parts.append(
        "Top-1 on held-out training images, "
        + ("of one seed" if count == 1 else f"mean ± standard error of {count} seeds")
        + "; the best is the best of several, and looks better here than it is. What "
        "it is worth, --mode=compare measures on the test split, with these methods "
        "beside the others:"
    )
    variants, rates = best_variants(result)
    parts.append(f'    --config.variants="{tuple(variants)}"')
    parts += [f"{name} also wants {flags}" for name, flags in rates.items()]
    return "\n\n".join(parts) + "\n"


def best_variants(result: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Writes what is best for `config.variants`.

    Args:
      result: The content of `tune.json`.

    Returns:
      A line for each method; and the flags of what belongs to no loss, such as the
      optimiser's rate, by the name of the variant.
    """
    lines, rates = list[str](), dict[str, str]()
    for method, tried in result["methods"].items():
        best, name = tried[0]["setting"], f"{method}_tuned"
        loss = {k: v for k, v in best.items() if not k.startswith("optimizer.")}
        if loss:
            lines.append(as_variant(name, Variant(method, loss)))
        if rest := {k: v for k, v in best.items() if k not in loss}:
            rates[name] = as_flags(rest)
    return lines, rates


def _top1(one: dict[str, Any]) -> str:
    error = _error(one)
    return f"{one['top1']:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _error(one: dict[str, Any]) -> float | None:
    return mean_over_seeds(one["top1_by_seed"]).standard_error


def _csv(result: dict[str, Any]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["method", "setting", "top1", "standard_error", "nll"])
    for method, tried in result["methods"].items():
        for one in tried:
            setting = csv_cell(json.dumps(one["setting"]))
            row = [csv_cell(method), setting, one["top1"], _error(one), one["nll"]]
            writer.writerow(row)
    return file.getvalue()


def _draw(result: dict[str, Any]) -> Figure:
    """Dots for each method, a row for each setting, the best on top."""
    methods = result["methods"]
    counts = [min(len(tried), _SHOWN) for tried in methods.values()]
    figure = Figure(figsize=(6.4, 0.5 + sum(0.6 + 0.22 * count for count in counts)))
    shape = {"height_ratios": [1.5 + count for count in counts]}
    panels = np.atleast_1d(
        figure.subplots(len(counts), 1, sharex=True, gridspec_kw=shape)
    )
    for axes, (method, tried) in zip(panels, methods.items(), strict=False):
        for row, one in enumerate(tried[:_SHOWN]):
            colour = _GREY if row else _BLUE
            axes.errorbar(
                one["top1"], row, xerr=_error(one), fmt="D", color=colour, markersize=4
            )
        labels = [_short(one["setting"]) for one in tried[:_SHOWN]]
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(displayable(method), color=_GREY)
        axes.tick_params(colors=_GREY, length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(_GREY)
    panels[-1].set_xlabel("top-1 on held-out images, %", color=_GREY)
    figure.tight_layout()
    return figure


def _short(setting: dict[str, Any]) -> str:
    """Values by the last part of their keys."""
    names = {key: key.split(".")[-1].replace("_weight", "") for key in setting}
    return ", ".join(f"{names[key]} {value}" for key, value in setting.items())
