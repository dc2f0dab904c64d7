r"""Sign Language Digits (Mavi 2017): few photographs of ten hand signs, 32x32 pixels.

A quarter of them, 500 in all, are trained on; a split of our own is drawn, since there
is no usual one. The network is a ResNet-8 of width 8 whose stem has a stride of 2.
Images are not mirrored, which turns a left hand into a right one.

Command:  python main.py --config=configs/sign_digits.py --config.data.path=DIRECTORY
where DIRECTORY holds <0 to 9>/<image>, all photographs of a sign in one folder.
Expected: docs/results.md has the table of 15 seeds; a minute a seed on two cores.
"""

from clonalnet_jax.configs import default
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-8 of width 8, 60 epochs on 500 images."""
    config = default.get_config()
    config.data.source = "folder"
    config.data.train_split = ""
    config.data.test_fraction = 0.7575
    config.data.split_seed = 17
    config.data.crop_padding = 4
    config.methods = ("cross_entropy", "distillation", "clone")
    for network in (config.baseline, config.clone):
        network.model = "resnet8"
        with network.options.unlocked():
            network.options.width = 8
            network.options.stem_stride = 2
    config.batch_size = 50
    config.epochs = 60.0
    config.checkpoint_every_epochs = 20.0
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 5e-4
    config.optimizer.nesterov = True
    return config
