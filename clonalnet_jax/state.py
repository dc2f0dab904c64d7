"""The state that training carries from step to step, and types that rooms share."""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.struct
import jax
from jaxtyping import Array, ArrayLike, Float, Shaped

Variables = Mapping[str, chex.ArrayTree]
"""`params` and `batch_stats` of a network."""
Batch = Mapping[str, Array]
"""Arrays by name, each `[batch, ...]`: `image`, `label` and others."""
Metrics = dict[str, Array]
Terms = dict[str, Array]
ForwardFn = Callable[[Any, Float[Array, "b h w c"]], Float[Array, "b classes"]]
"""`(variables, images) -> logits`, in eval mode."""
AnswerFn = Callable[[Any, Float[Array, "b h w c"], Array | None], Any]
"""`(variables, images, packed) -> answer`: the baseline's answer, as a loss takes it.

`packed` is the entry `answers` of a batch, or None; see `teacher.Teacher`.
"""
PreprocessFn = Callable[
    [Batch, chex.PRNGKey | None],
    tuple[Float[Array, "b h w c"], Shaped[Array, "b ..."]],
]
"""`(batch, key) -> (images, labels)`, ready for a network and its loss."""
LossFn = Callable[[Array, Any, Array, ArrayLike], Terms]
"""`(logits, baseline_logits, labels, epoch) -> terms`, `[batch]` each; one is `loss`.

The epoch, a float32 scalar, is the number of passes over the training images that are
done, for methods that have a schedule.
With a `Method` whose `takes_answers` is True, `baseline_logits` may also be the cached
`answers.Answers`.
"""


@flax.struct.dataclass
class TrainState:
    """The state of a run: a frozen pytree, of which every step returns a new one.

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
        """The variables that are evaluated and saved: the average, if there is one."""
        return self.average or self.trained

    @property
    def trained(self) -> dict[str, chex.ArrayTree]:
        """The variables that the next step starts from."""
        return {"params": self.params, "batch_stats": self.batch_stats}
