"""Eight host devices for every test; data and compiled programs made once a session."""

import atexit
import contextlib
import copy
import gc
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from clonalnet_jax.configs import digits
from filelock import FileLock
from ml_collections import ConfigDict

from clonalnet_jax import models
from clonalnet_jax.models.resnet import ResNet
from clonalnet_jax.runtime import partition

# Before the first array is made: the number of devices is fixed from then on.
jax.config.update("jax_num_cpu_devices", 8)


# What is compiled once is not compiled again, by another test, another worker of
# pytest-xdist or another process that a test starts: nearly all of their time.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp()
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
# A test's programs run for less than optimising them takes. What it starts as a process
# of its own is compiled as users have it.
jax.config.update("jax_disable_most_optimizations", True)


def pytest_collection_finish():
    """Spares the garbage collector, in every round, all that has been imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory) -> Path:
    """A directory that the workers of pytest-xdist have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def tfds_dir(session_dir) -> str:
    """Where the session's TFDS data sets lie; never the user's own directory."""
    return str(session_dir / "tfds")


@contextlib.contextmanager
def _on_one_device():
    mesh = partition.make_mesh(jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "make_mesh", lambda *_, **__: mesh)
        yield


@contextlib.contextmanager
def _of_two_blocks():
    small = partial(ResNet, (1, 1), small_stem=True, width=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models._MODELS, "resnet8", small)
        yield


@pytest.fixture(scope="module")
def one_device():
    """For what has nothing to do with devices: compiled in a third of the time.

    From its first use to the end of the module, so that a module's fixtures can use it.
    """
    with _on_one_device():
        yield


@pytest.fixture(scope="module")
def two_blocks():
    """Makes a ResNet-8 one of two blocks, not three, where any network will do."""
    with _of_two_blocks():
        yield


@pytest.fixture(scope="session")
def _trained_once(session_dir, tfds_dir) -> tuple[ConfigDict, Path]:
    """A finished run of the digits, which one worker trains for all."""
    from clonalnet_jax.training import story

    config = copy.deepcopy(digits.get_config())
    config.data.path = tfds_dir
    config.methods = ("clone",)
    config.steps, config.log_every_steps = 50, 10
    config.checkpoint_every_epochs = 4.0
    workdir = session_dir / "trained" / "digits"
    workdir.parent.mkdir(exist_ok=True)
    with FileLock(workdir.parent / "lock"), _on_one_device(), _of_two_blocks():
        if not (workdir / "results.json").exists():
            story.train(config, workdir)
    return config, workdir


@pytest.fixture(scope="module")
def trained_digits(
    _trained_once, tmp_path_factory, two_blocks
) -> tuple[ConfigDict, Path]:
    """A workdir with a trained baseline and clone that the module may change."""
    config, workdir = _trained_once
    copied = tmp_path_factory.mktemp("trained") / "digits"
    shutil.copytree(workdir, copied)
    return copy.deepcopy(config), copied


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
