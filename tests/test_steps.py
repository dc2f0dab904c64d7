"""One step: what moves, what stays, and that the devices do not matter."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clonalnet_jax import partition, steps
from clonalnet_jax.data import make_prepare
from clonalnet_jax.errors import UserError
from clonalnet_jax.methods import make_method
from clonalnet_jax.models import create_model
from configs import default

SHAPE, CLASSES, BATCH = (8, 8, 3), 10, 16
PREPARE = make_prepare(mean=(0.5,), std=(0.25,), crop_padding=1, flip=True)


def make_batch(rng, step=0):
    return {
        "image": rng.integers(256, size=(BATCH, *SHAPE), dtype=np.uint8),
        "label": rng.integers(CLASSES, size=BATCH, dtype=np.int32),
        "index": np.arange(BATCH, dtype=np.int32),
        "epoch": np.full(BATCH, step, np.int32),
    }


def train(num_devices, num_steps, *, method="clone"):
    """Losses, final state and the baseline's variables of a short run."""
    mesh = partition.make_mesh(jax.devices()[:num_devices])
    model = create_model("resnet8", CLASSES, width=8)
    optimizer = optax.sgd(0.05, momentum=0.9)
    chosen = make_method(method, default.get_config())
    step = partition.jit_train_step(
        mesh,
        steps.make_train_step(
            model,
            optimizer,
            chosen.loss_fn,
            PREPARE,
            baseline=partial(steps.predict, model) if chosen.needs_baseline else None,
        ),
    )
    init = partition.jit_init(
        mesh, lambda key: steps.init_state(model, optimizer, key, SHAPE)
    )
    baseline = init(jax.random.key(1)).variables
    state, losses = init(jax.random.key(0)), []
    rng = np.random.default_rng(0)
    key = partition.replicate(mesh, jax.random.key(2))
    for number in range(num_steps):
        batch = partition.shard_batch(mesh, make_batch(rng, number))
        state, metrics = step(state, baseline, batch, key)
        losses.append(metrics["loss"])
    return np.asarray(jax.device_get(losses)), state, baseline


@pytest.mark.parametrize("method", ["clone", "cross_entropy"])
def test_one_and_eight_devices_train_alike(method):
    one, one_state, _ = train(1, 5, method=method)
    eight, eight_state, _ = train(8, 5, method=method)
    np.testing.assert_allclose(one, eight, rtol=1e-4)
    # Batch norm saw the global batch, not two images a device.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        jax.device_get(one_state.batch_stats),
        jax.device_get(eight_state.batch_stats),
    )


def test_training_leaves_the_baseline_bit_identical_and_moves_the_clone():
    _, untouched, before = train(1, 0)
    losses, state, baseline = train(1, 8)
    jax.tree.map(np.testing.assert_array_equal, baseline, before)
    moved = jax.tree.map(
        lambda x, y: bool((x != y).any()), state.params, untouched.params
    )
    assert all(jax.tree.leaves(moved))
    assert int(state.step) == 8
    assert np.isfinite(losses).all()


def test_the_clone_starts_from_weights_of_its_own():
    _, state, baseline = train(1, 0)
    kernels = (
        state.params["conv1"]["kernel"],
        baseline["params"]["conv1"]["kernel"],
    )
    assert np.abs(np.corrcoef(*[np.ravel(k) for k in kernels])[0, 1]) < 0.3


def test_the_loss_falls_on_a_batch_seen_again_and_again():
    model = create_model("resnet8", CLASSES, width=8)
    optimizer = optax.sgd(0.05, momentum=0.9)
    prepare = make_prepare(mean=(0.5,), std=(0.25,), crop_padding=0, flip=False)
    loss_fn = make_method("cross_entropy", default.get_config()).loss_fn
    step = jax.jit(steps.make_train_step(model, optimizer, loss_fn, prepare))
    state = steps.init_state(model, optimizer, jax.random.key(0), SHAPE)
    batch = make_batch(np.random.default_rng(0))
    losses = []
    for _ in range(25):
        state, metrics = step(state, {}, batch, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.3 * losses[0]


def test_the_state_is_donated():
    mesh = partition.make_mesh(jax.devices()[:1])
    step = partition.jit_train_step(mesh, lambda s, v, b, k: (s + 1, {}))
    state = partition.replicate(mesh, jnp.zeros(3))
    step(state, {}, {}, partition.replicate(mesh, jax.random.key(0)))
    assert state.is_deleted()


def test_an_eval_step_is_not_random_and_ignores_padding(rng):
    model = create_model("resnet8", CLASSES, width=8)
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    step = steps.make_eval_step(model, PREPARE)
    batch = make_batch(rng) | {"mask": np.ones(BATCH, np.float32)}
    first, second = step(variables, batch), step(variables, batch)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert step(variables, batch | {"mask": np.zeros(BATCH)}).count == 0


def test_all_finite_finds_one_bad_value():
    tree = {"a": jnp.ones(3), "b": jnp.asarray([1, 2])}
    assert steps.all_finite(tree)
    assert not steps.all_finite(tree | {"a": jnp.asarray([1.0, jnp.inf])})


@pytest.mark.parametrize("batch_size", [0, -8, 12])
def test_a_batch_that_does_not_fit_the_devices_is_refused(batch_size):
    with pytest.raises(UserError, match=rf"{batch_size} on 8 devices"):
        partition.check_batch_size(batch_size, partition.make_mesh())


def test_the_host_runs_only_a_few_programs_ahead():
    class Output:
        """What a program returns, seen by `jax.block_until_ready`."""

        def block_until_ready(self):
            finished.append(self)

    finished, outputs = [], [Output() for _ in range(10)]
    for number, output in enumerate(partition.keep_up(iter(outputs)), start=1):
        assert output is outputs[number - 1]
        assert len(finished) == max(0, number - partition.LEAD)
