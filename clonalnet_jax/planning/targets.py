"""The accelerators that a run can be planned for, as their makers describe them."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import NamedTuple

import jax

from clonalnet_jax.errors import UserError, unknown_name

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What XLA must know of an NVIDIA GPU to compile for it.

    Attributes:
      description: The name that its driver gives it.
      capability: The compute capability, such as 9 for 9.0.
      cores: Number of multiprocessors.
      float_units: Number of float32 units of each.
      shared_memory: Bytes of shared memory of each.
      shared_memory_of_block: Bytes of it that a block can ask for.
      cache: Bytes of the L2 cache.
    """

    description: str
    capability: int
    cores: int
    float_units: int
    shared_memory: int
    shared_memory_of_block: int
    cache: int


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of accelerator; all figures are those of one of JAX's devices.

    Attributes:
      title: The name to show.
      memory: Bytes of device memory that a program can use.
      flops: bfloat16 operations per second at peak, dense.
      flops_float32: The same of float32 in JAX's default precision: TF32 on a GPU, one
        pass of bfloat16 on a TPU.
      bandwidth: Bytes per second of the device memory.
      links: Bytes per second that a ring of devices in one host or slice carries.
      network: Bytes per second between hosts, of each device; None where the links
        reach all devices.
      clock: Cycles per second.
      devices_per_chip: Number of JAX's devices on a chip.
      devices_per_host: Number of JAX's devices of a host.
      vcpus: Number of virtual CPUs of a host; two are a core.
      source: The origin of the figures.
      chip: The GPU; None for a TPU.
    """

    title: str
    memory: int
    flops: float
    flops_float32: float
    bandwidth: float
    links: float
    network: float | None
    clock: float
    devices_per_chip: int
    devices_per_host: int
    vcpus: int
    source: str
    chip: Chip | None = None

    @property
    def platform(self) -> str:
        """JAX's name of the platform: `gpu` or `tpu`."""
        return "gpu" if self.chip else "tpu"


def _tpu(
    title: str,
    page: str,
    *,
    memory: float,
    tflops: float,
    bandwidth: float,
    interconnect: float,
    ports: int,
    clock: float,
    vcpus: int,
    cores: int = 1,
) -> Target:
    """A TPU by the figures of a chip: GiB, TFLOP/s, GB/s, Gbit/s, GHz.

    A ring takes two of the ports. What the runtime keeps for itself, a quarter of a GiB
    on a v5e, is left out of the memory.
    """
    return Target(
        title=title,
        memory=int(memory * GIB / cores - GIB // 4),
        flops=tflops * 1e12 / cores,
        flops_float32=tflops * 1e12 / cores,
        bandwidth=bandwidth * 1e9 / cores,
        links=interconnect * 1e9 / 8 * 2 / ports / cores,
        network=None,
        clock=clock * 1e9,
        devices_per_chip=cores,
        devices_per_host=4 * cores,
        vcpus=vcpus,
        source=f"cloud.google.com/tpu/docs/{page}; the clock is assumed",
    )


def _gpu(
    title: str,
    sheet: str,
    chip: Chip,
    *,
    memory: int,
    tflops: float,
    tflops_float32: float,
    bandwidth: float,
    nvlink: float,
    network: float,
    clock: float,
    vcpus: int,
) -> Target:
    """A GPU, eight of which are in a host: bytes, TFLOP/s, GB/s, Gbit/s, GHz.

    NVLink's figure is of both directions together; the network's is of a host.
    """
    return Target(
        title=title,
        memory=memory,
        flops=tflops * 1e12,
        flops_float32=tflops_float32 * 1e12,
        bandwidth=bandwidth * 1e9,
        links=nvlink * 1e9 / 2,
        network=network * 1e9 / 8 / 8,
        clock=clock * 1e9,
        devices_per_chip=1,
        devices_per_host=8,
        vcpus=vcpus,
        source=f"NVIDIA's data sheet of the {sheet}; hosts of "
        "cloud.google.com/compute/docs/gpus; the chip as in XLA's target descriptions",
        chip=chip,
    )


# The clock of a TPU is the one at which its matrix units reach the peak: two operations
# for each of 128 x 128 cells, eight units in v4 and v5p and four in v5e.
TARGETS = {
    "v4": _tpu(
        "TPU v4 core", "v4", memory=32, tflops=275, bandwidth=1228, interconnect=2400,
        ports=6, clock=1.05, vcpus=240, cores=2,
    ),
    "v5e": _tpu(
        "TPU v5e", "v5e", memory=16, tflops=197, bandwidth=819, interconnect=1600,
        ports=4, clock=1.5, vcpus=112,
    ),
    "v5p": _tpu(
        "TPU v5p", "v5p", memory=95, tflops=459, bandwidth=2765, interconnect=4800,
        ports=6, clock=1.75, vcpus=208,
    ),
    "v6e": _tpu(
        "TPU v6e", "v6e", memory=32, tflops=918, bandwidth=1640, interconnect=3584,
        ports=4, clock=1.75, vcpus=180,
    ),
    "tpu7x": _tpu(
        "TPU7x core", "tpu7x", memory=192, tflops=2307, bandwidth=7380,
        interconnect=9600, ports=6, clock=1.9, vcpus=224, cores=2,
    ),
    "a100": _gpu(
        "A100 SXM 80 GB", "A100",
        Chip("NVIDIA A100-SXM4-80GB", 8, 108, 64, 167_936, 166_912, 41_943_040),
        memory=85_100_068_864, tflops=312, tflops_float32=156, bandwidth=2039,
        nvlink=600, network=200, clock=1.41, vcpus=96,
    ),
    "h100": _gpu(
        "H100 SXM 80 GB", "H100",
        Chip("NVIDIA H100 80GB HBM3", 9, 132, 128, 233_472, 232_448, 52_428_800),
        memory=84_942_979_072, tflops=989.4, tflops_float32=494.7, bandwidth=3350,
        nvlink=900, network=1600, clock=1.98, vcpus=208,
    ),
    "h200": _gpu(
        "H200 SXM 141 GB", "H200",
        Chip("NVIDIA H200 141GB HBM3e", 9, 132, 128, 233_472, 232_448, 52_428_800),
        memory=151_397_597_184, tflops=989.4, tflops_float32=494.7, bandwidth=4800,
        nvlink=900, network=3200, clock=1.98, vcpus=224,
    ),
    "b200": _gpu(
        "B200 SXM 180 GB", "B200 in an HGX B200",
        Chip("NVIDIA B200", 10, 148, 128, 233_472, 232_448, 132_644_864),
        memory=191_514_411_008, tflops=2250, tflops_float32=1125, bandwidth=7700,
        nvlink=1800, network=3200, clock=1.965, vcpus=224,
    ),
}  # fmt: skip
_EXPECTED = "a kind and its devices, such as v5e:4x4, v5p:2x2x1, v6e:2x4 or h100:8"


class Topology(NamedTuple):
    """Devices to plan for.

    Attributes:
      name: The name that was asked for, such as `v5e:4x4`.
      target: Their kind.
      grid: Chips along each axis; of GPUs, hosts and GPUs of a host.
    """

    name: str
    target: Target
    grid: tuple[int, ...]

    @property
    def devices(self) -> int:
        """Number of JAX's devices."""
        return math.prod(self.grid) * self.target.devices_per_chip

    @property
    def hosts(self) -> int:
        """Number of hosts, in slices of as few hosts as can be."""
        return -(-self.devices // self.target.devices_per_host)

    @property
    def extra(self) -> str:
        """The extra of this package that brings the compiler."""
        return "plan-cuda" if self.target.chip else "plan-tpu"


def parse_topology(name: str | None) -> Topology:
    """Reads the name of a topology.

    Args:
      name: The kind of `TARGETS` and a grid of chips, or a number of GPUs.

    Returns:
      The topology.

    Raises:
      UserError: There is no such kind, or the grid is none of that kind.
    """
    kind, _, size = (name or "").partition(":")
    if kind.lower() not in TARGETS:
        if name is None:
            raise _impossible("nothing")
        raise unknown_name("--topology", kind, TARGETS)
    target = TARGETS[kind.lower()]
    numbers = size.split("x")
    if not all(re.fullmatch("[1-9][0-9]{0,4}", number) for number in numbers):
        raise _impossible(str(name))
    grid = tuple(map(int, numbers))
    if target.chip:
        hosts, rest = divmod(math.prod(grid), target.devices_per_host)
        if len(grid) > 1 or (hosts and rest):
            raise _impossible(str(name))
        grid = (hosts, target.devices_per_host) if hosts else (1, rest)
    return Topology(str(name), target, grid)


def find_devices(topology: Topology) -> list[jax.Device]:
    """Describes devices that need not be there, so that one can compile for them.

    Args:
      topology: The devices.

    Returns:
      JAX's devices, those of a host next to each other. Nothing can run on them.

    Raises:
      UserError: The compiler is not installed, or knows no such topology.
    """
    from jax.experimental import topologies

    if not has_compiler(topology):
        raise UserError(
            f"--topology={topology.name}",
            got="no compiler for it here",
            expected=f"the extra [{topology.extra}]",
            remedy=f'pip install "clonalnet-jax[{topology.extra}]"',
        )
    if topology.target.chip:
        hosts, of_host = topology.grid
        arguments = {
            "platform": "cuda",
            "topology_name": "",
            "target_config": target_config(topology.target),
            "topology": f"1x{hosts}x{of_host}",
        }
    else:
        _be_no_worker()
        # A host has 2x2 chips. Of a smaller slice, it is the first ones.
        least = (2, 2, 1)[: len(topology.grid)]
        grid = map(max, topology.grid, least)
        kind = topology.name.partition(":")[0].lower()
        arguments = {
            "platform": "tpu",
            "topology_name": f"{kind}:{'x'.join(map(str, grid))}",
        }
    try:
        devices = topologies.get_topology_desc(**arguments).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--topology={topology.name}",
            got=str(error).split("\n")[0],
            expected=_EXPECTED,
            remedy="take a slice that the vendor sells; its documentation lists them: "
            f"{topology.target.source.partition(';')[0]}",
        ) from error
    return list(devices[: topology.devices])


def _impossible(got: str) -> UserError:
    return UserError(
        "--topology",
        got=got,
        expected=_EXPECTED,
        remedy="name chips along each axis of a TPU slice, or a number of GPUs: up to "
        "8, or hosts of 8",
    )


def has_compiler(topology: Topology) -> bool:
    """Says whether the compiler for these devices is installed."""
    plugins = ["jax_cuda12_plugin", "jax_cuda13_plugin"]
    names = plugins if topology.target.chip else ["libtpu"]
    return any(importlib.util.find_spec(name) for name in names)


def _be_no_worker() -> None:
    """Keeps libtpu from looking for a TPU, from taking it, and from saying so."""
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # what is described may be another
        "TPU_MIN_LOG_LEVEL": "3",
        "TPU_STDERR_LOG_LEVEL": "3",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(name, value)


def target_config(target: Target) -> str:
    """XLA's description of a GPU: the text of a `GpuTargetConfigProto`."""
    chip = target.chip
    assert chip is not None
    return f"""
gpu_device_info {{
  name: "{chip.description}"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability {{ major: {chip.capability} }}
  core_count: {chip.cores}
  fpus_per_core: {chip.float_units}
  clock_rate_ghz: {target.clock / 1e9}
  memory_bandwidth: {int(target.bandwidth)}
  device_memory_size: {target.memory}
  l2_cache_size: {chip.cache}
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {chip.shared_memory_of_block}
  shared_memory_per_core: {chip.shared_memory}
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  device_address_bits: 64
  driver_version: "13.0.0"
  runtime_version: "12.9.0"
  compile_time_toolkit_version: "12.9.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{chip.description}"
"""
