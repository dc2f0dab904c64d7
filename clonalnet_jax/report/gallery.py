"""Images that one network gets wrong and the other right, and where each looked."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from clonalnet_jax.report.evidence import Evidence, heat_maps

LEAST_SIDE = 16
"""Pixels of a side below which a heat map is fog over the whole image."""
_SIDE = 112  # pixels that an image has at least and about, as it is shown
_HEAT = mpl.colormaps["inferno"]  # even in lightness, whatever the eyes


class Opinion(NamedTuple):
    """What a network says of an image.

    Attributes:
      name: Name of the class that it answers.
      confidence: Its confidence in that class, in percent.
      heat: Grad-CAM for that answer over the image, a data URI; empty without one.
    """

    name: str
    confidence: float
    heat: str


class Exhibit(NamedTuple):
    """An image and both answers to it.

    Attributes:
      position: Position in the test split.
      truth: Name of its class.
      image: A data URI.
      baseline: Its answer.
      clone: Its answer.
    """

    position: int
    truth: str
    image: str
    baseline: Opinion
    clone: Opinion


class Gallery(NamedTuple):
    """Some of the images that fulfil a condition.

    Attributes:
      total: Number of images that fulfil it.
      exhibits: The images that are shown, drawn at random.
    """

    total: int
    exhibits: list[Exhibit]


def make_galleries(evidence: Evidence, *, limit: int = 12) -> tuple[Gallery, Gallery]:
    """The images that the clone mends, and those that it breaks.

    Args:
      evidence: The evidence of the report.
      limit: The greatest number of each, drawn at random, always the same ones.

    Returns:
      Both galleries.
    """
    before, after = evidence.right("baseline"), evidence.right(evidence.clone)
    found = [np.flatnonzero(~before & after), np.flatnonzero(before & ~after)]
    draw = np.random.default_rng(0).permutation
    chosen = [draw(indices)[:limit].tolist() for indices in found]
    # All at once, so that each network is loaded and compiled once.
    mended = len(chosen[0])
    exhibits = _exhibits(evidence, chosen[0] + chosen[1])
    return (
        Gallery(len(found[0]), exhibits[:mended]),
        Gallery(len(found[1]), exhibits[mended:]),
    )


def _exhibits(evidence: Evidence, indices: list[int]) -> list[Exhibit]:
    answers = [_answers(evidence, run, indices) for run in ("baseline", evidence.clone)]
    return [
        Exhibit(
            int(evidence.positions[index]),
            evidence.class_names[evidence.labels[index]],
            data_uri(_enlarge(evidence.pixels(index))),
            baseline,
            clone,
        )
        for index, baseline, clone in zip(indices, *answers, strict=True)
    ]


def _answers(evidence: Evidence, run: str, indices: Sequence[int]) -> list[Opinion]:
    answers = []
    heats: Iterable[np.ndarray | None] = [None] * len(indices)
    if min(evidence.experiment.dataset.image_shape[:2]) >= LEAST_SIDE:
        heats = heat_maps(evidence, run, indices)
    for index, heat in zip(indices, heats, strict=True):
        logits = evidence.logits[run][index].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = int(shares.argmax())
        pixels = _enlarge(evidence.pixels(index))
        answers.append(
            Opinion(
                evidence.class_names[best],
                100 * float(shares[best]),
                "" if heat is None else data_uri(overlay(pixels, heat)),
            )
        )
    return answers


def overlay(
    pixels: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "hh hw"]
) -> UInt8[np.ndarray, "h w 3"]:
    """A heat map over the image in grey.

    Args:
      pixels: The image.
      heat: Heat map from 0 to 1, in any size.

    Returns:
      An image of the size of `pixels`.
    """
    grey = pixels.mean(axis=-1, keepdims=True)
    size = pixels.shape[1::-1]
    resized = Image.fromarray(heat.astype(np.float32)).resize(
        size, Image.Resampling.BILINEAR
    )
    colours = 255 * _HEAT(np.asarray(resized))[..., :3]
    return (0.4 * grey + 0.6 * colours).astype(np.uint8)


def data_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """An image that lies in the page itself: WebP, which shows no difference."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "webp", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _enlarge(image: Shaped[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of about `_SIDE` pixels; small images keep their pixels visible."""
    pixels = np.asarray(image, np.uint8)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    height, width = pixels.shape[:2]
    factor = -(-_SIDE // min(height, width))
    if factor > 1:
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    shrink = 1.5 * _SIDE / min(height, width)
    if shrink >= 1:
        return pixels
    size = round(width * shrink), round(height * shrink)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
