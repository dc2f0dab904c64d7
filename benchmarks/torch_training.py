"""The clone's training in PyTorch, plainly, to be measured against."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks import torch_networks
from benchmarks.torch_reference import import_torch
from clonalnet_jax.models import native_size
from clonalnet_jax.runtime.cores import usable_cores
from clonalnet_jax.weights import to_torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_num_threads(usable_cores())


def clone_loss(
    clone: torch.Tensor, baseline: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """The mean focusing-picking loss with the authors' values, as one writes it down.

    Args:
      clone: logits `[b, c]`.
      baseline: logits `[b, c]`.
      labels: int64 `[b]`.

    Returns:
      A scalar, float32.
    """
    clone, baseline = clone.float(), baseline.float()
    log_probs = functional.log_softmax(clone, dim=-1)
    probs = log_probs.exp()
    confusing = functional.softmax(baseline / 2.0, dim=-1) > 1.0 / clone.shape[-1]
    warm = confusing.scatter(1, labels[:, None], True).float()
    attention = -(warm * log_probs).sum(-1) / warm.sum(-1)
    shifted = clone + probs - functional.softmax(baseline, dim=-1)
    hard = functional.cross_entropy(
        shifted, labels, label_smoothing=0.1, reduction="none"
    )
    return (hard + attention + (probs * log_probs).sum(-1)).mean()


def make_network(
    name: str,
    num_classes: int,
    variables: Mapping[str, Any] | None = None,
    *,
    channels: int = 3,
) -> torch.nn.Module:
    """The PyTorch network of one of our names.

    Args:
      name: of `clonalnet_jax.models`, but for those of timm.
      num_classes: of its classifier.
      variables: ours, to start from; None for PyTorch's own start.
      channels: of the images; others than 3 only for a ResNet.

    Returns:
      The network on `DEVICE`, in training mode.
    """
    if native_size(name) == 32:
        network = torch_networks.make(name, num_classes)
    else:
        _, torchvision = import_torch()
        network = torchvision.models.get_model(name, num_classes=num_classes)
    if channels != 3:
        first = network.conv1
        network.conv1 = torch.nn.Conv2d(
            channels,
            first.out_channels,
            first.kernel_size,
            first.stride,
            first.padding,
            bias=False,
        )
    if variables is not None:
        state = {key: torch.from_numpy(x) for key, x in to_torch(variables).items()}
        network.load_state_dict(state)
    return network.to(DEVICE).train()


def make_step(
    network: torch.nn.Module,
    baseline: torch.nn.Module | None,
    optimizer: torch.optim.Optimizer,
    *,
    tuned: bool,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """One update as the authors do it: a frozen baseline in eval mode, the loss, SGD.

    Args:
      network: being trained.
      baseline: frozen; None trains by cross-entropy alone.
      optimizer: of the network's parameters.
      tuned: channels last and, on a GPU, bfloat16 and `torch.compile`.

    Returns:
      `(images, labels) -> loss`; the images are float32 `[b, c, h, w]`.
    """
    on_gpu = DEVICE == "cuda"
    models = [network] if baseline is None else [network, baseline.eval()]
    if tuned:
        for model in models:
            model.to(memory_format=torch.channels_last)
    if tuned and on_gpu:
        models = [torch.compile(model) for model in models]

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if tuned:
            images = images.to(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=tuned and on_gpu):
            logits = models[0](images)
            if baseline is not None:
                with torch.no_grad():
                    of_baseline = models[1](images)
        if baseline is None:
            loss = functional.cross_entropy(logits.float(), labels)
        else:
            loss = clone_loss(logits, of_baseline, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def wait() -> None:
    """Returns when the device has done its work."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def normalised(images: np.ndarray) -> torch.Tensor:
    """Pixels uint8 `[b, h, w, c]` as a network's input, with mean 0.5 and std 0.25."""
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(DEVICE)
    return (pixels.float() / 255.0 - 0.5) / 0.25
