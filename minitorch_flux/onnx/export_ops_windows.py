"""Writing convolutions, pools, interpolation: what slides over the last axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.geometry import SamePad, Window
from ..ops.upsampling import cubic_taps, linear_taps, nearest_taps
from .dimensions import Dim, Varying
from .export_ops_activations import activated
from .exporting import register_export
from .graph_writing import GraphWriter, Value


def _attributes(g: GraphWriter, window: Window, x: Value, groups: bool = True) -> dict[str, Any]:
    """Kernel, strides, pads, dilations and group as ONNX has them."""
    given: dict[str, Any] = {"kernel_shape": list(window.kernel), "strides": list(window.stride)}
    if groups or set(window.dilation) != {1}:  # pools took none at first
        given["dilations"] = list(window.dilation)
    if groups:
        given["group"] = window.groups
    if isinstance(window.pad, SamePad):
        sizes = x.shape[2:]
        if any(isinstance(n, Dim) for n in sizes):
            return {**given, "auto_pad": "SAME_UPPER"}
        window = window.at(sizes)
    pairs: Any = window.pad
    given["pads"] = [lo for lo, _ in pairs] + [hi for _, hi in pairs]
    return given


def _one_dtype(g: GraphWriter, *values: Any) -> list[Any]:
    """Values in the promoted dtype of all."""
    dtype = np.result_type(*(v.dtype for v in values if v is not None))
    return [None if v is None else g.cast(v, dtype) for v in values]


@register_export("conv")
def conv(g: GraphWriter, x: Value, w: Value, *, window: Window) -> Any:
    return conv_bias_act(g, x, w, None, window=window)


@register_export("conv_bias_act")
def conv_bias_act(g: GraphWriter, x: Value, w: Value, b: Any, *, window: Window, activation: Any = None) -> Any:
    x, w, b = _one_dtype(g, x, w, b)
    given = _attributes(g, window, x)
    if min(given.get("pads", [0])) < 0:
        raise g.error("padding below zero is not known to ONNX's Conv")
    return activated(g, g.node("Conv", x, w, b, **given), activation)


@register_export("conv_data")
def conv_data(g: GraphWriter, y: Value, w: Value, *, window: Window, sizes: Any) -> Any:
    return conv_transpose(g, y, w, None, window=window, sizes=sizes)


@register_export("conv_transpose_bias_act")
def conv_transpose(
    g: GraphWriter, x: Value, w: Value, b: Any, *, window: Window, sizes: Any, activation: Any = None
) -> Any:
    """``sizes`` beyond what the window gives are output_padding; a negative pad at the end is that, too."""
    x, w, b = _one_dtype(g, x, w, b)
    given = _attributes(g, window, x)
    n = window.ndim
    extra = [max(-hi, 0) for hi in given["pads"][n:]]
    given["pads"][n:] = [max(hi, 0) for hi in given["pads"][n:]]
    plain = [None if isinstance(i, Dim) else (i - 1) * s + span - lo - hi for i, s, span, lo, hi in zip(
        x.shape[2:], window.stride, window.span, given["pads"][:n], given["pads"][n:], strict=True)]
    for axis, (wanted, has) in enumerate(zip(sizes, plain, strict=True)):
        if has is not None and wanted != has:
            extra[axis] = g.fixed(wanted, "the size of the output") - has
    if min(given["pads"]) < 0 or min(extra) < 0:
        raise g.error("padding below zero is not known to ONNX's ConvTranspose")
    y = g.node("ConvTranspose", x, w, b, output_padding=extra if any(extra) else None, **given)
    return activated(g, y, activation)


# -- pools -------------------------------------------------------------------------------------------------------------


def _pool(g: GraphWriter, op_type: str, x: Value, window: Window, **attributes: Any) -> Any:
    given = _attributes(g, window, x, groups=False)
    if window.ceil_mode:
        given["ceil_mode"] = 1
    for name, since in (("dilations", {"AveragePool": 19, "LpPool": 18}), ("ceil_mode", {"LpPool": 18})):
        if name in given and g.opset < since.get(op_type, 0):
            raise g.error(f"{name} of {op_type} came with opset {since[op_type]}; give opset={since[op_type]} or more")
    return g.node(op_type, x, **given, **attributes)


@register_export("max_pool")
def max_pool(g: GraphWriter, x: Value, *, window: Window, places: bool = False) -> Any:
    return _pool(g, "MaxPool", x, window)


@register_export("mean_pool")
def mean_pool(g: GraphWriter, x: Value, *, window: Window, count_include_pad: bool) -> Any:
    padded = isinstance(window.pad, SamePad) or any(map(any, window.pad))
    return _pool(g, "AveragePool", x, window, count_include_pad=1 if count_include_pad and padded else None)


@register_export("lp_pool")
def lp_pool(g: GraphWriter, x: Value, *, window: Window, p: float) -> Any:
    if float(p).is_integer():
        return _pool(g, "LpPool", x, window, p=int(p))
    powers = g.node("Abs", x) ** p
    powers.shape = x.shape
    mean = _pool(g, "AveragePool", powers, window, count_include_pad=1)
    return (mean * float(np.prod(window.kernel))) ** (1 / p)


def _parts(size: int, out: int) -> list[tuple[int, int]]:
    """PyTorch's windows."""
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


@register_export("adaptive_mean")
def adaptive_mean(g: GraphWriter, x: Value, *, out: Any) -> Any:
    """One mean over all, a pool where the sizes divide, else a product with a matrix of means for each axis."""
    axes = list(range(2, x.ndim))
    if all(n == 1 for n in out):
        return g.node("GlobalAveragePool", x)
    sizes = g.fixed(x.shape[2:], "an adaptive pool to more than one pixel")
    if all(n % o == 0 for n, o in zip(sizes, out, strict=True)):
        steps = [n // o for n, o in zip(sizes, out, strict=True)]
        return g.node("AveragePool", x, kernel_shape=steps, strides=steps)
    for axis, n, o in zip(axes, sizes, out, strict=True):
        weights = np.zeros((n, o))
        for i, (first, end) in enumerate(_parts(n, o)):
            weights[first:end, i] = 1 / (end - first)
        x = _along(g, x, axis, weights)
    return x


@register_export("adaptive_max")
def adaptive_max(g: GraphWriter, x: Value, *, out: Any) -> Any:
    """One maximum over all, a pool where the sizes divide, else the maxima of slices, joined."""
    if all(n == 1 for n in out):
        return g.node("GlobalMaxPool", x)
    sizes = g.fixed(x.shape[2:], "an adaptive pool to more than one pixel")
    if all(n % o == 0 for n, o in zip(sizes, out, strict=True)):
        steps = [n // o for n, o in zip(sizes, out, strict=True)]
        return g.node("MaxPool", x, kernel_shape=steps, strides=steps)
    for axis, n, o in zip(range(2, x.ndim), sizes, out, strict=True):
        parts = [g.node("Slice", x, *(np.asarray([v], np.int64) for v in (lo, hi, axis))) for lo, hi in _parts(n, o)]
        x = g.node("Concat", *(_reduced(g, "ReduceMax", part, [axis]) for part in parts), axis=axis)
    return x


def _reduced(g: GraphWriter, op_type: str, x: Value, axes: list[int]) -> Value:
    if g.opset >= 18:
        return g.node(op_type, x, np.asarray(axes, np.int64), keepdims=1)
    return g.node(op_type, x, axes=axes, keepdims=1)


def _along(g: GraphWriter, x: Value, axis: int, weights: np.ndarray) -> Value:
    """``x`` with its axis ``axis`` multiplied by a matrix (in, out)."""
    ndim = x.ndim
    w = g.constant(weights, x.dtype)
    if axis == ndim - 1:
        y = g.node("MatMul", x, w)
    elif axis == ndim - 2:
        y = g.node("MatMul", g.constant(weights.T, x.dtype), x)
    else:
        order = [*(a for a in range(ndim) if a != axis), axis]
        y = g.node("MatMul", g.node("Transpose", x, perm=order), w)
        y = g.node("Transpose", y, perm=list(np.argsort(order)))
    y.shape = (*x.shape[:axis], weights.shape[1], *x.shape[axis + 1 :])
    return y


# -- interpolation -----------------------------------------------------------------------------------------------------


def _matrix(taps: Any) -> np.ndarray:
    """The linear map of Taps as a matrix (in, out)."""
    m = np.zeros((taps.size, taps.out))
    for k, weights in enumerate(taps.weights):
        np.add.at(m, (taps.first + k, np.arange(taps.out)), weights)
    return m


RESIZES: dict[str, tuple[Any, bool, dict[str, Any]]] = {
    "nearest": (nearest_taps, False, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "linear": (linear_taps, False, {"coordinate_transformation_mode": "half_pixel"}),
    "linear, corners": (linear_taps, True, {"coordinate_transformation_mode": "align_corners"}),
    "cubic": (cubic_taps, False, {"coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75}),
    "cubic, corners": (cubic_taps, True, {"coordinate_transformation_mode": "align_corners", "cubic_coeff_a": -0.75}),
}  # fmt: skip


@register_export("upsample", varying=True)
def upsample(g: GraphWriter, x: Value, *, maps: Any) -> Any:
    """Resize, where its map is the one to be written; else a product with a matrix for each axis, for fixed sizes."""
    each = [m.each if isinstance(m, Varying) else (m,) for m in maps]
    how = next((name for name, form in RESIZES.items() if all(_is_map(t, form) for taps in each for t in taps)), None)
    free = any(len(taps) > 1 for taps in each)
    if how is not None and x.dtype != np.float64 and (free or how == "nearest" or g.opset >= 18):
        scales = [{t.out / t.size for t in taps} for taps in each]
        attributes = {**RESIZES[how][2], "mode": how.split(",")[0]}
        if all(len(s) == 1 and s.copy().pop().is_integer() for s in scales):
            return g.node("Resize", x, None, np.asarray([1, 1, *(s.pop() for s in scales)], np.float32), **attributes)
        if not free and g.opset >= 18:
            sizes = np.asarray([taps[0].out for taps in each], np.int64)
            return g.node("Resize", x, None, None, sizes, axes=list(range(2, x.ndim)), **attributes)
    maps = g.fixed(maps, "interpolation")
    for axis, taps in zip(range(2, x.ndim), maps, strict=True):
        if taps.size != taps.out or not taps.plain:
            x = _along(g, x, axis, _matrix(taps))
    return x


def _is_map(taps: Any, form: tuple[Any, bool, Any]) -> bool:
    """Whether the taps are those of a Resize from ``size`` to ``out`` elements; none at all are anyone's."""
    if taps.plain and taps.size == taps.out:
        return True
    wanted = form[0](taps.size, taps.out, None, form[1])
    same = wanted.weights.shape == taps.weights.shape and (wanted.first == taps.first).all()
    return bool(same and np.allclose(wanted.weights, taps.weights, rtol=0, atol=1e-12))


@register_export("unfold")
def unfold(g: GraphWriter, x: Value, *, window: Window) -> Any:
    """Windows as columns (N, C K, P): a convolution whose kernels pick one pixel each."""
    c = g.fixed(x.shape[1], "the number of channels")
    taps = int(np.prod(window.kernel))
    w = np.tile(np.eye(taps).reshape(taps, 1, *window.kernel), (c, *(1,) * (window.ndim + 1)))
    given = {**_attributes(g, window, x), "group": c}
    y = g.node("Conv", x, g.constant(w, x.dtype), **given)
    m = g.call.outputs[0]
    return g.reshape(y, m.shape)


@register_export("fold")
def fold(g: GraphWriter, col: Value, *, window: Window, sizes: Any) -> Any:
    """The adjoint of ``unfold``: a transposed convolution with the same kernels."""
    taps = int(np.prod(window.kernel))
    c = g.fixed(col.shape[1], "the number of channels") // taps
    sizes = g.fixed(tuple(sizes), "the size of the image")
    w = np.tile(np.eye(taps).reshape(taps, 1, *window.kernel), (c, *(1,) * (window.ndim + 1)))
    out = window.output_size(sizes)
    x = g.reshape(col, (col.shape[0], c * taps, *out))
    x.shape = (col.shape[0], c * taps, *out)
    grouped = Window(window.kernel, window.stride, window.at(sizes).pad, window.dilation, c, False, window.name)
    return conv_transpose(g, x, g.constant(w, col.dtype), None, window=grouped, sizes=sizes)
