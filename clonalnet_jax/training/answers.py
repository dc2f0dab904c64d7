"""Packs the part of a baseline's answer that the clone's loss needs into a few bytes.

For each image these are its own confusing categories as bits; the greatest
probabilities, in steps of 1/65535, with their categories; and the probability that
remains, which is assumed to be spread evenly. The labels are not among them, since the
loss adds them to the set. All functions are pure; `cache` keeps the results in files.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from clonalnet_jax.losses import confusing_categories

_STEPS = 65_535


class Answers(NamedTuple):
    """What `losses.focusing_picking_terms` takes in place of a baseline's logits."""

    logits: Float[Array, "b classes"]
    """The logarithms of the kept probabilities."""
    confusing: Bool[Array, "b classes"] | None = None
    """The baseline's own set, without labels; None if `logits` are its own."""


def encode(
    logits: Float[Array, "b classes"], *, temperature: float, top_k: int
) -> UInt8[Array, "b size"]:
    """Packs answers.

    Args:
      logits: The baseline's logits, `[b, C]`.
      temperature: The temperature of `confusing_categories`.
      top_k: The number of probabilities that are kept; all of them if C is less.

    Returns:
      uint8 `[b, row_bytes(C, top_k)]`.
    """
    confusing = confusing_categories(logits, temperature=temperature)
    probs, classes = jax.lax.top_k(
        jax.nn.softmax(logits.astype(jnp.float32)), min(top_k, logits.shape[-1])
    )
    rest = jnp.maximum(1.0 - jnp.sum(probs, axis=-1, keepdims=True), 0.0)
    kept = jnp.round(jnp.concatenate([probs, rest], axis=-1) * _STEPS)
    index = classes.astype(_index_dtype(logits.shape[-1]))
    parts = (kept.astype(jnp.uint16), index)
    as_bytes = [
        jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(len(x), -1) for x in parts
    ]
    return jnp.concatenate([jnp.packbits(confusing, axis=-1), *as_bytes], axis=-1)


def decode(rows: UInt8[Array, "b size"], *, num_classes: int, top_k: int) -> Answers:
    """Unpacks what `encode` has packed, with the same arguments.

    Args:
      rows: The packed answers, uint8 `[b, row_bytes(C, top_k)]`.
      num_classes: The number of classes, `C`.
      top_k: The number of probabilities that `encode` was told to keep.

    Returns:
      The answers, float32 and bool `[b, C]`.
    """
    count = min(top_k, num_classes)
    bits, probs_end = -(-num_classes // 8), -(-num_classes // 8) + 2 * (count + 1)
    confusing = jnp.unpackbits(rows[:, :bits], axis=-1, count=num_classes)
    kept = _from_bytes(rows[:, bits:probs_end], jnp.uint16) / _STEPS
    index = _from_bytes(rows[:, probs_end:], _index_dtype(num_classes))
    rest = kept[:, -1:] / max(num_classes - count, 1)

    def spread(rest: Array, index: Array, probs: Array) -> Array:
        return jnp.full(num_classes, rest).at[index].set(probs)

    probs = jax.vmap(spread)(rest[:, 0], index, kept[:, :-1])
    tiny = jnp.finfo(jnp.float32).tiny
    return Answers(jnp.log(jnp.maximum(probs, tiny)), confusing.astype(bool))


def row_bytes(num_classes: int, top_k: int) -> int:
    """The bytes that an image's answer takes."""
    count = min(top_k, num_classes)
    index = jnp.dtype(_index_dtype(num_classes)).itemsize
    return -(-num_classes // 8) + 2 * (count + 1) + index * count


def error_bound(
    logits: Float[Array, "b classes"], answers: Answers
) -> Float[Array, " b"]:
    """The most that the loss of any clone can differ by if answers replace the logits.

    The baseline's probabilities enter the loss through the shifted logits alone; its
    gradient there is a difference of two distributions, whose sizes sum to at most 2.

    Args:
      logits: The baseline's logits, `[b, C]`.
      answers: The answers that were made of them.

    Returns:
      Float32 `[b]`.
    """
    exact = jax.nn.softmax(logits.astype(jnp.float32))
    kept = jax.nn.softmax(answers.logits)
    return 2.0 * jnp.max(jnp.abs(exact - kept), axis=-1)


def _index_dtype(num_classes: int) -> type:
    return jnp.uint16 if num_classes <= 2**16 else jnp.uint32


def _from_bytes(rows: UInt8[Array, "b size"], dtype: type) -> Array:
    size = jnp.dtype(dtype).itemsize
    return jax.lax.bitcast_convert_type(rows.reshape(len(rows), -1, size), dtype)
