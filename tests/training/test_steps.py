"""One step: what moves, what stays, and that the devices do not matter."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clonalnet_jax.configs import default
from compiling import conditions
from jax.sharding import Mesh
from small_run import Small

from clonalnet_jax.data import make_preprocess
from clonalnet_jax.errors import UserError
from clonalnet_jax.losses import focusing_picking_loss
from clonalnet_jax.models import count_parameters, eval_logits
from clonalnet_jax.planning.hlo import communication
from clonalnet_jax.runtime import partition
from clonalnet_jax.training import answers, steps
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.training.teacher import NOBODY, Frozen, beside_the_clone
from tests.marks import quickly

SHAPE, CLASSES, BATCH = (8, 8, 3), 10, 16
PREPARE = make_preprocess(mean=(0.5,), std=(0.25,), crop_padding=1, flip=True)


def make_batch(rng, step=0):
    return {
        "image": rng.integers(256, size=(BATCH, *SHAPE), dtype=np.uint8),
        "label": rng.integers(CLASSES, size=BATCH, dtype=np.int32),
        "index": np.arange(BATCH, dtype=np.int32),
        "epoch": np.full(BATCH, step, np.int32),
    }


def init_state(model, optimizer, **options):
    init = partial(steps.init_state, model, optimizer, image_shape=SHAPE, **options)
    return jax.jit(init)(jax.random.key(0))


def train(
    num_devices,
    num_steps,
    *,
    method="clone",
    model=1,
    fsdp=False,
    **options,
):
    """Losses, final state and the baseline's variables of a short run."""
    mesh = partition.make_mesh(jax.devices()[:num_devices], model=model)
    network = Small()
    optimizer = optax.sgd(0.05, momentum=0.9)
    chosen = make_method(method, default.get_config())
    beside = beside_the_clone(Frozen(partial(eval_logits, network), {}))
    teacher = beside if chosen.needs_baseline else NOBODY
    init = partial(
        steps.init_state,
        network,
        optimizer,
        image_shape=SHAPE,
        average="ema_decay" in options,
    )
    placed = partition.shard_state(
        mesh, jax.eval_shape(init, jax.random.key(0)), fsdp=fsdp, head=("fc",)
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placed)
    step = partition.jit_train_step(
        mesh,
        steps.make_train_step(
            network,
            optimizer,
            chosen.loss_fn,
            PREPARE,
            teacher.answer,
            layout=partition.layout_of(mesh)._replace(gradients_in_parts=False),
            **options,
        ),
        state_shardings=shardings,
    )
    jit_init = partition.jit_init(mesh, init, shardings=shardings)
    baseline = partition.jit_init(mesh, init)(jax.random.key(1)).variables
    state, losses = jit_init(jax.random.key(0)), []
    rng = np.random.default_rng(0)
    key = partition.replicate(mesh, jax.random.key(2))
    for number in range(num_steps):
        batch = partition.shard_batch(mesh, make_batch(rng, number))
        state, metrics = step(state, baseline, batch, key)
        losses.append(metrics["loss"])
    return np.asarray(jax.device_get(losses)), state, baseline


def bytes_on_a_device(state):
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(state)
        for shard in leaf.addressable_shards
        if shard.device == jax.devices()[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"num_devices": 8, "fsdp": True},
        {"num_devices": 8, "model": 2},
        {"num_devices": 4, "model": 2, "fsdp": True},
    ],
    ids=["fsdp", "classes", "both"],
)
def test_a_split_state_trains_as_a_whole_one(how):
    average = {"ema_decay": 0.9}
    one, one_state, _ = train(1, 4, **average)
    split, split_state, _ = train(num_steps=4, **how, **average)
    np.testing.assert_allclose(one, split, rtol=1e-4)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        jax.device_get(one_state),
        jax.device_get(split_state),
    )
    least = 1 / 2 if not how.get("fsdp") else 1 / how["num_devices"]
    # But for the statistics and the vectors, and the first convolution.
    assert bytes_on_a_device(split_state) < (least + 0.2) * bytes_on_a_device(one_state)


@pytest.mark.parametrize("method", quickly(("clone", "cross_entropy"), ("clone",)))
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
    model = Small()
    optimizer = optax.sgd(0.05, momentum=0.9)
    prepare = make_preprocess(mean=(0.5,), std=(0.25,), crop_padding=0, flip=False)
    loss_fn = make_method("cross_entropy", default.get_config()).loss_fn
    step = jax.jit(steps.make_train_step(model, optimizer, loss_fn, prepare))
    state = init_state(model, optimizer)
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
    model = Small()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    step = jax.jit(steps.make_eval_step(model, PREPARE))
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


def test_classes_that_no_devices_can_share_equally_have_the_same_loss_split(rng):
    mesh = partition.make_mesh(model=4)
    classes = 21_841
    logits, baseline = rng.normal(size=(2, 4, classes)).astype(np.float32)
    labels = rng.integers(classes, size=4)

    def loss(logits, baseline, labels):
        return focusing_picking_loss(logits, baseline, labels).mean()

    def split_loss(logits, baseline, labels):
        where = partition.logits_sharding(mesh)
        shard = partial(jax.lax.with_sharding_constraint, shardings=where)
        return loss(shard(logits), shard(baseline), labels)

    whole = jax.jit(jax.value_and_grad(loss))(logits, baseline, labels)
    split = jax.jit(jax.value_and_grad(split_loss))(logits, baseline, labels)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-9), whole, split
    )


def test_a_mesh_needs_devices_that_can_be_divided():
    with pytest.raises(UserError, match="a divisor of the 8 devices"):
        partition.make_mesh(model=3)


class Linear(nn.Module):
    """A network whose examples know nothing of each other."""

    @nn.compact
    def __call__(self, images, train):
        """Logits."""
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


def step_of(model, method="cross_entropy", **options):
    optimizer = optax.sgd(0.1)
    loss_fn = make_method(method, default.get_config()).loss_fn
    state = init_state(model, optimizer, average="ema_decay" in options)
    return steps.make_train_step(model, optimizer, loss_fn, PREPARE, **options), state


@pytest.mark.parametrize("loops_are_fast", quickly((False, True), (True,)))
def test_accumulating_over_parts_is_one_step_on_the_whole_batch(rng, loops_are_fast):
    batch, results = make_batch(rng), []
    layout = partition.Layout(loops_are_fast=loops_are_fast)
    for parts in (1, 4):
        step, state = step_of(Linear(), accumulate_steps=parts, layout=layout)
        results.append(jax.jit(step)(state, {}, batch, jax.random.key(0)))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *results)
    assert results[1][0].step == 1


@pytest.mark.slow
def test_accumulating_shows_batch_norm_every_part(rng):
    batch, model = make_batch(rng), Small()
    means = []
    for parts in (1, 4):
        step, state = step_of(model, accumulate_steps=parts)
        state, _ = jax.jit(step)(state, {}, batch, jax.random.key(0))
        means.append(np.abs(state.batch_stats["bn1"]["mean"]).sum())
    # Nearly 1 - 0.9^4 of the way instead of 1 - 0.9: the parts' means differ a little.
    assert means[1] / means[0] == pytest.approx((1 - 0.9**4) / 0.1, rel=0.02)


@pytest.mark.slow
def test_the_average_follows_the_variables_after_a_warm_up(rng):
    step, state = step_of(Linear(), ema_decay=0.3)
    step, expected = jax.jit(step), state.trained
    for number in range(5):
        state, _ = step(state, {}, make_batch(rng), jax.random.key(0))
        decay = min(0.3, (1 + number) / (10 + number))
        expected = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * new, expected, state.trained
        )
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5), state.variables, expected
    )
    apart = optax.tree.sub(state.average["params"], state.params)
    assert optax.tree.norm(apart) > 1e-3


@pytest.mark.slow
def test_many_steps_in_one_program_are_those_steps(rng):
    step, state = step_of(Small())
    batches = [make_batch(rng, number) for number in range(3)]
    key, one_by_one, rows = jax.random.key(1), state, []
    for batch in batches:
        one_by_one, metrics = jax.jit(step)(one_by_one, {}, batch, key)
        rows.append(metrics)
    many = jax.jit(steps.pack_metrics(steps.make_many_steps(step)))
    together, packed = many(state, {}, batches, key)
    for found, row in zip(packed.by_step(), rows, strict=True):
        assert found == pytest.approx(jax.tree.map(float, row), rel=1e-4)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), together, one_by_one
    )


@pytest.mark.slow
def test_packed_metrics_of_a_step_are_its_metrics(rng):
    step, state = step_of(Small())
    arguments = (state, {}, make_batch(rng), jax.random.key(1))
    _, metrics = jax.jit(step)(*arguments)
    _, packed = jax.jit(steps.pack_metrics(step))(*arguments)
    assert packed.values.shape == (len(metrics),)
    (row,) = packed.by_step()
    assert row == pytest.approx(jax.tree.map(float, metrics), rel=1e-6)


@pytest.mark.parametrize("cached", quickly((False, True), (False,)))
def test_only_gradients_and_statistics_travel_between_devices(rng, cached):
    mesh, local, options = partition.make_mesh(), make_batch(rng), {}
    if cached:
        logits = jnp.asarray(rng.normal(size=(BATCH, CLASSES)))
        packed = answers.encode(logits, temperature=2.0, top_k=4)
        local["answers"] = np.asarray(packed)

        def decoded(variables, images, packed):
            return answers.decode(packed, num_classes=CLASSES, top_k=4)

        options = {"answer": decoded, "method": "clone"}
    train_step, state = step_of(Small(), **options)
    batch = partition.shard_batch(mesh, local)
    key = partition.replicate(mesh, jax.random.key(0))
    state = partition.replicate(mesh, state)
    step = partition.jit_train_step(mesh, train_step)
    moved = communication(step.lower(state, {}, batch, key).compile())
    assert moved.keys() == {"all-reduce"}
    parameters = 4 * count_parameters(state.params)
    # Batch norm's means of values and squares, forwards and backwards, and metrics.
    statistics = 4 * 4 * sum(x.size for x in jax.tree.leaves(state.batch_stats)) / 2
    assert parameters <= moved["all-reduce"] <= parameters + 1.1 * statistics + 64


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_step_for_an_accelerator_carries_nothing_that_only_helps_a_cpu(rng, platform):
    layout = partition.Layout(loops_are_fast=True)
    step, state = step_of(Small(), accumulate_steps=2, layout=layout)
    arguments = (state, {}, make_batch(rng), jax.random.key(1))
    lowered = jax.jit(step).trace(*arguments).lower(lowering_platforms=(platform,))
    program = lowered.as_text()
    assert "stablehlo.while" in program
    assert not conditions(program)
    on_cpu = partition.layout_of(partition.make_mesh(jax.devices()[:1]))
    tuned, _ = step_of(Small(), accumulate_steps=2, layout=on_cpu)
    assert conditions(jax.jit(tuned).lower(*arguments).as_text())


def test_the_layout_is_that_of_the_meshs_devices_and_not_of_this_machines():
    class Device:
        """Of a machine that is not here."""

        platform, process_index, id = "tpu", 0, 0

    mesh = Mesh(np.array([[Device()]]), ("data", "model"))
    assert partition.platform(mesh) == "tpu"
    assert partition.layout_of(mesh).loops_are_fast
    assert not partition.layout_of(mesh).gradients_in_parts
    assert partition._convolutions_on_all_cores(mesh) is None
    here = partition.make_mesh()
    assert partition.platform(here) == "cpu"
    assert partition._convolutions_on_all_cores(here)
