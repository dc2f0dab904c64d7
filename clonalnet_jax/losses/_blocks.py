"""Computes rows in blocks on a CPU.

On a CPU, XLA writes the result of every elementwise operation to memory. If a block of
rows is computed at a time, these results stay in the cache and take next to no memory
(see `benchmarks/loss.py`). Other devices compute all rows at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

# The number of elements in a block.
BLOCK = 2**18


def in_blocks(
    function: Callable[..., Any], class_axis: str | None, logits: Array, *rest: Any
) -> Any:
    """Calls a function of rows. On a CPU, many rows are computed in blocks.

    Args:
      function: The function of `(logits, *rest)`. Its results, a pytree, have a row for
        each row of the arguments, which does not depend on the other rows.
      class_axis: The mesh axis that the classes are split over. With one, each device
        has few of them, and nothing is split further.
      logits: The array `[b, C]` whose size decides on the blocks. With other leading
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
    """Returns a divisor of the number of rows, so that all blocks are equally large."""
    rows = len(logits) if logits.ndim == 2 and class_axis is None else 1
    least = -(-logits.size // BLOCK)
    parts = next((n for n in range(max(1, least), rows) if rows % n == 0), rows)
    # Without blocks, few rows fit in the cache anyway. Tiny blocks would cost more than
    # they save.
    return 1 if least <= 4 or parts > 16 * least else parts


def _loop(function: Callable[..., Any], parts: int, arrays: Any) -> Any:
    # The loop is over the second axis, so that every device of a mesh keeps its rows.
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

    # The results of the first block show the shapes and dtypes of all.
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


# In each turn of the loop, XLA would convert the whole of a two-byte array to float32
# on a CPU, and only then take the block. Such arrays therefore go through the loop as
# integers, and become floating point again inside the block.
def _as_bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.itemsize == 2 else x


def _from_bits(x: Array, dtype: Any) -> Array:
    return jax.lax.bitcast_convert_type(x, dtype) if x.itemsize == 2 else x
