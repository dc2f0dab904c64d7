"""What this program asks of a network: two functions, as Flax Linen modules have them.

Our own networks answer it as they are. `own.OwnNetwork` answers it for a network that
somebody else has written.
"""

from typing import Any, Protocol


class Model(Protocol):
    """A network without its variables.

    The variables are `params`, which are trained, and `batch_stats`, which a training
    step updates and which may be missing. Images are `[batch, height, width,
    channels]`, and logits `[batch, num_classes]`.
    """

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Makes variables: `init(key, images, train=False)`."""
        ...

    def init_with_output(self, rngs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Makes variables, and the output with them: `(logits, variables)`."""
        ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Computes logits: `apply(variables, images, train=False)`.

        With `train=True`, `mutable=["batch_stats"]` and `rngs={"dropout": key}` it
        returns `(logits, {"batch_stats": ...})`.
        """
        ...

    def clone(self, *, dtype: Any) -> Any:
        """Returns the same network, which computes in another dtype."""
        ...
