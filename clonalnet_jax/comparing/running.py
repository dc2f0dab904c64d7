"""Trains several methods over several seeds, and compares them."""

import copy
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clonalnet_jax.comparing.seeds import measure_seeds, write_seed
from clonalnet_jax.comparing.tables import tabulate_seeds, write_comparison
from clonalnet_jax.training import story
from clonalnet_jax.training.checks import check_config
from clonalnet_jax.workdir.directory import check_workdir
from clonalnet_jax.workdir.journal import Journal
from clonalnet_jax.workdir.lock import hold


def compare(
    config: ConfigDict, workdir: Path, *, force_config: bool = False
) -> dict[str, Any]:
    """Trains `config.compare.methods` with every seed, or what is missing of it.

    Seed `s` lies in `<workdir>/seed<s>`, a workdir as `story.train` leaves it. Each
    has a baseline of its own, unless `config.baseline` gives one, and all its other
    runs share data order, augmentation and initialisation.

    Args:
      config: The whole config; its `compare.methods` replace `methods`.
      workdir: Directory of `compare.json`, `.csv` and `.md`; a second call resumes.
      force_config: Whether to go on although the config differs from a seed's, and to
        measure anew.

    Returns:
      What `compare.json` holds; see `tables.tabulate`.

    Raises:
      UserError: Something that the user can mend.
      PreemptedError: The run was asked to stop; a second call resumes.
    """
    check_config(config)
    journal = Journal(workdir)
    with hold(workdir, warn=journal.warn):
        return _compare(config, workdir, journal, force_config=force_config)


def _compare(
    config: ConfigDict, workdir: Path, journal: Journal, *, force_config: bool
) -> dict[str, Any]:
    seeds = range(config.seed, config.seed + config.compare.seeds)
    progress = _Progress(journal, len(seeds) * (1 + len(config.compare.methods)))
    for seed in seeds:
        of_seed, directory = _config_of(config, seed), workdir / f"seed{seed}"
        if not force_config and _is_finished(of_seed, directory):
            progress.skip(_runs(config))
            journal.say(f"seed {seed}: finished already")
            continue
        story.train(
            of_seed,
            directory,
            force_config=force_config,
            announce=functools.partial(progress.begin, seed, directory),
        )
        progress.end()
    directories = [workdir / f"seed{seed}" for seed in seeds]
    found = measure_seeds(config, seeds, directories)
    result = tabulate_seeds(config, found)
    if jax.process_index() == 0:
        for figures, directory in zip(found, directories, strict=True):
            write_seed(figures, directory)
        journal.say(write_comparison(result, workdir))
    journal.say(f"Also {workdir}/compare.json, compare.csv and compare.md")
    return result


def _runs(config: ConfigDict) -> Sequence[str]:
    return ("baseline", *config.compare.methods)


def _config_of(config: ConfigDict, seed: int) -> ConfigDict:
    other = copy.deepcopy(config)
    other.seed = seed
    other.methods = tuple(config.compare.methods)
    if config.baseline.cache_dir is not None:
        # Every seed has its own baseline and its own augmented images.
        other.baseline.cache_dir = str(Path(config.baseline.cache_dir) / f"seed{seed}")
    return other


def _is_finished(config: ConfigDict, directory: Path) -> bool:
    """Whether there is nothing to do, found out without opening data or networks."""
    if not all(story.is_finished(directory, run) for run in _runs(config)):
        return False
    check_workdir(directory, config)
    return True


class _Progress:
    """Says which run of how many begins, and how long the rest may take."""

    def __init__(self, journal: Journal, total: int) -> None:
        self._reporter = journal
        self._total = total
        self._begun = 0
        self._seconds: list[float] = []
        self._clock: float | None = None

    def begin(self, seed: int, directory: Path, run: str) -> None:
        self.end()
        self._begun += 1
        left = self._total - self._begun + 1
        note = ""
        if self._seconds:
            # A mean over this session's runs; a resumed one makes it too small.
            minutes = left * sum(self._seconds) / len(self._seconds) / 60
            note = f", about {max(1, round(minutes))} min left"
        self._reporter.say(
            f"run {self._begun} of {self._total}: seed {seed} {run}{note}"
        )
        if not story.is_finished(directory, run):
            self._clock = time.perf_counter()

    def end(self) -> None:
        if self._clock is not None:
            self._seconds.append(time.perf_counter() - self._clock)
            self._clock = None

    def skip(self, runs: Sequence[str]) -> None:
        self._begun += len(runs)
