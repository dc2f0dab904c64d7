"""What a checkpoint says of itself, and whether that is what it is taken for."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_origin

from clonalnet_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a checkpoint says of itself.

    Attributes:
      model: Name for `create_model`.
      options: Options of the model.
      class_names: Names of the classes, in the order of the logits.
      image_shape: Shape `(height, width, channels)` of the images it was trained on.
      method: Name of the run, such as `clone`.
      step: Number of updates done.
      num_steps: Number of updates of the whole run.
      train_seconds: Wall time so far, compilation and evaluation included.
      timed_images: Number of images trained on while `timed_seconds` ran.
      timed_seconds: Time in steps alone; compilation is left out.
      experiment: Name of what the config of the run means, with its seed; see
        `meaning`. It is empty where an older version has saved.
      evaluated: Whether its metrics are known; not where a run was asked to stop.
    """

    model: str
    options: dict[str, Any]
    class_names: list[str]
    image_shape: list[int]
    method: str
    step: int = 0
    num_steps: int = 0
    train_seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0
    experiment: str = ""
    evaluated: bool = True


def parse_meta(folder: Path, content: Any) -> Meta:
    """Makes the meta of a checkpoint from its JSON.

    Args:
      folder: The folder of the step, for the message.
      content: The parsed JSON.

    Returns:
      The meta.

    Raises:
      UserError: The JSON is of another kind.
    """
    fields = {field.name: field for field in dataclasses.fields(Meta)}
    needed = {"model", "options", "class_names", "image_shape", "method"}
    got = None
    if not isinstance(content, dict):
        got = f"{type(content).__name__} {content!r}"
    elif wrong := sorted((content.keys() - fields.keys()) | (needed - content.keys())):
        got = f"these keys are missing or unknown: {', '.join(map(str, wrong))}"
    else:
        for name, value in content.items():
            kind = get_origin(fields[name].type) or fields[name].type
            if not isinstance(value, (int, float) if kind is float else kind):  # type: ignore[arg-type]
                got = f"{name} {value!r}"
    if got is not None:
        raise UserError(
            f"{folder / 'meta' / 'metadata'}",
            got=got[:200],
            expected="what this version writes of a network",
            remedy="restore that folder, or delete it to go back to the checkpoint "
            "before it",
        )
    return Meta(**content)


def check_run(
    folder: Path, meta: Meta, run: str, *, experiments: Collection[str] = ()
) -> None:
    """Refuses a checkpoint that was copied from the directory of another run.

    Args:
      folder: The folder of the step.
      meta: The checkpoint's record of itself.
      run: Name of the run in whose directory it lies.
      experiments: Experiments that its workdir was started with; none if unknown.

    Raises:
      UserError: The checkpoint is of another run, or of another workdir's.
    """
    remedy = (
        f"put the directory {run} of this workdir back, or delete it to train that run "
        "again"
    )
    if meta.method != run:
        raise UserError(
            f"checkpoint {folder} is of another run",
            got=f"a network that was trained as {meta.method!r}",
            expected=f"one that was trained as {run!r}, as its directory is named",
            remedy=remedy,
        )
    if meta.experiment and experiments and meta.experiment not in experiments:
        raise UserError(
            f"checkpoint {folder} is of another workdir",
            got=f"a network that was trained with {meta.experiment}",
            expected=f"one of this workdir: {'; '.join(sorted(experiments))}",
            remedy=remedy,
        )


def check_network(
    folder: Path, saved: Meta, asked: Meta, *, experiments: Collection[str] = ()
) -> None:
    """Refuses a checkpoint of another network than the one that is to go on.

    Args:
      folder: The folder of the step.
      saved: The checkpoint's record of itself.
      asked: The meta of the network that config and data describe.
      experiments: Experiments that its workdir was started with; none if unknown.

    Raises:
      UserError: The checkpoint is of another network or run.
    """
    check_run(folder, saved, asked.method, experiments=experiments)
    for field in ("model", "options", "class_names", "image_shape"):
        got, expected = getattr(saved, field), getattr(asked, field)
        if got != expected:
            raise UserError(
                f"checkpoint {folder} is of another network",
                got=f"{field} {got}",
                expected=f"{field} {expected}, as the config and data say",
                remedy="choose another --workdir, or the config it was trained with",
            )
