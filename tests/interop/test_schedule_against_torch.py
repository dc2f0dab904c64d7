"""The step schedule beside PyTorch's MultiStepLR under a linear warm-up."""

import numpy as np
import pytest
import torch_bridge as bridge
from clonalnet_jax.configs import default
from hypothesis import given, settings
from hypothesis import strategies as st

from clonalnet_jax.training.optimizers import make_schedule

torch, *_ = bridge.import_torch()


def torch_rates(milestones, warmup, rate, count):
    """The rate of each step, of ChainedScheduler([LinearLR, MultiStepLR])."""
    schedulers = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    chain = [schedulers.MultiStepLR(optimizer, milestones, gamma=rate)]
    if warmup:
        ramp = schedulers.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
        chain.append(ramp)
    chained, rates = schedulers.ChainedScheduler(chain, optimizer), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        chained.step()
    return rates


@given(st.lists(st.integers(0, 30), max_size=4), st.integers(0, 12))
@settings(max_examples=25, deadline=None)
@pytest.mark.filterwarnings("ignore")  # of PyTorch, about the order of its own calls
def test_the_rates_are_multi_step_lrs(milestones, warmup):
    config = default.get_config().optimizer
    config.schedule, config.decay_rate = "step", 0.5
    config.decay_epochs = tuple(map(float, milestones))
    config.warmup_epochs = float(warmup)
    schedule = make_schedule(config, num_steps=35, steps_per_epoch=1.0)
    ours = [float(schedule(step)) for step in range(35)]
    theirs = torch_rates(sorted(milestones), warmup, 0.5, 35)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
