"""What compilers say of the steps, for accelerators that need not be here.

    python benchmarks/compiled.py --topologies=h100:1 --networks=resnet50
    python benchmarks/compiled.py --table
    python benchmarks/compiled.py --losses 4096x1000 --topologies=v5e:1x1

Needs the extra [plan-cuda] for GPUs and [plan-tpu] for TPUs, best in environments
of their own. Every row is written to compiled.json when it is there; rows
that are there already are not compiled again. The second command prints the tables of
docs/compiled.md from the file. The third compiles the loss alone, with its gradient,
for so many images and classes, and prints what it moves.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
from clonalnet_jax.configs import default
from ml_collections import ConfigDict

from benchmarks.measuring import errors_said
from clonalnet_jax.losses import focusing_picking_loss
from clonalnet_jax.planning.hlo import Contents, read_program
from clonalnet_jax.planning.programs import Shapes
from clonalnet_jax.planning.running import compile_for, plan
from clonalnet_jax.planning.targets import find_devices, parse_topology
from clonalnet_jax.planning.words import list_parts
from clonalnet_jax.runtime import partition, processes
from clonalnet_jax.workdir.files import write_atomically

FILE = Path(__file__).with_suffix(".json")
# The name of a network in the tables: model, its side of images, classes.
NETWORKS = {
    "ResNet-20": ("resnet20", 32, 10),
    "ResNet-18, 3x3 stem": ("resnet18_small", 32, 10),
    "ResNet-18": ("resnet18", 224, 1000),
    "ResNet-50": ("resnet50", 224, 1000),
    "MobileNetV2": ("mobilenet_v2", 224, 1000),
    "ConvNeXt-T": ("convnext_tiny", 224, 1000),
    "ViT-S": ("vit_small_patch16_224", 224, 1000),
}
STEPS = ("baseline", "clone", "cached")
_KEY = ("network", "topology", "step", "batch_of_device", "dtype", "options")


def make_config(
    network: str, *, batch_size: int, dtype: str, options: Mapping[str, Any]
) -> ConfigDict:
    """Makes the config of a row.

    Args:
      network: A key of `NETWORKS`, baseline and clone alike.
      batch_size: The global batch.
      dtype: The type that it computes in.
      options: Values of other keys of the config, by name.

    Returns:
      The config, of random images.
    """
    model, side, classes = NETWORKS[network]
    config = default.get_config()
    config.data.synthetic_shape = (side, side, 3)
    config.data.synthetic_classes = classes
    config.data.flip = True
    config.plan.train_images = 1_281_167
    config.plan.find_batch = False
    config.baseline.model = config.clone.model = model
    config.batch_size = batch_size
    config.compute_dtype = dtype
    config.update_from_flattened_dict(dict(options))
    return config


def measure(
    network: str, topology: str, step: str, batch: int, dtype: str, options: str
) -> dict[str, Any]:
    """Compiles one step and reads it.

    Args:
      network: A key of `NETWORKS`.
      topology: The devices, such as `h100:8`.
      step: One of `checks.PROGRAMS`.
      batch: Images of each device.
      dtype: The type that it computes in.
      options: Other keys, such as `partition.fsdp=True`, joined by blanks.

    Returns:
      The row.
    """
    where = parse_topology(topology)
    changed = {}
    for option in options.split():
        key, _, value = option.partition("=")
        changed[key] = json.loads(
            value.lower() if value in ("True", "False") else value
        )
    config = make_config(
        network, batch_size=batch * where.devices, dtype=dtype, options=changed
    )
    config.plan.programs = (step,)
    found = plan(config, where, say=lambda line: None)
    program, memory = found["programs"][step], found["programs"][step]["memory"]
    return {
        "network": network,
        "topology": topology,
        "step": step,
        "batch_of_device": batch,
        "dtype": dtype,
        "options": options,
        **{
            key: program.get(key)
            for key in (
                "operations", "traffic", "launches", "fusions", "copies",
                "collectives", "parts", "seconds_by", "compile_seconds",
            )
        },
        "peak": memory and memory["peak"],
        "compiler": found["compiler"],
    }  # fmt: skip


def read_alone(
    topology: str, function: Callable[..., Any], *arguments: Any
) -> Contents:
    """Compiles a function for one device and reads the program.

    Args:
      topology: The device, such as `v5e:1x1`.
      function: The function.
      *arguments: Trees of the shapes and dtypes of its arguments.

    Returns:
      What a call of it does.
    """
    where = parse_topology(topology)
    lone = partition.replicated(partition.make_mesh(find_devices(where)[:1]))
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lone), arguments
    )
    lowered = Shapes(jax.jit(function), placed).lower(where.target.platform)
    return read_program(compile_for(where, lowered))


def measure_loss(size: str, topology: str, dtype: str) -> str:
    """Compiles the mean loss of a batch with its gradient, for one device.

    Args:
      size: Images and classes, such as `4096x1000`.
      topology: The device, such as `v5e:1x1`.
      dtype: Of the logits.

    Returns:
      A row of a table in Markdown.
    """
    batch, classes = map(int, size.split("x"))
    logits = jax.ShapeDtypeStruct((batch, classes), dtype)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)

    def mean_loss(*arguments: jax.Array) -> jax.Array:
        return jnp.mean(focusing_picking_loss(*arguments))

    step = jax.value_and_grad(mean_loss)
    found = read_alone(topology, step, logits, logits, labels)
    least = 3 * batch * classes * logits.dtype.itemsize
    cycles = "" if found.cycles is None else f"{found.cycles:,}"
    moved = f"{found.traffic / least:.2f}"
    return f"| {size} | {dtype} | {moved} | {found.launches} | {cycles} |"


def read_rows() -> list[dict[str, Any]]:
    """Reads the rows that are there."""
    return json.loads(FILE.read_text()) if FILE.exists() else []


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes the tables of docs/compiled.md.

    Args:
      rows: Rows of `measure`.

    Returns:
      Markdown: for every topology a table, a clone's step beside a plain one.
    """
    parts = []
    for topology in dict.fromkeys(row["topology"] for row in rows):
        of_it = [row for row in rows if row["topology"] == topology]
        parts.append("\n".join(_table(topology, of_it)))
    return "\n\n".join(parts)


def _table(topology: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    on_tpu = any(row["seconds_by"]["cycles"] is not None for row in rows)
    figure = "ms by cycles" if on_tpu else "GB moved"
    yield f"**{topology}**, {rows[0]['compiler']}"
    yield ""
    yield (
        f"| network, images a device | {figure}: plain | clone | cached | "
        "clone / plain | cached / plain | launches: plain | clone | GiB: plain | "
        "clone | collectives |"
    )
    yield "|---|" + "---|" * 10
    groups: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        key = row["network"], row["batch_of_device"], row["dtype"], row["options"]
        groups.setdefault(key, {})[row["step"]] = row
    for steps in groups.values():
        values = {name: _figure(row, on_tpu) for name, row in steps.items()}
        plain = values.get("baseline")
        cells = [
            *(_number(values.get(name)) for name in STEPS),
            _ratio(values.get("clone"), plain),
            _ratio(values.get("cached"), plain),
            *(_whole(steps.get(name), "launches") for name in STEPS[:2]),
            *(_gib(steps.get(name)) for name in STEPS[:2]),
            _sent(steps.get("baseline")),
        ]
        title = _title(next(iter(steps.values())))
        yield f"| {title} | " + " | ".join(cells) + " |"
    # Of each network once: other batches and options change little.
    told: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["step"] == "baseline" and row.get("parts"):
            told.setdefault(row["network"], row)
    if told:
        yield ""
        yield "| network, images a device | most of a plain step's " + (
            "cycles |" if on_tpu else "traffic |"
        )
        yield "|---|---|"
    for row in told.values():
        yield f"| {_title(row)} | {list_parts(row['parts'], 6)} |"


def _title(row: Mapping[str, Any]) -> str:
    options = f", {row['options']}" if row["options"] else ""
    return f"{row['network']}, {row['batch_of_device']}, {row['dtype']}{options}"


def _figure(row: Mapping[str, Any], on_tpu: bool) -> float | None:
    if on_tpu:
        cycles = row["seconds_by"]["cycles"]
        return None if cycles is None else 1e3 * cycles
    return None if row["traffic"] is None else row["traffic"] / 1e9


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _ratio(value: float | None, plain: float | None) -> str:
    return "" if value is None or not plain else f"{value / plain:.2f}"


def _whole(row: Mapping[str, Any] | None, key: str) -> str:
    return "" if row is None or row[key] is None else f"{row[key]:,}"


def _gib(row: Mapping[str, Any] | None) -> str:
    return "" if row is None or row["peak"] is None else f"{row['peak'] / 2**30:.2f}"


def _sent(row: Mapping[str, Any] | None) -> str:
    """Those of a plain step; a clone's are the same."""
    if row is None or not row["collectives"]:
        return ""
    count = sum(one["number"] for one in row["collectives"])
    size = sum(one["bytes"] for one in row["collectives"])
    return f"{count}, {size / 1e6:.1f} MB"


def main() -> None:
    """Compiles what is missing, or prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--losses", nargs="+", help="images x classes: the loss alone")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--topologies", nargs="+", default=["h100:1"])
    parser.add_argument("--steps", nargs="+", default=list(STEPS))
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--options", default="", help='"partition.fsdp=True ..."')
    parser.add_argument("--again", action="store_true", help="replace what is there")
    asked = parser.parse_args()
    if asked.table:
        print(tables(read_rows()))
        return
    unknown = set(asked.networks) - NETWORKS.keys()
    if unknown:
        parser.error(f"{', '.join(unknown)}: not among {', '.join(NETWORKS)}")
    processes.stay_alone()
    if asked.losses:
        print("| logits | dtype | bytes, of the least | launches | cycles |")
        print("|---|---|---|---|---|", flush=True)
        for topology, size, dtype in itertools.product(
            asked.topologies, asked.losses, asked.dtypes
        ):
            print(measure_loss(size, topology, dtype), flush=True)
        return
    wanted = [
        (network, topology, step, batch, dtype, asked.options)
        for topology in asked.topologies
        for network in asked.networks
        for dtype in asked.dtypes
        for batch in asked.batch
        for step in asked.steps
    ]
    for key in wanted:
        there = {tuple(row[name] for name in _KEY): row for row in read_rows()}
        if key in there and not asked.again:
            continue
        row = measure(*key)
        print(*key, f"{row['compile_seconds']:.0f} s", flush=True)
        # Another process may have added a row of its own meanwhile.
        there = {tuple(one[name] for name in _KEY): one for one in read_rows()}
        rows = list({**there, key: row}.values())
        write_atomically(FILE, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    with errors_said():
        main()
