"""The one precision that everything in this package computes in."""

import jax

from clonalnet_jax.errors import UserError


def refuse_x64() -> None:
    """Refuses to compute where JAX's numbers have 64 bits by default.

    Parameters, randomness and checkpoints are of 32 bits. With 64, the same seed and
    config train another network, and a resumed run ends elsewhere without a word.

    Raises:
      UserError: `jax_enable_x64` is set.
    """
    if jax.config.values["jax_enable_x64"]:
        raise UserError(
            "JAX_ENABLE_X64",
            got="64-bit numbers are on",
            expected="JAX's default of 32 bits, which every figure here is computed in",
            remedy="unset JAX_ENABLE_X64, or call jax.config.update"
            "('jax_enable_x64', False)",
        )
