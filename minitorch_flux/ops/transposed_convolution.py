"""conv_transpose, the adjoint of conv: every input pixel adds a kernel to the output.

    y[n,o,i] = sum over c and all k, p with p s - lo + k d = i  of  w[c,o,k] x[n,c,p]      the kernel is not flipped

x (N, C, *P), w (C, O/groups, *K), y (N, O, *I) over 1 to 3 axes, with I = (P - 1) s + (K - 1) d + 1 - lo - hi + outpad.
It is ``conv_data`` of the triad in convolution.py, and its gradients are the other two:

    dx = conv(dy, w)        dw = conv_filter(dy, x)

``conv_transpose_bias_act`` is y = act(conv_transpose(x, w) + b) in one operation. Source: PyTorch's
``conv_transpose2d``, NNlib.jl's ``∇conv_data``. The layer is in nn/transposed_convolutions.py.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import array_function, contiguous
from .convolution import (
    conv_data,
    conv_data_backward,
    conv_data_forward,
    conv_data_rule,
    finished,
    flipped,
    pulled,
    with_batch,
)
from .elementwise import as_tensor
from .geometry import Window, window
from .im2col import Sizes
from .nonlinearities import Activation, activation_backward, bias_backward, identity


@array_function
def conv_transpose_bias_act_forward(
    x: Any, w: Any, b: Any, window: Window, sizes: Sizes, activation: Activation
) -> tuple[Any, Any]:
    """``(y, z)``: y = act(conv_transpose(x, w) + b), and the pre-activation where the gradient needs it (else None)."""
    return finished(conv_data_forward(x, w, window, sizes), b, activation)


@array_function
def conv_transpose_bias_act_backward(
    dy: Any, x: Any, w: Any, out: Any, z: Any, window: Window, activation: Activation, needs: tuple[bool, ...]
) -> Any:
    """``(dx, dw, db)``."""
    dz = contiguous(activation_backward(dy, out if z is None else z, activation))
    return (*conv_data_backward(dz, x, w, window, needs), bias_backward(dz, 1) if needs[2] else None)


def _rule(dy: Tensor, x: Any, w: Any, b: Any, window: Any, sizes: Any, activation: Any, needs: Any) -> Any:
    dz, db = pulled(dy, conv_data(x, w, window=window, sizes=sizes), b, activation, needs[2])
    return (*conv_data_rule(dz, x, w, window, needs), db)


_conv_transpose_bias_act: Operation = operation(
    "conv_transpose_bias_act",
    conv_transpose_bias_act_forward,
    backward=conv_transpose_bias_act_backward,
    rule=_rule,
    residuals=("z",),
)


def conv_transpose(
    x: Any,
    w: Any,
    *,
    stride: Any = 1,
    pad: Any = 0,
    outpad: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    flipkernel: bool = False,
) -> Tensor:
    """Spread ``x`` (N, C, *P), or (C, *P), with the kernel ``w`` (C, O/groups, *K): (N, O, *I), over 1 to 3 axes.

    The adjoint of ``conv``: with the same ``w`` and keywords, <conv(a, w), x> = <a, conv_transpose(x, w)>. ``I = (P - 1)
    stride + (K - 1) dilation + 1 - lo - hi + outpad`` per axis. ``stride``, ``dilation``, ``outpad``: an int or one per
    axis; ``outpad``, smaller than the stride or the dilation, says which of the sizes that ``conv`` takes to P is meant.
    ``pad``: an int, one per axis, (lo, hi) pairs, or ``SamePad()``, for which I = P stride. ``flipkernel=True`` spreads
    the flipped kernel, as Flux does. ``groups`` as for ``conv``.
    """
    w = as_tensor(w)
    if w.ndim < 3:
        raise ValueError(f"conv_transpose: the weight has the axes (in, out/groups, kernel...), got shape {w.shape}")
    box = window("conv_transpose", w.shape[2:], stride, pad, dilation, groups, transposed=True).outpadded(outpad)
    return conv_transpose_bias_act(x, w, None, box, flipkernel=flipkernel)


def conv_transpose_bias_act(
    x: Any, w: Any, b: Any, window: Window, activation: Activation = identity, *, flipkernel: bool = False
) -> Tensor:
    """``act(conv_transpose(x, w) + b)`` in one operation; ``b`` (O,) or None, ``activation`` from the table, ``window`` a
    transposed one, in whose name errors speak."""
    x, batched = with_batch(x, w, window, w.shape[0], "input")
    sizes = window.transposed_size(x.shape[2:])
    if flipkernel:
        w = flipped(w)
    if b is None and activation is identity:
        y = conv_data(x, w, window=window, sizes=sizes)
    else:
        y = _conv_transpose_bias_act(x, w, b, window=window, sizes=sizes, activation=activation)
    return y if batched else y.reshape(y.shape[1:])
