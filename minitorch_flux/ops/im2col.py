"""unfold and fold: every window of an image as a column of a matrix, and back (kernels: kernels/im2col.cu).

    unfold  col[n,(c,k),p] = x[n,c, p s - lo + k d]                       zero outside the image
    fold    x[n,c,i] = sum of col[n,(c,k),p] over all k, p with p s - lo + k d = i

x is (N, C, *I), col (N, C * prod(kernel), prod(O)); i, k, p, s, lo, d run over 1 to 3 axes, k and p row-major. Each is the
other's gradient. A convolution is a matrix product with ``col``. The arrays' functions are called ``im2col_forward`` and
``col2im_forward``. Source: PyTorch's ``unfold`` and ``fold``, NNlib's ``im2col!`` and ``col2im!``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import array_function, array_module, contiguous, empty
from ..readings import KernelFile
from .geometry import Window, window

Sizes = tuple[int, ...]


def taps(window: Window, out: Sizes) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """``(number, slices)`` per kernel element: where in the padded input all windows have this element."""
    spots: list[tuple[int, tuple[slice, ...]]] = [(0, ())]
    for k, s, d, o in zip(window.kernel, window.stride, window.dilation, out):
        spots = [(n * k + i, (*cut, slice(i * d, i * d + (o - 1) * s + 1, s))) for n, cut in spots for i in range(k)]
    return iter(spots)


def padded(x: Any, window: Window, out: Sizes, value: float = 0) -> Any:
    """``x`` with the window's padding around its last axes, and more after where ``ceil_mode`` reaches further."""
    sizes = x.shape[x.ndim - window.ndim :]
    pairs = window.pad_for(sizes, out)
    x = x[..., *(slice(i + min(hi, 0)) for i, (_, hi) in zip(sizes, pairs))]  # what a negative padding leaves out
    pairs = tuple((lo, max(hi, 0)) for lo, hi in pairs)
    if not any(map(any, pairs)):
        return x
    return array_module(x).pad(x, ((0, 0),) * (x.ndim - window.ndim) + pairs, constant_values=value)


@array_function
def im2col_forward(x: Any, window: Window) -> Any:
    """The windows of ``x`` (N, C, *I) as columns: (N, C * prod(kernel), prod(O))."""
    n, c, *sizes = x.shape
    window = window.at(tuple(sizes))
    out, k = window.output_size(tuple(sizes)), math.prod(window.kernel)
    col = empty((n, c, k, *out), x.dtype, like=x)
    x = padded(x, window, out)
    for i, cut in taps(window, out):
        col[:, :, i] = x[..., *cut]
    return col.reshape(n, c * k, math.prod(out))


@array_function
def col2im_forward(col: Any, window: Window, sizes: Sizes) -> Any:
    """The adjoint: columns added up into images of ``sizes``, (N, C, *sizes)."""
    xp = array_module(col)
    window = window.at(sizes)
    out, k, pairs = window.output_size(sizes), math.prod(window.kernel), window.pad
    n, c = col.shape[0], col.shape[1] // k
    x = xp.zeros((n, c, *(i + lo + max(hi, 0) for i, (lo, hi) in zip(sizes, pairs))), col.dtype)  # type: ignore[arg-type]
    col = col.reshape(n, c, k, *out)
    for i, cut in taps(window, out):
        x[..., *cut] += col[:, :, i]
    inside = tuple(slice(lo, lo + i) for i, (lo, _) in zip(sizes, pairs))  # type: ignore[arg-type]
    return xp.ascontiguousarray(x[..., *inside])


columns = KernelFile("im2col.cu")


def three(values: Sizes, fill: int) -> Sizes:
    """Numbers of 1 to 3 axes as numbers of three."""
    return (fill,) * (3 - len(values)) + tuple(values)


def numbers(window: Window, sizes: Sizes, out: Sizes) -> tuple[int, ...]:
    """What the column kernels take after N and C: input, kernel, output, stride, dilation, padding before."""
    return (
        *three(sizes, 1), *three(window.kernel, 1), *three(out, 1), *three(window.stride, 1), *three(window.dilation, 1),
        *three(window.lo, 0),
    )


@im2col_forward.kernel(accepts="float32 and float64, not empty; copied where they are not contiguous")
def _(x: Any, window: Window) -> Any:
    if not x.size or x.dtype.kind != "f" or x.dtype.itemsize < 4:
        return NotImplemented
    x = contiguous(x)
    n, c, *sizes = x.shape
    window = window.at(tuple(sizes))
    out = window.output_size(tuple(sizes))
    rows, p = c * math.prod(window.kernel), math.prod(out)
    col = empty((n, rows, p), x.dtype, like=x)
    ran = columns(
        "im2col_forward", x, n * rows, p, x, col, n, c, *numbers(window, tuple(sizes), out), rows * p, p
    )
    return col if ran else NotImplemented


@col2im_forward.kernel(accepts="float32 and float64, not empty; copied where they are not contiguous")
def _(col: Any, window: Window, sizes: Sizes) -> Any:
    if not col.size or col.dtype.kind != "f" or col.dtype.itemsize < 4 or 0 in sizes:
        return NotImplemented
    col = contiguous(col)
    window = window.at(sizes)
    n, rows, p = col.shape
    c, (d, h, w) = rows // math.prod(window.kernel), three(sizes, 1)
    x = empty((n, c, *sizes), col.dtype, like=col)
    shape = numbers(window, sizes, window.output_size(sizes))
    ran = columns("col2im_forward", col, n * c * d * h, w, col, x, n, c, *shape, rows * p, p)
    return x if ran else NotImplemented


_unfold: Operation = operation(
    "unfold",
    im2col_forward,
    backward=lambda dy, window, x_shape: col2im_forward(dy, window, x_shape[2:]),
    rule=lambda dy, window, x_shape: _fold(dy, window=window, sizes=x_shape[2:]),
)
_fold: Operation = operation(
    "fold",
    col2im_forward,
    backward=lambda dy, window: im2col_forward(dy, window),
    rule=lambda dy, window: _unfold(dy, window=window),
)


def unfold(x: Any, kernel: Any, *, stride: Any = 1, pad: Any = 0, dilation: Any = 1) -> Tensor:
    """Every window of ``x`` (N, C, *I) as a column: (N, C * prod(kernel), number of windows).

    ``kernel`` has one size per axis; ``stride``, ``pad`` and ``dilation`` as for ``conv``.
    """
    w = window("unfold", kernel, stride, pad, dilation)
    shape = x.shape
    if len(shape) != w.ndim + 2:
        raise ValueError(f"unfold: a kernel of {w.ndim} axes takes an input of {w.ndim + 2} axes (N, C, ...), got {shape}")
    w.output_size(tuple(shape[2:]))
    return _unfold(x, window=w)


def fold(col: Any, sizes: Sizes, kernel: Any, *, stride: Any = 1, pad: Any = 0, dilation: Any = 1) -> Tensor:
    """The adjoint of ``unfold``: columns added up where windows overlap, into (N, C, *sizes)."""
    w = window("fold", kernel, stride, pad, dilation)
    sizes, shape = tuple(sizes), col.shape
    places, k = math.prod(w.output_size(sizes)), math.prod(w.kernel)
    if len(shape) != 3 or shape[1] % k or shape[2] != places:
        raise ValueError(f"fold: sizes {sizes} and kernel {w.kernel} take columns of shape (N, C * {k}, {places}), got {shape}")
    return _fold(col, window=w, sizes=sizes)
