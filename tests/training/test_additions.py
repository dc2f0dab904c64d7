"""What joins a table of CONTRIBUTING.md is known everywhere, without another edit."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clonalnet_jax.configs import default
from ml_collections import ConfigDict

import clonalnet_jax as cn
from clonalnet_jax.data.openers import OPENERS
from clonalnet_jax.data.records import Noise, Split
from clonalnet_jax.errors import UserError
from clonalnet_jax.rules import number
from clonalnet_jax.training.checks import RULES, check_config
from clonalnet_jax.training.methods import METHODS, Method
from clonalnet_jax.training.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    make_optimizer,
    make_schedule,
)
from clonalnet_jax.training.story import train


def make_focal(config):
    """Lin et al. 2017 (arXiv 1708.02002); it has a key of its own."""

    def loss_fn(logits, baseline_logits, labels, epoch):
        nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        weight = (1 - jnp.exp(-nll)) ** config.focal.exponent
        return {"loss": weight * nll, "nll": nll}

    return Method(loss_fn, needs_baseline=False)


def open_dark(config):
    """Images of which nobody has seen a pixel: the second half of them are brighter."""
    names = ("dark", "bright")
    return tuple(Split(Noise((8, 8, 3), 2, 16, k), names, 3, "dark") for k in (0, 1))


def make_sign(config, schedule):
    return optax.sign_sgd(schedule)


def make_halving(config, span, rate):
    return optax.linear_schedule(rate, rate / 2, span.num_steps)


TABLES = {
    "methods": (METHODS, make_focal, ("added",)),
    "compare.methods": (METHODS, make_focal, ("clone", "added")),
    "data.source": (OPENERS, open_dark, "added"),
    "optimizer.name": (OPTIMIZERS, make_sign, "added"),
    "optimizer.schedule": (SCHEDULES, make_halving, "added"),
}


@pytest.mark.parametrize("key", TABLES)
def test_a_name_is_known_once_it_is_in_its_table_and_not_before(key, monkeypatch):
    table, function, value = TABLES[key]
    config = default.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=r"got: +'added'"):
        check_config(config)
    monkeypatch.setitem(table, "added", function)
    check_config(config)
    config.update_from_flattened_dict(
        {key: ("addde",) if isinstance(value, tuple) else "addde"}
    )
    with pytest.raises(UserError, match="did you mean 'added'") as caught:
        check_config(config)
    assert "added" in str(caught.value).split("expected:")[1]


@pytest.mark.slow
def test_what_was_added_trains(one_device, two_blocks, tmp_path, monkeypatch):
    for table, function, _ in TABLES.values():
        monkeypatch.setitem(table, "added", function)
    monkeypatch.setitem(RULES, "focal.exponent", number(least=0, example=2.0))
    config = default.get_config()
    with config.unlocked():
        config.focal = ConfigDict({"exponent": 2.0})
    config.methods, config.data.source = ("added",), "added"
    config.optimizer.name = config.optimizer.schedule = "added"
    config.optimizer.learning_rate = 0.01
    config.batch_size, config.steps, config.baseline.min_top1 = 8, 2, 0.0
    for network in (config.baseline, config.clone):
        network.model, network.options = "resnet8", ConfigDict({"width": 4})
    results = train(config, tmp_path)
    assert results.keys() == {"baseline", "added"}
    assert '"nll"' in (tmp_path / "metrics.jsonl").read_text()
    assert all(np.isfinite(row["nll"]) for row in results.values())


@pytest.mark.slow
def test_what_replaces_an_addition_is_used(
    one_device, two_blocks, tmp_path, tfds_dir, monkeypatch
):
    """As where the cell of a notebook is run again."""
    found = []
    for rate in (0.0, 0.5):
        monkeypatch.setitem(
            OPTIMIZERS, "added", lambda config, schedule, rate=rate: optax.sgd(rate)
        )
        config = cn.config(
            "digits",
            steps=1,
            methods=(),
            data={"path": tfds_dir},
            optimizer={"name": "added"},
            baseline={"min_top1": 0.0},
        )
        found.append(cn.train(config, tmp_path / str(rate))["baseline"]["nll"])
    assert found[0] != found[1]


def test_an_added_schedule_and_optimiser_take_their_steps(monkeypatch):
    monkeypatch.setitem(SCHEDULES, "added", make_halving)
    monkeypatch.setitem(OPTIMIZERS, "added", make_sign)
    config = default.get_config().optimizer
    config.name = config.schedule = "added"
    config.warmup_epochs = 1.0
    schedule = make_schedule(config, num_steps=20, steps_per_epoch=4.0)
    assert schedule(20) == pytest.approx(0.05)
    assert schedule(0) == pytest.approx(0.1 / 5)  # the first of 4 steps of warm-up
    optimizer = make_optimizer(config, optax.constant_schedule(0.5))
    params = {"kernel": jnp.ones((2, 2))}
    updates, _ = optimizer.update(
        {"kernel": jnp.full((2, 2), 3.0)}, optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["kernel"], -0.5)
