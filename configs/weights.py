r"""A clone of PyTorch weights, on a folder of images of any sizes.

The optimiser and the normalisation are those of the authors' ImageNet recipe: SGD with
a learning rate of 0.1 and momentum 0.9, weight decay 1e-4, batches of 256, 90 epochs, a
tenth of the rate every 30, and torchvision's mean and deviation. docs/weights.md goes
through it step by step.

Command:  python main.py --config=configs/weights.py --config.data.path=DIRECTORY \
              --config.baseline.weights=resnet18.pth
Expected: not yet measured.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-18 into ResNet-18."""
    config = default.get_config()
    config.data.image_size = 224
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.flip = True
    config.data.holdout = 0.02
    config.data.synthetic_shape = (256, 320, 3)
    config.baseline.model = "resnet18"
    config.clone.model = "resnet18"
    config.batch_size = 256
    config.epochs = 90.0
    config.optimizer.schedule = "step"
    return config
