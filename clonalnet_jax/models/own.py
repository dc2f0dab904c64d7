"""Networks that somebody else has written, by import path: `my_package.nets:SmallNet`.

What the path names is called with `num_classes` and the options of the config, and with
`dtype` if it takes one. It makes a Flax Linen or a Flax NNX module.

Importing NNX takes a while, so `create_model` imports this module when it is needed.
"""

import dataclasses
import inspect
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax import nnx
from flax.core import FrozenDict
from jax.typing import DTypeLike

from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models.import_paths import find_own

# What a module may call the argument that says whether it is trained, and its value
# then.
_SWITCHES = {"train": True, "training": True, "deterministic": False}
_COLLECTIONS = "collections"
_EXPECTED = (
    "a class or function that takes num_classes and makes a Flax Linen module; or one "
    "that takes rngs, too, and makes a Flax NNX module"
)


@dataclasses.dataclass(frozen=True)
class OwnNetwork:
    """A module of somebody else, which answers `protocol.Model`.

    Collections other than `params` and `batch_stats` are kept inside of the latter, so
    that the training step, the checkpoints and the shardings know of two alone.

    Attributes:
      module: A Linen module; `nnx.bridge.ToLinen` if the network is an NNX module.
      switch: The name of the argument that says whether it is trained, or None.
      rebuild: Function that makes the same network for another dtype.
    """

    module: nn.Module
    switch: str | None
    rebuild: Callable[[DTypeLike], "OwnNetwork"]

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Makes variables; see `protocol.Model`."""
        return self.init_with_output(rngs, *args, **kwargs)[1]

    def init_with_output(
        self, rngs: Any, images: jax.Array, *, train: bool = False
    ) -> tuple[Any, Any]:
        """Makes variables, and the output with them; see `protocol.Model`."""
        names = ("params", "dropout", "default")
        keys = dict(zip(names, jax.random.split(rngs, len(names)), strict=True))
        logits, variables = self.module.init_with_output(
            keys, images, **self._mode(train)
        )
        return logits, _pack(variables)

    def apply(
        self,
        variables: Any,
        images: jax.Array,
        *,
        train: bool = False,
        mutable: Any = False,
        rngs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Computes logits; see `protocol.Model`."""
        inner, mode = _unpack(variables), self._mode(train)
        if not train:
            return self.module.apply(inner, images, mutable=mutable, **mode)
        changing = [name for name in inner if name != "params"]
        logits, changed = self.module.apply(
            inner, images, mutable=changing, rngs=_every_stream(rngs or {}), **mode
        )
        return logits, {"batch_stats": _pack(changed).get("batch_stats", {})}

    def clone(self, *, dtype: DTypeLike) -> "OwnNetwork":
        """Returns the same network, which computes in another dtype if it can."""
        return self.rebuild(dtype)

    def _mode(self, train: bool) -> dict[str, Any]:
        if isinstance(self.module, nnx.bridge.ToLinen):
            return {"nnx_method": _Call(self.switch, train)}
        return _switched(self.switch, train)


@dataclasses.dataclass(frozen=True)
class _Call:
    """How an NNX module is called: in one of its two modes."""

    switch: str | None
    train: bool

    def __call__(self, module: Any, images: jax.Array) -> Any:
        module.train() if self.train else module.eval()
        return module(images, **_switched(self.switch, self.train))


def make_own(
    name: str, num_classes: int, *, dtype: DTypeLike, options: Mapping[str, Any]
) -> OwnNetwork:
    """Builds the network that an import path names.

    Args:
      name: The path, `package.module:Class` or `package.module:function`.
      num_classes: Size of the logits, an argument of what the path names.
      dtype: Dtype of the computation, an argument if there is one of this name.
      options: Further arguments.

    Returns:
      The network.

    Raises:
      UserError: There is nothing of this name, it does not take these arguments, or it
        makes no Flax module.
    """
    target = _find(name)
    known = _parameters(name, target)
    if "num_classes" not in known and not _is_module(target):
        # Nothing else is called: a config may name any function that Python can import.
        raise _no_network(name, f"{target!r}, which takes no num_classes")
    _check_arguments(name, known, {"num_classes": num_classes, **options})

    def build(dtype: DTypeLike) -> OwnNetwork:
        given = {"num_classes": num_classes, **options}
        if "dtype" in known:
            given["dtype"] = dtype
        module, call = _make_module(name, target, given, known)
        arguments = inspect.signature(call).parameters
        switch = next((one for one in _SWITCHES if one in arguments), None)
        return OwnNetwork(module, switch, build)

    return build(dtype)


def explain_own(name: str, error: BaseException) -> str:
    """Says in a line what went wrong in somebody else's code, and where.

    Args:
      name: The import path of the network.
      error: Error that was raised while it ran.

    Returns:
      The error's type and message, and the file and line of the network's own module.
    """
    file = inspect.getsourcefile(inspect.getmodule(_find(name)) or object)
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if file is not None and frame.filename == file
    ]
    where = f" ({os.path.basename(str(file))}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def _find(name: str) -> Callable[..., Any]:
    return find_own(name, what="model", expected=_EXPECTED)


def _parameters(name: str, target: Any) -> dict[str, inspect.Parameter]:
    called, hidden = target, set[str]()
    if isinstance(target, type):
        # Not the class: its signature is that of Flax's metaclass. Linen's `parent` and
        # `name` are of a module's place in another one.
        called, hidden = (
            inspect.getattr_static(target, "__init__"),
            {"self", "parent", "name"},
        )
    try:
        found = inspect.signature(called).parameters
    except (TypeError, ValueError) as error:
        raise _no_network(name, repr(target)) from error
    return {key: value for key, value in found.items() if key not in hidden}


def _check_arguments(
    name: str, known: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> None:
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for option in given:
        if option not in known:
            raise unknown_name(f"unknown option of model {name}", option, known)
    missing = [
        key
        for key, parameter in known.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and key not in (*given, "dtype", "rngs")
    ]
    if missing:
        raise UserError(
            f"model {name}",
            got=f"no value for {', '.join(missing)}",
            expected="values for all that has no default",
            remedy=f"set the model's option {missing[0]}",
        )


def _make_module(
    name: str, target: Any, given: dict[str, Any], known: Mapping[str, Any]
) -> tuple[nn.Module, Callable[..., Any]]:
    """A Linen module, and the call whose arguments say how it is trained."""
    takes_rngs = "rngs" in known
    try:
        if takes_rngs:
            # NNX makes its variables at once: here of no size, to see what it is.
            made = nnx.eval_shape(lambda: target(**given, rngs=nnx.Rngs(0)))
        else:
            made = target(**given)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is somebody else's code
        raise UserError(
            f"model {name}",
            got=explain_own(name, error),
            expected="a network that can be made with these options: "
            f"{', '.join(f'{k}={v!r}' for k, v in given.items())}",
            remedy="mend it, or change the model's options",
        ) from error
    if isinstance(made, nn.Module):
        return made, type(made).__call__
    if takes_rngs and isinstance(made, nnx.Module):
        wrapped = nnx.bridge.ToLinen(target, kwargs=FrozenDict(given), metadata_fn=None)
        return wrapped, type(made).__call__
    raise _no_network(name, f"{target!r} makes a {type(made).__name__}")


def _is_module(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, nn.Module | nnx.Module)


def _no_network(name: str, got: str) -> UserError:
    return UserError(
        f"model {name}",
        got=got,
        expected=_EXPECTED,
        remedy="name such a class or function",
    )


def _switched(switch: str | None, train: bool) -> dict[str, Any]:
    return {} if switch is None else {switch: train == _SWITCHES[switch]}


def _every_stream(rngs: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the streams that stand for all others: `params` in Linen, `default` in NNX.

    So every random stream of a network gets keys of the step, whatever its name.
    """
    key = rngs.get("dropout")
    if key is None:
        return dict(rngs)
    others = {
        name: jax.random.fold_in(key, number)
        for number, name in enumerate(("params", "default"), 1)
    }
    return {**others, **rngs}


def _pack(variables: Mapping[str, Any]) -> dict[str, Any]:
    others = {k: v for k, v in variables.items() if k != "params"}
    packed = {"params": variables.get("params", {})}
    if set(others) <= {"batch_stats"}:
        return {**packed, **others}
    return {**packed, "batch_stats": {_COLLECTIONS: others}}


def _unpack(variables: Mapping[str, Any]) -> dict[str, Any]:
    statistics = variables.get("batch_stats", {})
    if set(statistics) == {_COLLECTIONS}:
        others = statistics[_COLLECTIONS]
    else:
        others = {"batch_stats": statistics} if statistics else {}
    # What Grad-CAM adds is handed through.
    added = {k: v for k, v in variables.items() if k == "perturbations"}
    return {"params": variables.get("params", {}), **others, **added}
