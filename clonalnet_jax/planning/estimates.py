"""From what a program does to how long it may take, and whether it fits."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from clonalnet_jax.planning.hlo import Collective, Contents
from clonalnet_jax.planning.targets import Topology

# The part of a GPU's memory that JAX takes, unless XLA_CLIENT_MEM_FRACTION says more.
GPU_FRACTION = 0.75
# Images per second and core from files to batches of a training at 224 pixels, measured
# by benchmarks/input_pipeline.py; docs/data.md has the machine.
DECODED_PER_CORE = 953 / 2
# How close the search for the largest batch comes, relative to it.
_CLOSE = 1 / 16
_MOST_TRIES = 8
# How much larger the next batch may be than the largest that is known to fit: small
# programs say little of how memory grows.
_MOST_GROWTH = 8


class Seconds(NamedTuple):
    """How long a step may take.

    Attributes:
      operations: Seconds of its operations at the device's peak.
      traffic: Seconds of its bytes, with the padding of tiles, at the memory's
        bandwidth; None if not compiled.
      collectives: Seconds of what it sends, nothing overlapping; None if not compiled.
      cycles: Seconds by the compiler's own cycles; None where it gives none.
    """

    operations: float
    traffic: float | None = None
    collectives: float | None = None
    cycles: float | None = None

    @property
    def step(self) -> float:
        """The estimate: the cycles, or else the binding term and what is sent."""
        if self.cycles is not None:
            return self.cycles
        return max(self.operations, self.traffic or 0.0) + (self.collectives or 0.0)

    @property
    def rests_on(self) -> str:
        """What the estimate rests on, in words."""
        if self.cycles is not None:
            return "the compiler's cycles at an assumed clock"
        if self.traffic is None:
            return "operations at peak, which no run reaches"
        binding = "operations at peak"
        if self.traffic > self.operations:
            binding = "memory traffic at full bandwidth"
        return f"{binding}; sending on top" if self.collectives else binding


def time_step(
    topology: Topology,
    *,
    operations: float,
    dtype: str,
    contents: Contents | None = None,
) -> Seconds:
    """Estimates the time of a step.

    Args:
      topology: The devices.
      operations: Floating-point operations of a step on one device.
      dtype: The type that the networks compute in.
      contents: The contents of a step of the compiled program; None without one.

    Returns:
      The seconds.
    """
    target = topology.target
    peak = target.flops if dtype == "bfloat16" else target.flops_float32
    if contents is None:
        return Seconds(operations / peak)
    cycles = contents.cycles
    traffic = contents.traffic + sum(contents.padding.values())
    return Seconds(
        operations=operations / peak,
        traffic=traffic / target.bandwidth,
        collectives=sum(_sending(one, topology) for one in contents.collectives),
        cycles=None if cycles is None else cycles / target.clock,
    )


def _sending(one: Collective, topology: Topology) -> float:
    """Seconds of collectives in a ring over all devices."""
    target, count = topology.target, topology.devices
    speed = target.links
    if topology.hosts > 1 and target.network is not None:
        speed = min(speed, target.network)
    turns = {"all-reduce": 2.0, "reduce-scatter": float(count)}.get(one.kind, 1.0)
    return turns * (count - 1) / count * one.bytes / speed


def usable_memory(topology: Topology) -> int:
    """Bytes of a device that a program can have as JAX comes."""
    target = topology.target
    return int(target.memory * (GPU_FRACTION if target.chip else 1.0))


def input_needs(topology: Topology, images_per_second: float) -> dict[str, float]:
    """What the input must deliver, of each host.

    Args:
      topology: The devices.
      images_per_second: The rate of the whole run.

    Returns:
      `images_per_second` and `cores` that this takes, `cores_there`.
    """
    of_host = images_per_second / topology.hosts
    share = min(1.0, topology.devices / topology.target.devices_per_host)
    return {
        "images_per_second": of_host,
        "cores": of_host / DECODED_PER_CORE,
        "cores_there": share * topology.target.vcpus / 2,
    }


class Largest(NamedTuple):
    """The largest batch that was found to fit.

    Attributes:
      batch_size: The global batch; None where not even the smallest fits.
      needed: The bytes of a device that it needs.
      too_large: The smallest batch that was found not to fit; None if all did.
    """

    batch_size: int | None
    needed: int | None
    too_large: int | None


def find_largest(
    need: Callable[[int], int | None],
    *,
    start: int,
    multiple: int,
    usable: int,
    most: int,
) -> Largest:
    """Finds the largest batch that fits, by compiling it.

    Memory grows almost in a line with the batch, so that each try is where the line
    through the last two meets the limit. Where the compiler gives up without a figure,
    it is between what fits and what does not.

    Args:
      need: Function `batch -> bytes`; None where the compiler gave up.
      start: The first batch, a multiple of `multiple`.
      multiple: Number that every batch is a multiple of.
      usable: The bytes that there are.
      most: The largest batch that makes sense.

    Returns:
      What was found.
    """
    known: dict[int, int | None] = {}
    fits, too_large = 0, 0
    batch = start
    for _ in range(_MOST_TRIES):
        needed = known[batch] = need(batch)
        if needed is not None and needed <= usable:
            fits = max(fits, batch)
        else:
            too_large = min(too_large or batch, batch)
        if fits == most or (
            too_large and too_large - fits <= max(multiple, fits * _CLOSE)
        ):
            break
        batch = _next(known, fits, too_large, multiple, usable)
        batch = min(batch, most // multiple * multiple)
        if batch in known or batch < multiple:
            break
    return Largest(fits or None, known.get(fits), too_large or None)


def _next(
    known: dict[int, int | None], fits: int, too_large: int, multiple: int, usable: int
) -> int:
    points = sorted((b, n) for b, n in known.items() if n is not None)
    wanted = 2.0 * fits if fits else too_large / 2
    if too_large and known[too_large] is None and fits:
        wanted = math.sqrt(fits * too_large)
    elif len(points) > 1:
        (b0, n0), (b1, n1) = points[-2:]
        slope = (n1 - n0) / (b1 - b0)
        wanted = b1 + (usable - n1) / slope if slope > 0 else wanted
    if fits:
        wanted = min(wanted, _MOST_GROWTH * fits)
    batch = math.floor(wanted / multiple) * multiple
    if too_large:  # Between what is known to fit and what is known not to.
        batch = min(batch, too_large - multiple)
    return max(batch, fits + multiple)


def run_hours(
    *,
    steps: int,
    step_seconds: dict[str, float],
    programs: list[str],
    devices: int,
    input_seconds: float | None,
) -> dict[str, Any]:
    """Adds up the training of all runs of a config.

    Args:
      steps: Steps of every run.
      step_seconds: Seconds of a step by program.
      programs: The program of each run.
      devices: Number of devices.
      input_seconds: Seconds in which all cores of the hosts make a batch; None where
        the images lie on the device.

    Returns:
      `steps` of a run, `runs`, `hours`, `device_hours`, and `input_hours`: the least
      that the input takes.
    """
    hours = steps * sum(step_seconds[name] for name in programs) / 3600
    return {
        "steps": steps,
        "runs": len(programs),
        "hours": hours,
        "device_hours": hours * devices,
        "input_hours": input_seconds and steps * len(programs) * input_seconds / 3600,
    }
