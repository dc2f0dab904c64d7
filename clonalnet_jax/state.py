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
      average: moving average of `params` and `batch_stats`; empty without one.
    """

    step: jax.Array
    params: chex.ArrayTree
    batch_stats: chex.ArrayTree
    opt_state: chex.ArrayTree
    average: dict[str, chex.ArrayTree]

    @property
    def variables(self) -> dict[str, chex.ArrayTree]:
        """What the network is without its training: the average, where there is one."""
        return self.average or self.trained

    @property
    def trained(self) -> dict[str, chex.ArrayTree]:
        """What the next step starts from."""
        return {"params": self.params, "batch_stats": self.batch_stats}
