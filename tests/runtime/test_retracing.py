"""Equal functions are one, unless an argument cannot be compared."""

import numpy as np
import pytest

from clonalnet_jax.runtime.retracing import forget, made_once


@pytest.fixture
def maker():
    """A maker, and the arguments that it was really called with."""
    calls = []

    def make(value, *, scale=1.0):
        """Makes a function."""
        calls.append((value, scale))
        return lambda x: value * scale * x

    return made_once(make), calls


def test_equal_arguments_give_the_same_function(maker):
    make, calls = maker
    assert make((1, 2), scale=3.0) is make((1, 2), scale=3.0)
    assert calls == [((1, 2), 3.0)]


@pytest.mark.parametrize("other", [2, 1.0, True])
def test_other_arguments_give_another_function(maker, other):
    make, _ = maker
    # 1 == 1.0 == True, and a program of integers is not one of floats.
    assert make(1) is not make(other)
    assert make(1, scale=1) is not make(1, scale=other)


@pytest.mark.parametrize("value", [np.ones(2), [1, 2], {"a": 1}, ([],)])
def test_what_cannot_be_hashed_is_made_anew(maker, value):
    make, calls = maker
    assert make(value) is not make(value)
    assert [of for of, _ in calls] == [value, value]


def test_what_is_forgotten_is_made_anew(maker):
    make, _ = maker
    before = make(1)
    forget()
    assert make(1) is not before


def test_an_error_of_the_maker_is_raised(maker):
    def fail(value):
        raise TypeError(value)

    with pytest.raises(TypeError, match="culprit"):
        made_once(fail)("culprit")


def test_the_maker_keeps_its_name(maker):
    make, _ = maker
    assert (make.__name__, make.__doc__) == ("make", "Makes a function.")
