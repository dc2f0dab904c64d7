"""Only the loss, in a training loop of your own, beside plain training over five seeds.

python examples/only_the_loss.py
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from clonalnet_jax.losses import focusing_picking_loss

STEPS, BATCH = 300, 50

digits = load_digits()
images, test_images, labels, test_labels = train_test_split(
    digits.images[..., None] / 16 - 0.3,
    digits.target,
    train_size=100,
    stratify=digits.target,
    random_state=0,
)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (16, 32):
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape(len(x), -1))


network = Network()
optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, STEPS))


def cross_entropy(logits, baseline_logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def train(loss, seed, baseline):
    def loss_fn(params, baseline, images, labels):
        logits = network.apply(params, images)
        baseline_logits = network.apply(baseline, images)
        return loss(logits, baseline_logits, labels).mean()

    @jax.jit
    def step(params, state, baseline, images, labels):
        grads = jax.grad(loss_fn)(params, baseline, images, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = network.init(jax.random.key(seed), images[:1])
    state, rng = optimizer.init(params), np.random.default_rng(seed)
    for _ in range(STEPS):
        batch = rng.choice(len(images), BATCH, replace=False)
        params, state = step(params, state, baseline, images[batch], labels[batch])
    return params


def top1(params):
    answers = network.apply(params, test_images).argmax(-1)
    return 100 * float((answers == test_labels).mean())


start = network.init(jax.random.key(100), images[:1])
baseline = train(cross_entropy, seed=100, baseline=start)
plain = [top1(train(cross_entropy, seed, baseline)) for seed in range(5)]
ours = [top1(train(focusing_picking_loss, seed, baseline)) for seed in range(5)]
print(f"baseline            {top1(baseline):.2f} %")
for name, values in (("cross-entropy again", plain), ("our loss", ours)):
    print(
        f"{name:<19}",
        *(f"{value:.2f}" for value in values),
        f"mean {np.mean(values):.2f} %",
    )
