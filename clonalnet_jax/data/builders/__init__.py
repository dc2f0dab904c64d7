"""Data sets that are prepared without TensorFlow."""
