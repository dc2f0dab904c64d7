"""Many rows on a CPU are worked through in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from clonalnet_jax.losses import (
    _blocks,
    focusing_picking_definition,
    focusing_picking_loss,
)
from clonalnet_jax.planning.hlo import communication
from tests.losses.reference import make_example, value_and_gradient
from tests.marks import quickly


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("soft", quickly((False, True), (True,)))
def test_many_rows_in_blocks_are_the_same_rows(rng, dtype, soft, monkeypatch):
    z, b, labels, _ = make_example(rng, (96, 10), soft=soft)
    arguments = jnp.asarray(z, dtype), jnp.asarray(b, dtype), jnp.asarray(labels)
    whole = jax.jit(value_and_gradient).lower(*arguments)
    assert "while" not in whole.as_text()
    monkeypatch.setattr(_blocks, "BLOCK", 160)
    # Another function, which JAX has not traced before.
    blocks = jax.jit(lambda *x: value_and_gradient(*x)).lower(*arguments)
    assert "while" in blocks.as_text()
    results = [program.compile()(*arguments) for program in (blocks, whole)]
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            *(np.asarray(x, np.float32) for x in (one, other)), rtol=1e-5, atol=1e-6
        )


def test_rows_in_blocks_need_little_memory_and_stay_on_their_device():
    def compile(loss, **shardings):
        logits = jax.ShapeDtypeStruct((512, 4096), jnp.float32, **shardings)
        labels = jax.ShapeDtypeStruct((512,), jnp.int32, **shardings)
        objective = jax.value_and_grad(lambda *x: jnp.mean(loss(*x)))
        return jax.jit(objective).lower(logits, logits, labels).compile()

    memory = {
        loss: compile(loss).memory_analysis().temp_size_in_bytes
        for loss in (focusing_picking_loss, focusing_picking_definition)
    }
    assert memory[focusing_picking_loss] < memory[focusing_picking_definition] / 2
    mesh = Mesh(jax.devices(), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    sent = communication(compile(focusing_picking_loss, sharding=rows))
    assert sent == {"all-reduce": 4}


def test_blocks_are_equal_and_neither_few_nor_tiny(monkeypatch):
    monkeypatch.setattr(_blocks, "BLOCK", 100)

    def blocks(*shape, class_axis=None):
        logits = jax.ShapeDtypeStruct(shape, jnp.float32)
        return _blocks._number_of_blocks(logits, class_axis)

    assert blocks(40, 10) == 1  # four blocks fit in the cache
    assert blocks(60, 10) == 6
    assert blocks(65, 10) == 13  # the next divisor
    assert blocks(6, 1000) == 6  # a row at least
    assert blocks(10_007, 5) == 1  # a prime: each row would be a block
    assert blocks(2, 30, 10) == 1
    assert blocks(60, 10, class_axis="model") == 1
