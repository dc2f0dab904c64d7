"""The programs of a config, made of shapes alone: nothing is drawn, read or run.

They are named as in `config.plan.programs`: `baseline` is a step without one, `clone` a
step beside it, `cached` a step with its cached answers, `evaluation` a batch of an
evaluation. The functions that a run builds them with build them here, for the devices
of the experiment's mesh, which need not be there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.models import eval_logits
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.runtime import partition
from clonalnet_jax.state import AnswerFn, TrainState
from clonalnet_jax.training import answers, steps
from clonalnet_jax.training.experiment import Experiment
from clonalnet_jax.training.loop import make_init, make_run_optimizer, make_step
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.weights import fold_batch_norm

Entries = dict[str, tuple[tuple[int, ...], Any]]
"""Shape, without the batch, and dtype of the entries of a batch, by name."""


class Shapes(NamedTuple):
    """What a program is compiled from.

    Attributes:
      jitted: The function, jitted for the mesh.
      arguments: Shapes of its arguments, with their shardings.
      steps: Number of training steps that one call makes.
    """

    jitted: Callable[..., Any]
    arguments: tuple[Any, ...]
    steps: int = 1

    def lower(self, platform: str) -> jax.stages.Lowered:
        """Lowers the program for a platform: `cpu`, `gpu` or `tpu`."""
        name = "cuda" if platform == "gpu" else platform
        traced = self.jitted.trace(*self.arguments)  # type: ignore[attr-defined]
        return traced.lower(lowering_platforms=(name,))


def make_program(experiment: Experiment, name: str, batch_size: int) -> Shapes:
    """Makes a program.

    Args:
      experiment: The config, the data set's shapes and the mesh.
      name: One of `checks.PROGRAMS`.
      batch_size: The global batch, in place of the config's.

    Returns:
      The program.

    Raises:
      UserError: A network has no dense layer to split over devices.
    """
    config = experiment.config
    if name == "evaluation":
        return _evaluation(experiment, batch_size)
    if name == "baseline":
        return _step(experiment, config.baseline, "cross_entropy", batch_size)
    method = taught_method(config)
    if name == "cached":
        size = {
            "num_classes": experiment.dataset.num_classes,
            "top_k": config.baseline.cache_top_k,
        }

        def read(variables: Any, images: Any, packed: Any) -> answers.Answers:
            del variables, images
            return answers.decode(packed, **size)

        beside: Entries = {"answers": ((answers.row_bytes(**size),), jnp.uint8)}
        return _step(
            experiment, config.clone, method, batch_size, answer=read, beside=beside
        )
    forward, variables = _frozen(experiment)

    def ask(variables: Any, images: Any, packed: Any) -> Any:
        del packed
        return forward(variables, images)

    return _step(
        experiment,
        config.clone,
        method,
        batch_size,
        answer=ask,
        variables=_whole(experiment, variables),
    )


def taught_method(config: ConfigDict) -> str:
    """The method of the programs `clone` and `cached`.

    Args:
      config: The whole config.

    Returns:
      The first of `config.methods` that a cache can serve; `clone` if there is none.
      The losses of others cost the same.
    """
    names = [name for name in config.methods if make_method(name, config).takes_answers]
    return names[0] if names else "clone"


def place_state(experiment: Experiment, network: ConfigDict) -> TrainState:
    """Shapes and shardings of the state in which a network is trained.

    Args:
      experiment: The config, the data set's shapes and the mesh.
      network: `config.baseline` or `config.clone`.

    Returns:
      The state, of shapes.
    """
    model = experiment.make_network(network)
    init = make_init(experiment, model, make_run_optimizer(experiment))
    return experiment.place_state(model, jax.eval_shape(init, _key()))


def bytes_of_device(tree: Any) -> int:
    """Bytes of one device's part of a tree of shapes with shardings."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def batch_shapes(
    experiment: Experiment,
    batch_size: int,
    *,
    beside: Entries | None = None,
    evaluation: bool = False,
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch as `feed.Feed` brings it onto the devices.

    Args:
      experiment: The data set's shapes and the mesh.
      batch_size: The global batch.
      beside: Shape and dtype, without the batch, of what a teacher adds.
      evaluation: Whether it is a batch of an evaluation.

    Returns:
      The shapes, split over the mesh.
    """
    entries: Entries = {
        "image": (experiment.dataset.image_shape, jnp.uint8),
        "label": ((), jnp.int32),
        **(beside or {}),
    }
    if evaluation:
        entries |= {"mask": ((), jnp.float32)}
    else:
        entries |= {"index": ((), jnp.int32), "epoch": ((), jnp.int32)}
    split = partition.batch_sharding(experiment.mesh)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=split)
        for name, (shape, dtype) in entries.items()
    }


def _step(
    experiment: Experiment,
    network: ConfigDict,
    method: str,
    batch_size: int,
    *,
    answer: AnswerFn = lambda variables, images, packed: None,
    beside: Entries | None = None,
    variables: Any = None,
) -> Shapes:
    config, mesh = experiment.config, experiment.mesh
    model = experiment.make_network(network)
    state = place_state(experiment, network)
    loss_fn = make_method(method, config).loss_fn
    optimizer = make_run_optimizer(experiment)
    step = make_step(experiment, model, optimizer, loss_fn, answer)
    batches: Any = batch_shapes(experiment, batch_size, beside=beside)
    calls = config.steps_per_call
    calls = calls if partition.layout_of(mesh).loops_are_fast else 1
    if calls > 1:
        step, batches = steps.make_many_steps(step), [batches] * calls
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    jitted = partition.jit_train_step(
        mesh, steps.pack_metrics(step), state_shardings=shardings
    )
    key = _whole(experiment, _key())
    return Shapes(jitted, (state, variables or {}, batches, key), calls)


def _evaluation(experiment: Experiment, batch_size: int) -> Shapes:
    model = experiment.make_network(experiment.config.clone)
    state = place_state(experiment, experiment.config.clone)
    step = steps.make_eval_step(model, experiment.make_preprocess())
    jitted = partition.jit_eval_step(experiment.mesh, step)
    batch = batch_shapes(experiment, batch_size, evaluation=True)
    return Shapes(jitted, (state.variables, batch))


def _frozen(experiment: Experiment) -> tuple[Callable[..., Any], Any]:
    """The baseline as `teacher.freeze` makes it, of shapes."""
    config, shape = experiment.config, experiment.dataset.image_shape
    dtype = config.baseline.compute_dtype or config.compute_dtype
    model: Model = experiment.make_network(config.baseline).clone(dtype=dtype)
    images = jnp.zeros((1, *shape))
    variables = jax.eval_shape(lambda key: model.init(key, images, train=False), _key())
    if not config.baseline.fold_batch_norm:
        return partial(eval_logits, model), variables
    forward: list[Callable[..., Any]] = []

    def fold(variables: Any) -> Any:
        folded_forward, folded = fold_batch_norm(model, variables, shape)
        forward.append(folded_forward)
        return folded

    folded = jax.eval_shape(fold, variables)
    return forward[0], folded


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _whole(experiment: Experiment, tree: Any) -> Any:
    """Shapes of which every device has a copy."""
    sharding = partition.replicated(experiment.mesh)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )
