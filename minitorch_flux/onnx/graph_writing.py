"""GraphWriter: nodes and stored arrays in order, and the Values that rules compute with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import is_array, is_float
from .dimensions import Dim, Length, Merged, MergedCall, Program, numbers, varying
from .exporting import ExportError, rule_of
from .protos import onnx_package


def _operator(op_type: str, swapped: bool = False, result: Any = None) -> Any:
    def apply(self: Any, other: Any) -> Any:
        if not isinstance(other, Value):
            other = self.g.constant(other, self.dtype)
        return self.g.node(op_type, *((other, self) if swapped else (self, other)), dtype=result)

    return apply


class Value:
    """A value in the graph that is being written. ``shape``: lengths, Dims among them, or None where nobody needs it.

    ``array``: its numbers, where they are known. Operators write nodes.
    """

    def __init__(self, g: GraphWriter, name: str, dtype: Any, shape: Any = None, merged: Any = None) -> None:
        self.g, self._name, self.dtype, self.shape, self.merged = g, name, np.dtype(dtype), shape, merged

    @property
    def name(self) -> str:
        """The name in the graph; what has none yet is written now."""
        if not self._name:
            self._name = self.g.written(self.merged)
        return self._name

    @property
    def array(self) -> Any:
        """The numbers, or None."""
        return None if self.merged is None else self.merged.array

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    __add__, __radd__ = _operator("Add"), _operator("Add", swapped=True)
    __sub__, __rsub__ = _operator("Sub"), _operator("Sub", swapped=True)
    __mul__, __rmul__ = _operator("Mul"), _operator("Mul", swapped=True)
    __truediv__, __rtruediv__ = _operator("Div"), _operator("Div", swapped=True)
    __pow__, __rpow__ = _operator("Pow"), _operator("Pow", swapped=True)
    __lt__, __le__ = _operator("Less", result=np.bool_), _operator("LessOrEqual", result=np.bool_)
    __gt__, __ge__ = _operator("Greater", result=np.bool_), _operator("GreaterOrEqual", result=np.bool_)

    def __neg__(self) -> Any:
        return self.g.node("Neg", self)

    def __repr__(self) -> str:
        return f"<value {self._name!r} {self.shape} {self.dtype}>"


class GraphWriter:
    """Writes a Program as a graph. ``opset``: of the default domain. ``call``: the operation at work."""

    def __init__(self, program: Program, opset: int, traces: int) -> None:
        self.onnx = onnx_package()
        self.program, self.opset, self.traces = program, opset, traces
        self.nodes: list[Any] = []
        self.stored: dict[str, np.ndarray] = {}
        self.taken: set[str] = set()
        self.values: dict[int, Value] = {}
        self.sizes: dict[tuple[int, ...], Value] = {}
        self.constants: dict[Any, Value] = {}
        self.path = ""
        self.call: Any = None  # a MergedCall

    # -- what rules use ------------------------------------------------------------------------------------------------

    def node(
        self, op_type: str, *inputs: Any, outputs: int = 1, dtype: Any = None, shape: Any = None, domain: str = "",
        **attributes: Any,
    ) -> Any:
        """The output of a new node, a tuple for several. Inputs are Values, None for one left out, arrays and numbers.

        ``dtype``: of the output where it is not that of the first input. Attributes that are None are left out.
        """
        first = next((x.dtype for x in inputs if isinstance(x, Value)), np.dtype(np.float32))
        dtype = first if dtype is None else dtype
        names = [("" if x is None else self.constant(x, None if is_array(x) else first).name) for x in inputs]
        while names and not names[-1]:
            names.pop()
        title = self.fresh(f"{self.path}/{op_type}" if self.path else op_type)
        ends = [title if outputs == 1 else f"{title}_{i}" for i in range(outputs)]
        given = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(self.onnx.helper.make_node(op_type, names, ends, name=title, domain=domain, **given))
        values = tuple([Value(self, name, dtype, shape) for name in ends])
        return values[0] if outputs == 1 else values

    def constant(self, value: Any, dtype: Any = None) -> Value:
        """A number, an array or a Value as a Value; equal ones are stored once. ``dtype`` converts."""
        if isinstance(value, Value):
            return value
        a = np.asarray(value if dtype is None else np.asarray(value).astype(dtype))
        key = (a.dtype.name, a.shape, a.tobytes())
        if key not in self.constants:
            self.constants[key] = self.store(a, "constant")
        return self.constants[key]

    def store(self, a: np.ndarray, name: str) -> Value:
        """An array as an initializer of this name, or one like it."""
        name = self.fresh(name)
        self.stored[name] = a
        return Value(self, name, a.dtype, a.shape)

    def cast(self, x: Value, dtype: Any) -> Value:
        """``x`` in another dtype."""
        if x.dtype == dtype:
            return x
        code = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", x, dtype=dtype, shape=x.shape, to=code)

    def reshape(self, x: Value, shape: Sequence[Length]) -> Value:
        """``x`` with other axes; where a length depends on the input, so does the shape."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        given: list[Any] = list(shape)
        for i, n in enumerate(given):
            if isinstance(n, Dim) and x.shape is not None and i < len(x.shape) and x.shape[i] == n:
                given[i] = 0
        open_ = [i for i, n in enumerate(given) if isinstance(n, Dim)]
        zero = 0 in shape
        if len(open_) == 1 and not zero:
            given[open_[0]] = -1
        elif open_ or zero:
            return self.node("Reshape", x, self.lengths(shape, x), shape=shape, allowzero=1 if zero else None)
        return self.node("Reshape", x, np.asarray(given, np.int64), shape=shape)

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """``x`` with its axes in another order."""
        shape = None if x.shape is None else tuple(x.shape[a] for a in axes)
        return x if list(axes) == sorted(axes) else self.node("Transpose", x, perm=list(axes), shape=shape)

    def lengths(self, shape: Sequence[Length], *near: Value) -> Value:
        """A shape as int64 numbers, computed where it depends on the input. ``near``: values that may have such axes."""
        if not any(isinstance(n, Dim) for n in shape):
            return self.constant(np.asarray(shape, np.int64))
        parts: list[Any] = []
        for dynamic, lengths in itertools.groupby(shape, lambda n: isinstance(n, Dim)):
            run = list(lengths)
            parts += [self.length(n, *near) for n in run] if dynamic else [np.asarray(run, np.int64)]
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0, dtype=np.int64)

    def length(self, n: Length, *near: Value) -> Value:
        """One length as an int64 array of one number."""
        if not isinstance(n, Dim):
            return self.constant(np.asarray([n], np.int64))
        if n.values not in self.sizes:
            self.sizes[n.values] = self._computed(n, near)
        return self.sizes[n.values]

    def fixed(self, x: Any, what: str) -> Any:
        """``x``, or ExportError where it depends on the length of a dynamic axis."""
        if _depends(x):
            raise self.error(f"{what} depends on the length of a dynamic axis; leave that axis out of axes=")
        return x

    def error(self, text: str) -> ExportError:
        """An ExportError that names the operation and its layer."""
        where = f"layer {self.path}" if self.path else "the model"
        return ExportError(f"{where}, operation {self.call.name if self.call else ''!r}: {text}")

    def fresh(self, name: str) -> str:
        """The name, or one like it that is not taken."""
        unique, n = name, 0
        while unique in self.taken:
            n += 1
            unique = f"{name}_{n}"
        self.taken.add(unique)
        return unique

    # -- from the program ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Write every call that depends on the inputs, and what those need."""
        for m in self.program.inputs:
            self.values[m.place] = Value(self, m.name, m.dtype, m.shape, m)
        for call in self.program.calls:
            if any(m.arrays is None for m in call.outputs):
                self._write(call)

    def value(self, m: Any) -> Any:
        """The Value of a Merged; what is nested likewise, anything else as it is."""
        if isinstance(m, Merged):
            if m.place not in self.values:
                self.values[m.place] = Value(self, "", m.dtype, m.shape, m)
            return self.values[m.place]
        if isinstance(m, tuple | list):
            return type(m)(map(self.value, m))
        return {k: self.value(v) for k, v in m.items()} if isinstance(m, dict) else m

    def written(self, m: Merged) -> str:
        """The name of what is known without the inputs: stored, or computed from what is stored."""
        if m.kind in ("parameter", "buffer"):
            return self.store(m.array, m.name or m.kind).name
        if m.call is not None and (m.array is None or _from_parameters(m)):
            self._write(m.call)
            return self.values[m.place].name
        return self.constant(m.array).name if m.array is not None else self._unequal(m).name

    def _write(self, call: MergedCall) -> None:
        before = self.call, self.path
        self.call, self.path = call, call.path
        try:
            rule = rule_of(call.name, call.path)
            if not rule.varying and any(map(varying, (*call.inputs, *call.static.values()))):
                raise self.error("a number in it depends on the length of a dynamic axis; leave that axis out of axes=")
            given = rule.function(self, *self.value(call.inputs), **self.value(call.static))
        finally:
            self.call, self.path = before
        for m, y in zip(call.outputs, given if isinstance(given, tuple) else (given,), strict=True):
            y = self.cast(y, m.dtype)
            old = self.values.get(m.place)
            if old is None or not old._name:
                value = self.values[m.place] = old or Value(self, "", m.dtype, m.shape, m)
                value._name = y.name

    def _unequal(self, m: Merged) -> Value:
        """A constant whose shape follows a dynamic axis: all elements equal, or 0, 1, 2, ..."""
        first = m.arrays[0].reshape(-1)[:1]
        if all(a.size and (a == first).all() for a in m.arrays):
            fill = self.onnx.numpy_helper.from_array(np.ascontiguousarray(first))
            return self.node("ConstantOfShape", self.lengths(m.shape), dtype=m.dtype, value=fill)
        free = [i for i, n in enumerate(m.shape) if isinstance(n, Dim)]
        if len(free) == 1 and all(np.array_equal(a.reshape(-1), np.arange(a.shape[free[0]])) for a in m.arrays):
            zero, one = (self.constant(np.asarray(n, np.int64)) for n in (0, 1))
            end = self.node("Squeeze", self.length(m.shape[free[0]]), self.constant(np.zeros(1, np.int64)))
            row = self.cast(self.node("Range", zero, end, one, dtype=np.int64), m.dtype)
            others = [i for i in range(len(m.shape)) if i != free[0]]
            return self.node("Unsqueeze", row, np.asarray(others, np.int64)) if others else row
        raise self.error(f"a constant of shape {m.shape} depends on the length of a dynamic axis; leave that axis out of axes=")

    def _computed(self, n: Dim, near: Sequence[Value]) -> Value:
        """The length by those of axes: equal, a multiple, a part, a sum with a constant, or a product of two."""
        axes = [(x, i, d) for x in (*near, *map(self.value, self.program.inputs)) for i, d in enumerate(x.shape or ())
                if isinstance(d, Dim)]
        wanted = numbers(n, self.traces)
        for x, i, d in axes:
            if d == n:
                return self.node("Shape", x, dtype=np.int64, start=i, end=i + 1)
        for x, _, d in axes:
            has = numbers(d, self.traces)
            size = None
            if (wanted % has == 0).all() and len(set(wanted // has)) == 1:
                size = ("Mul", wanted[0] // has[0])
            elif (wanted > 0).all() and (has % wanted == 0).all() and len(set(has // wanted)) == 1:
                size = ("Div", has[0] // wanted[0])
            elif len(set(wanted - has)) == 1:
                size = ("Add", wanted[0] - has[0])
            if size is not None:
                axis = self.length(d, x)
                return self.node(size[0], axis, np.asarray([size[1]], np.int64), dtype=np.int64)
        for (x, _, d), (y, _, e) in itertools.combinations(axes, 2):
            product = numbers(d, self.traces) * numbers(e, self.traces)
            if (wanted % product == 0).all() and len(set(wanted // product)) == 1:
                whole = self.node("Mul", self.length(d, x), self.length(e, y), dtype=np.int64)
                return self.node("Mul", whole, np.asarray([wanted[0] // product[0]], np.int64), dtype=np.int64)
        raise self.error(f"a length (such as {n.values[0]}) cannot be told from those of the inputs; leave that axis out of "
                         "axes=")


def _depends(x: Any) -> bool:
    if isinstance(x, tuple | list):
        return any(map(_depends, x))
    return isinstance(x, Dim) or varying(x)


def _from_parameters(m: Merged) -> bool:
    """Whether a known array was computed from parameters or buffers."""
    if m.call is None:
        return m.kind in ("parameter", "buffer")
    inputs: list[Any] = [*m.call.inputs, *m.call.static.values()]
    return any(isinstance(x, Merged) and _from_parameters(x) for x in inputs)


def size_of(shape: Sequence[Length]) -> int:
    """The number of elements of a shape without Dims."""
    return math.prod(n for n in shape if not isinstance(n, Dim))


def floats(x: Any) -> bool:
    """Whether a Value holds floats."""
    return is_float(x.dtype)
