r"""Tiny-ImageNet at 64x64: a ResNet-18 with a 3x3 stem, and a clone of its size.

The recipe is Yun et al.'s (2020, arXiv 2003.13964, section 4.1): SGD with a learning
rate of 0.1 and momentum 0.9, weight decay 1e-4, batches of 128, 200 epochs, mirrored
images. The rate falls to a tenth at epochs 100 and 150. They crop and resize images to
32x32; here images keep their 64x64 pixels, and are padded by 8 and cropped at random.

Command:  python -m clonalnet_jax.data.prepare tiny_imagenet \
              --source=tiny-imagenet-200.zip
          python main.py --config=configs/tiny_imagenet.py
Expected: not yet measured.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-18, 200 epochs on 100,000 images of 64x64."""
    config = default.get_config()
    config.data.source = "tfds"
    config.data.name = "tiny_imagenet"
    config.data.test_split = "validation"
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.crop_padding = 8
    config.data.flip = True
    config.data.holdout = 0.02
    config.data.synthetic_shape = (64, 64, 3)
    config.data.synthetic_classes = 200
    config.methods = ("cross_entropy", "label_smoothing", "distillation", "clone")
    config.baseline.model = "resnet18_small"
    config.clone.model = "resnet18_small"
    config.batch_size = 128
    config.epochs = 200.0
    config.optimizer.schedule = "step"
    config.optimizer.decay_epochs = (100.0, 150.0)
    return config
