"""The pickles inside PyTorch's files, interpreted instead of unpickled.

A pickle is a program for a small stack machine whose instructions may call any function of any module. This one knows the
instructions that build dicts, lists, tuples, numbers and strings, and a closed table of names that PyTorch's own files
use; every other instruction and every other name is refused by its name. Nothing outside this file's table is ever called.
Source: the instruction set of Python's ``pickletools``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from .torch_numbers import NumberType

OPERATIONS = 10_000_000
"""So many instructions may one file have: some 300,000 tensors."""
DEPTH = 100
"""So deep may containers be nested."""
NAME = 200  # no name of a module or a class is longer


class Stream:
    """The bytes of a file from where it stands, with the number of those that are left."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self.file, self.left, self.operations = file, left, OPERATIONS

    def take(self, n: int) -> bytes:
        if n > self.left:
            raise ValueError(f"it ends early: {n:,} bytes are promised, {self.left:,} are left")
        data = self.file.read(n)
        if len(data) != n:
            raise ValueError("it became shorter while it was read")
        self.left -= n
        return data

    def line(self) -> str:
        data = self.file.readline(NAME)
        self.left -= len(data)
        if not data.endswith(b"\n"):
            raise ValueError("it asks for a name without an end")
        return data[:-1].decode()


class Callee:
    """A name that a pickle may call: what it stands for, given the arguments."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name, self.call = name, call


_MARK = object()


def read_pickle(stream: Stream, names: Mapping[tuple[str, str], Any], storage: Callable[[Any], Any]) -> Any:
    """The value that one pickle describes; ``stream`` stands behind it then.

    ``names``: what a (module, name) stands for, a value or a ``Callee``. ``storage``: what a persistent id stands for.
    Raises ValueError for everything else.
    """
    machine = _Machine(stream, names, storage)
    steps = _STEPS
    while True:
        stream.operations -= 1
        if stream.operations < 0:
            raise ValueError(f"its pickle has more than {OPERATIONS:,} instructions")
        code = stream.take(1)[0]
        step = steps.get(code)
        if step is None:
            raise ValueError(_refused(code))
        if code == ord("."):
            return machine.pop()
        step(machine)


def _refused(code: int) -> str:
    import pickletools

    known = {op.code: op for op in pickletools.opcodes}.get(chr(code))
    if known is None:
        return f"it is no pickle: there is no instruction {code:#04x}"
    return f"its pickle has the instruction {known.name}, which is refused: {ONLY}"


ONLY = "only tensors, dicts, lists, tuples, numbers and strings are read, and nothing is run"


class _Machine:
    def __init__(self, stream: Stream, names: Mapping[tuple[str, str], Any], storage: Callable[[Any], Any]) -> None:
        self.stream, self.names, self.storage = stream, names, storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("its pickle takes more from the stack than there is")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        value = self.pop()
        self.stack.append(value)
        if type(value) is not kind:
            raise ValueError(f"its pickle puts parts into a {type(value).__name__}, expected a {kind.__name__}")
        return value

    def marked(self) -> list[Any]:
        """Everything down to the last mark."""
        if not self.marks:
            raise ValueError("its pickle lacks a mark")
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.stream.take(struct.calcsize(form)))[0]

    def text(self, form: str) -> None:
        self.stack.append(self.stream.take(self.number(form)).decode())

    def tuple_of(self, n: int) -> None:
        values = [self.pop() for _ in range(n)]
        self.stack.append(tuple(values[::-1]))

    def put(self, key: int) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[key] = value

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise ValueError(f"its pickle asks for value {key}, which it never kept")
        self.stack.append(self.memo[key])

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        into = self.top(dict)
        if len(values) % 2:
            raise ValueError("its pickle has a key without a value")
        for key, value in zip(values[::2], values[1::2]):
            into[checked_key(key)] = value

    def find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle asks for a name that is no text")
        if (module, name) not in self.names:
            model = module == "__main__" or module.startswith("torch.nn.modules.")
            whole = "; it looks like a whole model, save its state_dict() instead" if model else ""
            raise ValueError(f"its pickle asks for {module[:NAME]}.{name[:NAME]}, which is refused: {ONLY}{whole}")
        self.stack.append(self.names[module, name])

    def reduce(self) -> None:
        arguments, callee = self.pop(), self.pop()
        if not isinstance(callee, Callee) or type(arguments) is not tuple:
            raise ValueError(f"its pickle calls a {type(callee).__name__}, which is refused: {ONLY}")
        try:
            self.stack.append(callee.call(*arguments))
        except TypeError:  # of the call itself: what is called looks at the types of its arguments
            raise ValueError(f"its pickle gives {len(arguments)} arguments to {callee.name}") from None

    def build(self) -> None:
        state, value = self.pop(), self.pop()
        self.stack.append(value)
        if isinstance(value, NumberType):
            value.build(state)
        else:
            self.top(dict)  # the state: attributes of an ordered dict, the versions of PyTorch's layers


def checked_key(key: Any) -> Any:
    """A key of a dict: text or a number of 64 bits. Of tuples, Python would compute hashes, which may take for ever."""
    if type(key) is str or type(key) is bool or (type(key) is int and -(2**63) <= key < 2**63):
        return key
    raise ValueError(f"a dict has a {type(key).__name__} for a key, expected text or an integer of 64 bits")


def _protocol(m: _Machine) -> None:
    if (version := m.number("B")) > 5:
        raise ValueError(f"its pickle has protocol {version}, expected up to 5")


def _steps() -> dict[int, Callable[[_Machine], None]]:
    def push(value: Any) -> Callable[[_Machine], None]:
        return lambda m: m.stack.append(value)

    def number(form: str) -> Callable[[_Machine], None]:
        return lambda m: m.stack.append(m.number(form))

    def text(form: str) -> Callable[[_Machine], None]:
        return lambda m: m.text(form)

    table: dict[str, Callable[[_Machine], None]] = {
        "\x80": _protocol,
        "\x95": lambda m: m.number("<Q"),  # FRAME
        ".": push(None),  # STOP
        "(": lambda m: m.marks.append(len(m.stack)),
        "N": push(None), "\x88": push(True), "\x89": push(False),
        "J": number("<i"), "K": number("B"), "M": number("<H"), "G": number(">d"),
        "\x8a": lambda m: m.stack.append(int.from_bytes(m.stream.take(m.number("B")), "little", signed=True)),  # LONG1
        "X": text("<I"), "\x8c": text("B"), "\x8d": text("<Q"), "U": text("B"), "T": text("<I"),
        "}": lambda m: m.stack.append({}), "]": lambda m: m.stack.append([]), ")": push(()),
        "t": lambda m: m.stack.append(tuple(m.marked())),
        "\x85": lambda m: m.tuple_of(1), "\x86": lambda m: m.tuple_of(2), "\x87": lambda m: m.tuple_of(3),
        "a": lambda m: m.append([m.pop()]), "e": lambda m: m.append(m.marked()),
        "s": lambda m: m.set_items([m.pop(), m.pop()][::-1]), "u": lambda m: m.set_items(m.marked()),
        "q": lambda m: m.put(m.number("B")), "r": lambda m: m.put(m.number("<I")), "\x94": lambda m: m.put(len(m.memo)),
        "h": lambda m: m.get(m.number("B")), "j": lambda m: m.get(m.number("<I")),
        "c": lambda m: m.find(m.stream.line(), m.stream.line()),
        "\x93": lambda m: m.find(*[m.pop(), m.pop()][::-1]),
        "R": _Machine.reduce, "b": _Machine.build,
        "Q": lambda m: m.stack.append(m.storage(m.pop())),
    }  # fmt: skip
    return {ord(code): step for code, step in table.items()}


_STEPS = _steps()
