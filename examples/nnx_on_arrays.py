"""A network of your own in Flax NNX, on images in memory: trained, shown and used.

    python examples/nnx_on_arrays.py

Replace the digits by your arrays, uint8 [n, height, width, channels], and the network
by yours. Everything is kept in runs/mine; a second start resumes.
"""

import jax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import clonalnet_jax as cn

digits = load_digits()
images, test_images, labels, test_labels = train_test_split(
    (digits.images * 255 / 16).astype("uint8")[..., None],
    digits.target,
    train_size=500,
    random_state=0,
)


class Network(nnx.Module):
    """Two convolutions; `config.clone.options` become arguments of the constructor."""

    def __init__(self, num_classes, width=16, *, rngs):
        self.conv1 = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.norm1 = nnx.BatchNorm(width, rngs=rngs)
        self.conv2 = nnx.Conv(width, 2 * width, (3, 3), rngs=rngs)
        self.norm2 = nnx.BatchNorm(2 * width, rngs=rngs)
        self.head = nnx.Linear(2 * width, num_classes, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm1(self.conv1(x)))
        x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = jax.nn.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean(axis=(1, 2)))


config = cn.config(
    "digits",
    baseline={"model": Network},
    clone={"model": Network},
    methods=("cross_entropy", "clone"),
    data={"holdout": 100},  # of the training images, to calibrate the networks by
)
data = cn.from_arrays(
    train=(images, labels),
    test=(test_images, test_labels),
)

if __name__ == "__main__":
    results = cn.train(config, "runs/mine", data=data)
    probabilities = results.clone.predict(test_images[:5])
    for label, row in zip(test_labels[:5], probabilities, strict=True):
        print(f"a {label}: {row.argmax()} with {100 * row.max():.0f} %")
    print("Report:", cn.write_report("runs/mine"))
