"""`python -m clonalnet_jax.data.prepare`: a data set as TFDS ArrayRecord files.

    prepare cifar10 --source=cifar-10-python.tar.gz
    prepare tiny_imagenet --source=tiny-imagenet-200.zip
    prepare folder --source=DIRECTORY --name=mine --shorter-side=400
    prepare imagenet2012 --manual-dir=ARCHIVES

Any other name is one of TFDS's own data sets; preparing it takes TensorFlow (reading it
does not), and may download it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from clonalnet_jax.data.builders import writing
from clonalnet_jax.data.builders.request import Request, make_requested
from clonalnet_jax.errors import UserError, displayable_lines


def prepare(
    request: Request, *, tell: Callable[[str], None] = logging.warning
) -> tfds.core.DatasetBuilder:
    """Writes a data set, unless it is there; `~` in a path is the home directory.

    TFDS writes to another directory and renames it at the end, so that a data set that
    is there is whole. If two processes prepare the same one, the second waits.

    Args:
      request: The data set to prepare.
      tell: Called with lines about parts of the source that were passed over, or that
        are not as they were published.

    Returns:
      The builder, prepared.

    Raises:
      UserError: The source is damaged, the place half-written or not to be written, the
        name none that TFDS finds again, or TensorFlow missing.
    """
    builder = make_requested(request, tell)
    manual = request.expanded().manual_dir
    config = tfds.download.DownloadConfig(manual_dir=manual)
    try:
        writing.write(builder, config)
    except Exception as error:  # TFDS wraps the errors of its generators.
        raise _cause(error) or UserError(
            f"cannot prepare {builder.name}",
            got=f"{type(error).__name__}: {error}",
            expected=f"{builder.data_dir} to be written",
            remedy="mend this and start again; what was half written is beside it, "
            "called incomplete.*, and can be deleted",
        ) from error
    return builder


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
