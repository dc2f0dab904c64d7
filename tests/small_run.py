"""A few sharded steps of a small network; the first process prints what came out.

Run by end_to_end/test_processes.py, as one process or as several.
"""

import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clonalnet_jax.configs import default

from clonalnet_jax.data import make_preprocess
from clonalnet_jax.models import eval_logits, layers
from clonalnet_jax.runtime import partition, processes
from clonalnet_jax.training import steps
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.training.teacher import Frozen, beside_the_clone

SHAPE, CLASSES, BATCH, STEPS = (8, 8, 3), 10, 32, 6


class Small(nn.Module):
    """Batch norm, and parameters that are worth splitting."""

    @nn.compact
    def __call__(self, images, train):
        """Logits."""
        x = layers.conv(16, 3, 2, dtype=jnp.float32, name="conv1")(images)
        x = layers.BatchNorm(train, name="bn1")(x)
        return nn.Dense(CLASSES, name="fc")(nn.relu(x).reshape(len(x), -1))


def local_share(step):
    """This process's rows of a global batch."""
    rng = np.random.default_rng(step)
    batch = {
        "image": rng.integers(256, size=(BATCH, *SHAPE), dtype=np.uint8),
        "label": rng.integers(CLASSES, size=BATCH, dtype=np.int32),
        "index": np.arange(BATCH, dtype=np.int32),
        "epoch": np.full(BATCH, step, np.int32),
        # Of an evaluation: the last examples are padding.
        "mask": (np.arange(BATCH) < BATCH - 3).astype(np.float32),
    }
    return {
        name: np.split(x, jax.process_count())[jax.process_index()]
        for name, x in batch.items()
    }


def main():
    """Trains and evaluates; prints losses, variables and what the evaluation sums."""
    processes.start("auto")
    mesh, model, optimizer = partition.make_mesh(), Small(), optax.sgd(0.05, 0.9)
    init = partial(steps.init_state, model, optimizer, image_shape=SHAPE)
    shapes = jax.eval_shape(init, jax.random.key(0))
    placed = partition.shard_state(mesh, shapes, fsdp=True)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placed)
    prepare = make_preprocess(mean=(0.5,), std=(0.25,), crop_padding=1, flip=True)
    train_step = steps.make_train_step(
        model,
        optimizer,
        make_method("clone", default.get_config()).loss_fn,
        prepare,
        beside_the_clone(Frozen(partial(eval_logits, model), {})).answer,
    )
    step = partition.jit_train_step(mesh, train_step, state_shardings=shardings)
    jit_init = partition.jit_init(mesh, init, shardings=shardings)
    baseline = partition.jit_init(mesh, init)(jax.random.key(1)).variables
    key = partition.replicate(mesh, jax.random.key(2))
    state, losses = jit_init(jax.random.key(0)), []
    for number in range(STEPS):
        batch = partition.shard_batch(mesh, local_share(number))
        state, metrics = step(state, baseline, batch, key)
        losses.append(float(metrics["loss"]))
    evaluate = partition.jit_eval_step(mesh, steps.make_eval_step(model, prepare))
    sums = evaluate(state.variables, partition.shard_batch(mesh, local_share(STEPS)))
    # Split over the devices of all processes, of which each can read only its own.
    gather = jax.jit(lambda x: x, out_shardings=partition.replicated(mesh))
    variables = jax.tree.leaves(gather(state.variables))
    if jax.process_index() == 0:
        result = {
            "devices": jax.device_count(),
            "losses": losses,
            "variables": np.concatenate([np.ravel(x) for x in variables]).tolist(),
            "evaluation": [float(x) for x in (sums.count, sums.top1, sums.nll)],
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
