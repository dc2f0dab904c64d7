"""What is wrong with a state dict, by name: names, shapes, values, and near misses."""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from clonalnet_jax.errors import UserError

_SHOWN = 10
_OPTION = "--config.baseline.options"


def mismatch(
    source: str,
    wanted: Collection[str],
    missing: Mapping[str, str],
    unexpected: Collection[str],
    misshaped: Mapping[str, str],
) -> UserError:
    """Makes the error about tensors that are not those of the network.

    Args:
      source: Name of the state dict.
      wanted: Names of all tensors of the network.
      missing: Names that the state dict lacks, and what it has instead or nothing.
      unexpected: Names that only the state dict has.
      misshaped: Names of other shapes, and which.

    Returns:
      The error, with what to try, to be raised by the caller.
    """
    lists = {
        "missing": [f"{n} ({why})" if why else n for n, why in missing.items()],
        "unexpected": list(unexpected),
        "of another shape": [f"{name} {shape}" for name, shape in misshaped.items()],
    }
    got = "; ".join(
        f"{len(names)} {what}: {_list(names)}" for what, names in lists.items() if names
    )
    prefix, below = _common_prefix(wanted, unexpected)
    right = len(wanted) - len(missing) - len(misshaped)
    if below > max(right, len(wanted) / 2):
        got = f"{below} of {len(wanted)} names only below {prefix!r}; {got}"
        remedy = f"--config.baseline.weights_key={prefix.removesuffix('.')}"
    else:
        if right > len(wanted) / 2:
            got = f"a near miss, {right} of {len(wanted)} tensors match; {got}"
        remedy = _remedy(missing, unexpected, misshaped)
    return UserError(
        f"weights {source}",
        got=got,
        expected=f"exactly the {len(wanted)} tensors of the network",
        remedy=remedy,
    )


def check_values(tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Refuses tensors that no trained network has.

    Args:
      tensors: Tensors by PyTorch's names.
      source: Name of the state dict.

    Raises:
      UserError: Some are no floating-point numbers, not finite in float32, or variances
        below zero; names them all.
    """
    faults = {name: _fault(name, array) for name, array in tensors.items()}
    bad = [f"{name} {fault}" for name, fault in faults.items() if fault]
    if bad:
        raise UserError(
            f"weights {source}",
            got=f"{len(bad)} bad of {len(tensors)} tensors: {_list(bad)}",
            expected="finite floating-point numbers, and variances of at least 0",
            remedy="take an earlier checkpoint, from before the training diverged, or "
            "download it again; dequantise what is quantised",
        )


def _fault(name: str, array: np.ndarray) -> str:
    """What is wrong with the values of a tensor; empty where nothing is."""
    if (
        not np.can_cast(array.dtype, np.float64, "same_kind")
        or array.dtype.kind in "iub"
    ):
        return f"is {array.dtype}"
    with np.errstate(over="ignore"):
        values = np.asarray(array, np.float32)
    bad = {"NaN": np.isnan(values).sum(), "infinite": np.isinf(values).sum()}
    found = [f"{count} {what}" for what, count in bad.items() if count]
    if found:
        return f"has {' and '.join(found)} of {values.size} values"
    if name.endswith("running_var") and values.size and values.min() < 0:
        return f"has variances down to {values.min():.3g}"
    return ""


def _common_prefix(
    wanted: Collection[str], unexpected: Collection[str]
) -> tuple[str, int]:
    """What stands before the network's names in the state dict, and before how many."""
    known = set(wanted)
    counts: Counter[str] = Counter()
    for name in unexpected:
        parts = name.split(".")
        for length in range(1, len(parts)):
            if ".".join(parts[length:]) in known:
                counts[".".join(parts[:length]) + "."] += 1
    return counts.most_common(1)[0] if counts else ("", 0)


def _remedy(
    missing: Mapping[str, str],
    unexpected: Collection[str],
    misshaped: Mapping[str, str],
) -> str:
    """The one option that would explain it all, where there is one."""
    if missing and not unexpected and all("downsample." in name for name in missing):
        return f"its shortcuts have no weights: {_OPTION}.padded_shortcuts=True"
    if set(misshaped) == {"conv1.weight"} and not missing and not unexpected:
        small = ", 3, 3), not" in misshaped["conv1.weight"]
        pooled = "; where max pooling follows, also .pooled_stem=True" if small else ""
        return f"its stem is another one: {_OPTION}.small_stem={small}{pooled}"
    if not missing and not unexpected and misshaped:
        modules = {name.rpartition(".")[0] for name in misshaped}
        if len(modules) == 1 and f"{min(modules)}.weight" in misshaped:
            return "for a classifier of another size --config.baseline.replace_head"
    return (
        "check config.baseline.model and .options; for a classifier of another size "
        "set --config.baseline.replace_head"
    )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
