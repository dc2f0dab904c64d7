"""Writes a data set once, however many processes ask for it at the same time."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock
import tensorflow_datasets as tfds
from absl import logging

from clonalnet_jax.data.tfds_files import check_not_broken_off, check_whole
from clonalnet_jax.errors import UserError


def write(
    builder: tfds.core.DatasetBuilder,
    download_config: tfds.download.DownloadConfig | None = None,
    *,
    refuse_leftovers: bool = True,
) -> None:
    """Prepares a data set unless it is there; a second process waits for the first.

    TFDS writes beside the place and renames at the end. So what is there is whole,
    unless the disk lied: what was just written is looked at, and removed if it is not
    what was given.

    Args:
      builder: The data set. Its `info` says afterwards what is on the disk.
      download_config: The settings for downloads of TFDS's own data sets.
      refuse_leftovers: Whether to stop where an earlier preparation was broken off.

    Raises:
      UserError: The data set is not whole, or was half prepared before.
      Exception: TFDS and ArrayRecord raise nearly anything for a full disk.
    """
    directory = Path(builder.data_dir)
    if not directory.exists():
        with _alone(builder):
            if not directory.exists():
                if refuse_leftovers:
                    check_not_broken_off(directory.parent)
                _write(builder, download_config)
                return
    check_whole(directory)
    # The builder was made before another process had written.
    builder.info.read_from_directory(os.fspath(directory))


def _write(
    builder: tfds.core.DatasetBuilder,
    download_config: tfds.download.DownloadConfig | None,
) -> None:
    directory = Path(builder.data_dir)
    try:
        builder.download_and_prepare(download_config=download_config)
    except OSError:
        # Without a lock another process may have come first: its data set is as good.
        if not directory.exists():
            raise
        builder.info.read_from_directory(os.fspath(directory))
    try:
        check_whole(directory)
    except UserError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


@contextlib.contextmanager
def _alone(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Holds the data set's lock, which is the kernel's and dies with its process."""
    folder = Path(builder.data_dir).parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logging.info("Another process prepares %s: waiting for it.", builder.name)
        lock.acquire()
    except PermissionError:
        raise
    except (OSError, NotImplementedError) as error:
        logging.warning("%s cannot be locked (%s): going on.", folder, error)
    try:
        yield
    finally:
        lock.release()
