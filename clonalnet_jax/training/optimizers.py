"""The optimiser and learning-rate schedule that a config describes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from clonalnet_jax.errors import unknown_name

# Arrays of more than one axis that do not decay either, as in timm's `no_weight_decay`.
_NEVER_DECAYED = ("cls_token", "pos_embed")


def make_schedule(
    config: ConfigDict, *, num_steps: int, steps_per_epoch: float
) -> optax.Schedule:
    """Gives the learning rate as a function of the step.

    Args:
      config: The part `config.optimizer`.
      num_steps: The number of steps of the whole run.
      steps_per_epoch: The steps that make an epoch, a fraction where the batch does not
        divide the data.

    Returns:
      The step's learning rate: a linear warm-up, then `cosine` to 0, `step` or
      `constant`. `step` is PyTorch's MultiStepLR: every one of `decay_epochs`, counted
      from the start of the run, multiplies the rate by `decay_rate` from its step on.
      An epoch that is named twice decays twice, and one within the warm-up lowers the
      ramp too, as PyTorch's ChainedScheduler of LinearLR and MultiStepLR has it.
    """
    if config.schedule not in SCHEDULES:
        raise unknown_name("config.optimizer.schedule", config.schedule, SCHEDULES)
    peak = config.learning_rate
    warmup = min(round(config.warmup_epochs * steps_per_epoch), num_steps - 1)
    span = Span(num_steps, warmup, steps_per_epoch)
    build = partial(SCHEDULES[config.schedule], config, span)
    main = build(peak)
    if not warmup:
        return main
    ramp = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    lowered = build(1.0)

    def schedule(step: jax.Array) -> jax.Array:
        return jnp.where(step < warmup, ramp(step) * lowered(step), main(step))

    return schedule


class Span(NamedTuple):
    """The length of a run, which a schedule is stretched over.

    Attributes:
      num_steps: The number of steps of the whole run.
      warmup: The number of steps of the warm-up, which comes first.
      steps_per_epoch: The steps that make an epoch, possibly a fraction.
    """

    num_steps: int
    warmup: int
    steps_per_epoch: float


def _cosine(config: ConfigDict, span: Span, rate: float) -> optax.Schedule:
    """Loshchilov and Hutter 2017 (arXiv 1608.03983), without restarts."""
    del config
    falling = optax.cosine_decay_schedule(rate, span.num_steps - span.warmup)
    return lambda step: falling(jnp.maximum(step - span.warmup, 0))


def _step(config: ConfigDict, span: Span, rate: float) -> optax.Schedule:
    """PyTorch's MultiStepLR."""
    decays: dict[int, float] = {}
    for epoch in config.decay_epochs:
        step = round(epoch * span.steps_per_epoch)
        decays[step] = decays.get(step, 1.0) * config.decay_rate
    return optax.piecewise_constant_schedule(rate, decays)


def _constant(config: ConfigDict, span: Span, rate: float) -> optax.Schedule:
    del config, span
    return optax.constant_schedule(rate)


SCHEDULES: dict[str, Callable[[ConfigDict, Span, float], optax.Schedule]] = {
    "cosine": _cosine,
    "step": _step,
    "constant": _constant,
}
"""The function that builds each schedule, by its name in `config.optimizer.schedule`.

`(config.optimizer, span, rate) -> schedule`: the rate by the step, counted from the
start of the run, where it begins as `rate`. In the warm-up it multiplies the ramp.
"""


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Makes the optimiser, behind a clipping of the gradient's norm where one is asked.

    Args:
      config: The part `config.optimizer`.
      schedule: The learning rate by step, from `make_schedule`.

    Returns:
      The optax transformation.
    """
    if config.name not in OPTIMIZERS:
        raise unknown_name("config.optimizer.name", config.name, OPTIMIZERS)
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
    return None if config.decay_vectors else _is_decayed


def _is_decayed(params: Any) -> Any:
    """Kernels alone: no bias, scale of a norm, position embedding or class token."""

    def decayed(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        return leaf.ndim > 1 and path[-1].key not in _NEVER_DECAYED

    return jax.tree_util.tree_map_with_path(decayed, params)


def _is_kernel(params: Any) -> Any:
    """Neither a bias nor a scale of a norm."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "lars": _lars,
}
"""The function that builds each optimiser, by its name in `config.optimizer.name`."""
