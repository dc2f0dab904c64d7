"""The optimiser and learning-rate schedule that a config describes."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

SCHEDULES = ("cosine", "step", "constant")
"""Names that `config.optimizer.schedule` may have."""


def make_schedule(
    config: ConfigDict, *, num_steps: int, steps_per_epoch: float
) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
      config: `config.optimizer`.
      num_steps: of the whole run.
      steps_per_epoch: fractional where the batch does not divide the data.

    Returns:
      Step to learning rate: a linear warm-up, then `cosine` to 0, `step` (times
      `decay_rate` at each of `decay_epochs`) or `constant`.
    """
    peak = config.learning_rate
    warmup = min(round(config.warmup_epochs * steps_per_epoch), num_steps - 1)
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(peak, num_steps - warmup)
    elif config.schedule == "step":
        decays = [round(epoch * steps_per_epoch) for epoch in config.decay_epochs]
        boundaries = {
            step - warmup: config.decay_rate for step in decays if step > warmup
        }
        main = optax.piecewise_constant_schedule(peak, boundaries)
    else:
        main = optax.constant_schedule(peak)
    if not warmup:
        return main
    ramp = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([ramp, main], [warmup])


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimiser, behind a clipping of the whole gradient's norm if one is asked.

    Args:
      config: `config.optimizer`.
      schedule: from `make_schedule`.

    Returns:
      The optax transformation.
    """
    optimizer = OPTIMIZERS[config.name](config, schedule)
    if config.clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)


def _sgd(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """As PyTorch defines it: decay joins the gradient before the momentum."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, _decayed(config)),
        optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov),
    )


def _adamw(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101)."""
    first, second = config.betas
    return optax.adamw(
        schedule,
        b1=first,
        b2=second,
        weight_decay=config.weight_decay,
        mask=_decayed(config),
        nesterov=config.nesterov,
    )


def _lars(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """You et al. 2017 (arXiv 1708.03888); vectors take steps of the plain size."""
    return optax.lars(
        schedule,
        weight_decay=config.weight_decay,
        weight_decay_mask=_decayed(config) or True,
        trust_ratio_mask=_is_kernel,
        momentum=config.momentum,
        nesterov=config.nesterov,
    )


def _decayed(config: ConfigDict) -> Callable[[Any], Any] | None:
    return None if config.decay_vectors else _is_kernel


def _is_kernel(params: Any) -> Any:
    """Neither a bias nor a scale of a norm."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "lars": _lars,
}
"""What builds each optimiser; a new one joins here."""
