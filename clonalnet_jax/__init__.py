"""ClonalNet in JAX: a better classifier from one that is already trained.

    import clonalnet_jax as cn

    config = cn.config("digits", epochs=30, clone={"width": 8})
    results = cn.train(config, "runs/digits")
    probabilities = results.clone.predict(images)

`import clonalnet_jax` itself imports nothing; each name is imported when it is first
used. The loss alone, `cn.focusing_picking_loss`, needs JAX and jaxtyping.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clonalnet_jax.api import (
        Results,
        compare,
        config,
        config_names,
        evaluate,
        export,
        from_arrays,
        frozen,
        load,
        predict,
        train,
        tune,
        write_report,
    )
    from clonalnet_jax.errors import UserError
    from clonalnet_jax.losses import (
        FocusingPickingTerms,
        confusing_categories,
        correlation_distillation_loss,
        decoupled_distillation_loss,
        distillation_loss,
        focusing_picking_loss,
        focusing_picking_terms,
        multi_warm_labels,
        standardised_distillation_loss,
        virtual_teacher_loss,
    )
    from clonalnet_jax.models import create_model, model_names
    from clonalnet_jax.report import ReportPage
    from clonalnet_jax.trained.classifier import Classifier
    from clonalnet_jax.trained.predict import Prediction

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "FocusingPickingTerms",
    "Prediction",
    "ReportPage",
    "Results",
    "UserError",
    "compare",
    "config",
    "config_names",
    "confusing_categories",
    "correlation_distillation_loss",
    "create_model",
    "decoupled_distillation_loss",
    "distillation_loss",
    "evaluate",
    "export",
    "focusing_picking_loss",
    "focusing_picking_terms",
    "from_arrays",
    "frozen",
    "load",
    "model_names",
    "multi_warm_labels",
    "predict",
    "standardised_distillation_loss",
    "train",
    "tune",
    "virtual_teacher_loss",
    "write_report",
]

_HOMES = {
    "Classifier": "trained.classifier",
    "FocusingPickingTerms": "losses",
    "Prediction": "trained.predict",
    "ReportPage": "report",
    "UserError": "errors",
    "confusing_categories": "losses",
    "create_model": "models",
    "decoupled_distillation_loss": "losses",
    "distillation_loss": "losses",
    "focusing_picking_loss": "losses",
    "focusing_picking_terms": "losses",
    "model_names": "models",
    "multi_warm_labels": "losses",
    "standardised_distillation_loss": "losses",
    "virtual_teacher_loss": "losses",
    "correlation_distillation_loss": "losses",
}
"""The modules of public names; all others are of `api`."""

_checkout = Path(__file__).parent.parent
if (_checkout / "configs" / "default.py").exists():
    # In a checkout the configs lie beside the package, in an installation inside it. So
    # a checkout finds its own configs, whichever of several was installed last.
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'api')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
