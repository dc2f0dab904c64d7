"""A folder of images: `<path>/<split>/<class>/<image>`."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from clonalnet_jax.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def read(config: ConfigDict, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Decodes one split into memory; the classes are in the order of their names.

    Args:
      config: `config.data`; `path` is the root, `examples_per_class` limits the
        training split, so that no more than needed is decoded.
      split: name of the folder below the root.

    Returns:
      RGB images uint8 `[n, h, w, 3]`, labels int32 `[n]`, class names.

    Raises:
      UserError: a folder is missing or empty, a file cannot be decoded, or images
        differ in size.
    """
    root = _split_folder(config, split)
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    if len(names) < 2:
        raise UserError(
            f"data set folder {root}",
            got=f"{len(names)} sub-folders",
            expected="one sub-folder for each of at least two classes",
            remedy="see --config.data.path: <path>/<split>/<class>/<image>",
        )
    limit = config.examples_per_class if split == config.train_split else 0
    files = [_class_files(root / name)[: limit or None] for name in names]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(_decode, (path for paths in files for path in paths)))
    labels = np.repeat(np.arange(len(names), dtype=np.int32), list(map(len, files)))
    _check_one_size(images, (path for paths in files for path in paths))
    return np.stack(images), labels, names


def _split_folder(config: ConfigDict, split: str) -> Path:
    if not config.path:
        raise UserError(
            "config.data.path",
            got="not set",
            expected="the folder that holds <split>/<class>/<image>",
            remedy="--config.data.path=/path/to/images",
        )
    root = Path(config.path).expanduser()
    if not (root / split).is_dir():
        found = sorted(e.name for e in root.iterdir()) if root.is_dir() else []
        raise UserError(
            f"data set folder {root / split}",
            got="not a folder"
            + (f"; {root} holds {', '.join(found[:5])}" if found else ""),
            expected=f"<path>/{split}/<class>/<image>",
            remedy="set --config.data.path, .train_split and .test_split",
        )
    return root / split


def _class_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise UserError(
            f"class folder {folder}",
            got="no image files",
            expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
            remedy="add images or remove the folder",
        )
    return files


def _decode(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"image {path}",
            got=f"{type(error).__name__}: {error}",
            expected="a whole JPEG, PNG, WebP or BMP file",
            remedy="replace or delete the file",
        ) from error


def _check_one_size(images: list[np.ndarray], paths: Iterable[Path]) -> None:
    for image, path in zip(images, paths, strict=True):
        if image.shape != images[0].shape:
            raise UserError(
                f"image {path}",
                got=f"{image.shape[1]}x{image.shape[0]} pixels",
                expected=f"{images[0].shape[1]}x{images[0].shape[0]}, as the others",
                remedy="resize the images to one size first",
            )
