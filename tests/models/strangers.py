"""Networks as other people write them, to be found by an import path."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from clonalnet_jax.models.features import tap

NOT_CALLABLE = (1, 2)


class Linen(nn.Module):
    """Marks its features, and has batch norm and dropout."""

    num_classes: int
    width: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, train):
        """Logits of images."""
        x = tap(self, nn.Conv(self.width, (3, 3), dtype=self.dtype)(images))
        x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.num_classes, dtype=self.dtype)(x)


class Deterministic(nn.Module):
    """Is told the opposite of `train`."""

    num_classes: int

    @nn.compact
    def __call__(self, images, deterministic=True):
        """Logits of images."""
        x = nn.Dropout(0.5, deterministic=deterministic)(images.mean((1, 2)))
        return nn.Dense(self.num_classes)(x)


class Plain(nn.Module):
    """Is not told whether it is trained."""

    num_classes: int

    @nn.compact
    def __call__(self, images):
        """Logits of images."""
        return nn.Dense(self.num_classes)(images.mean((1, 2)))


class Counting(nn.Module):
    """Has a collection of its own, and batch norm."""

    num_classes: int

    @nn.compact
    def __call__(self, images, training):
        """Logits of images."""
        seen = self.variable("counts", "seen", lambda: jnp.zeros((), jnp.int32))
        if training:
            seen.value += 1
        x = nn.BatchNorm(use_running_average=not training)(images.mean((1, 2)))
        return nn.Dense(self.num_classes)(x)


class Nnx(nnx.Module):
    """Has batch norm and dropout, too."""

    def __init__(self, num_classes, width=4, *, rngs):
        self.conv = nnx.Conv(2, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, images):
        """Logits of images."""
        x = self.norm(self.conv(images)).mean((1, 2))
        return self.head(self.dropout(x))


class Noisy(nn.Module):
    """Draws from a random stream of its own while it is trained."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        """Logits of images."""
        logits = nn.Dense(self.num_classes)(images.mean((1, 2)))
        if not train:
            return logits
        return logits + jax.random.normal(self.make_rng("noise"), logits.shape)


class NoisyNnx(nnx.Module):
    """The same."""

    def __init__(self, num_classes, *, rngs):
        self.head = nnx.Linear(2, num_classes, rngs=rngs)
        self.rngs = rngs

    def __call__(self, images, train):
        """Logits of images."""
        logits = self.head(images.mean((1, 2)))
        if not train:
            return logits
        return logits + jax.random.normal(self.rngs.noise(), logits.shape)


def make_linen(num_classes, **options):
    return Linen(num_classes, **options)


def needs_a_width(num_classes, width):
    return Linen(num_classes, width)


def make_nnx(num_classes, *, rngs):
    return Nnx(num_classes, 8, rngs=rngs)


def no_network(num_classes):
    return {"classes": num_classes}


def takes_anything(**options):
    raise AssertionError(f"it must not be called, with {options}")


def leaves(num_classes):
    raise SystemExit(3)


def broken(num_classes):
    raise ZeroDivisionError("on purpose")
