"""Shapes, types and constants: what moves numbers about."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops import joining, padding, reductions
from ..ops import shapes as s
from ..ops.diagonals import tril, triu
from ..ops.elementwise import as_tensor
from ..ops.upsampling import pixel_shuffle
from .arguments import axis_of, ints, number
from .protos import dtype_of
from .registry import register


@register("Identity")
def identity(x: Any) -> Any:
    return x


@register("Shape")
def shape_of(data: Any, *, start: int = 0, end: int | None = None) -> Any:
    return np.asarray(as_tensor(data).shape[start:end], np.int64)


@register("Size")
def size_of(data: Any) -> Any:
    return np.asarray(as_tensor(data).size, np.int64)


@register("Cast")
def cast(x: Any, *, to: int | str, saturate: int = 1, round_mode: str = "up") -> Any:
    return _converted(x, dtype_of(to, "Cast"))


@register("CastLike")
def cast_like(x: Any, target_type: Any, *, saturate: int = 1, round_mode: str = "up") -> Any:
    return _converted(x, as_tensor(target_type).dtype)


def _converted(x: Any, dtype: np.dtype) -> Tensor:
    """Values beyond the range of the new dtype become infinite; of integers they are undefined."""
    with np.errstate(over="ignore", invalid="ignore"):
        return as_tensor(x).astype(dtype)


@register("BitCast")
def bit_cast(x: Any, *, to: int) -> Any:
    """The same bytes as numbers of another type of equal size."""
    a, dtype = as_tensor(x).data, dtype_of(to, "BitCast")
    if a.dtype.itemsize != dtype.itemsize:
        raise ValueError(f"{a.dtype} and {dtype} have different sizes")
    return Tensor(array_module(a).ascontiguousarray(a).view(dtype).reshape(a.shape))


@register("ConstantOfShape", host=("shape",))
def constant_of_shape(shape: Any, *, value: Any = None) -> Any:
    value = np.zeros(1, np.float32) if value is None else value
    return np.full(ints(shape) or (), value.reshape(-1)[0], value.dtype)


@register("Range", host=("start", "limit", "delta"))
def range_of(start: Any, limit: Any, delta: Any) -> Any:
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return (start.reshape(()) + np.arange(count).astype(start.dtype) * delta.reshape(())).astype(start.dtype)


@register("EyeLike")
def eye_like(x: Any, *, dtype: int | None = None, k: int = 0) -> Any:
    x = as_tensor(x)
    rows, columns = x.shape
    return np.eye(rows, columns, k, dtype=x.dtype if dtype is None else dtype_of(dtype, "EyeLike"))


# -- axes --------------------------------------------------------------------------------------------------------------


@register("Reshape", host=("shape",))
def reshape(data: Any, shape: Any, *, allowzero: int = 0) -> Any:
    """A 0 stands for the length that the axis has, unless ``allowzero``."""
    x = as_tensor(data)
    wanted = ints(shape) or ()
    return s.reshape(x, wanted if allowzero else tuple([n or x.shape[i] for i, n in enumerate(wanted)]))


@register("Flatten")
def flatten(x: Any, *, axis: int = 1) -> Any:
    x = as_tensor(x)
    axis = axis if axis == x.ndim else axis_of(x, axis)
    return s.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@register("Transpose")
def transpose(data: Any, *, perm: Any = None) -> Any:
    return s.transpose(data, perm)


@register("Squeeze", host=("axes",))
def squeeze(data: Any, axes: Any = None) -> Any:
    return s.squeeze(data, ints(axes))


@register("Unsqueeze", host=("axes",))
def unsqueeze(data: Any, axes: Any) -> Any:
    return s.expand_dims(data, ints(axes))


@register("Expand", host=("shape",))
def expand(x: Any, shape: Any) -> Any:
    x = as_tensor(x)
    return reductions.broadcast_to(x, np.broadcast_shapes(x.shape, ints(shape) or ()))


@register("Tile", since=6, host=("repeats",))
def tile(x: Any, repeats: Any) -> Any:
    return s.tile(x, ints(repeats))


@register("Tile", host=("tiles", "axis"))
def tile_along(x: Any, tiles: Any, axis: Any) -> Any:
    n, along = as_tensor(x).ndim, number(axis)
    return s.tile(x, tuple(number(tiles) if i == along else 1 for i in range(n)))


# -- joining and taking apart ------------------------------------------------------------------------------------------


@register("Concat", since=4)
def concat(*inputs: Any, axis: int) -> Any:
    return joining.concatenate(list(inputs), axis)


@register("Concat")
def concat_1(*inputs: Any, axis: int = 1) -> Any:
    return joining.concatenate(list(inputs), axis)


@register("Split", host=("split",))
def split(x: Any, split: Any = None, *, axis: int = 0, num_outputs: int | None = None, node: Any) -> Any:
    """Parts of the lengths ``split``, or as many equal ones as there are outputs, the last one perhaps smaller."""
    x = as_tensor(x)
    axis = axis_of(x, axis)
    parts = num_outputs or len(node.outputs)
    length = -(-x.shape[axis] // parts)
    sizes = ints(split) or tuple(max(min(length, x.shape[axis] - i * length), 0) for i in range(parts))
    if sum(sizes) != x.shape[axis]:
        raise ValueError(f"the parts {sizes} do not add up to {x.shape[axis]}, the length of axis {axis} (shape {x.shape})")
    return joining.split(x, list(accumulate(sizes))[:-1], axis)


@register("Slice", host=("starts", "ends", "axes", "steps"))
def slice_of(data: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    x = as_tensor(data)
    first, last = ints(starts) or (), ints(ends) or ()
    along = ints(axes) if axes is not None else tuple(range(len(first)))
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(along or (), first, last, ints(steps) or (1,) * len(first), strict=True):
        axis = axis_of(x, axis)
        cut[axis] = _cut(start, end, step, x.shape[axis])
    return x[tuple(cut)]


def _cut(start: int, end: int, step: int, n: int) -> slice:
    """ONNX's rule: negative bounds count from the end, and what lies outside is moved to the border."""
    start, end = (i + n if i < 0 else i for i in (start, end))
    if step > 0:
        return slice(min(max(start, 0), n), min(max(end, 0), n), step)
    end = min(max(end, -1), n - 1)
    return slice(min(max(start, 0), n - 1), None if end < 0 else end, step)


@register("Pad", since=2, host=("pads", "constant_value", "axes"))
def pad(data: Any, pads: Any, constant_value: Any = None, axes: Any = None, *, mode: str = "constant",
        value: float = 0.0) -> Any:
    """Negative numbers take away. The value was an attribute before opset 11."""
    x = as_tensor(data)
    given = ints(pads) or ()
    along = tuple(axis_of(x, a) for a in ints(axes)) if axes is not None else tuple(range(x.ndim))  # type: ignore[union-attr]
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(along):
        widths[axis] = (given[i], given[i + len(along)])
    if any(min(pair) < 0 for pair in widths):
        x = x[tuple(slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in zip(x.shape, widths))]
        widths = [(max(lo, 0), max(hi, 0)) for lo, hi in widths]
    if mode == "constant":
        return padding.pad(x, widths, value=value if constant_value is None else number(constant_value))
    return padding.pad(x, widths, mode)


@register("Pad", since=1)
def pad_1(data: Any, *, paddings: Any, mode: str = "constant", value: float = 0.0) -> Any:
    return pad(data, paddings, mode=mode, value=value)



@register("CenterCropPad", host=("shape",))
def center_crop_pad(x: Any, shape: Any, *, axes: Any = None) -> Any:
    x = as_tensor(x)
    for axis, size in zip(range(x.ndim) if axes is None else axes, ints(shape) or (), strict=True):
        axis = axis_of(x, axis)
        n = x.shape[axis]
        if n >= size:
            first = (n - size) // 2
            x = x[(*(slice(None),) * axis, slice(first, first + size))]
        else:
            before = (size - n) // 2
            x = padding.pad(x, [(before, size - n - before) if i == axis else (0, 0) for i in range(x.ndim)])
    return x


# -- blocks ------------------------------------------------------------------------------------------------------------


@register("DepthToSpace")
def depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    x, b = as_tensor(x), blocksize
    n, c, h, w = x.shape
    if mode == "CRD":
        return pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@register("SpaceToDepth")
def space_to_depth(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    x, b = as_tensor(x), blocksize
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(*order).reshape(n, c * b**2, h // b, w // b)


@register("Trilu", host=("k",))
def trilu(x: Any, k: Any = None, *, upper: int = 1) -> Any:
    return (triu if upper else tril)(x, 0 if k is None else number(k))
