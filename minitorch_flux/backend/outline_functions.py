"""What NumPy's functions make of outlines: a rule of shapes for each that the library's references use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import outlines as of


class Outlines:
    """The namespace that stands in for NumPy where only shapes are known: ``xp`` of an outline."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)  # constants, dtypes and ufuncs are NumPy's own: those ask the outline
        if isinstance(value, np.ufunc | type) or not callable(value):
            return value
        raise of.OutlineError(f"numpy.{name} of an array of which only the shape is known: no rule of shapes for it")


outlines = Outlines()


def _rule(function: Callable[..., Any]) -> Callable[..., Any]:
    setattr(outlines, function.__name__, function)
    return function


def _views(name: str) -> None:
    function = getattr(np, name)

    def rule(x: Any, *args: Any, **keywords: Any) -> Any:
        return x._seen(lambda a: function(a, *args, **keywords)) if of.is_outline(x) else function(x, *args, **keywords)

    setattr(outlines, name, rule)


for _name in ("transpose", "moveaxis", "swapaxes", "expand_dims", "squeeze", "flip", "rot90", "broadcast_to", "diagonal"):
    _views(_name)


def _reduction(name: str) -> None:
    function = getattr(np, name)

    def rule(x: Any, axis: Any = None, **keywords: Any) -> Any:
        out = keywords.pop("out", None)
        shape = of._reduced(x.shape, {"axis": axis, **keywords})
        keywords.pop("ddof", None)
        dtype = function(of._tiny(x), axis=axis, **keywords).dtype
        return of._written(out, shape, dtype)

    setattr(outlines, name, rule)


for _name in ("sum", "prod", "max", "min", "amax", "amin", "mean", "any", "all", "argmax", "argmin", "count_nonzero",
              "var", "std"):
    _reduction(_name)


def _same(name: str) -> None:
    function = getattr(np, name)

    def rule(x: Any, *args: Any, **keywords: Any) -> Any:
        out = keywords.pop("out", None)
        axis = keywords.get("axis", args[0] if args and name != "round" else -1)
        shape = (math.prod(x.shape),) if axis is None else x.shape
        return of._written(out, shape, keywords.get("dtype") or function(of._tiny(x), *args, **keywords).dtype)

    setattr(outlines, name, rule)


for _name in ("sort", "argsort", "cumsum", "cumprod", "roll", "round", "triu", "tril"):
    _same(_name)


def _made(name: str) -> None:
    def rule(shape: Any, *value: Any, dtype: Any = None, **_: Any) -> Any:
        if name == "full" and dtype is None:
            dtype = value[1] if len(value) > 1 else np.asarray(value[0]).dtype
        elif value and name != "full":
            dtype = value[0]
        return of.Outline(shape, dtype or float)

    setattr(outlines, name, rule)
    setattr(outlines, f"{name}_like", lambda x, *value, dtype=None, **_: of.Outline(x.shape, dtype or x.dtype))


for _name in ("empty", "zeros", "ones", "full"):
    _made(_name)


@_rule
def asarray(x: Any, dtype: Any = None, **_: Any) -> Any:
    """The outline of ``x``; real arrays and numbers keep their numbers."""
    return x.astype(dtype or x.dtype, copy=False) if of.is_outline(x) else np.asarray(x, dtype)


@_rule
def ascontiguousarray(x: Any, dtype: Any = None) -> Any:
    """``x`` itself where it is contiguous and of this dtype."""
    if not of.is_outline(x):
        return np.ascontiguousarray(x, dtype)
    return x.astype(dtype or x.dtype, copy=not x.flags.c_contiguous)


@_rule
def array(x: Any, dtype: Any = None, **_: Any) -> Any:
    """A copy: an outline of an outline."""
    return x.astype(dtype or x.dtype) if of.is_outline(x) else np.array(x, dtype)


outlines.copy = array  # type: ignore[attr-defined]


@_rule
def arange(*args: Any, **keywords: Any) -> Any:
    """Real numbers: an index has some."""
    return np.arange(*args, **keywords)


@_rule
def eye(*args: Any, **keywords: Any) -> Any:
    """Real numbers."""
    return np.eye(*args, **keywords)


@_rule
def result_type(*values: Any) -> Any:
    """NumPy's promotion."""
    return np.result_type(*(v.dtype if of.is_outline(v) else v for v in values))


@_rule
def shape(x: Any) -> Any:
    """The shape of an array or number."""
    return np.shape(x) if not of.is_outline(x) else x.shape


@_rule
def ndim(x: Any) -> Any:
    """The number of axes."""
    return len(shape(x))


@_rule
def where(condition: Any, x: Any, y: Any) -> Any:
    """As ``numpy.where`` with three arguments."""
    return of.Outline(np.broadcast_shapes(*map(shape, (condition, x, y))), result_type(x, y))


@_rule
def clip(x: Any, low: Any = None, high: Any = None, out: Any = None) -> Any:
    """As ``numpy.clip``."""
    bounds = [b for b in (low, high) if b is not None]
    return of._written(out, np.broadcast_shapes(x.shape, *map(shape, bounds)), result_type(x, *bounds))


@_rule
def concatenate(arrays: Any, axis: Any = 0, out: Any = None, **_: Any) -> Any:
    """As ``numpy.concatenate``."""
    arrays = list(arrays)
    if axis is None:
        return of._written(out, (sum(math.prod(shape(a)) for a in arrays),), result_type(*arrays))
    sizes = [list(a.shape) for a in arrays]
    axis %= len(sizes[0])
    if len({(len(s), *s[:axis], *s[axis + 1 :]) for s in sizes}) > 1:
        raise ValueError(f"the shapes {', '.join(str(a.shape) for a in arrays)} differ in another axis than {axis}")
    sizes[0][axis] = sum(s[axis] for s in sizes)
    return of._written(out, sizes[0], result_type(*arrays))


@_rule
def stack(arrays: Any, axis: int = 0, out: Any = None, **_: Any) -> Any:
    """As ``numpy.stack``."""
    arrays = list(arrays)
    if len({a.shape for a in arrays}) > 1:
        raise ValueError("all input arrays must have the same shape")
    axis %= arrays[0].ndim + 1
    sizes = list(arrays[0].shape)
    return of._written(out, [*sizes[:axis], len(arrays), *sizes[axis:]], result_type(*arrays))


@_rule
def broadcast_arrays(*arrays: Any) -> Any:
    """As ``numpy.broadcast_arrays``."""
    size = np.broadcast_shapes(*map(shape, arrays))
    return tuple(outlines.broadcast_to(a, size) for a in arrays)


@_rule
def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    """As ``numpy.bincount`` of numbers below ``minlength``."""
    return of.Outline(minlength, np.intp if weights is None else float)


@_rule
def take(x: Any, indices: Any, axis: Any = None, **_: Any) -> Any:
    """As ``numpy.take``."""
    if axis is None:
        return of.Outline(shape(indices), x.dtype)
    axis %= x.ndim
    return of.Outline([*x.shape[:axis], *shape(indices), *x.shape[axis + 1 :]], x.dtype)


@_rule
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    """As ``numpy.take_along_axis``."""
    axis %= x.ndim
    sizes = np.broadcast_shapes(*[(*s[:axis], 1, *s[axis + 1 :]) for s in (x.shape, indices.shape)])
    return of.Outline([*sizes[:axis], indices.shape[axis], *sizes[axis + 1 :]], x.dtype)


@_rule
def put_along_axis(x: Any, indices: Any, values: Any, axis: int) -> None:
    """Writes nothing."""


@_rule
def repeat(x: Any, repeats: Any, axis: Any = None) -> Any:
    """As ``numpy.repeat``."""
    sizes = [math.prod(x.shape)] if axis is None else list(x.shape)
    axis = 0 if axis is None else axis % x.ndim
    if of.is_outline(repeats):
        repeats._unknown()
    sizes[axis] = sizes[axis] * repeats if isinstance(repeats, int | np.integer) else int(np.sum(repeats))
    return of.Outline(sizes, x.dtype)


@_rule
def tile(x: Any, reps: Any) -> Any:
    """As ``numpy.tile``."""
    reps = (reps,) if isinstance(reps, int | np.integer) else tuple(reps)
    n = max(len(reps), x.ndim)
    sizes = [1] * (n - x.ndim) + list(x.shape)
    return of.Outline([a * b for a, b in zip(sizes, [1] * (n - len(reps)) + list(reps), strict=True)], x.dtype)


@_rule
def pad(x: Any, widths: Any, *_: Any, **__: Any) -> Any:
    """As ``numpy.pad``."""
    pairs = np.broadcast_to(widths, (x.ndim, 2))
    return of.Outline([n + int(lo) + int(hi) for n, (lo, hi) in zip(x.shape, pairs, strict=True)], x.dtype)


@_rule
def dot(x: Any, y: Any) -> Any:
    """As ``numpy.dot`` of vectors and matrices."""
    return np.matmul(x, y)


@_rule
def vdot(x: Any, y: Any) -> Any:
    """As ``numpy.vdot``."""
    return of.Outline((), result_type(x, y))


@_rule
def tensordot(x: Any, y: Any, axes: Any = 2) -> Any:
    """As ``numpy.tensordot``."""
    if isinstance(axes, int | np.integer):
        axes = list(range(x.ndim - axes, x.ndim)), list(range(axes))
    first, second = ([a] if isinstance(a, int | np.integer) else a for a in axes)
    kept = [n for i, n in enumerate(x.shape) if i not in {a % x.ndim for a in first}]
    kept += [n for i, n in enumerate(y.shape) if i not in {a % y.ndim for a in second}]
    return of.Outline(kept, result_type(x, y))


@_rule
def einsum(subscripts: str, *arrays: Any, **_: Any) -> Any:
    """As ``numpy.einsum`` with an arrow."""
    inputs, output = subscripts.replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    dots: tuple[int, ...] = ()
    for terms, a in zip(inputs.split(","), arrays, strict=True):
        before, ellipsis, after = terms.partition("...")
        if ellipsis:
            dots = np.broadcast_shapes(dots, a.shape[len(before) : a.ndim - len(after)])
        for named, lengths in ((before, a.shape), (after[::-1], a.shape[::-1])):
            for letter, n in zip(named, lengths, strict=False):
                sizes[letter] = max(n, sizes.get(letter, n)) if n else 0
    before, ellipsis, after = output.partition("...")
    kept = [*(sizes[c] for c in before), *(dots if ellipsis else ()), *(sizes[c] for c in after)]
    return of.Outline(kept, result_type(*arrays))
