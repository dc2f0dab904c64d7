"""What could make a baseline's forward pass cheaper, by the compilers.

Forward passes of ResNets for 32x32 images with folded batch norm are compiled for
devices that need not be there. The numbers that come out mean nothing; what is compared
is the programs:

- one network in bfloat16, as the program has its baseline;
- the same with kernels and activations of 8 bits, whose scales are constants, as if
  found on images beforehand, so that no pass over the activations looks for them;
- two networks of one shape, such as a baseline and its clone, one after the other;
- both in one, as convolutions of two groups of channels;
- both in one, as plain convolutions whose kernels are zero between the two.

A clone's own pass is in training and keeps its activations, so what the last two save
here is the most that they could in a step.

    python benchmarks/frozen_forward.py --topologies v5e:1x1
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
from benchmarks.measuring import errors_said
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


def one_after_the_other(
    network: str, layers: list[Layer], others: list[Layer], images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean features of two networks, in two passes."""
    run = partial(forward, network, in_bfloat16)
    return run(layers, images), run(others, images)


def in_groups(
    network: str, layers: list[Layer], others: list[Layer], images: jax.Array
) -> jax.Array:
    """Mean features of two networks, in one pass of grouped convolutions."""
    both = jax.tree.map(lambda *pair: jnp.stack(pair), layers, others)
    run = partial(forward, network, in_bfloat16)
    return jax.vmap(run, in_axes=(0, None))(both, images)


def with_zeros_between(
    network: str, layers: list[Layer], others: list[Layer], images: jax.Array
) -> jax.Array:
    """Mean features of two networks, in one pass of convolutions twice as wide."""
    both = []
    for one, other in zip(layers, others, strict=True):
        # The stem's input is the same for both; from there on each has channels of its
        # own.
        kernel = jnp.concatenate((one.kernel, other.kernel), axis=-1)
        if both:
            none = jnp.zeros_like(one.kernel)
            above = jnp.concatenate((one.kernel, none), axis=-1)
            below = jnp.concatenate((none, other.kernel), axis=-1)
            kernel = jnp.concatenate((above, below), axis=-2)
        both.append(Layer(kernel, jnp.concatenate((one.bias, other.bias))))
    return forward(network, in_bfloat16, both, images)


FORMS = {
    "one, bfloat16": lambda network: partial(forward, network, in_bfloat16),
    "one, int8": lambda network: partial(forward, network, in_eight_bits),
    "two, one after the other": lambda network: partial(one_after_the_other, network),
    "two, in groups": lambda network: partial(in_groups, network),
    "two, with zeros between": lambda network: partial(with_zeros_between, network),
}


def measure(network: str, topology: str, batch: int, form: str) -> str:
    """Compiles a forward pass for one device and reads it.

    Args:
      network: A key of `NETWORKS`.
      topology: The device, such as `v5e:1x1`.
      batch: Number of images.
      form: A key of `FORMS`.

    Returns:
      A row of a table in Markdown.
    """
    array = jax.ShapeDtypeStruct
    dtype = jnp.int8 if form.endswith("int8") else jnp.float32
    layers = [
        Layer(array(shape, dtype), array(shape[-1:], jnp.float32))
        for shape in kernel_shapes(network)
    ]
    networks = [layers] * (2 if form.startswith("two") else 1)
    images = array((batch, 32, 32, 3), jnp.float32)
    found = read_alone(topology, FORMS[form](network), *networks, images)
    cycles = "" if found.cycles is None else f"{found.cycles:,}"
    return (
        f"| {network} | {topology} | {form} | {cycles} "
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
    print("| forward pass | device | networks | cycles | MB moved | launches |")
    print("|---|---|---|---|---|---|", flush=True)
    for topology in asked.topologies:
        for network in NETWORKS:
            for form in FORMS:
                print(measure(network, topology, asked.batch, form), flush=True)


if __name__ == "__main__":
    with errors_said():
        main()
