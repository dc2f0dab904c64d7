"""Google's vision transformers become ours: the same logits, under other names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.weights import read_weights

WIDTH, HEADS, DEPTH, SIZE, CLASSES = 384, 6, 12, 32, 5


class Encoder(nn.Module):
    """The blocks, with the layers' numbers of vision_transformer or big_vision."""

    numbers: tuple[int, int, int]

    @nn.compact
    def __call__(self, x):
        """Keeps the shape."""
        attention, norm, mlp = self.numbers
        for block in range(DEPTH):
            x = Block(attention, norm, mlp, name=f"encoderblock_{block}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class Block(nn.Module):
    """Attention and an MLP."""

    attention: int
    norm: int
    mlp: int

    @nn.compact
    def __call__(self, x):
        """Keeps the shape."""
        name = f"MultiHeadDotProductAttention_{self.attention}"
        y = nn.LayerNorm(name="LayerNorm_0")(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, name=name)(y, y)
        y = nn.LayerNorm(name=f"LayerNorm_{self.norm}")(x)
        return x + Mlp(name=f"MlpBlock_{self.mlp}")(y)


class Mlp(nn.Module):
    """Two layers."""

    @nn.compact
    def __call__(self, x):
        """Keeps the shape."""
        y = nn.gelu(nn.Dense(4 * WIDTH)(x), approximate=False)
        return nn.Dense(WIDTH)(y)


class Places(nn.Module):
    """Positions, as vision_transformer keeps them."""

    @nn.compact
    def __call__(self, x):
        """Keeps the shape."""
        shape = (1, *x.shape[1:])
        return x + self.param("pos_embedding", nn.initializers.normal(1.0), shape)


class Their(nn.Module):
    """A ViT-S/16 of vision_transformer, or of big_vision."""

    big: bool

    @nn.compact
    def __call__(self, images):
        """Logits of images."""
        x = nn.Conv(WIDTH, (16, 16), (16, 16), padding="VALID", name="embedding")(
            images
        )
        x = x.reshape(len(x), -1, WIDTH)
        token = self.param("cls", nn.initializers.normal(1.0), (1, 1, WIDTH))
        token = jnp.tile(token, (len(x), 1, 1))
        if self.big:
            shape = (1, *x.shape[1:])
            x = x + self.param("pos_embedding", nn.initializers.normal(1.0), shape)
            x = Encoder((0, 1, 0), name="Transformer")(jnp.concatenate([token, x], 1))
        else:
            x = Whole(name="Transformer")(jnp.concatenate([token, x], 1))
        return nn.Dense(CLASSES, name="head")(x[:, 0])


class Whole(Encoder):
    """vision_transformer keeps the positions among the blocks."""

    numbers: tuple[int, int, int] = (1, 2, 3)

    @nn.compact
    def __call__(self, x):
        """Keeps the shape."""
        x = Places(name="posembed_input")(x)
        for block in range(DEPTH):
            x = Block(*self.numbers, name=f"encoderblock_{block}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


def save(path, big, *, drop="", extra=None):
    """An archive of random variables, and the logits of two images."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, SIZE, SIZE, 3)).astype(np.float32)
    model = Their(big)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        values = rng.standard_normal(leaf.shape) / fan_in**0.5
        return (values + (len(leaf.shape) == 1)).astype(np.float32)

    variables = jax.tree.map(draw, shapes)
    prefix = {"params": variables["params"]} if big else variables["params"]
    arrays = flatten_dict(prefix, sep="/") | (extra or {})
    np.savez(path, **{name: a for name, a in arrays.items() if name != drop})
    return images, model.apply(variables, images)


def load(path, said=None):
    model = cn.create_model("vit_small_patch16_224", CLASSES, image_size=SIZE)
    config = cn.config(
        "weights",
        baseline={
            "model": "vit_small_patch16_224",
            "image_size": SIZE,
            "weights": str(path),
        },
    ).baseline
    say = (lambda text: None) if said is None else said.append
    return model, read_weights(config, model, (SIZE, SIZE, 3), say=say)


@pytest.mark.parametrize("big", [False, True], ids=["vision_transformer", "big_vision"])
def test_a_vit_gives_the_same_logits(tmp_path, big):
    # What a training of big_vision saves beside the parameters.
    extra = {"opt/0/count": np.zeros(3, np.float32)} if big else {}
    images, expected = save(tmp_path / "vit.npz", big, extra=extra)
    said = []
    model, variables = load(tmp_path / "vit.npz", said)
    logits = model.apply(variables, images, train=False)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert "big_vision" in said[0]


@pytest.mark.parametrize(
    ("drop", "extra", "message"),
    [
        ("head/bias", {}, "missing: params.head.bias"),
        (
            "Transformer/encoderblock_3/MultiHeadDotProductAttention_1/key/kernel",
            {},
            r"blocks_3\.attn\.qkv\.kernel",
        ),
        ("", {"pre_logits/kernel": np.zeros((2, 2), np.float32)}, "pre_logits"),
    ],
)
def test_another_network_is_named(tmp_path, drop, extra, message):
    save(tmp_path / "vit.npz", False, drop=drop, extra=extra)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "vit.npz")
