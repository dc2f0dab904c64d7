"""scikit-learn's handwritten digits: no download.

1,797 grey images of 8x8 pixels from 43 writers (Alpaydin and Kaynak 1998, the test
part of the UCI set). 300 training and 1,497 test images, drawn once with a fixed seed:
so few training images leave the baseline something to be wrong about.
"""

import functools
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from clonalnet_jax.data.builders.content import Content, EncodedImage

TRAIN_EXAMPLES = 300


def digits() -> Content:
    """Describes the data set; the images are loaded when they are written."""
    train, test = slice(0, TRAIN_EXAMPLES), slice(TRAIN_EXAMPLES, None)
    return Content(
        description=__doc__,
        class_names=tuple("0123456789"),
        shape=(8, 8, 1),
        splits={
            "train": functools.partial(_examples, train),
            "test": functools.partial(_examples, test),
        },
    )


def _examples(part: slice) -> Iterator[EncodedImage]:
    # Imported here: it takes a second, and only the first run prepares.
    from sklearn.datasets import load_digits

    bundled = load_digits()
    # 17 grey levels, 0 to 16, spread over a byte.
    pixels = np.round(bundled.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    for index in np.sort(order[part]).tolist():
        png = io.BytesIO()
        Image.fromarray(pixels[index]).save(png, "PNG")
        yield EncodedImage(str(index), png.getvalue(), int(bundled.target[index]))
