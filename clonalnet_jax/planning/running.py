"""Plans a config for a topology: counts, compiles, and says what follows from it."""

import functools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from clonalnet_jax import data
from clonalnet_jax.data.sources import Arrays
from clonalnet_jax.errors import UserError
from clonalnet_jax.models import count_parameters
from clonalnet_jax.planning import estimates, programs
from clonalnet_jax.planning.hlo import Contents, read_program
from clonalnet_jax.planning.targets import (
    Topology,
    find_devices,
    has_compiler,
    parse_topology,
)
from clonalnet_jax.planning.words import describe
from clonalnet_jax.runtime import partition
from clonalnet_jax.runtime.apart import CrashedError, call_apart
from clonalnet_jax.runtime.processes import stay_alone
from clonalnet_jax.runtime.quiet import quieten
from clonalnet_jax.training.baseline import is_given
from clonalnet_jax.training.checks import check_config
from clonalnet_jax.training.experiment import Experiment
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.workdir.files import write_atomically
from clonalnet_jax.workdir.journal import Journal

# Of the random images that stand in for those that are not there.
_FEW = 2
# The kernels of a GPU that is not there cannot be timed against each other.
_UNTIMED: dict[str, str | bool] = {
    "xla_gpu_autotune_level": "0",
    "xla_gpu_enable_triton_gemm": False,  # which cannot do without it
}


def run_plan_apart(
    config: ConfigDict, workdir: Path, *, topology: str | None, **asked: Any
) -> int:
    """Plans a config where a compiler that crashes ends nothing but itself.

    Args:
      config: The whole config.
      workdir: The directory of `run_plan`.
      topology: Name of the devices.
      **asked: The other arguments of `run_plan`.

    Returns:
      The exit code.

    Raises:
      UserError: The same as of `run_plan`, or the compiler crashed.
    """
    if not has_compiler(parse_topology(topology)):
        return run_plan(config, workdir, topology=topology, **asked)
    run = functools.partial(run_plan, config, workdir, topology=topology, **asked)
    try:
        return int(call_apart(_compiling, run))
    except CrashedError as error:
        raise UserError(
            f"the compiler for --topology={topology}",
            got=f"it crashed: {error}",
            expected="a program",
            remedy="plan with another --config.batch_size or --topology, without the "
            "program that was compiled last (--config.plan.programs), or with another "
            "version of the compiler",
        ) from error


def _compiling(run: Callable[[], int]) -> int:
    quieten()
    stay_alone()
    # What is compiled for devices that are not here cannot be read back.
    jax.config.update("jax_enable_compilation_cache", False)
    return run()


def run_plan(
    config: ConfigDict,
    workdir: Path,
    *,
    topology: str | None,
    format: str = "text",
    output: Path | None = None,
) -> int:
    """Plans a config, and prints and writes the plan.

    Args:
      config: The whole config.
      workdir: The plan is written below it, where no `output` is given.
      topology: Name of the devices; see `targets.parse_topology`.
      format: `text`, or `json` for standard output.
      output: File of the plan as JSON.

    Returns:
      The exit code.

    Raises:
      UserError: The config, the topology or the data set is impossible, or the
        compiler refused a program for another reason than memory.
    """
    if format not in ("text", "json"):
        raise UserError(
            "--format",
            got=format,
            expected="text or json",
            remedy="leave it out for text; the JSON is written to a file in any case",
        )
    where = parse_topology(topology)
    result = plan(config, where, say=lambda line: print(line, file=sys.stderr))
    text = json.dumps(result, indent=2)
    name = re.sub("[^a-z0-9]+", "-", where.name.lower())
    path = output or workdir / "plan" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    if format == "json":
        print(text)
    else:
        print(describe(result))
        print(f"Also {path}")
    return 0


def plan(
    config: ConfigDict, topology: Topology, *, say: Callable[[str], None]
) -> dict[str, Any]:
    """Plans a config for a topology.

    Args:
      config: The whole config; `config.plan` says what is compiled.
      topology: The devices. Without the compiler for them everything is only counted.
      say: Called with a line before and after what takes long.

    Returns:
      The plan, as JSON can hold it; all bytes and seconds are those of one device and
      one step. `topology`, `config`, `compiler`; `networks` and `programs` by name;
      `memory`, `largest_batch`, `input` and `run`.

    Raises:
      UserError: See `run_plan`.
    """
    check_config(config)
    compiler = has_compiler(topology)
    devices = find_devices(topology) if compiler else jax.devices("cpu")[:1]
    # One CPU, on which things are only counted, has nothing to split classes over.
    mesh = partition.make_mesh(devices, model=config.partition.model if compiler else 1)
    _check_batch(config, topology)
    experiment, images = _open(config, mesh)
    if not compiler:
        say(
            f"No compiler for {topology.name} here, so that nothing but operations and "
            f'parameters is counted: pip install "clonalnet-jax[{topology.extra}]"'
        )
    found = {
        name: _look(experiment, topology, name, compiled=compiler, say=say)
        for name in config.plan.programs
    }
    result: dict[str, Any] = {
        "topology": _topology(topology, experiment if compiler else None),
        "config": _config(experiment, topology, images),
        "compiler": _compiler(topology) if compiler else None,
        "networks": _networks(experiment),
        "programs": found,
    }
    result["memory"] = _memory(experiment, topology, images, found)
    result["largest_batch"] = _largest(experiment, topology, images, result, say=say)
    result |= _whole_run(experiment, topology, images, found)
    return result


def _open(config: ConfigDict, mesh: Mesh) -> tuple[Experiment, int]:
    """The experiment on devices that need not be there; and its training images."""
    images = config.plan.train_images
    of_data = config.data
    if images is not None:
        of_data = config.data.copy_and_resolve_references().unlock()
        of_data.synthetic, of_data.synthetic_examples = True, _FEW
        of_data.holdout, of_data.on_device, of_data.test_on = 0.0, False, "test"
        of_data.examples_per_class = 0
    try:
        dataset = data.open_dataset(of_data, seed=config.seed)
    except UserError as error:
        raise UserError(
            error.culprit,
            got=error.got,
            expected=error.expected,
            remedy=f"{error.remedy}; or plan without the data, by "
            "config.data.synthetic_shape, .synthetic_classes and "
            "--config.plan.train_images=NUMBER",
        ) from error
    if images is None:
        images = len(dataset.train)
    elif config.data.holdout > 0:
        held = config.data.holdout
        images -= round(held * images) if held < 1 else int(held)
    return Experiment(config, Path(), dataset, mesh, Journal(Path())), images


def _check_batch(config: ConfigDict, topology: Topology) -> None:
    mesh = AbstractMesh((topology.devices,), ("data",))
    partition.check_batch_size(config.batch_size, mesh, parts=config.accumulate_steps)


def _look(
    experiment: Experiment,
    topology: Topology,
    name: str,
    *,
    compiled: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What one program does, needs and takes."""
    config = experiment.config
    # On a device's share of the batch, as one CPU would compute it. Devices that share
    # the classes compute a part of them for more images, which comes to the same.
    here = experiment._replace(
        mesh=partition.make_mesh(jax.devices("cpu")[:1]),
        config=_unsplit(config),
    )
    share = config.batch_size // topology.devices
    lowered = programs.make_program(here, name, share).lower("cpu")
    cost: Any = lowered.cost_analysis() or {}
    operations = cost.get("flops", 0.0)
    contents, needed, seconds = None, None, None
    if compiled:
        needed, seconds, contents = _compile(
            experiment, topology, name, config.batch_size, say
        )
    time_of = estimates.time_step(
        topology,
        operations=operations,
        dtype=config.compute_dtype,
        contents=contents,
    )
    found: dict[str, Any] = {
        "operations": operations,
        "seconds": time_of.step,
        "rests_on": time_of.rests_on,
        "seconds_by": time_of._asdict(),
        "images_per_second": config.batch_size / time_of.step,
        "memory": needed,
        "compile_seconds": seconds,
    }
    if contents is not None:
        found |= {
            "launches": contents.launches,
            "fusions": contents.fusions,
            "copies": contents.copies,
            "traffic": contents.traffic,
            "padding": [
                {"elements": elements, "bytes": size}
                for elements, size in contents.padding.items()
            ],
            "parts": _shares(contents.parts),
            "collectives": [one._asdict() for one in contents.collectives],
        }
    return found


def _shares(parts: Mapping[str, int]) -> list[dict[str, Any]]:
    """What each part takes of them all, without what takes next to nothing."""
    whole = sum(parts.values())
    return [
        {"part": part, "share": round(cost / whole, 3)}
        for part, cost in parts.items()
        if cost >= 0.01 * whole
    ]


def _unsplit(config: ConfigDict) -> ConfigDict:
    copy = config.copy_and_resolve_references().unlock()
    copy.partition.model, copy.partition.fsdp = 1, False
    return copy


def _compile(
    experiment: Experiment,
    topology: Topology,
    name: str,
    batch_size: int,
    say: Callable[[str], None],
) -> tuple[dict[str, int] | None, float, Contents | None]:
    """Memory, seconds of compiling, contents of a step; None: it does not fit."""
    say(f"Compiling {name} for {topology.name}, batch {batch_size:,} ...")
    start = time.perf_counter()
    shapes = programs.make_program(experiment, name, batch_size)
    lowered = shapes.lower(topology.target.platform)
    try:
        compiled = compile_for(topology, lowered)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "hbm" in str(error).lower():
            say(f"  {_took(start)}: it does not fit")
            return None, time.perf_counter() - start, None
        raise UserError(
            f"the program {name} for --topology={topology.name}",
            got=str(error).split("\n")[0],
            expected="a program that the compiler accepts",
            remedy="plan with another --config.batch_size or --config.compute_dtype; "
            "and tell us, with the config",
        ) from error
    memory: Any = compiled.memory_analysis()
    sizes = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
    }
    say(f"  {_took(start)}")
    return (
        {**sizes, "peak": sum(sizes.values())},
        time.perf_counter() - start,
        read_program(compiled).of_a_step(shapes.steps),
    )


def compile_for(topology: Topology, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles for devices that need not be there.

    Args:
      topology: The devices.
      lowered: The program, lowered for their platform; see `programs.Shapes.lower`.

    Returns:
      The program. It cannot be run here.

    Raises:
      JaxRuntimeError: The compiler refuses it, for want of memory, say.
    """
    return lowered.compile(compiler_options=_UNTIMED if topology.target.chip else None)


def _took(start: float) -> str:
    return f"{time.perf_counter() - start:.0f} s"


def _topology(topology: Topology, experiment: Experiment | None) -> dict[str, Any]:
    target, hosts = topology.target, topology.hosts
    if experiment is not None:
        devices = experiment.mesh.devices.flat
        hosts = len({device.process_index for device in devices})
    return {
        "name": topology.name,
        "device": target.title,
        "devices": topology.devices,
        "hosts": hosts,
        "memory": target.memory,
        "usable_memory": estimates.usable_memory(topology),
        "source": target.source,
    }


def _config(experiment: Experiment, topology: Topology, images: int) -> dict[str, Any]:
    config = experiment.config
    share = config.batch_size // topology.devices
    return {
        "batch_size": config.batch_size,
        "batch_of_device": share,
        "images_at_once": share // config.accumulate_steps,
        "compute_dtype": config.compute_dtype,
        "image_shape": list(experiment.dataset.image_shape),
        "classes": experiment.dataset.num_classes,
        "train_images": images,
        "data": "opened" if config.plan.train_images is None else "not opened",
    }


def _compiler(topology: Topology) -> str:
    names = ["jax", "jaxlib"]
    if not topology.target.chip:
        names.append("libtpu")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _networks(experiment: Experiment) -> dict[str, Any]:
    found = {}
    for name in ("baseline", "clone"):
        network = experiment.config[name]
        state = programs.place_state(experiment, network)
        found[name] = {
            "model": network.model,
            "parameters": count_parameters(state.params),
            "parameter_bytes": programs.bytes_of_device(state.params),
            "state_bytes": programs.bytes_of_device(state),
        }
    return found


def _beside(experiment: Experiment, images: int) -> int:
    """Bytes of a device that no program counts: images, and batches that wait."""
    train = experiment.dataset.train
    if isinstance(train, Arrays):
        dataset = experiment.dataset
        count = images + len(dataset.test) + len(dataset.holdout)
        return count * (int(np.prod(dataset.image_shape)) + 4)
    batch = programs.batch_shapes(experiment, experiment.config.batch_size)
    return partition.LEAD * programs.bytes_of_device(batch)


def _memory(
    experiment: Experiment,
    topology: Topology,
    images: int,
    found: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """What the most demanding program needs of a device, and whether it is there."""
    usable = estimates.usable_memory(topology)
    beside = _beside(experiment, images)
    peaks = {name: one["memory"] for name, one in found.items()}
    if any(one["compile_seconds"] is None for one in found.values()):
        return {"usable": usable, "beside": beside, "needed": None, "fits": None}
    if None in peaks.values():
        return {"usable": usable, "beside": beside, "needed": None, "fits": False}
    state = programs.bytes_of_device(
        programs.place_state(experiment, experiment.config.clone)
    )
    needed = beside + max(
        # While an evaluation runs, the state of the optimiser lies there, too.
        memory["peak"] + (state if name == "evaluation" else 0)
        for name, memory in peaks.items()
    )
    return {
        "usable": usable,
        "beside": beside,
        "needed": needed,
        "fits": needed <= usable,
    }


def _largest(
    experiment: Experiment,
    topology: Topology,
    images: int,
    result: dict[str, Any],
    *,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """The largest batch of the step with the baseline; None if it is not looked for."""
    config = experiment.config
    if result["compiler"] is None or not config.plan.find_batch:
        return None
    name = "clone" if "clone" in result["programs"] else next(iter(result["programs"]))
    beside = _beside(experiment, images)
    rows = experiment.mesh.size * config.accumulate_steps
    multiple = rows * (8 if config.batch_size % (8 * rows) == 0 else 1)
    before = result["programs"][name]["memory"]

    def need(batch_size: int) -> int | None:
        memory = before
        if batch_size != config.batch_size:
            memory, *_ = _compile(experiment, topology, name, batch_size, say)
        return None if memory is None else memory["peak"] + beside

    found = estimates.find_largest(
        need,
        start=config.batch_size,
        multiple=multiple,
        usable=estimates.usable_memory(topology),
        most=max(images // multiple * multiple, config.batch_size),
    )
    return {"program": name, **found._asdict()}


def _whole_run(
    experiment: Experiment,
    topology: Topology,
    images: int,
    found: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """What the input must deliver, and the hours of all runs."""
    config = experiment.config
    rates = [
        one["images_per_second"] for name, one in found.items() if name != "evaluation"
    ]
    on_device = isinstance(experiment.dataset.train, Arrays)
    needs = None
    if rates and not on_device:
        needs = estimates.input_needs(topology, max(rates))
    wanted = [
        *(() if is_given(config) else ("baseline",)),
        *programs_of_methods(config),
    ]
    run = None
    if set(wanted) <= found.keys():
        steps = config.steps
        if steps is None:
            steps = max(1, round(config.epochs * images / config.batch_size))
        run = estimates.run_hours(
            steps=steps,
            step_seconds={name: one["seconds"] for name, one in found.items()},
            programs=wanted,
            devices=topology.devices,
            input_seconds=None
            if needs is None
            else config.batch_size
            / (needs["cores_there"] * topology.hosts * estimates.DECODED_PER_CORE),
        )
    return {"input": needs, "run": run}


def programs_of_methods(config: ConfigDict) -> Iterator[str]:
    """The program that each of `config.methods` is trained with."""
    for name in config.methods:
        method = make_method(name, config)
        if not method.needs_baseline:
            yield "baseline"
        elif method.takes_answers and config.baseline.cache != "none":
            yield "cached"
        else:
            yield "clone"
