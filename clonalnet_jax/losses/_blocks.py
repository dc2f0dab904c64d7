"""Rows in blocks, for a CPU.

XLA writes every step over the elements out on a CPU. In blocks of rows these steps stay
in the cache, and need next to no memory (`benchmarks/loss.py`). Other devices compute
all rows at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

# The elements of a block.
BLOCK = 2**18


def in_blocks(
    function: Callable[..., Any], class_axis: str | None, logits: Array, *rest: Any
) -> Any:
    """Calls a function of rows; on a CPU with some rows at a time, if they are many.

    Args:
      function: The function of `(logits, *rest)`. Its results, a pytree, have a row for
        each row of the arguments, which does not depend on the other rows.
      class_axis: The mesh axis that the classes are split over. With one, each device
        has little, and nothing is split further.
      logits: The array `[b, C]` that decides on the blocks. With other leading
        dimensions nothing is split.
      *rest: Further arrays, pytrees of them or None, each with `b` rows.

    Returns:
      The function's results.
    """
    parts = _number_of_blocks(logits, class_axis)
    if parts == 1:
        return function(logits, *rest)

    def looped(*arrays: Any) -> Any:
        return _loop(function, parts, arrays)

    return jax.lax.platform_dependent(logits, *rest, cpu=looped, default=function)


def _number_of_blocks(logits: Array, class_axis: str | None) -> int:
    """A divisor of the number of rows, so that blocks are equal; 1 for no blocks."""
    rows = len(logits) if logits.ndim == 2 and class_axis is None else 1
    least = -(-logits.size // BLOCK)
    parts = next((n for n in range(max(1, least), rows) if rows % n == 0), rows)
    # Few blocks would fit in the cache as they are; tiny ones are not worth the loop.
    return 1 if least <= 4 or parts > 16 * least else parts


def _loop(function: Callable[..., Any], parts: int, arrays: Any) -> Any:
    # The second axis is looped over: devices that share the batch keep their rows.
    split = jax.tree.map(lambda x: _as_bits(x).reshape(-1, parts, *x.shape[1:]), arrays)

    def block(part: Any) -> Any:
        def take(x: Array, like: Array) -> Array:
            rows = jax.lax.dynamic_index_in_dim(x, part, axis=1, keepdims=False)
            return _from_bits(rows, like.dtype)

        return function(*jax.tree.map(take, split, arrays))

    def body(part: Any, whole: Any) -> Any:
        def put(x: Array, new: Array) -> Array:
            bits = _as_bits(new)
            return jax.lax.dynamic_update_index_in_dim(x, bits, part, axis=1)

        return jax.tree.map(put, whole, block(part))

    # The first block's results say what shapes and dtypes there are.
    first = block(0)
    whole = jax.tree.map(
        lambda x: jnp.repeat(_as_bits(x)[:, None], parts, axis=1), first
    )
    whole = jax.lax.fori_loop(1, parts, body, whole)
    return jax.tree.map(
        lambda x, like: _from_bits(x, like.dtype).reshape(-1, *x.shape[2:]),
        whole,
        first,
    )


# On a CPU, XLA slices what it has made float32 of the whole array, in every turn: two
# bytes are looped over as integers, and made floating point in the block.
def _as_bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.itemsize == 2 else x


def _from_bits(x: Array, dtype: Any) -> Array:
    return jax.lax.bitcast_convert_type(x, dtype) if x.itemsize == 2 else x
