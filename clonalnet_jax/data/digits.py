"""scikit-learn's handwritten digits as a TFDS data set, without TensorFlow.

1,797 grey images of 8x8 pixels from 43 writers (Alpaydin and Kaynak 1998, the test
part of the UCI set), which come with scikit-learn: no download.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

TRAIN_EXAMPLES = 300


class Digits(tfds.core.GeneratorBasedBuilder):
    """300 training and 1,497 test images, drawn once with a fixed seed.

    So few training images leave the baseline something to be wrong about.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(8, 8, 1), encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(names=list("0123456789")),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager  # nothing to download
        # Imported here: it takes a second, and only the first run prepares.
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        splits = {"train": order[:TRAIN_EXAMPLES], "test": order[TRAIN_EXAMPLES:]}
        return {
            name: self._generate_examples(digits, np.sort(indices))
            for name, indices in splits.items()
        }

    def _generate_examples(
        self, digits: Any, indices: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        # 17 grey levels, 0 to 16, spread over a byte.
        pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
        for index in indices.tolist():
            png = io.BytesIO()
            Image.fromarray(pixels[index]).save(png, "PNG")
            png.seek(0)
            yield index, {"image": png, "label": int(digits.target[index])}
