"""Draws what the loss does with one image, from a finished run on the digits.

    python main.py --config=configs/digits.py
    python benchmarks/method_drawing.py --workdir=runs/digits --figure=docs/method.svg

Image, probabilities, threshold and set are those of the run's baseline. The figure
follows the reader's light or dark theme.
"""

import argparse
import sys
from html import escape
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import clonalnet_jax as cn
from clonalnet_jax.data import open_dataset
from clonalnet_jax.runtime.quiet import quieten
from clonalnet_jax.workdir.saved_config import saved_config

_TEMPERATURE = 2.0  # the loss's own
_WIDTH, _HEIGHT = 880, 290
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 11.5px; fill: #59636e }
  .bold { font-weight: 600 }
  .line { stroke: #59636e; fill: none; stroke-width: 1.2 }
  .box { fill: #f6f8fa; stroke: #d1d9e0 }
  .bar { fill: #9aa4af } .set { fill: #0a6fb8 } .mark { stroke: #c4432b }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .line { stroke: #9198a1 }
    .box { fill: #151b23; stroke: #3d444d }
    .bar { fill: #656c76 } .set { fill: #4ca3e6 } .mark { stroke: #f0876e }
  }
"""
_TERMS = (
    ("classification", "be surer of the label than the baseline was"),
    ("attention", "look at the categories of the set, and no others"),
    ("negentropy", "do not become certain too soon"),
)


def choose(classifier: cn.Classifier, images: np.ndarray, labels: np.ndarray) -> int:
    """Chooses the image that confuses a baseline most, with three in its set."""
    soft = jax.nn.softmax(classifier.logits(images) / _TEMPERATURE, axis=-1)
    sizes = _confusing(soft, labels).sum(-1)
    right = soft.argmax(-1) == labels
    surest = np.where((sizes == 3) & right, soft.max(-1), 2.0)
    return int(surest.argmin())


def _confusing(soft: jax.Array, labels: np.ndarray) -> np.ndarray:
    """The set of each image; the logits are known but for a constant."""
    logits = _TEMPERATURE * jnp.log(soft)
    return np.asarray(cn.confusing_categories(logits, jnp.asarray(labels)))


def draw(image: np.ndarray, soft: np.ndarray, chosen: np.ndarray, label: int) -> str:
    """Makes the SVG.

    Args:
      image: Pixels, uint8 `[h, w]`.
      soft: The baseline's softened probabilities `[classes]`.
      chosen: Whether each class is in the confusing set, bool `[classes]`.
      label: Class of the image.

    Returns:
      The text of the file.
    """
    parts = [_text(20, 30, "an image", "bold"), *_pixels(image, 20, 44, 120)]
    parts += [
        _text(20, 182, f"its label: {label}", "small"),
        _arrow(150, 104, 182),
        _text(190, 30, "the baseline, trained and frozen", "bold"),
        *_bars(soft, chosen, label),
        _text(190, 232, "softened answer, softmax(b / 2)", "small"),
        _text(190, 250, "blue: the confusing set. It has what", "small"),
        _text(190, 266, "is likelier than 1/C, and the label", "small"),
        _arrow(492, 104, 524),
        _text(534, 30, "the clone, which learns three things", "bold"),
    ]
    for row, (name, words) in enumerate(_TERMS):
        top = 44 + 54 * row
        parts += [
            f'<rect class="box" x="534" y="{top}" width="326" height="44" rx="6"/>',
            _text(546, top + 18, name, "bold"),
            _text(546, top + 35, words, "small"),
        ]
    parts += [
        _text(534, 232, "from every training image, with weights of its own,", "small"),
        _text(534, 248, "in a network of the same size or a smaller one", "small"),
        _text(534, 272, "Afterwards only the clone is used.", "bold"),
    ]
    about = (
        "A baseline finds several categories likely for an image of a digit; the clone "
        "learns to tell those apart."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{about}">'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _pixels(image: np.ndarray, x: float, y: float, side: float) -> list[str]:
    size = side / len(image)
    return [
        f'<rect x="{x + size * column:g}" y="{y + size * row:g}" width="{size:g}" '
        f'height="{size:g}" fill="rgb({v},{v},{v})"/>'
        for (row, column), v in np.ndenumerate(image)
    ]


def _bars(soft: np.ndarray, chosen: np.ndarray, label: int) -> list[str]:
    left, bottom, height, step = 190, 190, 140, 29
    scale = height / max(0.5, float(soft.max()))
    parts = []
    for k, (p, inside) in enumerate(zip(soft.tolist(), chosen, strict=True)):
        kind, x = "set" if inside else "bar", left + step * k
        parts.append(
            f'<rect class="{kind}" x="{x}" y="{bottom - scale * p:.1f}" '
            f'width="20" height="{max(scale * p, 1):.1f}"/>'
        )
        weight = "bold" if k == label else "small"
        parts.append(_text(x + 6, bottom + 16, str(k), weight))
    y = bottom - scale / len(soft)
    right = left + step * len(soft) - 6
    return [
        *parts,
        f'<path class="line mark" stroke-dasharray="4 3" d="M{left - 4} {y:.1f}'
        f'H{right}"/>',
        _text(right + 3, y + 4, "1/C", "small"),
    ]


def _arrow(x: float, y: float, end: float) -> str:
    head = f"M{end - 6} {y - 4}L{end} {y}L{end - 6} {y + 4}"
    return f'<path class="line" d="M{x} {y}H{end}{head}"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def main() -> None:
    """Draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/digits"))
    parser.add_argument("--figure", type=Path, default=Path("docs/method.svg"))
    asked = parser.parse_args()
    quieten()
    workdir = asked.workdir
    config = saved_config(workdir)
    test = open_dataset(config.data, seed=config.seed).test
    labels = test.labels()
    images = np.stack([test[index].image for index in range(len(test))])
    baseline = cn.load(workdir, "baseline")
    index = choose(baseline, images, labels)
    soft = jax.nn.softmax(baseline.logits(images[[index]]) / _TEMPERATURE, axis=-1)
    chosen = _confusing(soft, labels[[index]])[0]
    drawn = draw(images[index, ..., 0], np.asarray(soft)[0], chosen, labels[index])
    asked.figure.write_text(drawn)
    probabilities = ", ".join(
        f"{k}: {p:.2f}" for k, p in enumerate(np.asarray(soft)[0])
    )
    print(f"{asked.figure}: test image {index}; {probabilities}")


if __name__ == "__main__":
    main()
