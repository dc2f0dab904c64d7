"""The state dict in what a training program saved: under which key, without what."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights.formats import named, refusal
from clonalnet_jax.weights.names import is_counter
from clonalnet_jax.weights.pickles import Placeholder
from clonalnet_jax.weights.tensors import Tensor

# Where training programs put a network: its own weights first, then averages of them.
_OWN = ("state_dict", "model_state_dict", "model", "net")
_AVERAGES = ("state_dict_ema", "model_ema", "ema")
_DEPTH = 4  # of wrappers in wrappers
# What stands before every name where one module holds the whole network: those of
# data-parallel training, torch.compile, Lightning, distillation and MoCo.
_PREFIXES = (
    *("module.", "_orig_mod.", "model.", "net.", "network.", "student."),
    *("encoder_q.", "base_encoder.", "ema_model.", "_fsdp_wrapped_module."),
)
_KEY = "--config.baseline.weights_key"


class Taken(NamedTuple):
    """A state dict whose tensors are still to be read.

    Attributes:
      tensors: Tensors by name, without counters.
      others: The objects in place of a tensor, by name.
      notes: Sentences on the parts that were taken and left out.
    """

    tensors: dict[str, Any]
    others: dict[str, str]
    notes: tuple[str, ...]


def take_out(content: Any, key: str, *, source: str) -> Taken:
    """Finds the state dict in the content of a file.

    Args:
      content: The content of the file.
      key: The place to look at; empty for the usual places.
      source: Name of the file, for messages.

    Returns:
      The state dict.

    Raises:
      UserError: There is none, or not under this key.
    """
    if isinstance(content, Placeholder):
        raise _whole_model(content, source)
    if key:
        found, notes = _follow(content, key, source), [f"takes {key!r}, as asked"]
    else:
        found, notes = _look_for(content)
    entries = found.items() if isinstance(found, Mapping) else ()
    values = {name: value for name, value in entries if isinstance(name, str)}
    tensors = {name: value for name, value in values.items() if _is_tensor(value)}
    if not tensors:
        raise _no_tensors(found, source)
    others = {n: _describe(v) for n, v in values.items() if not _is_tensor(v)}
    counters = [name for name in tensors if is_counter(name)]
    names = [name for name in tensors if name not in set(counters)]
    prefix = _shared_prefix(names)
    if prefix:
        notes.append(f"leaves out {prefix!r} before every name")
    if counters:
        count = Counter(name.rpartition(".")[2] for name in counters)
        listed = ", ".join(f"{number} {name}" for name, number in count.items())
        notes.append(f"leaves out counters: {listed}")
    if others:
        notes.append(f"leaves out what is no tensor: {named(others, 5)}")
    return Taken(
        {name.removeprefix(prefix): tensors[name] for name in names},
        {name.removeprefix(prefix): what for name, what in others.items()},
        tuple(notes),
    )


def _look_for(content: Any) -> tuple[Any, list[str]]:
    """The state dict in its usual place; says so where it is not the whole file."""
    path: list[str] = []
    rivals: list[str] = []
    for _ in range(_DEPTH):
        keys = _keys_with_tensors(content)
        found = [key for key in (*_OWN, *_AVERAGES) if key in keys]
        if not found or _is_state_dict(content):
            break
        content = content[found[0]]
        rivals += ["/".join([*path, other]) for other in found[1:]]
        path.append(found[0])
    notes = [f"takes {'/'.join(path)!r}"] if path else []
    if rivals:
        notes.append(f"not {named(rivals)}, which {_KEY} can name")
    return content, notes


def _follow(content: Any, key: str, source: str) -> Mapping[Any, Any]:
    """What lies under a key, keys joined by `/`, or a prefix of names."""
    for part in key.split("/"):
        names = content if isinstance(content, Mapping) else {}
        prefix = f"{part.removesuffix('.')}."
        below = {
            name.removeprefix(prefix): value
            for name, value in names.items()
            if isinstance(name, str) and name.startswith(prefix)
        }
        if isinstance(names.get(part), Mapping):
            content = names[part]
        elif below:
            content = below
        else:
            raise UserError(
                f"config.baseline.weights_key {key!r}",
                got=f"{source} has no {part!r} there",
                expected=f"one of its keys: {named(names)}; or how names begin",
                remedy=_suggestion(names) or f"leave {_KEY} out",
            )
    return content


def _shared_prefix(names: list[str]) -> str:
    """All that wrappers have put before every name."""
    prefix = ""
    while True:
        for known in _PREFIXES:
            if names and all(name.startswith(prefix + known) for name in names):
                prefix += known
                break
        else:
            return prefix


def _keys_with_tensors(content: Any) -> list[str]:
    """Keys of a dict under which a state dict lies, or a wrapper of one."""
    if not isinstance(content, Mapping):
        return []
    looked: dict[int, bool] = {}  # each dict once, however often the file names it
    return [
        key
        for key, inner in content.items()
        if isinstance(key, str) and _holds_tensors(inner, _DEPTH, looked)
    ]


def _holds_tensors(content: Any, depth: int, looked: dict[int, bool]) -> bool:
    if not isinstance(content, Mapping) or not depth:
        return False
    if id(content) not in looked:
        looked[id(content)] = any(map(_is_tensor, content.values())) or any(
            _holds_tensors(content.get(known), depth - 1, looked)
            for known in (*_OWN, *_AVERAGES)
        )
    return looked[id(content)]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Whether it has tensors of layers, and not only a best accuracy, say."""
    return any(
        isinstance(name, str) and "." in name and _is_tensor(value)
        for name, value in content.items()
    )


def _describe(value: Any) -> str:
    if isinstance(value, Placeholder):
        return f"the file asks for {value.name}, which is not called"
    return f"a {type(value).__name__}, not a tensor"


def _whole_model(content: Placeholder, source: str) -> UserError:
    return refusal(
        source,
        f"not a state dict but an object: the file asks for {content.name}, which is "
        "not called (a whole pickled model?)",
        "where you trust it and have its code, load it with PyTorch and save its "
        "state_dict()",
    )


def _no_tensors(content: Any, source: str) -> UserError:
    if not isinstance(content, Mapping):
        what = f"a {type(content).__name__} without a state dict"
        return refusal(source, what, "save model.state_dict()")
    inner = [value for value in content.values() if isinstance(value, Mapping)]
    objects = [
        f"; {named([key])}: {_describe(value)}"
        for entries in [content, *inner]
        for key, value in entries.items()
        if isinstance(value, Placeholder)
    ]
    keys = f"a dict without a state dict, with the keys {named(content)}"
    return refusal(
        source,
        keys + "".join(objects[:5]),
        _suggestion(content) or "save model.state_dict()",
    )


def _suggestion(content: Any) -> str:
    keys = _keys_with_tensors(content)
    return f"{_KEY}={keys[0]}" if keys else ""
