"""The teacher: what answers for the baseline while a clone is trained.

The frozen network runs beside the clone, or its answers are read from files
(`cache.Cache.teacher`), or the loss needs none. A training step does not know which of
them it was given.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from clonalnet_jax.models import eval_logits
from clonalnet_jax.runtime.partition import replicate
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.state import AnswerFn, ForwardFn, Variables
from clonalnet_jax.trained.network import Network
from clonalnet_jax.training.experiment import Experiment
from clonalnet_jax.training.feed import Beside
from clonalnet_jax.weights import fold_batch_norm


class Frozen(NamedTuple):
    """A baseline that is trained no more.

    Attributes:
      forward: `(variables, images) -> logits`, in eval mode.
      variables: The first argument of `forward`, replicated.
    """

    forward: ForwardFn
    variables: Variables


class Teacher(NamedTuple):
    """The way in which the training of a clone learns what the baseline answers.

    Attributes:
      answer: Pure function inside the training step; see `state.AnswerFn`.
      variables: The first argument of `answer`, on the devices.
      beside: Adds an entry `answers` to every batch on the host; None adds nothing.
      get_ready: Called once before the first step of a run that has steps left.
    """

    answer: AnswerFn
    variables: Variables
    beside: Beside | None = None
    get_ready: Callable[[], None] = lambda: None


def _no_answer(variables: Any, images: Array, packed: Array | None) -> None:
    del variables, images, packed


NOBODY = Teacher(_no_answer, {})
"""The teacher of losses that look at labels alone."""


def freeze(experiment: Experiment, network: Network) -> Frozen:
    """Prepares a baseline to run beside a clone: folded, and in a dtype of its own.

    Args:
      experiment: Its `config.baseline.fold_batch_norm` and `.compute_dtype` decide.
      network: The baseline.

    Returns:
      The baseline, frozen.
    """
    config = experiment.config
    dtype = config.baseline.compute_dtype or config.compute_dtype
    model = network.model.clone(dtype=dtype)
    if not config.baseline.fold_batch_norm:
        return Frozen(partial(eval_logits, model), network.variables)
    forward, variables = fold_batch_norm(
        model, network.variables, experiment.dataset.image_shape
    )
    return Frozen(forward, replicate(experiment.mesh, variables))


def beside_the_clone(frozen: Frozen) -> Teacher:
    """A teacher that is run on every image that the clone sees."""
    return Teacher(_answer_with(frozen.forward), frozen.variables)


@made_once
def _answer_with(forward: ForwardFn) -> AnswerFn:
    def answer(
        variables: Any, images: Float[Array, "b h w c"], packed: Array | None
    ) -> Float[Array, "b classes"]:
        del packed
        return forward(variables, images)

    return answer
