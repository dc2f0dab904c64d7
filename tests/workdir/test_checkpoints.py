"""Checkpoints: whole, the right ones kept, and known when they are damaged."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.runtime import partition
from clonalnet_jax.training import steps
from clonalnet_jax.workdir.checkpoints import (
    Checkpoints,
    Meta,
    read_meta,
    restore_variables,
)
from clonalnet_jax.workdir.digests import DamagedCheckpoint

META = Meta("resnet8", {"width": 4}, ["a", "b", "c"], [8, 8, 1], "clone")
OPTIMIZER = optax.sgd(optax.cosine_decay_schedule(0.1, 100), momentum=0.9)


@pytest.fixture
def mesh():
    return partition.make_mesh()


@functools.cache
def initialiser(mesh):
    model = create_model("resnet8", 3, width=4)

    def init(key):
        return steps.init_state(model, OPTIMIZER, key, (8, 8, 1))

    return partition.jit_init(mesh, init)


def make_state(mesh, seed=0):
    return initialiser(mesh)(jax.random.key(seed))


def make_shapes(mesh):
    return initialiser(mesh).eval_shape(jax.random.key(0))


def save(directory, mesh, scores):
    """Saves one checkpoint per score, at steps 10, 20, ..."""
    with Checkpoints(directory) as checkpoints:
        for number, top1 in enumerate(scores, start=1):
            state = make_state(mesh, number)
            meta = dataclasses.replace(META, step=10 * number)
            checkpoints.save(state, meta, {"top1": top1})


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def shapes(mesh):
    """What `restore` is told: a state's shapes, and where they go."""
    return partition.shard_state(mesh, make_shapes(mesh))


def steps_in(directory):
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


def warn_never(text):
    raise AssertionError(text)


def test_what_is_saved_is_restored_bit_for_bit(tmp_path, mesh):
    save(tmp_path / "run", mesh, [50.0])
    with Checkpoints(tmp_path / "run") as checkpoints:
        state, meta = checkpoints.restore(shapes(mesh), META, warn=warn_never)
    assert_equal(state, make_state(mesh, 1))
    assert meta == dataclasses.replace(META, step=10)
    assert {x.sharding for x in jax.tree.leaves(state)} == {partition.replicated(mesh)}


def test_the_last_two_and_the_best_are_kept(tmp_path, mesh):
    save(tmp_path, mesh, [50.0, 90.0, 60.0, 70.0, 80.0])
    assert steps_in(tmp_path) == [20, 40, 50]
    assert read_meta(tmp_path).step == 50
    assert read_meta(tmp_path, which="best").step == 20
    variables, _ = restore_variables(tmp_path, mesh, which="best")
    assert_equal(variables, make_state(mesh, 2).variables)


def test_an_empty_directory_restores_nothing(tmp_path, mesh):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(shapes(mesh), META, warn=warn_never) is None


def largest_file(folder):
    return max(
        (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def truncate(folder):
    path = largest_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(folder):
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def delete_a_file(folder):
    largest_file(folder).unlink()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, delete_a_file])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path, mesh, damage
):
    save(tmp_path, mesh, [50.0, 60.0])
    damage(tmp_path / "20")
    with pytest.raises(DamagedCheckpoint, match=str(tmp_path / "20")):
        restore_variables(tmp_path, mesh)
    warnings = []
    with Checkpoints(tmp_path) as checkpoints:
        state, meta = checkpoints.restore(shapes(mesh), META, warn=warnings.append)
        assert meta.step == 10
        assert_equal(state, make_state(mesh, 1))
        # The step can be reached and saved again.
        again = dataclasses.replace(META, step=20)
        checkpoints.save(make_state(mesh, 7), again, {"top1": 1.0})
    assert "20.damaged" in warnings[0]
    assert len(warnings) == 1
    assert_equal(restore_variables(tmp_path, mesh)[0], make_state(mesh, 7).variables)


@pytest.mark.parametrize(
    "other",
    [{"options": {"width": 8}}, {"model": "resnet14"}, {"class_names": ["a", "b"]}],
)
def test_another_network_is_not_forced_in(tmp_path, mesh, other):
    save(tmp_path, mesh, [50.0])
    meta = dataclasses.replace(META, **other)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match=f"got:      {next(iter(other))}"),
    ):
        checkpoints.restore(shapes(mesh), meta, warn=warn_never)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such directory"),
        (".", "try .*baseline"),
        ("baseline/10", "try .*baseline"),
    ],
)
def test_a_wrong_directory_is_named_with_a_hint(tmp_path, mesh, name, message):
    save(tmp_path / "baseline", mesh, [50.0])
    with pytest.raises(UserError, match=message):
        restore_variables(tmp_path / name, mesh)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write checkpoints in .*file/run"):
        Checkpoints(tmp_path / "file" / "run")


def test_a_checkpoint_without_metrics_is_never_the_best_and_can_be_replaced(
    tmp_path, mesh
):
    save(tmp_path, mesh, [50.0])
    stopped = dataclasses.replace(META, step=15)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(mesh, 2), stopped, None)
    assert not read_meta(tmp_path).evaluated
    assert read_meta(tmp_path, which="best").step == 10
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(mesh, 2), stopped, {"top1": 90.0})
    assert read_meta(tmp_path).evaluated
    assert read_meta(tmp_path, which="best").step == 15


def test_a_network_is_its_average_and_training_goes_on_from_what_is_averaged(
    tmp_path, mesh
):
    average = make_state(mesh, 5).variables
    state = dataclasses.replace(make_state(mesh, 1), average=average)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, dataclasses.replace(META, step=10), {"top1": 1.0})
        like = partition.shard_state(mesh, jax.eval_shape(lambda: state))
        restored, _ = checkpoints.restore(like, META, warn=warn_never)
    assert_equal(restored, state)
    assert_equal(restore_variables(tmp_path, mesh)[0], average)


@pytest.mark.parametrize(
    ("before", "after", "fsdp"), [(8, 1, True), (8, 4, False), (1, 8, False)]
)
def test_a_checkpoint_of_some_devices_is_one_of_any_others(
    tmp_path, before, after, fsdp
):
    old, new = (partition.make_mesh(jax.devices()[:n]) for n in (before, after))
    like = make_shapes(old)
    placed = partition.shard_state(old, like, fsdp=fsdp)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placed)
    state = jax.device_put(make_state(old, 3), shardings)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, dataclasses.replace(META, step=10), {"top1": 1.0})
    placed = partition.shard_state(new, like, fsdp=not fsdp)
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(placed, META, warn=warn_never)
    assert_equal(restored, state)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(
        lambda x: x.sharding, placed
    )
