"""PyTorch and torchvision for measuring against; never needed to use the package."""

import warnings
from types import ModuleType


def import_torch() -> tuple[ModuleType, ModuleType]:
    """Imports both without their warnings about each other.

    A torchvision without its compiled operators, which nothing here uses, still has its
    models and transforms.

    Returns:
      `(torch, torchvision)`.

    Raises:
      ImportError: one of them is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                operators.define(
                    f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor"
                )
        import torchvision

    return torch, torchvision
