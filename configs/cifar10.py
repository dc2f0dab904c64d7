"""CIFAR-10: a ResNet-18 with a 3x3 stem, and a clone of the same size.

The recipe is DeVries and Taylor's (2017, arXiv 1708.04552, section 4.2): SGD with a
learning rate of 0.1 and Nesterov momentum, weight decay 5e-4, batches of 128, 200
epochs. The rate falls to a fifth at epochs 60, 120 and 160. Images are padded by 4
pixels, cropped at random and mirrored. For their cutout set config.data.cutout = 16.

Command:  python -m clonalnet_jax.data.prepare cifar10 --source=cifar-10-python.tar.gz
          python main.py --config=configs/cifar10.py
Expected: not yet measured; DeVries and Taylor's ResNet-18 reaches 95.3 top-1 %.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-18, 200 epochs on 50,000 images."""
    config = default.get_config()
    config.data.source = "tfds"
    config.data.name = "cifar10"
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.data.crop_padding = 4
    config.data.flip = True
    config.data.holdout = 0.02
    config.methods = ("cross_entropy", "label_smoothing", "distillation", "clone")
    config.baseline.model = "resnet18_small"
    config.clone.model = "resnet18_small"
    config.batch_size = 128
    config.epochs = 200.0
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "step"
    config.optimizer.decay_epochs = (60.0, 120.0, 160.0)
    config.optimizer.decay_rate = 0.2
    return config
