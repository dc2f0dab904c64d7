"""Which categories confuse a baseline, and what the clone learns from them."""

from clonalnet_jax.losses import confusing_categories, multi_warm_labels

__all__ = ["confusing_categories", "multi_warm_labels"]
