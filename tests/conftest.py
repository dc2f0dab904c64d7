"""Eight host devices for every test, and data sets prepared once a session."""

import copy

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits

# Before the first array is made: the number of devices is fixed from then on.
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory) -> str:
    """Where the session's TFDS data sets lie; never the user's own directory."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def digits_config(tfds_dir) -> ConfigDict:
    """A few steps on the digits: only a clone, batches that 8 devices can share."""
    config = copy.deepcopy(digits.get_config())
    config.data.path = tfds_dir
    config.methods = ("clone",)
    config.steps = 12
    config.baseline.min_top1 = 0.0
    return config


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)
