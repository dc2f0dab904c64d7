"""CIFAR-100: a ResNet-32x4, and a ResNet-8x4 clone of a sixth of its size.

The pair and the recipe are those of the distillation literature (Tian et al. 2020,
arXiv 1910.10699, and its code): SGD with a learning rate of 0.05 and momentum 0.9,
weight decay 5e-4, batches of 64, 240 epochs. The rate falls to a tenth at epochs 150,
180 and 210. Images are padded by 4 pixels, cropped at random and mirrored.

Command:  python -m clonalnet_jax.data.prepare cifar100 --source=cifar-100-python.tar.gz
          python main.py --config=configs/cifar100.py
Expected: not yet measured; Tian et al. report 79.42 top-1 % for the baseline, 72.50 for
          ResNet-8x4 and 73.33 with distillation.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-32x4 and ResNet-8x4, 240 epochs on 50,000 images."""
    config = default.get_config()
    config.data.source = "tfds"
    config.data.name = "cifar100"
    config.data.mean = (0.5071, 0.4867, 0.4408)
    config.data.std = (0.2675, 0.2565, 0.2761)
    config.data.crop_padding = 4
    config.data.flip = True
    config.data.holdout = 0.02
    config.data.synthetic_classes = 100
    config.methods = ("cross_entropy", "label_smoothing", "distillation", "clone")
    config.baseline.model = "resnet32x4"
    config.clone.model = "resnet8x4"
    config.batch_size = 64
    config.epochs = 240.0
    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "step"
    config.optimizer.decay_epochs = (150.0, 180.0, 210.0)
    return config
