"""Marks for a part of a test's parameters."""

import pytest


def quickly(names, quick):
    """The names, or tuples, of which those that are not quick are slow tests."""
    return [name if name in quick else _slow(name) for name in names]


def _slow(name):
    values = name if isinstance(name, tuple) else (name,)
    return pytest.param(*values, marks=pytest.mark.slow)
