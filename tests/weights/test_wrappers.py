"""What is taken out of a training program's file, and what is said about it."""

import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights.pickles import Placeholder
from clonalnet_jax.weights.wrappers import take_out

STATE = {"conv1.weight": np.ones(3), "layer1.0.bn1.bias": np.zeros(2)}
AVERAGE = {name: 2 * array for name, array in STATE.items()}


def under(prefix, state=STATE):
    return {prefix + name: array for name, array in state.items()}


def taken(content, key=""):
    return take_out(content, key, source="net.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {0: np.ones(3)}}},
        lambda state: {"net": state, "acc": 92.12},
        lambda state: {"model_state_dict": state, "best": np.array(92.12)},
        lambda state: {"state_dict": {"model": state}, "args": Placeholder("a.B")},
        lambda state: {"model": {"arch": "resnet20"}, "net": state},
        lambda state: {**state, "ema": AVERAGE},
    ],
)
def test_the_network_itself_is_found(wrap):
    assert taken(wrap(STATE)).tensors == STATE


@pytest.mark.parametrize("average", ["ema", "state_dict_ema", "model_ema"])
@pytest.mark.parametrize("own", ["state_dict", "model", "net", "model_state_dict"])
def test_an_average_is_taken_on_request_or_where_nothing_else_is(own, average):
    content = {average: AVERAGE, own: STATE}
    found = taken(content)
    assert found.tensors == STATE
    said = "; ".join(found.notes)
    assert f"takes '{own}'" in said
    assert f'not "{average}", which --config.baseline.weights_key can name' in said
    assert taken(content, average).tensors == AVERAGE
    alone = taken({average: AVERAGE})
    assert alone.tensors == AVERAGE
    assert alone.notes == (f"takes '{average}'",)


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "student.", "encoder_q."),
        *("module._orig_mod.", "model.module.", "module.encoder_q."),
    ],
)
def test_a_prefix_of_all_names_is_left_out_and_said(prefix):
    found = taken(under(prefix))
    assert found.tensors == STATE
    assert found.notes == (f"leaves out {prefix!r} before every name",)


def test_a_prefix_of_some_names_stays():
    content = {**under("module."), "fc.weight": np.ones(1)}
    assert taken(content).tensors == content


def test_counters_are_left_out_and_said_and_hide_no_prefix():
    counters = {
        "n_averaged": np.array(3),
        "module.bn1.num_batches_tracked": np.array(3),
        "module.bn2.num_batches_tracked": np.array(3),
        "total_ops": np.zeros(1),
        "module.conv1.total_params": np.zeros(1),
    }
    found = taken({**counters, **under("module.")})
    assert found.tensors == STATE
    assert found.notes[-1] == (
        "leaves out counters: 1 n_averaged, 2 num_batches_tracked, 1 total_ops, "
        "1 total_params"
    )


def test_what_is_no_tensor_is_left_out_and_said():
    content = {**under("module."), "module.fc.bias": Placeholder("os.system")}
    found = taken({**content, "module.epoch": 3, 5: 7})
    assert found.tensors == STATE
    assert found.others == {
        "fc.bias": "the file asks for os.system, which is not called",
        "epoch": "a int, not a tensor",
    }
    assert 'no tensor: "module.fc.bias", "module.epoch"' in found.notes[-1]


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("backbone", {"backbone": STATE, "head": AVERAGE}),
        ("a/b", {"a": {"b": STATE, "c": AVERAGE}}),
        ("encoder_q", {**under("encoder_q."), **under("encoder_k.", AVERAGE)}),
        ("a/teacher.", {"a": {**under("teacher."), **under("x.", AVERAGE)}}),
        ("state_dict/module.encoder_q", {"state_dict": under("module.encoder_q.")}),
    ],
)
def test_a_key_or_a_prefix_can_be_asked_for(key, content):
    found = taken(content, key)
    assert found.tensors == STATE
    assert found.notes[0] == f"takes {key!r}, as asked"


@pytest.mark.parametrize("key", ["other", "backbone/other", "backbone/conv1/weight"])
def test_a_key_that_is_not_there_is_refused_with_those_that_are(key):
    with pytest.raises(UserError, match=r"config\.baseline\.weights_key") as caught:
        taken({"backbone": STATE, "epoch": 3}, key)
    assert ("backbone" in str(caught.value)) or ("conv1.weight" in str(caught.value))


def test_a_state_dict_under_an_unknown_key_is_pointed_at():
    with pytest.raises(UserError, match="weights_key=backbone"):
        taken({"backbone": STATE, "epoch": 3})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([STATE], "a list without a state dict"),
        ({}, "with the keys nothing"),
        ({"epoch": 3, "net": Placeholder("a.B")}, '"net": the file asks for a.B'),
        (Placeholder("a.B"), "whole pickled model"),
        ({f"key {n}": n for n in range(99)}, "and 89 more"),
    ],
)
def test_what_has_no_state_dict_says_what_it_has(content, message):
    with pytest.raises(UserError, match=message):
        taken(content)


def test_wrappers_of_wrappers_without_end_are_looked_into_once():
    content = {}
    content.update(dict.fromkeys(("state_dict", "model", "net", "ema"), content))
    with pytest.raises(UserError, match="without a state dict"):
        taken(content)
