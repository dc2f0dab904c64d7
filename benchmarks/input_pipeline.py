"""How fast images come off the disk, beside PyTorch's DataLoader in the same run.

    python benchmarks/input_pipeline.py --images=DIRECTORY

DIRECTORY holds photographs as `<class>/<image>`. Both sides read the same files, crop
and resize to 224 (training: random-resized crop; evaluation: centre of 256) and make
batches of 50, with as many workers: threads here, processes there. Ours leave mirrors
and normalisation to the device, where they cost nothing to speak of; PyTorch is timed
with torchvision's usual recipe (RandomHorizontalFlip, ToTensor, Normalize) and with as
little after the crop as can be (RandomHorizontalFlip, PILToTensor). Passes alternate;
the figures are medians.

The prepared files are what `prepare --shorter-side=400` writes: at most 400 pixels on
the shorter side, JPEG of quality 90, a restart marker after every row of blocks.

The last figures are of images of 32x32 in memory: gathered on the device, then cropped,
mirrored and normalised there, against the DataLoader with RandomCrop(32, padding=4).
"""

import io
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax.configs import default

from benchmarks.measuring import run_benchmark
from benchmarks.torch_reference import import_torch
from clonalnet_jax.data import loader, make_preprocess
from clonalnet_jax.data.images import decode
from clonalnet_jax.data.reader import make_reader
from clonalnet_jax.data.records import Files, Noise
from clonalnet_jax.data.reencode import reencode
from clonalnet_jax.data.sources import Arrays, Images
from clonalnet_jax.runtime import partition
from clonalnet_jax.training.feed import Feed

_IMAGES = flags.DEFINE_string("images", None, "<class>/<image>.", required=True)
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Numbers of workers.")
_PASSES = flags.DEFINE_integer("passes", 5, "Of each side, over as many images.")
_SAMPLES = flags.DEFINE_integer("samples", 1000, "Images of a pass; files repeat.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Over which memory is watched.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the figures.")
_BATCH = 50
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

torch, torchvision = import_torch()


def main(argv: list[str]) -> None:
    """Measures and prints the tables."""
    del argv
    torch.set_num_threads(1)
    # The DataLoader forks, and JAX warns; its workers use nothing of JAX's.
    warnings.filterwarnings("ignore", r"os\.fork", RuntimeWarning)
    console, rows = Console(width=100), []
    with tempfile.TemporaryDirectory() as temporary:
        originals = _list(Path(_IMAGES.value))
        prepared = _prepare(originals, Path(temporary))
        files = {"original": originals, "prepared": prepared}
        for (kind, source), mode in itertools.product(
            files.items(), ("training", "evaluation")
        ):
            for workers in map(int, _WORKERS.value):
                rows.append(_row(originals, source, kind, mode, workers))
        decoding = _decoding(originals)
        memory = _memory(originals)
        change = _change(originals, prepared)
    console.print(_table(rows))
    small = _small_images()
    text = {
        "full decode of the original files, images/s of one thread": decoding,
        "32x32 images in memory, images/s": small,
        f"resident memory over {_EPOCHS.value} epochs, MiB": memory,
        "what preparing changes in evaluation crops, of 255": change,
    }
    for title, figures in text.items():
        console.print(f"{title}:", highlight=False)
        for name, value in figures.items():
            console.print(f"  {name}: {value:,.1f}", highlight=False)
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps({"rows": rows, **text}, indent=2))


def _list(root: Path) -> Files:
    paths = sorted(p for p in root.glob("*/*") if p.is_file())
    names = sorted({p.parent.name for p in paths})
    labels = np.asarray([names.index(p.parent.name) for p in paths], np.int32)
    relative = tuple(str(p.relative_to(root)) for p in paths)
    return Files(str(root), relative, labels)


def _prepare(files: Files, root: Path) -> Files:
    for index, path in enumerate(_track(files.paths, "preparing")):
        target = root / path
        target.parent.mkdir(exist_ok=True)
        encoded = files[index].image
        target.write_bytes(reencode(encoded, 400, 90))
    for name, folder in (("original", files.root), ("prepared", root)):
        sizes = [Path(folder, path).stat().st_size for path in files.paths]
        print(
            f"{name}: {len(sizes)} files of {np.mean(sizes) / 1000:.0f} kB on average"
        )
    return Files(str(root), files.paths, files.classes)


def _row(
    originals: Files, files: Files, kind: str, mode: str, workers: int
) -> dict[str, Any]:
    """Images per second of the three sides; PyTorch always reads the originals."""
    usual, least = (_torch_loader(originals, mode, workers, tail) for tail in (1, 0))
    sides: dict[str, Callable[[], Iterable[Any]]] = {
        "ours": lambda: _ours(files, mode, workers),
        "usual": lambda: usual,
        "least": lambda: least,
    }
    speed = _alternate(sides, f"{kind} {mode} {workers}")
    return {
        "files": kind,
        "mode": mode,
        "workers": workers,
        **speed,
        "over_usual": speed["ours"] / speed["usual"],
        "over_least": speed["ours"] / speed["least"],
    }


def _alternate(
    sides: dict[str, Callable[[], Iterable[Any]]], title: str
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in _track(range(_PASSES.value + 1), title):
        for name, make in sides.items():
            start = time.perf_counter()
            for _ in make():
                pass
            if number:  # the first starts workers and fills caches
                seconds[name].append(time.perf_counter() - start)
    count = _SAMPLES.value // _BATCH * _BATCH
    return {name: count / statistics.median(s) for name, s in seconds.items()}


def _track(items: Sequence[Any], title: str) -> Iterable[Any]:
    return track(items, title, transient=True, disable=not sys.stdout.isatty())


def _reader() -> Any:
    config: ConfigDict = default.get_config().data
    config.image_size = 224
    return make_reader(config, channels=3)


def _ours(files: Files, mode: str, workers: int) -> Iterator[loader.Batch]:
    loading = loader.Loading((224, 224, 3), "raise", threads=workers, workers=0)
    count = _SAMPLES.value // _BATCH
    indices = np.arange(count * _BATCH) % len(files)
    source = Images(files, indices, _reader())
    if mode == "evaluation":
        return loader.eval_batches(source, loading, batch_size=_BATCH)
    return loader.train_batches(
        source, loading, batch_size=_BATCH, seed=0, start_step=0, num_steps=count
    )


def _torch_loader(files: Files, mode: str, workers: int, usual: bool) -> Any:
    t = torchvision.transforms
    steps = {
        "training": [t.RandomResizedCrop(224), t.RandomHorizontalFlip()],
        "evaluation": [t.Resize(256), t.CenterCrop(224)],
    }[mode]
    tail = [t.ToTensor(), t.Normalize(_MEAN, _STD)] if usual else [t.PILToTensor()]
    folder = torchvision.datasets.ImageFolder(files.root, t.Compose(steps + tail))
    count = _SAMPLES.value // _BATCH * _BATCH
    subset = torch.utils.data.Subset(folder, [i % len(folder) for i in range(count)])
    return torch.utils.data.DataLoader(
        subset,
        batch_size=_BATCH,
        shuffle=mode == "training",
        num_workers=workers,
        persistent_workers=True,
    )


def _decoding(files: Files) -> dict[str, float]:
    """The limit of whatever decodes whole files."""
    encoded = [files[index].image for index in range(len(files))]
    ways = {
        "libjpeg-turbo": decode,
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
    }
    speed = {}
    for name, way in ways.items():
        seconds = []
        for _ in range(_PASSES.value):
            start = time.perf_counter()
            for data in encoded:
                way(data)
            seconds.append(time.perf_counter() - start)
        speed[name] = len(encoded) / statistics.median(seconds)
    return speed


def _small_images() -> dict[str, float]:
    """The device's path: gather, crop, mirror, normalise; on one device."""
    size, batch = 10_000, 128
    records = Noise((32, 32, 3), 10, size, seed=0)
    pixels = np.stack([records[index].image for index in range(size)])
    labels = records.labels()
    mesh = partition.make_mesh(jax.devices()[:1])
    loading = loader.Loading((32, 32, 3), "raise", 1, 0)
    arrays = Arrays(pixels, labels, Images(records, np.arange(size), _reader()))
    feed = Feed(mesh, arrays, loading, print)
    prepare = jax.jit(make_preprocess(mean=_MEAN, std=_STD, crop_padding=4, flip=True))
    key = jax.random.key(0)
    steps = size // batch

    def ours() -> Iterator[Any]:
        batches = feed.train(batch_size=batch, seed=0, start_step=0, num_steps=steps)
        for item in batches:
            yield prepare(item, key)[0].block_until_ready()

    t = torchvision.transforms
    recipe = t.Compose(
        [
            t.RandomCrop(32, padding=4),
            t.RandomHorizontalFlip(),
            t.ToTensor(),
            t.Normalize(_MEAN, _STD),
        ]
    )
    theirs = torch.utils.data.DataLoader(
        _InMemory(pixels, labels, recipe),
        batch_size=batch,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        drop_last=True,
    )
    seconds: dict[str, list[float]] = {"ours": [], "DataLoader, 2 workers": []}
    for _ in range(_PASSES.value + 1):
        for name, make in zip(seconds, (ours, lambda: theirs), strict=True):
            start = time.perf_counter()
            for _ in make():
                pass
            seconds[name].append(time.perf_counter() - start)
    speed = {
        name: steps * batch / statistics.median(s[1:]) for name, s in seconds.items()
    }
    return {**speed, "ratio": speed["ours"] / speed["DataLoader, 2 workers"]}


class _InMemory(torch.utils.data.Dataset):
    """As torchvision's CIFAR10: arrays that become Pillow images one by one."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self._pixels, self._labels, self._transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self._pixels[index])
        return self._transform(image), int(self._labels[index])


def _memory(files: Files) -> dict[str, float]:
    """Resident memory after the first and the last of many epochs, and the peak."""
    loading = loader.Loading((224, 224, 3), "raise", threads=2, workers=0)
    source = Images(files, np.arange(len(files)), _reader())
    batch = min(_BATCH, len(files))
    steps = len(files) // batch
    readings = []
    for epoch in _track(range(_EPOCHS.value), "memory"):
        batches = loader.train_batches(
            source,
            loading,
            batch_size=batch,
            seed=0,
            start_step=epoch * steps,
            num_steps=(epoch + 1) * steps,
        )
        for _ in batches:
            pass
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        readings.append(pages * resource.getpagesize() / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {
        "after the first": readings[0],
        "after the last": readings[-1],
        "peak": peak,
    }


def _change(originals: Files, prepared: Files) -> dict[str, float]:
    """How far the pixels of prepared files are from those of the originals."""
    reader, difference = _reader(), []
    for index in range(len(originals)):
        crops = [reader(files[index].image, None) for files in (originals, prepared)]
        difference.append(np.abs(crops[0].astype(int) - crops[1]))
    values = np.stack(difference)
    return {"mean": values.mean(), "99th percentile": np.percentile(values, 99)}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="images per second, decoded, cropped to 224 and batched")
    for column in ("files", "mode"):
        table.add_column(column, no_wrap=True)
    for column in (
        "workers",
        "ours",
        "usual recipe",
        "least recipe",
        "over usual",
        "over least",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["files"],
            row["mode"],
            str(row["workers"]),
            f"{row['ours']:,.0f}",
            f"{row['usual']:,.0f}",
            f"{row['least']:,.0f}",
            f"{row['over_usual']:.2f}",
            f"{row['over_least']:.2f}",
        )
    return table


if __name__ == "__main__":
    run_benchmark(main)
