"""The focusing-picking loss and its rivals, as pure functions of logits.

    from clonalnet_jax.losses import focusing_picking_loss

Read `focusing_picking_definition` in `_focusing_picking.py` first: it is the whole loss
in a few lines. `focusing_picking_loss` computes the same from a gradient in closed form
(`_closed_form.py`), on a CPU in blocks of rows (`_blocks.py`), and with classes that
are split over devices (`_classes.py`).

Every loss takes logits first and returns one value per example, to be reduced as you
like. Any leading batch dimensions are accepted, and the computation is in float32 or
wider whatever comes in. Hyper-parameters are keyword-only scalars. Source: "Classifying
Better by Focusing on Confusing Categories" (arXiv 2110.07307) and the authors' released
implementation; each rival names its own.

Nothing here knows about models, data or devices. The package imports JAX and jaxtyping
alone, and itself only relatively, so that the folder can be copied into other projects.
"""

from ._confusing import confusing_categories, multi_warm_labels
from ._distillation import (
    correlation_distillation_loss,
    decoupled_distillation_loss,
    distillation_loss,
    standardised_distillation_loss,
    virtual_teacher_loss,
)
from ._focusing_picking import (
    FocusingPickingTerms,
    focusing_picking_definition,
    focusing_picking_loss,
    focusing_picking_terms,
)

__all__ = [
    "FocusingPickingTerms",
    "confusing_categories",
    "correlation_distillation_loss",
    "decoupled_distillation_loss",
    "distillation_loss",
    "focusing_picking_definition",
    "focusing_picking_loss",
    "focusing_picking_terms",
    "multi_warm_labels",
    "standardised_distillation_loss",
    "virtual_teacher_loss",
]
