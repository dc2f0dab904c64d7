"""Stanford Dogs: ResNet-18 into one of its own size, from scratch.

The recipe is Yun et al.'s (2020, arXiv 2003.13964, section 4.1): SGD 0.1, momentum 0.9,
weight decay 1e-4, batch 32, 200 epochs, a tenth of the rate at 100 and 150;
random-resized crops of 224 and mirrors.

Command:  python -m clonalnet_jax.data.prepare stanford_dogs
          python main.py --config=configs/stanford_dogs.py
Expected: not yet measured.
"""

from clonalnet_jax.configs import cub200
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-18, 200 epochs on 12,000 images."""
    config = cub200.get_config()
    config.data.name = "stanford_dogs"
    config.data.synthetic_classes = 120
    return config
