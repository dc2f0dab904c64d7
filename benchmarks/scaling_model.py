"""Step time and communication of ResNet-50 on three machines, on paper.

    python benchmarks/scaling_model.py

Prints the table of docs/scaling.md. Nothing is trained: what a clone's step costs is
counted from our own network and loss, peaks are the vendors', and everything else is an
assumption that is named below.
"""

import dataclasses
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax.losses import focusing_picking_loss
from clonalnet_jax.models import create_model


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a vendor says of a machine, per device where nothing else is said."""

    name: str
    devices: int
    hosts: int
    batch: int  # our choice, of each device
    flops: float  # bfloat16, dense, per second
    memory: float  # bytes per second
    links: float  # bytes per second that a ring can send, one direction
    vcpus: int  # of a host


MACHINES = (
    # cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 819 GB/s, 1,600 Gbit/s over four
    # links, of which a ring in both directions takes two; 224 vCPUs with eight chips.
    Machine("v5e-8", 8, 1, 128, 197e12, 819e9, 2 * 1600e9 / 8 / 4, 224),
    # cloud.google.com/tpu/docs/v5p: 256 cores are 128 chips on 32 hosts; 459 TFLOP/s,
    # 2,765 GB/s, 4,800 Gbit/s over six links, of which a ring takes two; 208 vCPUs.
    # 64 images a chip are a batch of 8,192, which SGD bears with warm-up (Goyal et al.
    # 2017, arXiv 1706.02677).
    Machine("v5p-256", 128, 32, 64, 459e12, 2765e9, 2 * 4800e9 / 8 / 6, 208),
    # NVIDIA's H100 SXM data sheet: 1,979 TFLOP/s with sparsity, which is twice the
    # dense rate; 3.35 TB/s; NVLink 900 GB/s in both directions together. 208 vCPUs:
    # cloud.google.com/compute/docs/gpus, a3-highgpu-8g.
    Machine("8xH100", 8, 1, 128, 1979e12 / 2, 3.35e12, 900e9 / 2, 208),
)
SIZE, CLASSES = 224, 1000
# How often the output of a convolution crosses the device's memory in bfloat16:
# written, read for normalisation, written, read by the next one; twice as much
# backward; and written and read in the frozen baseline, whose batch norm is folded.
CROSSINGS = 4 + 8 + 2
# The part of the bound that is reached.
EFFICIENCY = 0.5
# Seconds that one all-reduce of a few kilobytes takes, whatever the link.
LATENCY = 10e-6
# Images per second and core from files to batches, of docs/data.md (training, two
# workers on two cores): as they are and prepared with --shorter-side=400.
ORIGINAL, PREPARED = 953 / 2, 1240 / 2


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step of a clone takes, whatever it runs on."""

    parameters: int
    batch_norms: int
    flops: float  # of an image
    memory: float  # bytes of an image


def count_work() -> Work:
    """Counts the work of a ResNet-50 clone with a ResNet-50 baseline.

    Returns:
      Parameters and batch norms of the clone; operations of forward and backward pass
      and of the baseline's forward pass, from XLA's cost analysis of the program before
      it is compiled; bytes from the sizes of what the convolutions put out.
    """
    model = create_model("resnet50", num_classes=CLASSES)
    batch = 8
    images = jax.ShapeDtypeStruct((batch, SIZE, SIZE, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)

    def init(images: jax.Array) -> dict:
        return model.init(jax.random.key(0), images, train=False)

    def loss(params: dict, stats: dict, baseline: dict, images: jax.Array, labels):
        logits, _ = model.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        taught = model.apply(baseline, images, train=False)
        return focusing_picking_loss(logits, taught, labels).mean()

    def outputs(variables: dict, images: jax.Array) -> dict:
        return model.apply(
            variables,
            images,
            train=False,
            capture_intermediates=lambda module, _: isinstance(module, nn.Conv),
            mutable=["intermediates"],
        )[1]

    variables = jax.eval_shape(init, images)
    step = jax.jit(jax.grad(loss)).lower(
        variables["params"], variables["batch_stats"], variables, images, labels
    )
    convolved = jax.tree.leaves(jax.eval_shape(outputs, variables, images))
    return Work(
        parameters=_size(variables["params"]),
        batch_norms=len(jax.tree.leaves(variables["batch_stats"])) // 2,
        flops=step.cost_analysis()["flops"] / batch,
        memory=CROSSINGS * 2 * _size(convolved) / batch,
    )


def _size(tree: object) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def estimate(work: Work, machine: Machine) -> dict[str, str]:
    """The column of a machine: quantity to text, in the order of the rows."""
    n, batch = machine.devices, machine.batch
    compute = batch * work.flops / machine.flops
    memory = batch * work.memory / machine.memory
    gradients = 4 * work.parameters
    sent = 2 * (n - 1) / n * gradients
    all_reduce = sent / machine.links
    # One forward and one backward for each, one after the other.
    statistics = 2 * work.batch_norms * LATENCY if n > 1 else 0.0
    device = max(compute, memory) / EFFICIENCY
    step = device + all_reduce + statistics
    images = n * batch / step
    fed = images / machine.hosts
    return {
        "devices, hosts": f"{n}, {machine.hosts}",
        "images a step, of each device": f"{n * batch:,}, {batch}",
        "arithmetic at peak": _ms(compute),
        "memory traffic at peak": _ms(memory),
        f"the longer one at {EFFICIENCY:.0%}": _ms(device),
        "gradients, float32": f"{gradients / 1e6:.0f} MB",
        "all-reduce, sent by each device": f"{sent / 1e6:.0f} MB",
        "all-reduce, time": _ms(all_reduce),
        "batch norm's all-reduces": f"{2 * work.batch_norms}, {_ms(statistics)}",
        "**step**": f"**{_ms(step)}**",
        "of it communication, if nothing overlaps": f"{1 - device / step:.0%}",
        "images/s": f"{_round(images):,}",
        "**images/s that a host must feed**": f"**{_round(fed):,}**",
        "cores for that, original files": f"{fed / ORIGINAL:.0f}",
        "cores for that, prepared files": f"{fed / PREPARED:.0f}",
        "vCPUs of a host (two are a core)": f"{machine.vcpus}",
    }


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def _round(value: float) -> int:
    return int(float(f"{value:.2g}"))


def table() -> str:
    """The table of docs/scaling.md, in Markdown."""
    work = count_work()
    columns = [estimate(work, machine) for machine in MACHINES]
    lines = [
        f"{work.parameters:,} parameters, {work.flops / 1e9:.1f} GFLOP and "
        f"{work.memory / 1e6:.0f} MB of memory traffic an image:",
        "",
        "| | " + " | ".join(machine.name for machine in MACHINES) + " |",
        "|---|" + "---|" * len(MACHINES),
    ]
    for row in columns[0]:
        lines.append(f"| {row} | " + " | ".join(c[row] for c in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
