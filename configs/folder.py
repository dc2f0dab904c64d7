"""Your own folder of images of any sizes: a ResNet-18, and a clone of its size.

DIRECTORY holds train/<class>/ and test/<class>/ (or val/). If it holds only <class>/, a
fifth of each class is kept for testing. Copy this file for your experiment. The recipe
is the authors' one for ImageNet, with the cosine schedule and the warm-up of He et al.
(2019, arXiv 1812.01187, sections 3.1 and 5.1). Its learning rate, 0.1 for batches of
256, is scaled to batches of 64.

Command:  python main.py --config=configs/folder.py --config.data.path=DIRECTORY
Expected: depends on the images.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-18, 90 epochs, random-resized crops of 224."""
    config = default.get_config()
    config.data.source = "folder"
    config.data.image_size = 224
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.flip = True
    config.data.holdout = 0.02
    config.data.synthetic_shape = (256, 320, 3)
    config.methods = ("cross_entropy", "clone")
    config.baseline.model = "resnet18"
    config.clone.model = "resnet18"
    config.batch_size = 64
    config.epochs = 90.0
    config.optimizer.learning_rate = 0.025
    config.optimizer.warmup_epochs = 5.0
    return config
