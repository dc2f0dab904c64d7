"""A contact sheet of the images as the network is given them, augmented ones too.

python -m clonalnet_jax.data.preview --config=configs/digits.py --output=preview.png
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image, ImageDraw

from clonalnet_jax import data
from clonalnet_jax.data import loader
from clonalnet_jax.data.captions import draw_caption
from clonalnet_jax.errors import UserError

_ROWS, _VIEWS, _GAP = 8, 6, 4
_MIN_SIDE = 96  # smaller images are enlarged


def contact_sheet(config: ConfigDict) -> Image.Image:
    """Draws one example a row: as evaluation sees it, then views of the first epochs.

    Args:
      config: The whole config; its seed draws the examples and their views.

    Returns:
      The picture; each row has the name of the class above it.

    Raises:
      UserError: The data set cannot be opened or read.
    """
    dataset = data.open_dataset(config.data, seed=config.seed)
    rows = min(_ROWS, len(dataset.train))
    order = np.random.default_rng(config.seed).permutation(len(dataset.train))
    index = np.sort(order[:rows])
    prepare = data.make_preprocess(
        **data.preprocess_options(config.data), num_classes=dataset.num_classes
    )
    prepare = jax.jit(prepare)
    key = jax.random.key(config.seed)
    columns = [_pixels(config, prepare(_batch(dataset.train, index, None), None)[0])]
    for epoch in range(_VIEWS):
        batch = _batch(dataset.train, index, epoch, seed=config.seed)
        columns.append(_pixels(config, prepare(batch, key)[0]))
    names = [dataset.class_names[dataset.train[int(i)].label] for i in index]
    return _draw(np.stack(columns, axis=1), names)


def _batch(
    source: data.Source, index: np.ndarray, epoch: int | None, *, seed: int = 0
) -> loader.Batch:
    examples = [
        source[i]
        if epoch is None
        else source.augmented(i, np.random.default_rng((seed, epoch, i)))
        for i in index.tolist()
    ]
    return {
        "image": np.stack([example.image for example in examples]),
        "label": np.asarray([example.label for example in examples], np.int32),
        "index": index.astype(np.int32),
        "epoch": np.full(len(index), epoch or 0, np.int32),
    }


def _pixels(config: ConfigDict, images: jax.Array) -> np.ndarray:
    """Undoes the normalisation: uint8 `[b, h, w, c]`."""
    pixels = images * np.asarray(config.data.std) + np.asarray(config.data.mean)
    return np.asarray(np.clip(np.round(255 * pixels), 0, 255), np.uint8)


def _draw(images: np.ndarray, names: list[str]) -> Image.Image:
    """Lays out uint8 `[rows, columns, h, w, c]` with a caption above every row."""
    factor = max(1, -(-_MIN_SIDE // min(images.shape[2:4])))
    images = images.repeat(factor, axis=2).repeat(factor, axis=3)
    rows, columns, height, width, channels = images.shape
    if channels == 1:
        images = images.repeat(3, axis=-1)
    pitch = height + 20 + _GAP
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) + _GAP, rows * pitch + 20 + _GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    draw_caption(draw, (_GAP, 2), "evaluation", width)
    start = width + 2 * _GAP
    draw_caption(draw, (start, 2), "training, epoch by epoch", sheet.width - start)
    for row, name in enumerate(names):
        top = 20 + row * pitch
        draw_caption(draw, (_GAP, top + 2), name, sheet.width - 2 * _GAP)
        for column in range(columns):
            left = _GAP + column * (width + _GAP)
            sheet.paste(Image.fromarray(images[row, column]), (left, top + 20))
    return sheet


def main(config: ConfigDict, arguments: list[str]) -> int:
    """Writes the picture to --output."""
    del arguments
    output = Path(flags.FLAGS.output)
    if output.suffix != ".png":
        raise UserError(
            "--output",
            got=str(output),
            expected="a file that ends in .png",
            remedy="--output=preview.png",
        )
    sheet = contact_sheet(config)
    sheet.save(output)
    print(f"{output}: {sheet.width}x{sheet.height} pixels")
    return 0


if __name__ == "__main__":
    from clonalnet_jax.command import start
    from clonalnet_jax.training.checks import check_config
    from clonalnet_jax.weights.preprocessing import follow_weights

    def follow(config: ConfigDict, arguments: list[str]) -> int:
        """Draws what `config.data.like_weights` leaves to the weights, too."""
        return main(follow_weights(config, print), arguments)

    flags.DEFINE_string("output", "preview.png", "PNG file.")
    start(follow, check=check_config)
