"""PyTorch and torchvision for measuring against; never needed to use the package."""

import sys
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

        try:
            import torchvision
        except (ImportError, RuntimeError):
            # It was compiled for another PyTorch. With the names of its operators
            # defined, the rest of it can be imported.
            for name in [*sys.modules]:
                if name.partition(".")[0] == "torchvision":
                    del sys.modules[name]
            operators = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                operators.define(
                    f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor"
                )
            import torchvision

    return torch, torchvision
