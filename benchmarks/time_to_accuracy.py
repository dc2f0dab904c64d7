"""A baseline and its clone from start to finish, here and in PyTorch, on one device.

    python benchmarks/time_to_accuracy.py --config=configs/digits.py --target=96 --again
    python benchmarks/time_to_accuracy.py --config=configs/cifar10_small.py \
        --config.baseline.model=resnet20 --config.clone.model=resnet20 \
        --config.baseline.options={} --config.clone.options={} --config.epochs=10 \
        --config.checkpoint_every_epochs=2 --config.data.path=DIRECTORY --target=40

Starts `main.py` and then a PyTorch loop (eager, float32, data on the device, the same
images, network, batch, schedule, augmentation and number of steps), each in a process
of its own, and watches the test accuracy come in. Seconds count from the start of the
process: imports, data and compilation are in them, and the time until the first steps
are logged (config.log_every_steps) is given apart. With --again, `main.py` runs a
second time and finds its programs compiled, as where one setting after another is
tried. The accuracies are of two random starts, and differ as seeds do.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_TARGET = flags.DEFINE_float("target", 90.0, "Top-1 in percent that counts.")
_AGAIN = flags.DEFINE_bool("again", False, "Run main.py once more, all compiled.")
_CONTENDER = flags.DEFINE_bool("as_torch", False, "Be the PyTorch process.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_ROOT = Path(__file__).parent.parent


def main(argv: list[str]) -> None:
    """Starts both and prints the table."""
    del argv
    if _CONTENDER.value:
        _train_in_torch(_CONFIG.value)
        return
    # Not by PyTorch's process, which is no slower for it.
    from benchmarks.measuring import with_compiled_in

    for network in (_CONFIG.value.baseline, _CONFIG.value.clone):
        if options := network.options.to_dict():
            raise app.UsageError(
                f"PyTorch's {network.model} has no options such as {options}; take "
                "them away with --config.baseline.options={} "
                "--config.clone.options={}."
            )
    given = [argument for argument in sys.argv[1:] if argument.startswith("--config")]
    with tempfile.TemporaryDirectory() as directory:
        ours = ["main.py", *given, "--config.methods=('clone',)"]
        rows = {}
        for name in ("ours", "ours again") if _AGAIN.value else ("ours",):
            workdir = Path(directory) / name
            rows[name] = _watch(
                [*ours, f"--workdir={workdir}"],
                workdir / "metrics.jsonl",
                environment=with_compiled_in(Path(directory) / "compiled"),
            )
        metrics = Path(directory) / "torch.jsonl"
        rows["torch"] = _watch(
            [__file__, *given, "--as_torch", f"--output={metrics}"], metrics
        )
    table = Table(title=f"seconds to {_TARGET.value:g} % top-1")
    for column in (
        "by",
        "first steps",
        "baseline there",
        "clone there",
        "all done",
        "baseline top-1 %",
        "clone top-1 %",
    ):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        times = (row["first_steps"], *row["reached"].values(), row["seconds"])
        cells = ["never" if seconds is None else f"{seconds:.1f}" for seconds in times]
        table.add_row(name, *cells, *(f"{x:.2f}" for x in row["top1"].values()))
    Console(width=110).print(table)
    for name, row in rows.items():
        if name != "torch":
            ratio = rows["torch"]["seconds"] / row["seconds"]
            note = f"{ratio:.2f} (on a GPU: 3)"
            print(f"time of PyTorch / {name}, start to finish: {note}")
    if _OUTPUT.value:
        result = {"target": _TARGET.value, "rows": rows}
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))


def _watch(
    arguments: list[str], metrics: Path, *, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Runs a program and notes when its metrics appear."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=_ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
        seen: list[tuple[float, dict[str, Any]]] = []
        running = True
        while running:
            running = process.poll() is None
            lines = metrics.read_text().splitlines() if metrics.exists() else []
            now = time.perf_counter() - start
            seen += [(now, json.loads(line)) for line in lines[len(seen) :]]
            time.sleep(0.02)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{arguments[0]} failed:\n{output.read()}")
    tests = [(when, row) for when, row in seen if row["split"] == "test"]
    reached: dict[str, float | None] = {}
    top1 = {}
    for run in ("baseline", "clone"):
        own = [(when, row["top1"]) for when, row in tests if row["run"] == run]
        top1[run] = own[-1][1]
        reached[run] = next((w for w, value in own if value >= _TARGET.value), None)
    return {
        "first_steps": seen[0][0],
        "seconds": seen[-1][0],
        "reached": reached,
        "top1": top1,
    }


def _train_in_torch(config: ConfigDict) -> None:
    """Both runs; writes a line for the first steps and for every evaluation."""
    import torch

    from benchmarks import torch_training
    from clonalnet_jax.data import open_dataset

    torch.manual_seed(config.seed)
    dataset = open_dataset(config.data, seed=config.seed)
    train, test = (_tensors(dataset.train), _tensors(dataset.test))
    per_epoch = len(train[0]) / config.batch_size
    steps = config.steps or max(1, round(config.epochs * per_epoch))
    interval = max(1, round(config.checkpoint_every_epochs * per_epoch))
    first = min(config.log_every_steps, interval, steps)
    baseline = None
    with Path(_OUTPUT.value).open("w") as metrics:
        for run, chosen in (("baseline", config.baseline), ("clone", config.clone)):
            network = torch_training.make_network(
                chosen.model, dataset.num_classes, channels=dataset.image_shape[-1]
            )
            optimizer = torch.optim.SGD(
                network.parameters(),
                config.optimizer.learning_rate,
                momentum=config.optimizer.momentum,
                weight_decay=config.optimizer.weight_decay,
                nesterov=config.optimizer.nesterov,
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            step = torch_training.make_step(network, baseline, optimizer, tuned=False)
            order = torch.empty(0, dtype=torch.int64)
            for number in range(1, steps + 1):
                if len(order) < config.batch_size:
                    order = torch.cat([order, torch.randperm(len(train[0]))])
                index, order = order.split(
                    [config.batch_size, len(order) - config.batch_size]
                )
                images = _augment(train[0][index], config.data)
                step(images, train[1][index])
                schedule.step()
                row: dict[str, Any] = {"run": run, "split": "train", "step": number}
                if number % interval == 0 or number == steps:
                    row = {**row, "split": "test", "top1": _top1(network, test)}
                if number == first or "top1" in row:
                    torch_training.wait()
                    metrics.write(json.dumps(row) + "\n")
                    metrics.flush()
            baseline = network


def _tensors(source: Any) -> tuple[Any, Any]:
    import torch

    from benchmarks import torch_training

    images = np.stack([source[index].image for index in range(len(source))])
    labels = torch.from_numpy(source.labels().astype(np.int64))
    return torch_training.normalised(images), labels.to(torch_training.DEVICE)


def _augment(images: Any, config: ConfigDict) -> Any:
    """Random crops of padded images and flips, each image by itself."""
    import torch

    size, padding = images.shape[-1], config.crop_padding
    count = len(images)
    if padding:
        # Black, which is -2 after normalisation.
        padded = torch.nn.functional.pad(images, (padding,) * 4, value=-2.0)
        first = torch.randint(2 * padding + 1, (2, count, 1), device=images.device)
        rows, columns = first + torch.arange(size, device=images.device)
        which = torch.arange(count, device=images.device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None]]
        images = images.permute(0, 3, 1, 2).contiguous()
    if config.flip:
        turned = torch.rand(count, device=images.device) < 0.5
        images = torch.where(turned[:, None, None, None], images.flip(-1), images)
    return images


def _top1(network: Any, test: tuple[Any, Any]) -> float:
    import torch

    network.eval()
    with torch.no_grad():
        parts = zip(test[0].split(500), test[1].split(500), strict=True)
        right = sum((network(x).argmax(-1) == y).sum().item() for x, y in parts)
    network.train()
    return 100.0 * right / len(test[1])


if __name__ == "__main__":
    app.run(main)
