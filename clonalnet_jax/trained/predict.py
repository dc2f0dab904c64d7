"""Classifies image files, and says which categories confuse the baseline on them."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageOps

from clonalnet_jax.data.image_files import find_images, read_image_file
from clonalnet_jax.data.images import EXTENSIONS, BadImageError
from clonalnet_jax.data.reader import Reader, make_reader
from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.trained.classifier import Classifier, load_classifier

_BATCH = 32

Ranking = list[tuple[str, float]]
"""Names of classes with a value each, the greatest first."""


class Prediction(NamedTuple):
    """The prediction for one image file.

    Attributes:
      path: Path of the file.
      top: Up to five classes with their probabilities, the likeliest first.
      confusing: The categories that confuse the baseline with their shares of its
        softened softmax: those above 1 / classes, at the loss's temperature.
      error: Reason why the file could not be read; the lists are empty then. Empty
        for a file that was read.
    """

    path: Path
    top: Ranking
    confusing: Ranking
    error: str = ""


def predict_files(
    config: ConfigDict, workdir: Path, paths: Sequence[Path], *, run: str = "clone"
) -> Iterator[Prediction]:
    """Classifies image files and the images of folders.

    Images are read as in evaluation: turned upright, made grey or RGB as the network's,
    resized and cropped in the centre to the network's size.

    Args:
      config: Config that the workdir was trained with; its data are not needed.
      workdir: Directory of a `train`.
      paths: Files, and folders, which are searched through.
      run: Name of the network.

    Returns:
      A prediction for each file, in order, one batch of files after the other. Files
      that cannot be read are among them.

    Raises:
      UserError: There are no images, or a network cannot be read.
    """
    files = _find(paths)
    mesh = partition.make_mesh(jax.local_devices()[:1])
    networks = [
        load_classifier(config, workdir, name, mesh) for name in (run, "baseline")
    ]
    forward = [jax.jit(network.forward) for network in networks]
    shape = networks[0].network.meta.image_shape
    reader = make_reader(config.data, channels=shape[-1])

    @partition.in_own_context
    def classify(chunk: Sequence[Path]) -> list[Prediction]:
        loaded = [_load(path, shape, reader) for path in chunk]
        good = [image for image in loaded if isinstance(image, np.ndarray)]
        # Every batch has the same size, so that only one program is compiled.
        images = np.zeros((_BATCH, *shape), np.float32)
        images[: len(good)] = np.reshape(good, (len(good), *images.shape[1:]))
        logits = [
            step(network.network.variables, images)
            for step, network in zip(forward, networks, strict=True)
        ]
        probabilities = np.asarray(jax.nn.softmax(logits[0]))
        shares = np.asarray(jax.nn.softmax(logits[1] / config.loss.temperature))
        rows = iter(zip(probabilities, shares, strict=True))
        return [
            Prediction(path, [], [], image)
            if isinstance(image, str)
            else _prediction(path, networks[0], *next(rows))
            for path, image in zip(chunk, loaded, strict=True)
        ]

    chunks = (files[start : start + _BATCH] for start in range(0, len(files), _BATCH))
    return chain.from_iterable(map(classify, chunks))


def _prediction(
    path: Path, classifier: Classifier, top: np.ndarray, shares: np.ndarray
) -> Prediction:
    names = classifier.network.meta.class_names
    order = np.argsort(-top, kind="stable")[:5]
    confusing = [
        k for k in np.argsort(-shares, kind="stable") if shares[k] * len(names) > 1
    ]
    return Prediction(
        path,
        [(names[k], float(top[k])) for k in order],
        [(names[k], float(shares[k])) for k in confusing],
    )


def _find(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files.extend(path / name for name in find_images(path))
        else:
            files.append(path)
    if not files:
        raise UserError(
            "nothing to predict",
            got=", ".join(map(str, paths)) or "no path",
            expected=f"image files, or folders with {', '.join(sorted(EXTENSIONS))}",
            remedy="python main.py --mode=predict --workdir=... IMAGE...",
        )
    return files


def _load(path: Path, image_shape: Sequence[int], reader: Reader) -> np.ndarray | str:
    """Pixels in [0, 1] of the network's shape, or why there are none."""
    height, width, channels = image_shape
    try:
        pixels = reader(read_image_file(path), None)
    except BadImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    if pixels.shape[:2] != (height, width):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        fitted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(fitted).reshape(height, width, channels)
    return pixels.astype(np.float32) / 255
