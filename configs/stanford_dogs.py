"""Stanford Dogs: a ResNet-18 from scratch, and a clone of the same size.

The recipe is Yun et al.'s (2020, arXiv 2003.13964, section 4.1): SGD with a learning
rate of 0.1 and momentum 0.9, weight decay 1e-4, batches of 32, 200 epochs. The rate
falls to a tenth at epochs 100 and 150. Images are random-resized crops of 224 pixels,
mirrored at random.

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
