"""Programs that tests run once or twice, compiled soon, and what their text has."""

import re
from functools import partial

import jax

jit_quickly = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
"""`jax.jit` for a large network: half the time of compiling it as it is trained, and a
fifth of running it without, which compiles each of its operations for each shape.
"""


def images_in_conditions(text):
    """The results of conditions in StableHLO that are images: `_kept` makes them.

    What depends on the platform alone is a condition of one branch, which XLA drops.
    """
    results = re.findall(r"\}\) : \(tensor<i(?:1|32)>\) -> (.*)", text)
    return [result for result in results if re.search(r"tensor<(\d+x){4}", result)]
