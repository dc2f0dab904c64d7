"""Explains an error of a training step to the user."""

import traceback
from pathlib import Path

from ml_collections import ConfigDict

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import count_parameters
from clonalnet_jax.state import TrainState


def explain_step_error(
    error: Exception, config: ConfigDict, state: TrainState
) -> Exception:
    """Turns an error of a training step into one that tells the user what to do.

    Args:
      error: The exception that JAX raised.
      config: The whole config.
      state: State that the step was given, or its shapes.

    Returns:
      A `UserError`, or the same error where nothing better is known.
    """
    text = str(error)
    if isinstance(error, FloatingPointError):
        return UserError(
            "config.debug_nans",
            got=text.splitlines()[0],
            expected="finite values",
            remedy="lower --config.optimizer.learning_rate or look at the images; "
            f"it came from {_own_line(error)}",
        )
    if "RESOURCE_EXHAUSTED" not in text and "Out of memory" not in text:
        return error
    return UserError(
        "the device has too little memory for a training step",
        got=f"config.batch_size {config.batch_size} and "
        f"{count_parameters(state.params):,} parameters, computed in "
        f"{config.compute_dtype}: {text.splitlines()[0]}",
        expected="that state, activations and gradients fit",
        remedy="double --config.accumulate_steps, set --config.compute_dtype=bfloat16 "
        "or --config.partition.fsdp=True, or lower --config.batch_size; the same "
        "command with another --workdir starts anew",
    )


def _own_line(error: Exception) -> str:
    """Finds the innermost line of this package that an error went through."""
    package = Path(__file__).parent.parent
    loop = str(Path(__file__).with_name("loop.py"))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if package in Path(frame.filename).parents]
    own = [frame for frame in own if frame.filename != loop] or own
    return f"{own[-1].filename}, line {own[-1].lineno}: {own[-1].line}"
