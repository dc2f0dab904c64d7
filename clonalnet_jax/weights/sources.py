"""Where weights are found: a file or folder, the hub, torchvision's cache."""

import json
import os
import re
from pathlib import Path
from typing import Any

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights.folders import INDEX, architecture_in

# Architectures of timm with the tensors of a ResNet of ours and another function:
# anti-aliased by average pooling or blurring where ours has a stride.
_LOOKALIKES = re.compile(r"(resnet|resnext|wide_resnet)(aa|blur)\d")


def check_architecture(weights: str, model: str) -> None:
    """Refuses weights whose tensors would fit, and whose network is another one.

    Args:
      weights: Value of `config.baseline.weights`.
      model: Network of ours that they are meant for.

    Raises:
      UserError: The name, or the config that the hub has beside the weights, names an
        architecture that computes something else with the same tensors.
    """
    source, _, name = weights.partition(":")
    if source == "timm":
        architecture = name.rpartition("/")[2].partition(".")[0]
        if not _LOOKALIKES.match(architecture):
            architecture = _architecture_on_hub(name)
    else:
        folder = find_weights(weights)
        architecture = architecture_in(folder) if folder.is_dir() else ""
    if _LOOKALIKES.match(architecture):
        raise UserError(
            f"config.baseline.weights {weights}",
            got=f"weights of {architecture}, which has the same tensors but blurs or "
            "averages before its strides",
            expected=f"weights of {model}",
            remedy=f"choose others, such as timm:{model} with one of its tags",
        )


def _architecture_on_hub(name: str) -> str:
    """What `config.json` beside the weights says; empty where it cannot be had."""
    path = _beside_on_hub(_repository(name), "config.json")
    try:
        return (
            str(json.loads(path.read_bytes()).get("architecture", "")) if path else ""
        )
    except (OSError, ValueError, AttributeError):
        return ""


def find_beside(weights: str, folder: Path, name: str) -> Path | None:
    """A small file that lies beside weights.

    Args:
      weights: Value of `config.baseline.weights`.
      folder: The directory that `find_weights` has found them in.
      name: Name of the file.

    Returns:
      The file, downloaded from the hub where the weights are from there; None if there
      is none.
    """
    source, _, repository = weights.partition(":")
    if source in ("timm", "hf") and repository:
        of_timm = source == "timm"
        return _beside_on_hub(_repository(repository) if of_timm else repository, name)
    return folder / name if (folder / name).is_file() else None


def _beside_on_hub(repository: str, name: str) -> Path | None:
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, name))
    except Exception:  # as below; the weights themselves say what is wrong
        return None


def _repository(name: str) -> str:
    return name if "/" in name else f"timm/{name}"


def find_weights(weights: str) -> Path:
    """The file that `config.baseline.weights` means.

    Args:
      weights: A path; `hf:<organisation>/<repository>` or `timm:<name>`, such as
        `timm:resnet18.a1_in1k`, which are downloaded from the Hugging Face hub unless
        they are cached; or `torchvision:<name>`, such as `torchvision:resnet18`, which
        torchvision has left in its cache.

    Returns:
      The file, or the folder of a repository.

    Raises:
      UserError: It is not there; says where to put it.
    """
    source, _, name = weights.partition(":")
    if source == "timm" and name:
        return _from_timm(weights, _repository(name))
    if source == "hf" and name:
        return _from_hub(weights, name)
    if source == "torchvision" and name:
        return _from_torchvision(name)
    return Path(weights).expanduser()


def _from_timm(weights: str, repository: str) -> Path:
    hub = _hub(weights)
    try:
        return Path(hub.hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # no network, no such name, no permission: a dozen types
        name = "check the name (with its tag, such as resnet18.a1_in1k)"
        raise _not_there(weights, repository, error, name) from error


def _from_hub(weights: str, repository: str) -> Path:
    hub = _hub(weights)
    patterns = ["config.json", "model*.safetensors", INDEX, "pytorch_model.bin"]
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # as above
        name = "check the name, <organisation>/<repository>"
        raise _not_there(weights, repository, error, name) from error


def _hub(weights: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"config.baseline.weights {weights}",
            got="huggingface_hub is not installed",
            expected="it, to download or to find its cache",
            remedy='pip install "clonalnet-jax[hub]", or give a .safetensors file',
        ) from error
    return huggingface_hub


def _not_there(
    weights: str, repository: str, error: Exception, remedy: str
) -> UserError:
    return UserError(
        f"config.baseline.weights {weights}",
        got=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
        expected=f"the weights of {repository} on the hub or in its cache",
        remedy=f"{remedy}; offline, download them elsewhere and give their path",
    )


def _from_torchvision(name: str) -> Path:
    home = os.environ.get("TORCH_HOME")
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    folder = (Path(home) if home else Path(cache) / "torch").expanduser()
    folder = folder / "hub" / "checkpoints"
    files = sorted(folder.glob(f"{name}-*.pth"), key=lambda path: path.stat().st_mtime)
    if files:
        return files[-1]
    raise UserError(
        f"config.baseline.weights torchvision:{name}",
        got=f"no {name}-*.pth in {folder}",
        expected="a file that torchvision has downloaded",
        remedy=f"where there is network and torchvision: torchvision.models.{name}"
        "(weights='DEFAULT'), then copy the file there or give its path",
    )
