"""What images looked like to the network whose weights are given.

No tensor shows it, so it is read from where the authors of the weights have written it:
timm's `config.json`, the `preprocessor_config.json` of transformers, torchvision's
recipes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from clonalnet_jax.configs import default
from clonalnet_jax.errors import UserError
from clonalnet_jax.weights.recipes import MEAN, RECIPES, STD
from clonalnet_jax.weights.sources import find_beside, find_weights

_TRANSFORMERS = "preprocessor_config.json"
_PILLOW = {2: "bilinear", 3: "bicubic"}


class Preprocessing(NamedTuple):
    """Values of keys of `config.data`, by their names."""

    image_size: int
    resize_size: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def follow_weights(config: ConfigDict, say: Callable[[str], None]) -> ConfigDict:
    """Sets what `config.data.like_weights` asks for.

    Args:
      config: The whole config.
      say: Called with the values that were set, and where they are from.

    Returns:
      A config with these values and without the wish; the same one where it has none.

    Raises:
      UserError: The preprocessing is not known, cannot be done here, or the config says
        another one.
    """
    if not config.data.like_weights:
        return config
    weights = config.baseline.weights
    if weights is None:
        raise UserError(
            "config.data.like_weights",
            got="True without config.baseline.weights",
            expected="weights that say how their images are prepared",
            remedy="set --config.baseline.weights, or leave like_weights out",
        )
    found = preprocessing_of(weights)
    before = default.get_config().data
    result = config.copy_and_resolve_references().unlock()
    for key, value in found._asdict().items():
        given = config.data[key]
        if given not in (before[key], value):
            raise UserError(
                f"config.data.{key}",
                got=f"{given!r} with config.data.like_weights = True",
                expected=f"{value!r}, as {weights} says",
                remedy=f"set --config.data.{key}={_as_flag(value)}, or leave "
                "like_weights out",
            )
        result.data[key] = value
    result.data.like_weights = False
    values = ", ".join(f"{key} {value}" for key, value in found._asdict().items())
    say(f"images like those of {weights}: {values}")
    return result.lock()


def preprocessing_of(weights: str) -> Preprocessing:
    """Finds how the images of published weights are prepared in evaluation.

    Args:
      weights: Value of `config.baseline.weights`.

    Returns:
      The values.

    Raises:
      UserError: Nothing says it, or it is none that this program can do.
    """
    path = find_weights(weights)
    if path.stem in RECIPES:
        return Preprocessing(**RECIPES[path.stem]._asdict(), mean=MEAN, std=STD)
    folder = path if path.is_dir() else path.parent
    for name, parse in (("config.json", _of_timm), (_TRANSFORMERS, _of_transformers)):
        file = find_beside(weights, folder, name)
        content = _read(file) if file is not None else None
        try:
            found = parse(content) if content else None
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise _unknown(
                weights, f"{file}, in which {type(error).__name__}: {error}"
            ) from error
        if found is not None:
            return found
    raise _unknown(weights, "neither it nor a file beside it says that")


class _CannotError(ValueError):
    """A way to prepare images that is not ours."""


def _of_timm(content: Mapping[str, Any]) -> Preprocessing | None:
    """Reads timm's `config.json`; see `timm.data.resolve_data_config`."""
    known = content.get("pretrained_cfg", content)
    if not {"input_size", "mean", "std"} <= known.keys():
        return None
    channels, height, width = known["input_size"]
    if height != width or channels not in (1, 3):
        raise _CannotError(f"images of {known['input_size']}, not square")
    if known.get("crop_mode", "center") != "center":
        raise _CannotError(f"crop_mode {known['crop_mode']!r}, not 'center'")
    return _checked(
        size=height,
        resize=int(height / known.get("crop_pct", 0.875)),
        interpolation=known.get("interpolation", "bicubic"),
        mean=known["mean"],
        std=known["std"],
    )


def _of_transformers(content: Mapping[str, Any]) -> Preprocessing | None:
    """Reads `preprocessor_config.json` of the classes of image processors."""
    if not {"image_mean", "image_std", "size"} <= content.keys():
        return None
    if abs(content.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        raise _CannotError(f"rescale_factor {content['rescale_factor']}, not 1/255")
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not content.get(step, True):
            raise _CannotError(f"{step} false")
    shortest = _side(content["size"], "shortest_edge")
    crop, share = content.get("crop_size"), content.get("crop_pct")
    if content.get("do_center_crop") and crop is not None and shortest is not None:
        size, resize = _side(crop, "height"), shortest
    elif share is not None and shortest is not None and shortest < 384:
        size, resize = shortest, int(shortest / share)  # ConvNextImageProcessor
    else:
        raise _CannotError(
            f"size {content['size']} without a centre crop: every image is squeezed "
            "into a square"
        )
    return _checked(
        size=size,
        resize=resize,
        interpolation=_PILLOW.get(content.get("resample", 2), "another resample"),
        mean=content["image_mean"],
        std=content["image_std"],
    )


def _side(size: Any, key: str) -> Any:
    """The number of pixels of `224`, or of a mapping such as `{"height": 224}`."""
    return size.get(key) if isinstance(size, Mapping) else size


def _checked(
    *, size: Any, resize: Any, interpolation: Any, mean: Any, std: Any
) -> Preprocessing:
    if interpolation not in _PILLOW.values():
        raise _CannotError(f"interpolation {interpolation!r}")
    if not 0 < size <= resize:
        raise _CannotError(f"a crop of {size} pixels of {resize}")
    values = [tuple(float(x) for x in several) for several in (mean, std)]
    return Preprocessing(int(size), int(resize), interpolation, *values)


def _read(path: Path) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, Mapping) else None


def _as_flag(value: Any) -> str:
    return f'"{value}"' if isinstance(value, tuple) else str(value)


def _unknown(weights: str, got: str) -> UserError:
    return UserError(
        f"config.data.like_weights with {weights}",
        got=got,
        expected="a description of how its images are prepared: timm's config.json, a "
        "preprocessor_config.json with a centre crop, or a file of torchvision's by "
        "its own name",
        remedy="set config.data.image_size, .resize_size, .interpolation, .mean and "
        ".std yourself, as its author says",
    )
