"""Marks for a part of a test's parameters."""

import pytest


def quickly(names, quick):
    """The names, of which those that are not quick are slow tests."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]
