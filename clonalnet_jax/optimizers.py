"""The optimiser and learning-rate schedule that a config describes."""

import optax
from ml_collections import ConfigDict

from clonalnet_jax.errors import unknown_name


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

    Raises:
      UserError: the schedule is unknown.
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
    elif config.schedule == "constant":
        main = optax.constant_schedule(peak)
    else:
        raise unknown_name(
            "config.optimizer.schedule", config.schedule, ("cosine", "step", "constant")
        )
    if not warmup:
        return main
    ramp = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([ramp, main], [warmup])


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """SGD as PyTorch defines it: decay joins the gradient before the momentum.

    Args:
      config: `config.optimizer`.
      schedule: from `make_schedule`.

    Returns:
      The optax transformation.

    Raises:
      UserError: the optimiser is unknown.
    """
    if config.name != "sgd":
        raise unknown_name("config.optimizer.name", config.name, ("sgd",))
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov),
    )
