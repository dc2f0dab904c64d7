"""What training carries from step to step."""

from collections.abc import Mapping

import chex
import flax.struct
import jax

Variables = Mapping[str, chex.ArrayTree]
"""`params` and `batch_stats` of a network."""


@flax.struct.dataclass
class TrainState:
    """A frozen pytree; a step returns a new one.

    Attributes:
      step: number of updates done, int32 scalar.
      params: trained values, float32.
      batch_stats: running statistics of batch norm, float32; empty without any.
      opt_state: of the optax optimiser.
    """

    step: jax.Array
    params: chex.ArrayTree
    batch_stats: chex.ArrayTree
    opt_state: chex.ArrayTree

    @property
    def variables(self) -> dict[str, chex.ArrayTree]:
        """What `model.apply` takes, and what a network is without its training."""
        return {"params": self.params, "batch_stats": self.batch_stats}
