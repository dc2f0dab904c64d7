"""Layers of which the networks are built. They follow PyTorch's conventions.

Convolutions pad by half their kernel. Kernels are initialised as in the reference
definitions. Batch norm keeps the same running statistics as PyTorch. Dropout and
stochastic depth are off unless an option of the network says otherwise; then training
needs a key `dropout`.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import wide_gradients
from clonalnet_jax.models.batch_norm import normalise, normalise_by
from clonalnet_jax.models.convolution import convolve

ModuleFactory = Callable[..., nn.Module]

# He et al. 2015, as torchvision's `kaiming_normal_(mode="fan_out")`, for convolutions.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# The default of `torch.nn.Linear` and `torch.nn.Conv2d`: U(+-1 / sqrt(fan_in)).
torch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# Timm's initialisation of ConvNeXt and vision transformers. What it calls a truncated
# normal distribution is cut at -2 and 2, which is a hundred standard deviations away.
narrow_normal = nn.initializers.normal(0.02)


def torch_default_bias(fan_in: int) -> nn.initializers.Initializer:
    """Makes PyTorch's default for the biases of `Linear` and `Conv2d`.

    Args:
      fan_in: Number of inputs of each output. The shape of a bias does not tell it.

    Returns:
      An initialiser that draws from U(+-1 / sqrt(fan_in)).
    """
    bound = fan_in**-0.5

    def draw(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def conv(
    features: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    init: nn.initializers.Initializer = kaiming_normal,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    dtype: DTypeLike,
    name: str,
) -> nn.Conv:
    """Makes a square convolution. Only an odd kernel is padded, and so centred."""
    return Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=kernel // 2 if kernel % 2 else 0,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=init,
        bias_init=bias_init,
        dtype=dtype,
        conv_general_dilated=convolve,
        name=name,
    )


class Conv(nn.Conv):
    """`flax.linen.Conv`, whose gradients may be wide; see `wide_gradients`."""

    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Convolves the images."""
        if not wide_gradients.wanted(self.dtype):
            y: Array = super().__call__(x)
            return y
        size = *self.kernel_size, x.shape[-1] // self.feature_group_count
        kernel = self.param("kernel", self.kernel_init, (*size, self.features))
        y = wide_gradients.convolve(
            x.astype(self.dtype),
            kernel,
            strides=self.strides,
            padding=self.padding,
            groups=self.feature_group_count,
        )
        return _plus_bias(self, y)


class Dense(nn.Dense):
    """`flax.linen.Dense`, whose gradients may be wide; see `wide_gradients`."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c2"]:
        """Maps the last axis."""
        if not wide_gradients.wanted(self.dtype):
            y: Array = super().__call__(x)
            return y
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        return _plus_bias(self, wide_gradients.multiply(x.astype(self.dtype), kernel))


def _plus_bias(layer: Conv | Dense, y: Array) -> Array:
    if not layer.use_bias:
        return y
    bias = layer.param("bias", layer.bias_init, (layer.features,))
    return wide_gradients.add(y, bias)


class BatchNorm(nn.Module):
    """Batch norm with PyTorch's running statistics (Ioffe and Szegedy 2015).

    The batch is normalised by its biased variance, but the running variance collects
    the unbiased one. Under `jax.jit` the statistics are those of the global batch,
    however it is sharded. They are float32 whatever `dtype` is, and have no gradient.
    In training, that of the result exists in reverse mode alone.

    Attributes:
      train: Whether to normalise by the batch and update `batch_stats`. Otherwise the
        layer normalises by `batch_stats`.
      momentum: Weight of the new batch, as PyTorch counts it. Flax's momentum is 1
        minus this.
      epsilon: Small number that is added to the variance.
      scale_init: Initializer of the scale. With zeros, a residual branch adds nothing
        at first.
      dtype: Dtype of the result.
    """

    train: bool
    momentum: float = 0.1
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Normalises each channel and keeps the shape."""
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not self.train:
            mean, var = running_mean.value, running_var.value
            return normalise_by(mean, var, x, scale, bias, self.epsilon, self.dtype)
        y, mean, var = normalise(
            x, scale, bias, running_mean.value, self.epsilon, self.dtype
        )
        if not self.is_initializing():
            count = x.size // x.shape[-1]
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (unbiased - running_var.value)
        return y


def layer_norm(*, dtype: DTypeLike, name: str) -> nn.LayerNorm:
    """Makes a layer norm over the channels with epsilon 1e-6, as timm's networks do."""
    return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=dtype, name=name)


def gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The exact GELU, x P(X <= x) for a standard normal X (Hendrycks & Gimpel 2016).

    In PyTorch's form, by the error function. `jax.nn.gelu` takes its complement, which
    XLA computes in two ways, one for small numbers and one for large, and stores in a
    second array for the gradient.

    Args:
      x: Any shape. Numbers narrower than float32 are computed with in float32, since
        1 + erf has no digits left in bfloat16 where x is negative.

    Returns:
      Shape and dtype of `x`.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


class Mlp(nn.Module):
    """Two dense layers with an exact GELU between them.

    Attributes:
      hidden: Width between the two layers. The result is as wide as the input.
      dtype: Dtype of the computation.
    """

    hidden: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        """Maps the last axis and keeps the shape."""
        y = dense(self.hidden, init=narrow_normal, dtype=self.dtype, name="fc1")(x)
        y = gelu(y)
        return dense(x.shape[-1], init=narrow_normal, dtype=self.dtype, name="fc2")(y)


def dense(
    features: int,
    *,
    bias: bool = True,
    init: nn.initializers.Initializer = torch_default,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    dtype: DTypeLike,
    name: str,
) -> nn.Dense:
    """Makes a linear map of the last axis."""
    return Dense(
        features,
        use_bias=bias,
        kernel_init=init,
        bias_init=bias_init,
        dtype=dtype,
        name=name,
    )


def head(
    num_classes: int,
    *,
    init: nn.initializers.Initializer = torch_default,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    dtype: DTypeLike,
    name: str,
) -> nn.Dense:
    """Makes the last dense layer.

    It computes in float32 or wider, because logits with the 8 significant bits of
    bfloat16 would often be equal.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    return dense(num_classes, init=init, bias_init=bias_init, dtype=wide, name=name)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a function of all channels' means (Hu et al. 2018).

    Attributes:
      squeezed: Number of channels between the two layers.
      activation: Function between them.
      gate: Function that makes the scales, from 0 to 1.
      dtype: Dtype of the computation.
      random_biases: Whether biases start as PyTorch's default, and not as 0.
    """

    squeezed: int
    activation: Callable[[Array], Array]
    gate: Callable[[Array], Array]
    dtype: DTypeLike
    random_biases: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Keeps the shape."""
        y = global_mean(x)[:, None, None].astype(self.dtype)
        y = self.activation(self._layer(y, self.squeezed, "fc1"))
        return x * self.gate(self._layer(y, x.shape[-1], "fc2"))

    def _layer(self, x: Array, features: int, name: str) -> Array:
        bias_init = nn.initializers.zeros
        if self.random_biases:
            bias_init = torch_default_bias(x.shape[-1])
        layer = conv(
            features, 1, bias=True, bias_init=bias_init, dtype=self.dtype, name=name
        )
        y: Array = layer(x)
        return y


def dropout(rate: float, *, train: bool) -> nn.Dropout:
    """Makes a layer that sets values to 0 at random in training."""
    return nn.Dropout(rate, deterministic=not train)


def stochastic_depth(
    rate: float, *, train: bool, axes: tuple[int, ...] = (1, 2, 3)
) -> nn.Dropout:
    """Makes a layer that drops an example's whole branch (Huang et al. 2016)."""
    return nn.Dropout(rate, broadcast_dims=axes, deterministic=not train)


def divisible(channels: float, by: int = 8) -> int:
    """Rounds a number of channels as the MobileNets do: by at most a tenth down."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def global_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
    """Computes the mean over height and width, in float32 or wider."""
    if x.dtype.itemsize < 4:
        # On a CPU, XLA of jax 0.11 hands this sum and the convolutions before it to
        # YNNPACK as one piece, whose sums in bfloat16 are NaN.
        x = jax.lax.optimization_barrier(x)
    return jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))


def shuffle_channels(x: Float[Array, "b h w c"], groups: int) -> Array:
    """Deals the channels of each group out to all groups (Zhang et al. 2018)."""
    *lead, channels = x.shape
    x = x.reshape(*lead, groups, channels // groups)
    return jnp.swapaxes(x, -1, -2).reshape(*lead, channels)


def check_image_size(family: str, images: Float[Array, "b h w c"], least: int) -> None:
    """Refuses images that are too small for the strides of the network.

    Raises:
      UserError: The height or width is below `least`.
    """
    height, width = images.shape[1:3]
    if min(height, width) < least:
        raise UserError(
            f"{family}: the images are too small",
            got=f"{height}x{width} pixels",
            expected=f"at least {least}x{least}",
            remedy="resize the images or choose a network for small images",
        )
