"""ClonalNet in JAX: a better classifier from one that is already trained."""

__version__ = "0.1.0"
