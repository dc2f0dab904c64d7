"""A comparison from the figures of seeds that were trained anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clonalnet_jax.comparing.seeds import (
    SEED_FILE,
    SeedFigures,
    other_images,
    read_seed,
)
from clonalnet_jax.comparing.tables import tabulate_seeds, write_comparison
from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.meaning import changed_meaning
from clonalnet_jax.workdir.saved_config import resolve

# Another machine has the same images elsewhere, and another seed is the point.
_MAY_DIFFER = ("config.data.path:", "config.seed:")


def gather(paths: Sequence[Path], workdir: Path) -> tuple[dict[str, Any], str]:
    """Tabulates the seeds of several workdirs, without any checkpoint.

    Args:
      paths: Workdirs of `compare`, of one seed or several; those of a seed; or the
        files `seed_figures.json` themselves.
      workdir: Directory of `compare.json`, `.csv` and `.md`, which are replaced.

    Returns:
      What `compare.json` holds, and the text of `compare.md`.

    Raises:
      UserError: There are no such files, one is damaged, or two are of one seed, of
        other configs, other methods or other test images.
    """
    seeds = read_seeds(paths)
    workdir.mkdir(parents=True, exist_ok=True)
    result = tabulate_seeds(resolve(seeds[0].config), seeds)
    return result, write_comparison(result, workdir)


def read_seeds(paths: Sequence[Path]) -> list[SeedFigures]:
    """Reads the figures of seeds, and checks that they belong together.

    Args:
      paths: Those of `gather`.

    Returns:
      The figures, in the order of their seeds.

    Raises:
      UserError: The same as of `gather`.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise UserError(
            "--mode=gather",
            got="no workdirs",
            expected="the workdirs of seeds, or their files seed_figures.json",
            remedy="main.py --mode=gather runs/array/* --workdir=runs/gathered",
        )
    found = sorted(
        ((read_seed(file), file) for file in files), key=lambda one: one[0].seed
    )
    for one in found[1:]:
        _check_alike(found[0], one)
    for (figures, file), (before, other) in zip(found[1:], found, strict=False):
        if figures.seed == before.seed:
            raise UserError(
                f"seed {figures.seed} of {file}",
                got=f"the same seed as that of {other}",
                expected="each seed once",
                remedy="leave one of them out",
            )
    return [figures for figures, _ in found]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]  # which `read_seed` refuses where there is none
    here = [path / SEED_FILE] if (path / SEED_FILE).exists() else []
    found = here or sorted(path.glob(f"seed*/{SEED_FILE}"))
    if not found:
        raise UserError(
            f"workdir {path}",
            got=f"no {SEED_FILE} in it, and none in seed0, seed1 and so on",
            expected="a directory that --mode=compare has finished",
            remedy="let it finish: the same command resumes",
        )
    return found


def _check_alike(
    first: tuple[SeedFigures, Path], one: tuple[SeedFigures, Path]
) -> None:
    """Refuses seeds that were not trained and tested alike."""
    (before, other), (figures, file) = first, one
    changes = [
        change
        for change in changed_meaning(before.config, figures.config)
        if not change.startswith(_MAY_DIFFER)
    ]
    if changes:
        raise UserError(
            str(file),
            got=f"another experiment than {other}: {'; '.join(changes[:6])}",
            expected="seeds of one config",
            remedy="gather those of one config, or train it again with that",
        )
    if figures.metrics.keys() != before.metrics.keys():
        odd = sorted(figures.metrics.keys() ^ before.metrics.keys())
        raise UserError(
            str(file),
            got=f"other methods than in {other}: {', '.join(odd)} in one of them",
            expected="the same methods for every seed",
            remedy="let config.compare.methods be the same, and compare again: what is "
            "trained is not trained again",
        )
    if figures.labels != before.labels:
        raise other_images(str(file), figures.test_images, before.test_images)
