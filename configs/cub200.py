"""CUB-200-2011: a ResNet-18 from scratch, and a clone of the same size.

The recipe is Yun et al.'s (2020, arXiv 2003.13964, section 4.1): SGD with a learning
rate of 0.1 and momentum 0.9, weight decay 1e-4, batches of 32, 200 epochs. The rate
falls to a tenth at epochs 100 and 150. Images are random-resized crops of 224 pixels,
mirrored at random.

Command:  python -m clonalnet_jax.data.prepare caltech_birds2011
          python main.py --config=configs/cub200.py
Expected: not yet measured.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-18, 200 epochs on 5,994 images."""
    config = default.get_config()
    config.data.source = "tfds"
    config.data.name = "caltech_birds2011"
    config.data.image_size = 224
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.flip = True
    config.data.holdout = 0.02
    config.data.synthetic_shape = (256, 320, 3)
    config.data.synthetic_classes = 200
    config.methods = ("cross_entropy", "label_smoothing", "distillation", "clone")
    config.baseline.model = "resnet18"
    config.clone.model = "resnet18"
    config.batch_size = 32
    config.epochs = 200.0
    config.optimizer.schedule = "step"
    config.optimizer.decay_epochs = (100.0, 150.0)
    return config
