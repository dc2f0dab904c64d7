"""The training steps that several benchmarks measure, built as training builds them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clonalnet_jax.configs import default

from clonalnet_jax.data import make_preprocess
from clonalnet_jax.models import create_model, eval_logits, native_size
from clonalnet_jax.runtime import partition
from clonalnet_jax.training import answers, steps
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.training.teacher import Frozen, beside_the_clone
from clonalnet_jax.weights import fold_batch_norm

RATE, MOMENTUM = 0.01, 0.9
_TOP_K = 16
_prepare = make_preprocess(mean=(0.5,), std=(0.25,))


class Contender(NamedTuple):
    """A step on one device."""

    program: jax.stages.Compiled
    """`(state, *arguments) -> (state, metrics)`; the state is donated."""
    state: Any
    arguments: tuple[Any, ...]
    flops: float | None
    """Of the program before it is compiled: XLA does not count what cuDNN does."""
    steps: int = 1
    """Of the program, which XLA counts once."""

    def repeat(self, count: int) -> tuple[Callable[[], None], float]:
        """Calls that go on from step to step, `count` each; and the first loss."""
        state, metrics = self.program(self.state, *self.arguments)
        holder = [state]

        def call() -> None:
            for _ in range(count // self.steps):
                holder[0], metrics = self.program(holder[0], *self.arguments)
            jax.block_until_ready((holder[0], metrics))

        return call, float(np.ravel(metrics["loss"])[0])


class Setting(NamedTuple):
    """What the contenders of a network share."""

    size: int
    """Of a side of the images."""
    classes: int
    batch: Mapping[str, jax.Array]
    start: Any
    """Variables that training begins with."""
    baseline: Any
    """Variables of the frozen network, not folded."""
    contenders: dict[str, Callable[[], Contender]]
    """Compiled when they are called."""


def make_setting(
    name: str,
    *,
    batch_size: int,
    size: int | None,
    classes: int | None,
    dtype: str,
    together: int,
) -> Setting:
    """`plain`, `clone` and `cached` steps of a network, on the first device.

    On a CPU also `untuned`, which is `plain` as `jax.jit` compiles it unasked, and on
    others `clone together`, whose program has several steps.

    Args:
      name: of `clonalnet_jax.models`, of the clone and of the baseline.
      batch_size: images of a step.
      size: of a side of the images; None: the network's own.
      classes: None: 10 at 32 pixels, else 1,000.
      dtype: of the computation.
      together: steps of the program of `clone together`.

    Returns:
      The setting.
    """
    size = size or native_size(name)
    classes = classes or (10 if size == 32 else 1000)
    model = create_model(name, classes, dtype=dtype)
    shape = (size, size, 3)
    optimizer = optax.sgd(RATE, momentum=MOMENTUM)
    mesh = partition.make_mesh(jax.devices()[:1])
    init = partition.jit_init(
        mesh, partial(steps.init_state, model, optimizer, image_shape=shape)
    )
    baseline = init(jax.random.key(1)).variables
    forward, folded = fold_batch_norm(model, baseline, shape)
    batch = jax.tree.map(jnp.asarray, random_batch(batch_size, shape, classes))
    packed = jax.jit(
        lambda variables, batch: answers.encode(
            forward(variables, _prepare(batch, None)[0]),
            temperature=2.0,
            top_k=_TOP_K,
        )
    )(folded, batch)
    beside = beside_the_clone(Frozen(forward, folded))

    def decoded(variables: Any, images: Any, packed: Any) -> answers.Answers:
        del variables, images
        return answers.decode(packed, num_classes=classes, top_k=_TOP_K)

    def contender(
        method: str,
        variables: Any,
        extra: Any,
        *,
        tuned: bool = True,
        count: int = 1,
        **options: Any,
    ) -> Contender:
        step = steps.make_train_step(
            model,
            optimizer,
            make_method(method, default.get_config()).loss_fn,
            _prepare,
            layout=partition.layout_of(mesh) if tuned else partition.ANYWHERE,
            **options,
        )
        state = init(jax.random.key(0))
        given: Any = {**batch, **extra}
        if count > 1:
            step, given = steps.make_many_steps(step), [given] * count
        arguments = (variables, given, jax.random.key(2))
        jitted = partition.jit_train_step(mesh, step)
        if not tuned:
            jitted = jax.jit(step, donate_argnums=0)
        lowered = jitted.lower(state, *arguments)
        # XLA counts them for a CPU only; jax 0.11 answers None for a GPU.
        flops = (lowered.cost_analysis() or {}).get("flops")
        return Contender(lowered.compile(), state, arguments, flops, count)

    clone = partial(contender, "clone", folded, {}, answer=beside.answer)
    contenders: dict[str, Callable[[], Contender]] = {
        "plain": partial(contender, "cross_entropy", {}, {}),
        "clone": clone,
        "cached": partial(contender, "clone", {}, {"answers": packed}, answer=decoded),
    }
    if partition.layout_of(mesh).loops_are_fast:
        contenders["clone together"] = partial(clone, count=together)
    else:
        contenders["untuned"] = partial(contender, "cross_entropy", {}, {}, tuned=False)
    return Setting(
        size=size,
        classes=classes,
        batch=batch,
        start=init(jax.random.key(0)).variables,
        baseline=baseline,
        contenders=contenders,
    )


class Sharded(NamedTuple):
    """A clone's step on some devices, its baseline as it is."""

    mesh: jax.sharding.Mesh
    step: Callable[..., Any]
    """Jitted; `(state, baseline, batch, key) -> (state, metrics)`."""
    state: Any
    baseline: Any
    key: jax.Array
    shape: tuple[int, int, int]


def make_sharded(name: str, devices: int, classes: int) -> Sharded:
    """A clone's step on the first devices; its state is random."""
    mesh = partition.make_mesh(jax.devices()[:devices])
    size = native_size(name)
    shape = (size, size, 3)
    model, optimizer = create_model(name, classes), optax.sgd(RATE, MOMENTUM)
    train_step = steps.make_train_step(
        model,
        optimizer,
        make_method("clone", default.get_config()).loss_fn,
        _prepare,
        beside_the_clone(Frozen(partial(eval_logits, model), {})).answer,
        layout=partition.layout_of(mesh),
    )
    init = partial(steps.init_state, model, optimizer, image_shape=shape)
    jit_init = partition.jit_init(mesh, init)
    return Sharded(
        mesh=mesh,
        step=partition.jit_train_step(mesh, train_step),
        state=jit_init(jax.random.key(0)),
        baseline=jit_init(jax.random.key(1)).variables,
        key=partition.replicate(mesh, jax.random.key(2)),
        shape=shape,
    )


def random_batch(
    size: int, shape: tuple[int, int, int], classes: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random images and labels, as the loader gives them."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(256, size=(size, *shape), dtype=np.uint8),
        "label": rng.integers(classes, size=size, dtype=np.int32),
        "index": np.arange(size, dtype=np.int32),
        "epoch": np.zeros(size, np.int32),
    }
