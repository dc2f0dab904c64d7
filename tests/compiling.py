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


def conditions(text):
    """The results of the conditions in StableHLO.

    What depends on the platform alone is none: it is a condition of one branch, of a
    number that another condition has for each platform.
    """
    condition = re.compile(
        r"^(?=( *)%\S+ = \"stablehlo\.(?:case|if)\"\((.*?)^\1\}\) : \(.*?\) -> (.*?)$)",
        re.M | re.S,
    )
    return [
        found[3]
        for found in condition.finditer(text)
        if f"\n{found[1]}}}, {{" in found[2] and found[3] != "tensor<i32>"
    ]
