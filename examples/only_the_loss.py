"""Only the loss, in a loop of your own, beside plain training over five seeds."""

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from clonalnet_jax.losses import focusing_picking_loss

digits = load_digits()
pixels, classes = digits.images[..., None] / 16 - 0.3, digits.target
split = {"train_size": 100, "stratify": classes, "random_state": 0}
images, test_images, labels, test_labels = train_test_split(pixels, classes, **split)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (16, 32):
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape(len(x), -1))


network = Network()
optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, 300))


def cross_entropy(logits, baseline_logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def train(loss, seed, baseline):
    def loss_fn(params, baseline, x, y):
        return loss(network.apply(params, x), network.apply(baseline, x), y).mean()

    @jax.jit
    def step(params, state, *batch):
        gradient = jax.grad(loss_fn)(params, *batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = network.init(jax.random.key(seed), images[:1])
    state, rng = optimizer.init(params), np.random.default_rng(seed)
    for _ in range(300):
        batch = rng.choice(len(images), 50, replace=False)
        params, state = step(params, state, baseline, images[batch], labels[batch])
    answers = network.apply(params, test_images).argmax(-1)
    return params, 100 * float((answers == test_labels).mean())


start = network.init(jax.random.key(100), images[:1])
baseline, top1 = train(cross_entropy, 100, start)
print(f"baseline            {top1:.2f} %")
plain = [train(cross_entropy, seed, baseline)[1] for seed in range(5)]
ours = [train(focusing_picking_loss, seed, baseline)[1] for seed in range(5)]
for name, tops in (("cross-entropy again", plain), ("our loss", ours)):
    print(f"{name:<19}", *(f"{x:.2f}" for x in tops), f"mean {np.mean(tops):.2f} %")
