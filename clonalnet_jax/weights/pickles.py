"""Pickles read as data: nothing that they name is imported, called or built.

A pickle is a program for a small stack machine, and Python's own unpickler runs it:
with every name refused, nine bytes can still take gigabytes, and a deep nesting can
end the process. Here the opcodes only move plain data around. What is no plain data
is a `Placeholder`, which does nothing.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

# Each opcode makes at most one small object, so that this bounds the memory. A tensor
# takes about 25 of them.
_MOST_OPCODES = 5_000_000
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Opcodes whose argument is the value.
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
    *("BINUNICODE8", "FLOAT", "BINFLOAT"),
}
_IGNORED = {"PROTO", "FRAME"}


class Placeholder:
    """Stands for an object or a name of the file; it has no behaviour.

    Attributes:
      name: The name that the file asks for, such as `argparse.Namespace`.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        """See the class."""
        self.name = name


# Makes the value of a call, given the name of what would be called and its arguments.
Build = Callable[[str, tuple[Any, ...]], Any]


def read_pickle(stream: BinaryIO, build: Build, refer: Callable[[Any], Any]) -> Any:
    """Reads one pickle, of protocols 0 to 5, up to and with its end.

    Args:
      stream: The file, at the place where the pickle begins.
      build: The function that makes what stands for a call in the file.
      refer: The function that makes what stands for a persistent id, a storage.

    Returns:
      None, numbers, text, bytes, tuples, lists and dicts as such, with what `build` and
      `refer` make, and a `Placeholder` for all else. A dict lacks the keys that are
      neither text nor numbers.

    Raises:
      ValueError: It is no whole pickle, or has more than five million opcodes.
    """
    machine = _Machine(build, refer)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= _MOST_OPCODES:
            raise ValueError(f"a pickle of more than {_MOST_OPCODES:,} opcodes")
        if opcode.name == "STOP":
            break
        try:
            machine.step(opcode.name, argument)
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"a damaged pickle: {opcode.name} has no operand"
            ) from error
    return machine.pop()


class _Machine:
    """The stack machine, of which only the moves of data are left."""

    def __init__(self, build: Build, refer: Callable[[Any], Any]) -> None:
        self._build = build
        self._refer = refer
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Does what one opcode says."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name not in _IGNORED:
            move = getattr(self, f"on_{name.lower()}", None)
            if move is None:
                raise ValueError(f"a pickle with the opcode {name}")
            move() if argument is None else move(argument)

    def pop(self) -> Any:
        """Takes the last value, which must belong to no mark before it."""
        if self._marks and len(self._stack) <= self._marks[-1]:
            raise ValueError("a damaged pickle: a mark where a value should be")
        if not self._stack:
            raise ValueError("a damaged pickle: no value where one should be")
        return self._stack.pop()

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _top(self) -> Any:
        value = self.pop()
        self._stack.append(value)
        return value

    # What the opcodes do, each under its name: moves first.

    def on_mark(self) -> None:
        self._marks.append(len(self._stack))

    def on_pop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self.pop()

    def on_pop_mark(self) -> None:
        self._since_mark()

    def on_dup(self) -> None:
        self._stack.append(self._top())

    def on_put(self, index: int) -> None:
        self._memo[index] = self._top()

    def on_memoize(self) -> None:
        self._memo[len(self._memo)] = self._top()

    def on_get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    on_binput = on_long_binput = on_put
    on_binget = on_long_binget = on_get

    # Containers.

    def on_empty_tuple(self) -> None:
        self._stack.append(())

    def on_empty_list(self) -> None:
        self._stack.append([])

    def on_empty_dict(self) -> None:
        self._stack.append({})

    def on_empty_set(self) -> None:
        self._stack.append(Placeholder("builtins.set"))

    def on_frozenset(self) -> None:
        self._since_mark()
        self._stack.append(Placeholder("builtins.frozenset"))

    def on_tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def on_tuple1(self) -> None:
        self._stack.append((self.pop(),))

    def on_tuple2(self) -> None:
        last, first = self.pop(), self.pop()
        self._stack.append((first, last))

    def on_tuple3(self) -> None:
        last, middle, first = self.pop(), self.pop(), self.pop()
        self._stack.append((first, middle, last))

    def on_list(self) -> None:
        self._stack.append(self._since_mark())

    def on_dict(self) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._fill(values)

    def on_append(self) -> None:
        self._extend([self.pop()])

    def on_appends(self) -> None:
        self._extend(self._since_mark())

    def on_additems(self) -> None:
        self._since_mark()
        self._top()

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)

    def on_setitem(self) -> None:
        value, key = self.pop(), self.pop()
        self._fill([key, value])

    def on_setitems(self) -> None:
        self._fill(self._since_mark())

    def _fill(self, values: list[Any]) -> None:
        target = self._top()
        if len(values) % 2:
            raise ValueError("a damaged pickle: a key without a value")
        if isinstance(target, dict):
            target.update(data_items(zip(values[::2], values[1::2], strict=True)))

    # Names and what the file would have called.

    def on_global(self, names: str) -> None:
        self._stack.append(Placeholder(names.replace(" ", ".", 1)))

    def on_stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("a damaged pickle: a name that is no text")
        self._stack.append(Placeholder(f"{module}.{name}"))

    def on_reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self._call(function, arguments)

    def on_newobj_ex(self) -> None:
        self.pop()
        self.on_reduce()

    on_newobj = on_reduce

    def on_inst(self, names: str) -> None:
        arguments = tuple(self._since_mark())
        self._call(Placeholder(names.replace(" ", ".", 1)), arguments)

    def on_obj(self) -> None:
        function, *arguments = self._since_mark()
        self._call(function, tuple(arguments))

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Placeholder) or not isinstance(arguments, tuple):
            raise ValueError("a damaged pickle: a call of what cannot be called")
        self._stack.append(self._build(function.name, arguments))

    def on_build(self) -> None:
        """Takes the state that an object would be given; it is given none."""
        self.pop()
        self._top()

    def on_ext1(self, code: int) -> None:
        self._stack.append(Placeholder(f"copyreg extension {code}"))

    on_ext2 = on_ext4 = on_ext1

    def on_persid(self, identifier: str) -> None:
        self._stack.append(self._refer(identifier))

    def on_binpersid(self) -> None:
        self._stack.append(self._refer(self.pop()))


def data_items(pairs: Any) -> list[tuple[Any, Any]]:
    """Pairs whose keys are text or numbers; hashing a tuple could nest too deeply."""
    return [pair for pair in pairs if isinstance(pair[0], str | int | float | bytes)]
