"""Names of topologies, and figures of devices that belong together."""

import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.planning import targets
from clonalnet_jax.planning.estimates import usable_memory
from clonalnet_jax.planning.targets import TARGETS, Topology, parse_topology


@pytest.mark.parametrize(
    ("name", "devices", "hosts"),
    [
        ("v5e:1x1", 1, 1),
        ("v5e:4x4", 16, 4),
        ("v5p:2x2x1", 4, 1),
        ("V6E:2x4", 8, 2),
        ("v4:2x2x2", 16, 2),
        ("tpu7x:2x2x1", 8, 1),
        ("h100:1", 1, 1),
        ("h100:8", 8, 1),
        ("b200:32", 32, 4),
    ],
)
def test_a_name_says_how_many_devices_and_hosts(name, devices, hosts):
    found = parse_topology(name)
    assert (found.devices, found.hosts) == (devices, hosts)


@pytest.mark.parametrize(
    "name",
    [None, "", "h100", "h100:0", "h100:9", "h100:2x4", "v5e", "v5e:4xx4", "v5e:-1x2"],
)
def test_an_impossible_name_is_told_what_is_possible(name):
    with pytest.raises(UserError, match="topology") as found:
        parse_topology(name)
    assert "v5e" in str(found.value)


def test_a_misspelt_kind_is_told_the_nearest():
    with pytest.raises(UserError, match="did you mean 'h100'"):
        parse_topology("h1000:8")


@pytest.mark.parametrize("kind", TARGETS)
def test_figures_of_a_device_belong_together(kind):
    target = TARGETS[kind]
    assert target.flops_float32 <= target.flops
    # All devices of the time compute 100 to 700 operations for each byte they read.
    assert 100 < target.flops / target.bandwidth < 700
    assert target.network is None or target.network < target.links < target.bandwidth
    assert (target.chip is None) == (target.platform == "tpu")
    one = Topology(kind, target, (1,))
    assert 0.5 * target.memory < usable_memory(one) <= target.memory


@pytest.mark.parametrize("kind", [kind for kind in TARGETS if TARGETS[kind].chip])
def test_a_gpu_is_described_to_xla_in_whole(kind):
    text = targets.target_config(TARGETS[kind])
    assert text.count("{") == text.count("}")
    assert "None" not in text
    assert f"device_memory_size: {TARGETS[kind].memory}\n" in text


@pytest.mark.parametrize(
    ("name", "extra"), [("v5e:2x2", "plan-tpu"), ("h100:1", "plan-cuda")]
)
def test_a_compiler_that_is_not_installed_is_named(monkeypatch, name, extra):
    monkeypatch.setattr(targets, "has_compiler", lambda topology: False)
    with pytest.raises(UserError, match=f"pip install.*{extra}"):
        targets.find_devices(parse_topology(name))
