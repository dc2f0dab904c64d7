"""Programs that tests run once or twice: compiled soon, not well."""

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
