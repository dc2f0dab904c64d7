"""Finds settings of each method on held-out training images: `--mode=tune`."""
