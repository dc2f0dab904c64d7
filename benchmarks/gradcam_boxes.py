"""How often a wrong answer looks at the right place: Grad-CAM's peak and the box.

    python benchmarks/gradcam_boxes.py --workdir=runs/tiny_imagenet \
        --data=tiny-imagenet-200

The paper starts from a baseline that looks at the object even where it is wrong.
On Tiny-ImageNet's validation images, whose objects have boxes, this prints for each
network of a workdir the share of its wrongly and of its correctly classified images
whose Grad-CAM peak, for the network's own answer, lies inside the box. A peak anywhere
would lie there as often as the boxes are large, so that share stands beside them. A
network that takes larger images gets these enlarged, whole, and their boxes with them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measuring import run_benchmark
from clonalnet_jax.analysis.grad_cam import grad_cam, peak_in_box
from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.trained.classifier import Classifier, load_classifier
from clonalnet_jax.workdir.directory import read_results
from clonalnet_jax.workdir.files import read_json

_WORKDIR = flags.DEFINE_string("workdir", None, "Of a --mode=train.", required=True)
_DATA = flags.DEFINE_string("data", None, "Unpacked Tiny-ImageNet.", required=True)
_BATCH = 64


class Boxed(NamedTuple):
    """An image file with its object.

    Attributes:
      path: of the file.
      label: index of its class.
      box: `x0, y0, x1, y1` in pixels, both ends inside.
    """

    path: Path
    label: int
    box: tuple[int, int, int, int]


class Shares(NamedTuple):
    """Of a network's images, in percent; NaN of none.

    Attributes:
      wrong_images: how many it classifies wrongly.
      wrong_inside: of them, with the peak inside the box.
      wrong_area: of their area, inside the boxes: what a random peak would reach.
      right_inside: as `wrong_inside`, of the other images.
      right_area: as `wrong_area`, of the other images.
    """

    wrong_images: int
    wrong_inside: float
    wrong_area: float
    right_inside: float
    right_area: float


def main(argv: list[str]) -> int:
    """Measures and prints the table."""
    del argv
    workdir, data = Path(_WORKDIR.value), Path(_DATA.value)
    results = read_results(workdir)
    if not results:
        raise UserError(
            f"--workdir={workdir}",
            got="no finished network",
            expected="the workdir of a --mode=train",
            remedy="name one, or train in this one first",
        )
    config = ConfigDict(read_json(workdir / "config.json", {}))
    mesh = partition.make_mesh(jax.local_devices()[:1])
    table = Table(title="Grad-CAM's peak inside the object's box")
    table.add_column("network")
    for column in (
        "wrong",
        "inside %",
        "by chance %",
        "right: inside %",
        "by chance %",
    ):
        table.add_column(column, justify="right")
    for run in results:
        classifier = load_classifier(config, workdir, run, mesh)
        examples = read_boxes(data, len(classifier.network.meta.class_names))
        shares = measure(classifier, examples)
        cells = (f"{share:.1f}" for share in shares[1:])
        table.add_row(run, f"{shares.wrong_images:,} of {len(examples):,}", *cells)
    Console(width=100).print(table)
    print(f"device: {jax.devices()[0].device_kind}")
    return 0


def read_boxes(data: Path, num_classes: int) -> list[Boxed]:
    """The validation images of Tiny-ImageNet's official layout.

    Args:
      data: folder with `wnids.txt` and `val/val_annotations.txt`.
      num_classes: of the network, whose labels are the sorted WordNet ids.

    Returns:
      Every annotated image.

    Raises:
      UserError: the folder is another, or of other classes than the network.
    """
    listing, annotations = data / "wnids.txt", data / "val" / "val_annotations.txt"
    for path in (listing, annotations):
        if not path.exists():
            raise UserError(
                f"--data={data}",
                got=f"no {path.relative_to(data)}",
                expected="Tiny-ImageNet as it is unpacked",
                remedy="name the folder that holds wnids.txt",
            )
    wnids = sorted(listing.read_text().split())
    if len(wnids) != num_classes:
        raise UserError(
            f"--data={data}",
            got=f"{len(wnids)} classes",
            expected=f"the {num_classes} classes that the workdir was trained on",
            remedy="name the data that the workdir was trained on",
        )
    examples = []
    for line in annotations.read_text().splitlines():
        name, wnid, *corners = line.split("\t")
        x0, y0, x1, y1 = map(int, corners)
        path = data / "val" / "images" / name
        examples.append(Boxed(path, wnids.index(wnid), (x0, y0, x1, y1)))
    return examples


def measure(classifier: Classifier, examples: Sequence[Boxed]) -> Shares:
    """Where the peaks lie.

    Args:
      classifier: takes square RGB images.
      examples: at least one.

    Returns:
      The shares.
    """

    @jax.jit
    def look(variables, images, boxes):
        normalised = classifier.normalise(images)
        logits, heat = grad_cam(classifier.network.model, variables, normalised)
        return logits.argmax(axis=-1), peak_in_box(heat, boxes)

    height, width, _ = classifier.image_shape
    answers, inside, area = [], [], []
    for start in range(0, len(examples), _BATCH):
        chunk = examples[start : start + _BATCH]
        # The last batch repeats an example, so that nothing is compiled twice.
        filled = [*chunk, *[chunk[0]] * (_BATCH - len(chunk))]
        pixels, boxes = map(
            np.stack,
            zip(*(_look_at(one, height, width) for one in filled), strict=True),
        )
        found = look(classifier.network.variables, pixels / np.float32(255), boxes)
        for values, new in zip((answers, inside), found, strict=True):
            values.extend(np.asarray(new)[: len(chunk)].tolist())
        sides = np.minimum(boxes[:, 2:], pixels.shape[2:0:-1] - np.ones(2)) + 1
        covered = (sides - boxes[:, :2]).prod(axis=1) / np.prod(pixels.shape[1:3])
        area.extend(covered[: len(chunk)].tolist())
    wrong = np.array(answers) != [example.label for example in examples]
    inside, area = 100 * np.array(inside, np.float64), 100 * np.array(area)
    return Shares(
        int(wrong.sum()),
        *(_mean(values[of]) for of in (wrong, ~wrong) for values in (inside, area)),
    )


def _look_at(example: Boxed, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The image and the box, both ends inside, as the network gets them."""
    with Image.open(example.path) as image:  # some are grey
        scale = np.array([width / image.width, height / image.height] * 2)
        size = (width, height)
        pixels = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    ends = np.array([0, 0, 1, 1])
    return np.asarray(pixels), (np.array(example.box) + ends) * scale - ends


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


if __name__ == "__main__":
    run_benchmark(main)
