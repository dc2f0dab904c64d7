"""What several benchmarks measure with."""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app

from clonalnet_jax.errors import UserError, displayable_lines
from clonalnet_jax.runtime.quiet import quieten


def run_benchmark(main: Callable[[list[str]], None]) -> None:
    """Reads the flags and runs a benchmark, as the end of its file.

    Args:
      main: The benchmark, of the arguments that are no flags.
    """
    quieten()
    with errors_said():
        app.run(main)


@contextlib.contextmanager
def errors_said() -> Iterator[None]:
    """Ends the process with one message where the user can mend what went wrong."""
    try:
        yield
    except UserError as error:
        print(f"ERROR: {displayable_lines(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)


def use_host_devices(count: int) -> None:
    """Takes so many devices of the CPU, not the machine's own; before any array."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def with_compiled_in(directory: Path) -> dict[str, str]:
    """The environment of a process that keeps its compiled programs in a directory.

    Args:
      directory: which several processes may share.

    Returns:
      This process's environment with what `main.py` sets for a cache of its own.
    """
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(directory),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }


def take_turns(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float
) -> dict[str, float]:
    """Times calls one after the other, so that a slow moment of the machine hits all.

    Args:
      calls: each returns when its work is done; compiled already.
      seconds: to spend on each of them, at least; each is called three times or more.

    Returns:
      The median seconds of each call.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or min(map(len, times.values())) < 3:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def footprint(program: jax.stages.Compiled) -> dict[str, Any]:
    """What a program costs by XLA's own count.

    Args:
      program: compiled.

    Returns:
      `flops`; `bytes` that its operations read and write; `peak_bytes`, of arguments,
      results and temporaries together. The first two are None where XLA does not count
      them.
    """
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "flops": cost.get("flops"),
        "bytes": cost.get("bytes accessed"),
        "peak_bytes": memory.argument_size_in_bytes + kept + memory.temp_size_in_bytes,
    }


def speeds(dtype: str) -> dict[str, float]:
    """What the device reaches at best, measured.

    Args:
      dtype: of the matrix product.

    Returns:
      `flops_per_second` of a matrix product, `bytes_per_second` of a copy.
    """
    on_cpu = jax.devices()[0].platform == "cpu"
    # An accelerator works through the calls that wait; a single one would be measured
    # with the time that its start takes.
    size, count = (2048, 1) if on_cpu else (8192, 20)
    matrix = jnp.ones((size, size), dtype)
    vector = jnp.ones(2**26, jnp.float32)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1.0)
    calls = {
        "product": lambda: jax.block_until_ready(
            [product(matrix, matrix) for _ in range(count)]
        ),
        "copy": lambda: jax.block_until_ready([copy(vector) for _ in range(count)]),
    }
    for call in calls.values():
        call()
    seconds = take_turns(calls, seconds=0.5)
    return {
        "flops_per_second": count * 2.0 * size**3 / seconds["product"],
        "bytes_per_second": count * 2.0 * vector.nbytes / seconds["copy"],
    }
