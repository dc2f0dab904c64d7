"""The words of a plan: what `running.plan` found, for somebody who will pay for it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from clonalnet_jax.errors import displayable
from clonalnet_jax.planning.targets import GIB

_NAMES = {
    "baseline": "alone",
    "clone": "beside baseline",
    "cached": "cached answers",
    "evaluation": "evaluation",
}
_WIDTH = 110
# Elements of the innermost dimension of a TPU's tile, and the share of traffic from
# which padding is worth a line.
_LANES = 128
_MUCH_PADDING = 0.1
# How many parts of a step are named.
_MOST_PARTS = 4


def describe(plan: Mapping[str, Any]) -> str:
    """Writes a plan in words.

    Args:
      plan: The result of `running.plan`.

    Returns:
      Lines of text.
    """
    return "\n".join([*_head(plan), "", _table(plan), "", *_follows(plan)])


def list_parts(parts: Sequence[Mapping[str, Any]], most: int) -> str:
    """Lists the parts of a program that take most of it.

    Args:
      parts: The `parts` of one of the plan's programs.
      most: The number of parts that are listed, at most.

    Returns:
      Their shares in percent and their names, on one line.
    """
    return "; ".join(
        f"{100 * one['share']:.0f} % {displayable(one['part'])}" for one in parts[:most]
    )


def _head(plan: Mapping[str, Any]) -> Iterator[str]:
    where, config = plan["topology"], plan["config"]
    height, width, channels = config["image_shape"]
    yield (
        f"{where['name']}: {where['devices']} x {where['device']} on "
        f"{_count(where['hosts'], 'host')}; batch {config['batch_size']:,}, "
        f"{config['batch_of_device']:,} a device; {config['compute_dtype']}; images "
        f"{height}x{width}x{channels}, {config['classes']:,} classes"
    )
    if plan["compiler"] is None:
        yield "Counted, not compiled: all times are bounds that no run reaches."
    else:
        times = "every time is an estimate"
        if _is_bound(plan):
            times = "every time is a bound that a run comes near at most"
        yield (
            f"Compiled here for devices that are not here ({plan['compiler']}): "
            f"nothing was run, {times}."
        )
    for name, network in plan["networks"].items():
        yield (
            f"{name}: {displayable(network['model'])}, {network['parameters']:,} "
            f"parameters; its state in training takes "
            f"{_gib(network['state_bytes'])} of a device"
        )


def _table(plan: Mapping[str, Any]) -> str:
    found = plan["programs"]
    compiled = plan["compiler"] is not None
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("a step, of one device")
    for name in found:
        table.add_column(_NAMES[name], justify="right", overflow="fold")
    rows: dict[str, list[str]] = {
        "at best" if _is_bound(plan) else "estimate": [
            _ms(one["seconds"]) for one in found.values()
        ],
        "images/s, all devices": [_rate(one) for one in found.values()],
        "operations": [f"{one['operations'] / 1e9:,.1f} G" for one in found.values()],
        "  at peak": [_ms(one["seconds_by"]["operations"]) for one in found.values()],
    }
    if compiled:
        rows |= {
            "memory traffic": [_giga(one.get("traffic")) for one in found.values()],
            "  and padding": [_padding(one) for one in found.values()],
            "  at full bandwidth": [
                _ms(one["seconds_by"]["traffic"]) for one in found.values()
            ],
            "by cycles": [_ms(one["seconds_by"]["cycles"]) for one in found.values()],
            "collectives": [_collectives(one) for one in found.values()],
            "  their results": [_sent(one) for one in found.values()],
            "  on the links alone": [
                _ms(one["seconds_by"]["collectives"]) for one in found.values()
            ],
            "instructions launched": [
                f"{one['launches']:,}" if "launches" in one else "-"
                for one in found.values()
            ],
            "memory": [
                "too much" if one["memory"] is None else _gib(one["memory"]["peak"])
                for one in found.values()
            ],
            "compiled here in": [
                f"{one['compile_seconds']:.0f} s" for one in found.values()
            ],
        }
    for title, cells in rows.items():
        if set(cells) != {"-"}:
            table.add_row(title, *cells)
    stream = io.StringIO()
    Console(file=stream, width=_WIDTH, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def _follows(plan: Mapping[str, Any]) -> Iterator[str]:
    yield from _fit(plan)
    by_ground: dict[str, list[str]] = {}
    for name, one in plan["programs"].items():
        by_ground.setdefault(one["rests_on"], []).append(_NAMES[name])
    for ground, names in by_ground.items():
        yield f"Estimated ({', '.join(names)}) by {ground}."
    yield from _most(plan)
    yield from _advice(plan)
    needs = plan["input"]
    if needs is None:
        yield "Input: the images lie on the device; the hosts decode none in training."
    else:
        enough = "enough" if needs["cores"] <= needs["cores_there"] else "TOO FEW"
        yield (
            f"Input: {needs['images_per_second']:,.0f} images/s of each host, which "
            f"takes {needs['cores']:.0f} cores at the rate of docs/data.md; there are "
            f"{needs['cores_there']:.0f}, {enough}."
        )
    run = plan["run"]
    if run is not None:
        at_best = "at best " if _is_bound(plan) else ""
        yield (
            f"Whole training: {_count(run['runs'], 'run')} of {run['steps']:,} steps, "
            f"{at_best}{run['hours']:,.1f} hours or {run['device_hours']:,.1f} "
            "device-hours, without evaluations, checkpoints and the time to compile."
        )
        if run["input_hours"] is not None and run["input_hours"] > run["hours"]:
            yield (
                "All cores of the hosts together feed that in "
                f"{run['input_hours']:,.1f} hours: the input decides. Prepare the "
                "files (--shorter-side, docs/data.md) or take fewer devices."
            )


def _most(plan: Mapping[str, Any]) -> Iterator[str]:
    """Says which layers of a clone's step, or of the first one, to look at first."""
    known = {name: one for name, one in plan["programs"].items() if one.get("parts")}
    if not known:
        return
    name = "clone" if "clone" in known else next(iter(known))
    unit = "traffic" if known[name]["seconds_by"]["cycles"] is None else "cycles"
    listed = list_parts(known[name]["parts"], _MOST_PARTS)
    yield f"Most {unit} ({_NAMES[name]}): {listed}."


def _advice(plan: Mapping[str, Any]) -> Iterator[str]:
    """Says what fills a TPU's memory with nothing, where it is worth a thought."""
    trained = {k: v for k, v in plan["programs"].items() if k != "evaluation"}
    shares = {k: _padded(v) / max(1, v.get("traffic", 0)) for k, v in trained.items()}
    name = max(shares, key=lambda k: shares[k], default=None)
    if name is None or shares[name] < _MUCH_PADDING:
        return
    worst = trained[name]["padding"][0]
    images, here = plan["config"]["images_at_once"], worst["elements"]
    yield (
        f"Padding ({_NAMES[name]}): memory moves in whole tiles, {_LANES} elements "
        f"wide. What fills them adds {100 * shares[name]:.0f} % to the traffic, "
        f"{100 * worst['bytes'] / _padded(trained[name]):.0f} % of that where a "
        f"dimension has {here}."
    )
    if here == images:
        fuller = -(-images // _LANES) * _LANES
        batch = fuller * plan["config"]["batch_size"] // images
        yield (
            f"A device takes that many images at once: {fuller} would fill a tile "
            f"(--config.batch_size={batch})."
        )


def _fit(plan: Mapping[str, Any]) -> Iterator[str]:
    memory, usable = plan["memory"], plan["topology"]["usable_memory"]
    if memory["fits"] is None:
        state = max(network["state_bytes"] for network in plan["networks"].values())
        yield (
            "Does it fit? Not known without the compiler. The state takes "
            f"{_gib(state)}, where it is not split, of {_gib(usable)} that a program "
            "can have."
        )
        return
    if memory["needed"] is None:
        yield f"It does NOT fit: the compiler gave up on {_gib(usable)}."
    else:
        verdict = "It fits" if memory["fits"] else "It does NOT fit"
        yield (
            f"{verdict}: {_gib(memory['needed'])} of {_gib(usable)} that a program can "
            f"have, {_gib(memory['beside'])} of it for images that lie or wait there."
        )
    largest = plan["largest_batch"]
    if largest is None:
        return
    if largest["batch_size"] is None:
        yield (
            f"No batch fits, not even {largest['too_large']:,}: split the state with "
            "--config.partition.fsdp=True or take --config.accumulate_steps."
        )
        return
    until = "as many as there are images"
    if largest["too_large"] is not None:
        until = f"{largest['too_large']:,} does not fit"
    yield (
        f"Largest batch found to fit: {largest['batch_size']:,} "
        f"({_gib(largest['needed'])}); {until}."
    )


def _is_bound(plan: Mapping[str, Any]) -> bool:
    """Whether the times rest on peaks, and not on a compiler's estimate."""
    return any(one["seconds_by"]["cycles"] is None for one in plan["programs"].values())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"


def _giga(size: float | None) -> str:
    return "-" if size is None else f"{size / 1e9:,.2f} GB"


def _padded(one: Mapping[str, Any]) -> int:
    return sum(each["bytes"] for each in one.get("padding", ()))


def _padding(one: Mapping[str, Any]) -> str:
    return _giga(_padded(one)) if one.get("padding") else "-"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:,.2f} ms"


def _rate(one: Mapping[str, Any]) -> str:
    three_digits = f"{one['images_per_second']:.3g}"
    return f"{float(three_digits):,.0f}"


def _collectives(one: Mapping[str, Any]) -> str:
    if "collectives" not in one:
        return "-"
    return f"{sum(each['number'] for each in one['collectives']):,}"


def _sent(one: Mapping[str, Any]) -> str:
    if not one.get("collectives"):
        return "-"
    return f"{sum(each['bytes'] for each in one['collectives']) / 1e6:,.1f} MB"
