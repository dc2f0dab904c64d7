"""What a baseline of 8-bit integers would save, by the compilers.

Two forward passes of a ResNet for 32x32 images with folded batch norm are compiled
for devices that need not be there: in bfloat16, as the program has it, and with
kernels and activations of 8 bits. Their scales are constants, as if found on images
beforehand, so that no pass over the activations looks for them. The numbers that come
out mean nothing; what is compared is the programs.

    python benchmarks/low_precision.py --topologies v5e:1x1
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp

from benchmarks.compiled import read_alone
from clonalnet_jax.runtime import processes

# Blocks of each stage and their widths.
NETWORKS = {
    "ResNet-20": ((3, 3, 3), (16, 32, 64)),
    "ResNet-18, 3x3 stem": ((2, 2, 2, 2), (64, 128, 256, 512)),
}
# Some scale of a kernel times some scale of its input, and of what is kept.
_SCALE, _STEP = 0.013, 0.09


class Layer(NamedTuple):
    """A convolution with a shift.

    Attributes:
      kernel: Float `[side, side, inputs, outputs]`, or integers of 8 bits.
      bias: Float32 `[outputs]`.
    """

    kernel: jax.Array
    bias: jax.Array


Convolution = Callable[[jax.Array, Layer, int, jax.Array | None], jax.Array]


def in_bfloat16(
    x: jax.Array, layer: Layer, stride: int, shortcut: jax.Array | None
) -> jax.Array:
    """Convolution, shift, shortcut and ReLU in bfloat16."""
    y = _convolve(x, layer.kernel.astype(jnp.bfloat16), stride, jnp.bfloat16)
    y += layer.bias.astype(jnp.bfloat16)
    return jax.nn.relu(y if shortcut is None else y + shortcut)


def in_eight_bits(
    x: jax.Array, layer: Layer, stride: int, shortcut: jax.Array | None
) -> jax.Array:
    """The same of integers, added up in 32 bits; the rest is in float32."""
    if x.dtype != jnp.int8:
        x = _quantise(x)
    y = _convolve(x, layer.kernel, stride, jnp.int32) * _SCALE + layer.bias
    if shortcut is not None:
        y += shortcut.astype(jnp.float32) * _STEP
    return _quantise(jax.nn.relu(y))


def _convolve(
    x: jax.Array, kernel: jax.Array, stride: int, dtype: jnp.dtype
) -> jax.Array:
    side = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        *(x, kernel, (stride, stride), ((side, side), (side, side))),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=dtype,
    )


def _quantise(x: jax.Array) -> jax.Array:
    return jnp.clip(jnp.round(x / _STEP), -127, 127).astype(jnp.int8)


def kernel_shapes(network: str) -> Iterator[tuple[int, int, int, int]]:
    """The shapes of a network's kernels, in the order in which `forward` uses them."""
    sizes, widths = NETWORKS[network]
    inputs = widths[0]
    yield 3, 3, 3, inputs
    for stage, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        for block in range(size):
            if stage and not block:
                yield 1, 1, inputs, width
            yield 3, 3, inputs, width
            yield 3, 3, width, width
            inputs = width


def forward(
    network: str, convolution: Convolution, layers: list[Layer], images: jax.Array
) -> jax.Array:
    """Images to the mean features, of which the classifier makes logits."""
    rest = iter(layers)
    x = convolution(images.astype(jnp.bfloat16), next(rest), 1, None)
    for stage, size in enumerate(NETWORKS[network][0]):
        for block in range(size):
            stride = 2 if stage and not block else 1
            shortcut = x
            if stride == 2:
                shortcut = convolution(x, next(rest), stride, None)
            x = convolution(x, next(rest), stride, None)
            x = convolution(x, next(rest), 1, shortcut)
    return x.astype(jnp.float32).mean((1, 2))


def measure(network: str, topology: str, batch: int, *, eight_bits: bool) -> str:
    """Compiles a forward pass for one device and reads it.

    Args:
      network: A key of `NETWORKS`.
      topology: The device, such as `v5e:1x1`.
      batch: Number of images.
      eight_bits: Whether kernels and activations are integers of 8 bits.

    Returns:
      A row of a table in Markdown.
    """
    array = jax.ShapeDtypeStruct
    dtype = jnp.int8 if eight_bits else jnp.float32
    layers = [
        Layer(array(shape, dtype), array(shape[-1:], jnp.float32))
        for shape in kernel_shapes(network)
    ]
    images = array((batch, 32, 32, 3), jnp.float32)
    convolution = in_eight_bits if eight_bits else in_bfloat16
    found = read_alone(topology, partial(forward, network, convolution), layers, images)
    cycles = "" if found.cycles is None else f"{found.cycles:,}"
    return (
        f"| {network} | {topology} | {'int8' if eight_bits else 'bfloat16'} | {cycles} "
        f"| {found.traffic / 1e6:.1f} | {found.launches} |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topologies", nargs="+", default=["h100:1"])
    parser.add_argument("--batch", type=int, default=128)
    asked = parser.parse_args()
    processes.stay_alone()
    print("| forward pass | device | kernels | cycles | MB moved | launches |")
    print("|---|---|---|---|---|---|", flush=True)
    for topology in asked.topologies:
        for network in NETWORKS:
            for eight_bits in (False, True):
                row = measure(network, topology, asked.batch, eight_bits=eight_bits)
                print(row, flush=True)


if __name__ == "__main__":
    main()
