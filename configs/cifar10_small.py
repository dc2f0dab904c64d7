"""CIFAR-10 from a folder, with 500 training images a class: made for two CPU cores.

The network is a ResNet-8 whose stem has a stride of 2. Every method trains for 90
epochs, until training images are recognised much better than test images. After only
30 epochs, no difference is shown (docs/results.md).

Command:  python main.py --config=configs/cifar10_small.py --config.data.path=DIRECTORY
where DIRECTORY holds train/<class>/<image> and test/<class>/<image>.
Expected: baseline 67.9, retraining 68.2, distillation 68.9, clone 69.6 top-1 % on JPEG
          images (means of 5 seeds; docs/results.md); 25 minutes a seed on one core.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-8 of width 16, 90 epochs on 5,000 images."""
    config = default.get_config()
    config.data.source = "folder"
    config.data.examples_per_class = 500
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.data.crop_padding = 4
    config.data.flip = True
    config.methods = ("cross_entropy", "distillation", "clone")
    for network in (config.baseline, config.clone):
        network.model = "resnet8"
        with network.options.unlocked():
            network.options.width = 16
            network.options.stem_stride = 2
    config.batch_size = 128
    config.epochs = 90.0
    config.checkpoint_every_epochs = 30.0
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 5e-4
    config.optimizer.nesterov = True
    return config
