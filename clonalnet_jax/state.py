"""What training carries from step to step, and the types of what it is built from."""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.struct
import jax
from jaxtyping import Array, Float, Shaped

Variables = Mapping[str, chex.ArrayTree]
"""`params` and `batch_stats` of a network."""
Batch = Mapping[str, Array]
"""Arrays by name, each `[batch, ...]`: `image`, `label`, and what a step needs more."""
Metrics = dict[str, Array]
Terms = dict[str, Array]
ForwardFn = Callable[[Any, Float[Array, "b h w c"]], Float[Array, "b classes"]]
"""`(variables, images) -> logits`, in eval mode."""
AnswerFn = Callable[[Any, Float[Array, "b h w c"], Array | None], Any]
"""`(variables, images, packed)` to what the loss is told of the baseline's answer.

`packed` is a batch's entry `answers`, where it has one; see `teacher.Teacher`.
"""
PreprocessFn = Callable[
    [Batch, chex.PRNGKey | None],
    tuple[Float[Array, "b h w c"], Shaped[Array, "b ..."]],
]
"""`(batch, key) -> (images, labels)`: what a network and its loss are given."""
LossFn = Callable[[Array, Any, Array], Terms]
"""`(logits, baseline_logits, labels)` to named terms `[batch]`, `loss` among them.

A method that says so also takes the baseline's cached `answers.Answers` in place of
`baseline_logits`.
"""


@flax.struct.dataclass
class TrainState:
    """A frozen pytree; a step returns a new one.

    Attributes:
      step: Number of updates done, int32 scalar.
      params: Trained values, float32.
      batch_stats: Running statistics of batch norm, float32; empty without any.
      opt_state: State of the optax optimiser.
      average: Moving average of `params` and `batch_stats`; empty without one.
    """

    step: jax.Array
    params: chex.ArrayTree
    batch_stats: chex.ArrayTree
    opt_state: chex.ArrayTree
    average: dict[str, chex.ArrayTree] = flax.struct.field(default_factory=dict)

    @property
    def variables(self) -> dict[str, chex.ArrayTree]:
        """What the network is without its training: the average, where there is one."""
        return self.average or self.trained

    @property
    def trained(self) -> dict[str, chex.ArrayTree]:
        """What the next step starts from."""
        return {"params": self.params, "batch_stats": self.batch_stats}
