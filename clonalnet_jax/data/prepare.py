"""`python -m clonalnet_jax.data.prepare`: a data set as TFDS ArrayRecord files.

    prepare cifar10 --source=cifar-10-python.tar.gz
    prepare tiny_imagenet --source=tiny-imagenet-200.zip
    prepare folder --source=DIRECTORY --name=mine --shorter-side=400
    prepare imagenet2012 --manual-dir=ARCHIVES

Any other name is one of TFDS's own data sets; preparing it takes TensorFlow (reading it
does not), and may download it.
"""

import argparse
import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from clonalnet_jax.data.builders import writing
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
from clonalnet_jax.errors import UserError, displayable_lines

_FROM_SOURCE: dict[str, Callable[[Path], Content]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny_imagenet": tiny_imagenet,
    "folder": image_folder,
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What to prepare.

    Attributes:
      kind: `digits`, `cifar10`, `cifar100`, `tiny_imagenet`, `folder`, or the name of a
        TFDS data set.
      source: The directory or archive, where the kind is made of one.
      name: The data set's name; None for the kind's.
      output: TFDS's directory; None for its default.
      shorter_side: Pixels to which larger images are reduced, every image being encoded
        anew; None keeps the files.
      quality: Quality of the JPEG files then, 1 to 100.
      manual_dir: Directory of the archives that TFDS does not download.
    """

    kind: str
    source: Path | None = None
    name: str | None = None
    output: str | None = None
    shorter_side: int | None = None
    quality: int = 90
    manual_dir: str | None = None


def prepare(
    request: Request, *, tell: Callable[[str], None] = logging.warning
) -> tfds.core.DatasetBuilder:
    """Writes a data set, unless it is there; `~` in a path is the home directory.

    TFDS writes beside the place and renames at the end: what is there is whole. Of two
    processes that prepare the same data set, the second waits and finds it done.

    Args:
      request: What to prepare.
      tell: Called with lines that say what of the source was passed over, or is not as
        it was published.

    Returns:
      The builder, prepared.

    Raises:
      UserError: The source is damaged, the place half-written or not to be written, the
        name none that TFDS finds again, or TensorFlow missing.
    """
    request = _expand(request)
    builder = _builder(request, tell)
    config = tfds.download.DownloadConfig(manual_dir=request.manual_dir)
    try:
        writing.write(builder, config)
    except Exception as error:  # TFDS wraps what its generators raise
        raise _cause(error) or UserError(
            f"cannot prepare {builder.name}",
            got=f"{type(error).__name__}: {error}",
            expected=f"{builder.data_dir} to be written",
            remedy="mend this and start again; what was half written is beside it, "
            "called incomplete.*, and can be deleted",
        ) from error
    return builder


def _expand(request: Request) -> Request:
    def expand(path: str | None) -> str | None:
        return None if path is None else os.path.expanduser(path)

    return dataclasses.replace(
        request,
        source=request.source and request.source.expanduser(),
        output=expand(request.output),
        manual_dir=expand(request.manual_dir),
    )


def _builder(request: Request, tell: Callable[[str], None]) -> tfds.core.DatasetBuilder:
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
    except Exception as error:  # an unknown name, or a missing library of the builder
        raise UserError(
            f"data set {request.kind!r}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            expected=f"digits, {', '.join(_FROM_SOURCE)}, or a data set of TFDS",
            remedy="see https://www.tensorflow.org/datasets/catalog/overview",
        ) from error


def _checked(content: Content, request: Request) -> Content:
    """The content with every image looked at, and encoded anew where that is asked."""
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
        # Pillow has OSError and ValueError for an image that JPEG cannot hold.
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


def _cause(error: BaseException | None) -> UserError | None:
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def show(builder: tfds.core.DatasetBuilder) -> None:
    """Prints how large the prepared data set is and how to use it."""
    splits = builder.info.splits
    for name in splits:
        print(f"{name}: {splits[name].num_examples:,} images")
    size = sum(splits[name].num_bytes for name in splits) / 2**20
    print(f"{size:,.1f} MiB in {builder.data_dir}")
    root = Path(builder.data_dir).parents[builder.name.count("/") + 1]
    print(
        "Use it with --config.data.source=tfds "
        f"--config.data.name={builder.name} --config.data.path={root}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", help="digits, cifar10, cifar100, tiny_imagenet, ...")
    parser.add_argument("--source", type=Path, help="directory or archive")
    parser.add_argument("--name", help="what to call it; by default the kind")
    parser.add_argument("--output", help="TFDS directory; by default TFDS's own")
    parser.add_argument(
        "--shorter-side", type=_positive, help="pixels; see docs/data.md"
    )
    parser.add_argument("--quality", type=_quality, default=90, help="of JPEG, 1-100")
    parser.add_argument("--manual-dir", help="archives that TFDS does not download")
    options: dict[str, Any] = vars(parser.parse_args(arguments))
    request = Request(**options)
    try:
        show(prepare(request, tell=lambda text: print(displayable_lines(text))))
    except (UserError, OSError) as error:
        print(f"ERROR: {displayable_lines(error)}", file=sys.stderr)
        return 2
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _quality(text: str) -> int:
    value = _positive(text)
    if value > 100:
        raise argparse.ArgumentTypeError("must be at most 100")
    return value


if __name__ == "__main__":
    sys.exit(main())
