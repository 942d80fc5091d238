"""conv, conv_data and conv_filter: a closed triad (kernels: kernels/convolution.cu, kernels/im2col.cu).

    conv         y[n,o,p] = sum over c, k of  w[o,c,k] x[n,c, p s - lo + k d]         the kernel is not flipped
    conv_data    x[n,c,i] = sum over o and all k, p with p s - lo + k d = i  of  w[o,c,k] y[n,o,p]
    conv_filter  w[o,c,k] = sum over n, p of  y[n,o,p] x[n,c, p s - lo + k d]

x (N, C, *I), w (O, C/groups, *K), y (N, O, *P) over 1 to 3 axes; p, i, k, s, lo, d have one number per axis. With
groups, the o-th output sees the C/groups inputs of its own group. All three are the same sum, over n, o, c, k and p, of
x w y with one factor left out, so each one's gradient is made of the other two:

    conv         dx = conv_data(dy, w)      dw = conv_filter(x, dy)
    conv_data    dy = conv(dx, w)           dw = conv_filter(dx, y)
    conv_filter  dx = conv_data(y, dw)      dy = conv(x, dw)

``conv_bias_act`` is y = act(conv(x, w) + b) in one operation. The layers are in nn/convolutions.py.
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, device_of, is_float
from . import conv_tensor
from . import convolution_kernels as kernels
from .casts import astype_forward
from .elementwise import as_tensor
from .geometry import Window, window
from .im2col import Sizes, col2im_forward, im2col_forward
from .nonlinearities import Activation, activation_backward, along, bias_act_forward, bias_backward, identity
from .shapes import flip

# -- references: windows as columns, and a matrix product --------------------------------------------------------------


def _grouped(a: Any, groups: int) -> Any:
    """(N, C, P...) or (O, C, K...) as (N, groups, C/groups, rest)."""
    n, c = a.shape[:2]
    return a.reshape(n, groups, c // groups, math.prod(a.shape[2:]))


def _filters(w: Any, groups: int) -> Any:
    """w (O, C/groups, *K) as matrices (groups, O/groups, C/groups K)."""
    o = w.shape[0]
    return w.reshape(groups, o // groups, math.prod(w.shape[1:]))


def _columns(x: Any, window: Window) -> Any:
    """(N, groups, C/groups K, P); a window of one pixel needs no copy."""
    n, c = x.shape[:2]
    col = x if window.pointwise() else im2col_forward(x, window)
    rows = c // window.groups * math.prod(window.kernel)
    return col.reshape(n, window.groups, rows, math.prod(window.output_size(x.shape[2:])))


def _matmul(a: Any, b: Any) -> Any:
    """a @ b; 16-bit floats are added up in float32."""
    xp = array_module(a)
    dtype = xp.result_type(a.dtype, b.dtype)
    high = accumulator(dtype) if is_float(dtype) else dtype
    return astype_forward(xp.matmul(astype_forward(a, high), astype_forward(b, high)), dtype)


@array_function
def conv_forward(x: Any, w: Any, window: Window) -> Any:
    """y (N, O, *P) from x (N, C, *I) and w (O, C/groups, *K)."""
    y = _matmul(_filters(w, window.groups), _columns(x, window))
    return y.reshape(x.shape[0], w.shape[0], *window.output_size(x.shape[2:]))


@array_function
def conv_data_forward(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """x (N, C, *sizes) from y (N, O, *P) and w (O, C/groups, *K)."""
    col = _matmul(_filters(w, window.groups).swapaxes(-1, -2), _grouped(y, window.groups))
    n, c = y.shape[0], w.shape[1] * window.groups
    if window.pointwise():
        return col.reshape(n, c, *sizes)
    return col2im_forward(col.reshape(n, c * math.prod(window.kernel), col.shape[-1]), window, sizes)


@array_function
def conv_filter_forward(x: Any, y: Any, window: Window) -> Any:
    """w (O, C/groups, *K) from x (N, C, *I) and y (N, O, *P)."""
    g, c, o = window.groups, x.shape[1], y.shape[1]
    rows = _grouped(y, g).transpose(1, 2, 0, 3)
    col = _columns(x, window).transpose(1, 0, 3, 2)
    n, p = y.shape[0], rows.shape[-1]
    w = _matmul(rows.reshape(g, o // g, n * p), col.reshape(g, n * p, col.shape[-1]))
    return w.reshape(o, c // g, *window.kernel)


# -- kernels: on tensor cores, else by what convolution_table.py takes ------------------------------------------------


ACCEPTS = f"float32 and float64, where nothing is empty, copied where not contiguous; {conv_tensor.ACCEPTS}"


@conv_forward.kernel(accepts=ACCEPTS)
def _(x: Any, w: Any, window: Window) -> Any:
    if conv_tensor.fits(x, w, window, w.shape[1], w.shape[0] // window.groups):
        return conv_tensor.forward(x, w, window)
    return kernels.forward(x, w, window) if kernels.fits(x, w) else NotImplemented


@conv_data_forward.kernel(accepts=ACCEPTS)
def _(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    if 0 not in sizes and conv_tensor.fits(y, w, window, w.shape[0] // window.groups, w.shape[1]):
        return conv_tensor.data(y, w, window, sizes)
    return kernels.data(y, w, window, sizes) if kernels.fits(y, w) and 0 not in sizes else NotImplemented


@conv_filter_forward.kernel(accepts=ACCEPTS)
def _(x: Any, y: Any, window: Window) -> Any:
    if conv_tensor.fits(x, y, window, x.shape[1] // window.groups, y.shape[1] // window.groups):
        return conv_tensor.filter(x, y, window)
    return kernels.filter(x, y, window) if kernels.fits(x, y) else NotImplemented


# -- the operations ----------------------------------------------------------------------------------------------------


def _conv_backward(dy: Any, x: Any, w: Any, window: Any, needs: Any) -> Any:
    dy = contiguous(dy)  # once, for both
    return (
        conv_data_forward(dy, w, window, x.shape[2:]) if needs[0] else None,
        conv_filter_forward(x, dy, window) if needs[1] else None,
    )


def _conv_rule(dy: Tensor, x: Any, w: Any, window: Any, needs: Any) -> Any:
    return (
        conv_data(dy, w, window=window, sizes=x.shape[2:]) if needs[0] else None,
        _conv_filter(x, dy, window=window) if needs[1] else None,
    )


def conv_data_backward(dy: Any, y: Any, w: Any, window: Any, needs: Any) -> Any:
    return (
        conv_forward(dy, w, window) if needs[0] else None,
        conv_filter_forward(dy, y, window) if needs[1] else None,
    )


def conv_data_rule(dy: Tensor, y: Any, w: Any, window: Any, needs: Any) -> Any:
    return (
        _conv(dy, w, window=window) if needs[0] else None,
        _conv_filter(dy, y, window=window) if needs[1] else None,
    )


def _filter_backward(dy: Any, x: Any, y: Any, window: Any, needs: Any) -> Any:
    return (
        conv_data_forward(y, dy, window, x.shape[2:]) if needs[0] else None,
        conv_forward(x, dy, window) if needs[1] else None,
    )


def _filter_rule(dy: Tensor, x: Any, y: Any, window: Any, needs: Any) -> Any:
    return (
        conv_data(y, dy, window=window, sizes=x.shape[2:]) if needs[0] else None,
        _conv(x, dy, window=window) if needs[1] else None,
    )


_conv: Operation = operation("conv", conv_forward, backward=_conv_backward, rule=_conv_rule)
conv_data: Operation = operation("conv_data", conv_data_forward, backward=conv_data_backward, rule=conv_data_rule)
_conv_filter: Operation = operation("conv_filter", conv_filter_forward, backward=_filter_backward, rule=_filter_rule)


# -- with bias and activation ------------------------------------------------------------------------------------------


def finished(z: Any, b: Any, activation: Activation) -> tuple[Any, Any]:
    """``(y, z)``: y = act(z + b), written over z, and the pre-activation where the gradient needs it (else None)."""
    if activation.from_output:
        return (z if b is None and activation is identity else bias_act_forward(z, b, 1, activation, z)), None
    if b is not None:
        z += along(b, 1, z.ndim)
    return bias_act_forward(z, None, 1, activation), z


def pulled(dy: Tensor, z: Tensor, b: Any, activation: Activation, needed: bool) -> tuple[Tensor, Tensor | None]:
    """``(dz, db)`` of act(z + b), in differentiable operations."""
    dz = activation.pull(dy, z if b is None else z + b.reshape(-1, *(1,) * (z.ndim - 2)))
    return dz, dz.sum(axis=(0, *range(2, dz.ndim))) if needed else None


@array_function
def conv_bias_act_forward(x: Any, w: Any, b: Any, window: Window, activation: Activation) -> tuple[Any, Any]:
    """``(y, z)``: y = act(conv(x, w) + b), and the pre-activation where the gradient needs it (else None)."""
    return finished(conv_forward(x, w, window), b, activation)


@conv_bias_act_forward.kernel(
    accepts="float32 and float64 of one dtype on the CPU, where nothing is empty and convolution_table.py takes the panels; "
    "copied where not contiguous"
)
def _(x: Any, w: Any, b: Any, window: Window, activation: Activation) -> Any:
    same = kernels.fits(x, w) and device_of(x) == "cpu" and (b is None or b.dtype == x.dtype)
    return kernels.finished(x, w, b, window, activation) if same else NotImplemented


@array_function
def conv_bias_act_backward(
    dy: Any, x: Any, w: Any, out: Any, z: Any, window: Window, activation: Activation, needs: tuple[bool, ...]
) -> Any:
    """``(dx, dw, db)``."""
    dz = contiguous(activation_backward(dy, out if z is None else z, activation))
    return (*_conv_backward(dz, x, w, window, needs), bias_backward(dz, 1) if needs[2] else None)


def _conv_bias_act_rule(dy: Tensor, x: Any, w: Any, b: Any, window: Any, activation: Any, needs: Any) -> Any:
    dz, db = pulled(dy, _conv(x, w, window=window), b, activation, needs[2])
    return (*_conv_rule(dz, x, w, window, needs), db)


_conv_bias_act: Operation = operation(
    "conv_bias_act", conv_bias_act_forward, backward=conv_bias_act_backward, rule=_conv_bias_act_rule, residuals=("z",)
)


# -- public functions --------------------------------------------------------------------------------------------------


def with_batch(x: Any, w: Any, window: Window, wanted: int, side: str) -> tuple[Any, bool]:
    """``x`` with a batch axis, and whether it had one. Raises ValueError where its axes or its ``wanted`` channels do not
    fit, or where axis 0 of the weight, the ``side`` channels, cannot be split into the window's groups."""
    name, groups = window.name, window.groups
    x, n = as_tensor(x), window.ndim
    if x.ndim not in (n + 1, n + 2):
        raise ValueError(f"{name}: a kernel of {n} axes takes an input of {n + 2} axes (N, C, ...), or {n + 1} for one "
                         f"sample; got {x.ndim} axes (input shape {x.shape})")
    if x.shape[-n - 1] != wanted:
        raise ValueError(f"{name}: the input has {x.shape[-n - 1]} channels on axis {-n - 1}, expected {wanted} (input shape "
                         f"{x.shape}, weight shape {w.shape}" + (f", groups {groups})" if groups > 1 else ")"))
    if w.shape[0] % groups:
        raise ValueError(f"{name}: {w.shape[0]} {side} channels (axis 0 of the weight) cannot be split into {groups} groups")
    return (x, True) if x.ndim == n + 2 else (x.reshape(1, *x.shape), False)


def flipped(w: Tensor) -> Tensor:
    """The kernel turned round along all its axes."""
    return flip(w, tuple(range(2, w.ndim)))


def conv(
    x: Any, w: Any, *, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1, flipkernel: bool = False
) -> Tensor:
    """Slide the kernel ``w`` (O, C/groups, *K) over ``x`` (N, C, *I), or (C, *I): (N, O, *P), over 1 to 3 axes.

    The kernel is not flipped (cross-correlation), as in every Python framework; ``flipkernel=True`` is the convolution
    of mathematics and of Flux. ``stride``, ``dilation``: an int or one per axis. ``pad``: an int, one per axis, pairs (lo,
    hi), ``SamePad()``, ``SamePad("upper")`` or ``"same"``; zeros are padded. ``groups``: inputs and outputs are split into
    as many parts that don't see each other; with as many groups as channels the convolution is depthwise.
    """
    w = as_tensor(w)
    if w.ndim < 3:
        raise ValueError(f"conv: the weight has the axes (out, in/groups, kernel...), got shape {w.shape}")
    return conv_bias_act(x, w, None, window("conv", w.shape[2:], stride, pad, dilation, groups), flipkernel=flipkernel)


def conv_bias_act(
    x: Any, w: Any, b: Any, window: Window, activation: Activation = identity, *, flipkernel: bool = False
) -> Tensor:
    """``act(conv(x, w) + b)`` in one operation; ``b`` (O,) or None, ``activation`` from the table, errors in the
    window's name."""
    x, batched = with_batch(x, w, window, w.shape[1] * window.groups, "output")
    window.output_size(x.shape[2:])
    if flipkernel:
        w = flipped(w)
    if b is None and activation is identity:
        y = _conv(x, w, window=window)
    else:
        y = _conv_bias_act(x, w, b, window=window, activation=activation)
    return y if batched else y.reshape(y.shape[1:])
