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
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from clonalnet_jax.data.builders.cifar import cifar10, cifar100
from clonalnet_jax.data.builders.content import Content, EncodedImage, make_builder
from clonalnet_jax.data.builders.digits import digits
from clonalnet_jax.data.builders.image_folder import image_folder
from clonalnet_jax.data.builders.tiny_imagenet import tiny_imagenet
from clonalnet_jax.data.images import BadImageError, decode
from clonalnet_jax.data.reencode import reencode
from clonalnet_jax.data.tfds_source import check_whole
from clonalnet_jax.errors import UserError

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
      source: what the user has, where the kind is made of it.
      name: of the data set; None for the kind's.
      output: TFDS's directory; None for its default.
      shorter_side: to which larger images are brought, all being encoded anew; None
        keeps the files.
      quality: of the JPEG files then.
      manual_dir: of the archives that TFDS does not download.
    """

    kind: str
    source: Path | None = None
    name: str | None = None
    output: str | None = None
    shorter_side: int | None = None
    quality: int = 90
    manual_dir: str | None = None


def prepare(request: Request) -> tfds.core.DatasetBuilder:
    """Writes a data set, unless it is there.

    TFDS writes beside the place and renames at the end: what is there is whole.

    Args:
      request: what to prepare.

    Returns:
      The builder, prepared.

    Raises:
      UserError: the source is damaged, the place half-written, or TensorFlow missing.
    """
    builder = _builder(request)
    check_whole(Path(builder.data_dir))
    if builder.is_prepared():
        return builder
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=request.manual_dir)
        )
    except Exception as error:  # TFDS wraps what its generators raise
        raise _cause(error) or UserError(
            f"cannot prepare {builder.name}",
            got=f"{type(error).__name__}: {error}",
            expected=f"{builder.data_dir} to be written",
            remedy="mend this and start again; what was half written is beside it, "
            "called incomplete.*, and can be deleted",
        ) from error
    return builder


def _builder(request: Request) -> tfds.core.DatasetBuilder:
    name = request.name or request.kind
    if request.kind == "digits":
        return make_builder(name, digits(), request.output)
    if request.kind in _FROM_SOURCE and request.source is not None:
        _check_name(request)
        content = _FROM_SOURCE[request.kind](request.source)
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


def _stock_builder(request: Request) -> tfds.core.DatasetBuilder:
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
    if request.shorter_side is not None:
        raise UserError(
            "--shorter-side",
            got=f"{request.shorter_side} for TFDS's {request.kind!r}",
            expected="a data set that is made of a --source",
            remedy="prepare folder --source=... from the images",
        )
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
    splits = {
        split: functools.partial(_check_each, go, request)
        for split, go in content.splits.items()
    }
    shape = content.shape
    if request.shorter_side is not None:
        shape = (None, None, shape[-1])
    return content._replace(splits=splits, shape=shape)


def _check_each(
    go: Callable[[], Iterator[EncodedImage]], request: Request
) -> Iterator[EncodedImage]:
    for example in go():
        try:
            if request.shorter_side is None:
                decode(example.image)
                yield example
            else:
                image = reencode(example.image, request.shorter_side, request.quality)
                yield example._replace(image=image)
        except BadImageError as error:
            raise UserError(
                f"image {example.name} of {request.source}",
                got=str(error),
                expected="a whole JPEG, PNG, WebP or BMP image",
                remedy="mend or remove it",
            ) from error


def _cause(error: BaseException | None) -> UserError | None:
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def show(builder: tfds.core.DatasetBuilder) -> None:
    """Prints what was prepared and how to use it."""
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
    """The command line; 2 for a user's mistake."""
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
    parser.add_argument("--quality", type=_positive, default=90, help="of JPEG, then")
    parser.add_argument("--manual-dir", help="archives that TFDS does not download")
    options: dict[str, Any] = vars(parser.parse_args(arguments))
    request = Request(**options)
    try:
        show(prepare(request))
    except (UserError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
