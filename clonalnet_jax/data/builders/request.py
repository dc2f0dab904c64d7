"""The data set that a call of `prepare` asks for, and the builder that makes it."""

import dataclasses
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from clonalnet_jax.data.builders.archives import escaped
from clonalnet_jax.data.builders.cifar import cifar10, cifar100
from clonalnet_jax.data.builders.content import (
    Content,
    EncodedImage,
    check_name,
    make_builder,
)
from clonalnet_jax.data.builders.digits import digits
from clonalnet_jax.data.builders.image_folder import image_folder
from clonalnet_jax.data.builders.tiny_imagenet import tiny_imagenet
from clonalnet_jax.data.images import READABLE, BadImageError, decode
from clonalnet_jax.data.reencode import reencode
from clonalnet_jax.errors import UserError

_FROM_SOURCE: dict[str, Callable[[Path], Content]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny_imagenet": tiny_imagenet,
    "folder": image_folder,
}


@dataclasses.dataclass(frozen=True)
class Request:
    """A data set that somebody asks for.

    Attributes:
      kind: `digits`, `cifar10`, `cifar100`, `tiny_imagenet`, `folder`, or the name of a
        TFDS data set.
      source: The directory or archive that the data set is made from, if it is.
      name: Name of the data set. None means that of its kind.
      output: TFDS's directory. None means its default.
      shorter_side: Number of pixels that the shorter side of larger images is reduced
        to. All images are then encoded again. None keeps the files as they are.
      quality: Quality of these JPEG files, 1 to 100.
      manual_dir: Directory of the archives that TFDS does not download.
    """

    kind: str
    source: Path | None = None
    name: str | None = None
    output: str | None = None
    shorter_side: int | None = None
    quality: int = 90
    manual_dir: str | None = None

    def expanded(self) -> "Request":
        """Returns the request with the home directory in place of `~` in its paths."""

        def expand(path: str | None) -> str | None:
            return None if path is None else os.path.expanduser(path)

        return dataclasses.replace(
            self,
            source=self.source and self.source.expanduser(),
            output=expand(self.output),
            manual_dir=expand(self.manual_dir),
        )


def make_requested(
    request: Request, tell: Callable[[str], None]
) -> tfds.core.DatasetBuilder:
    """Makes the builder of the data set that is asked for; nothing is written.

    Args:
      request: The data set to prepare.
      tell: Called with a line for each part of the source that is passed over.

    Returns:
      The builder. It looks at every image when it writes them.

    Raises:
      UserError: The source is damaged, the name none that TFDS finds again, or
        TensorFlow missing.
    """
    request = request.expanded()
    _check_name(request)
    name = request.name or request.kind
    if request.kind == "digits":
        return make_builder(name, digits(), request.output)
    if request.kind in _FROM_SOURCE and request.source is not None:
        content = _FROM_SOURCE[request.kind](request.source)
        for note in content.notes:
            tell(note)
        return make_builder(name, _checked(content, request), request.output)
    if request.kind in ("folder", "tiny_imagenet"):
        raise UserError(
            "--source",
            got="not given",
            expected=f"where {request.kind} lies: a directory or an archive",
            remedy=f"prepare {request.kind} --source=...",
        )
    return _stock_builder(request)


def _check_name(request: Request) -> None:
    if request.kind == "folder" and request.name is None:
        raise UserError(
            "--name",
            got="not given",
            expected="what to call the data set",
            remedy="prepare folder --source=... --name=mine",
        )
    if request.name is None:
        return
    check_name(request.name)
    taken = request.name == "digits" and request.kind != "digits"
    stock = request.kind != "digits" and request.kind not in _FROM_SOURCE
    if taken or stock:
        raise UserError(
            "--name",
            got=request.name,
            expected="another name: digits is made by the program itself"
            if taken
            else f"no name of your own for TFDS's {request.kind!r}",
            remedy="--name=my_digits" if taken else "leave --name out",
        )


def _stock_builder(request: Request) -> tfds.core.DatasetBuilder:
    if request.source is not None or request.shorter_side is not None:
        which = "--source" if request.source is not None else "--shorter-side"
        raise UserError(
            which,
            got=f"{request.source or request.shorter_side} for TFDS's {request.kind!r}",
            expected=f"it with one of {', '.join(_FROM_SOURCE)} alone",
            remedy="prepare folder --source=... from the images",
        )
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise UserError(
            f"data set {request.kind!r}",
            got="no --source, so it is TFDS's own, and TensorFlow is not installed",
            expected="TensorFlow, to prepare it; reading it needs none",
            remedy='pip install -e ".[prepare]", or give the --source of one of '
            f"{', '.join(_FROM_SOURCE)}",
        ) from error
    try:
        return tfds.builder(
            request.kind, data_dir=request.output, file_format="array_record"
        )
    except Exception as error:  # The name is unknown, or the builder lacks a library.
        raise UserError(
            f"data set {request.kind!r}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            expected=f"digits, {', '.join(_FROM_SOURCE)}, or a data set of TFDS",
            remedy="see https://www.tensorflow.org/datasets/catalog/overview",
        ) from error


def _checked(content: Content, request: Request) -> Content:
    """Makes the content check every image, and encode it again where that is asked."""
    shape = content.shape
    if request.shorter_side is not None:
        shape = (None, None, shape[-1])
    splits = {
        split: functools.partial(_check_each, go, request, shape)
        for split, go in content.splits.items()
    }
    return content._replace(splits=splits, shape=shape)


def _check_each(
    go: Callable[[], Iterator[EncodedImage]],
    request: Request,
    shape: tuple[int | None, int | None, int],
) -> Iterator[EncodedImage]:
    for example in go():
        image = example.image
        try:
            if request.shorter_side is not None:
                image = reencode(image, request.shorter_side, request.quality)
            pixels = decode(image)
        # Pillow raises OSError or ValueError if JPEG cannot hold an image.
        except (BadImageError, OSError, ValueError) as error:
            raise _bad_image(example, request, str(error), READABLE) from error
        declared = zip(shape[:2], pixels.shape[:2], strict=True)
        if any(want not in (None, got) for want, got in declared):
            got = f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
            raise _bad_image(example, request, got, f"{shape[1]}x{shape[0]} pixels")
        yield example._replace(image=image)


def _bad_image(
    example: EncodedImage, request: Request, got: str, expected: str
) -> UserError:
    return UserError(
        f"image {example.name} of {escaped(str(request.source))}",
        got=got,
        expected=expected,
        remedy="mend or remove it",
    )
