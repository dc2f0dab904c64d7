"""Which setting is tried next: the grid in its order, or what Optuna proposes."""

from collections.abc import Generator
from typing import Any

from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError
from clonalnet_jax.tuning.space import Setting, reads, settings_of

Proposals = Generator[Setting, float, None]
"""Yields settings, and is sent the score of each."""


def propose(
    config: ConfigDict, method: str, space: dict[str, tuple[Any, ...]]
) -> Proposals:
    """Proposes the settings of a method, `config.tune.budget` at most.

    The same scores lead to the same proposals, so that a search that was stopped goes
    on as if it had not been.

    Args:
      config: The whole config.
      method: A name of `config.tune.methods`.
      space: The values of each key; see `space.read_space`.

    Yields:
      Settings, none of them twice. The config's own comes first.

    Raises:
      UserError: The method has nothing to tune, or Optuna is not installed.
    """
    grid = settings_of(config, method, space)
    if config.tune.search == "grid":
        # A list itself could not be sent a score.
        yield from (setting for setting in grid)
        return
    keys = [key for key in space if reads(method, key)]
    read = {key: space[key] for key in keys}
    yield from _with_optuna(config, read, first=grid[0], number=len(grid))


def check_search(config: ConfigDict) -> None:
    """Refuses a search whose library is not there, before anything is trained.

    Args:
      config: The whole config.

    Raises:
      UserError: Optuna is asked for and not installed.
    """
    if config.tune.search == "optuna":
        _import_optuna()


def _with_optuna(
    config: ConfigDict,
    space: dict[str, tuple[Any, ...]],
    *,
    first: Setting,
    number: int,
) -> Proposals:
    """Its tree-structured Parzen estimator over the listed values."""
    optuna = _import_optuna()
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=4)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    # By position, which holds values of any type.
    kinds = {
        key: optuna.distributions.IntDistribution(0, len(values) - 1)
        for key, values in space.items()
    }
    study.enqueue_trial({key: space[key].index(value) for key, value in first.items()})
    scores = dict[tuple[int, ...], float]()
    # It may ask for the same again, which costs nothing, but not for ever.
    for _ in range(20 * config.tune.budget):
        if len(scores) >= number:
            return
        trial = study.ask(kinds)
        point = tuple(trial.params[key] for key in space)
        if point not in scores:
            scores[point] = yield {
                key: values[place]
                for (key, values), place in zip(space.items(), point, strict=True)
            }
        study.tell(trial, scores[point])


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "config.tune.search",
            got="'optuna', which is not installed",
            expected="the package optuna",
            remedy='pip install "clonalnet-jax[tune]", or --config.tune.search=grid',
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
