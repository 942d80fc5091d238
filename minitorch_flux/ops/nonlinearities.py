"""Activations, alone and fused with a bias (the mathematics: activation_table.py; kernels: kernels/nonlinearities.cu).

    y = act(z + b)          b along one axis of z, or None
    dz = dy act'(z + b)     from y where the table permits it, else from the pre-activation z + b
    db = sum dz             over all axes but b's

Shapes are kept. float16, bfloat16, float32 and float64 are kept; integers become float64, and stay integers in relu,
relu6 and hardtanh. 16-bit floats are computed in float32.
"""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, as_array, contiguous, empty, is_array, is_float
from ..readings import KernelFile
from .activation_table import ROWS, Row
from .arithmetic import absolute
from .axes import normalise_axis
from .comparisons import clip, maximum, minimum, where
from .elementary import exp, expm1, log1p
from .elementwise import as_tensor


class Activation:
    """An elementwise function with its derivative: ``relu(x)``, ``leakyrelu(x, 0.1)`` on tensors, arrays and numbers.

    ``name``; ``from_output``: whether ``derivative`` is computed from the output; ``default``: of the parameter, None
    where there is none. Two layers with the same activation hold the same object; copies and pickles are this object.
    """

    def __init__(self, row: Row) -> None:
        self.name = self.__name__ = self.__qualname__ = row.name
        self.from_output, self.default = row.from_output, row.default
        self.__doc__ = f"{row.name}(x) = {row.formula}, elementwise; see minitorch_flux.ops.nonlinearities."
        self._f, self._df = row.f, row.df
        self.kernel_from, self.constants = row.kernel_from, {"ACT": row.name}
        self._operation = operation(row.name, self._forward, **self._gradients())

    def __call__(self, x: Any, *parameters: Any) -> Tensor:
        if not parameters:
            return self._operation(x)
        if self.default is None or len(parameters) > 1:
            takes = "no parameter" if self.default is None else "one parameter"
            raise TypeError(f"{self.name}(x{', parameter' if self.default else ''}) takes {takes} after x, "
                            f"got {', '.join(map(repr, parameters))}")
        p = parameters[0]
        if isinstance(p, np.generic):
            p = p.item()
        if type(p) not in (int, float):
            return self._compose(x, p)  # a tensor is differentiated too
        if (self.name == "softshrink" and p < 0) or (self.name == "celu" and p == 0):
            raise ValueError(f"{self.name}: the parameter must be {'at least' if p else 'other than'} 0, got {p}")
        if self.from_output and p <= 0:  # the output does not tell the two branches apart any more
            return self._compose(x, p)
        return self._operation(x, parameters=(float(p),))

    def _compose(self, x: Any, p: Any) -> Tensor:
        x = x if isinstance(x, Tensor) else Tensor(as_array(x))
        return self._f(_tensors(), x, p)

    def _forward(self, x: Any, parameters: tuple[float, ...] = ()) -> Any:
        if not is_array(x):
            x = np.asarray(x)
        if x.dtype.kind in "iub" and self.name not in KEEP_INTEGERS:
            x = x.astype(np.float64)
        return bias_act_forward(x, None, 0, self, None, parameters)

    def _gradients(self) -> dict[str, Any]:
        if self.from_output:
            return {
                "backward": lambda dy, out, parameters: activation_backward(dy, out, self, parameters),
                "rule": lambda dy, out, parameters: self._pull(dy, out, parameters),
            }
        return {
            "backward": lambda dy, x, parameters: activation_backward(dy, x, self, parameters),
            "rule": lambda dy, x, parameters: self._pull(dy, x, parameters),
        }

    def _pull(self, dy: Tensor, saved: Tensor, parameters: tuple[float, ...] = ()) -> Tensor:
        xp = _tensors()
        short = saved.dtype.itemsize == 2 and is_float(saved.dtype)
        slope = self._df(xp, saved.astype(np.float32) if short else saved, *parameters)
        if slope.dtype == bool:
            return xp.where(slope, dy, 0)
        return (dy * slope).astype(dy.dtype) if short else dy * slope

    def pull(self, dy: Tensor, x: Tensor) -> Tensor:
        """dz = dy act'(x) on tensors, itself differentiable: what the rule of a fused op needs."""
        return self._pull(dy, self(x) if self.from_output else x)

    def function(self, xp: Any, x: Any, *parameters: Any) -> Any:
        """The value, on arrays."""
        if x.dtype.itemsize == 2 and is_float(x.dtype):
            return self._f(xp, x.astype(np.float32), *parameters).astype(x.dtype)
        return self._f(xp, x, *parameters)

    def derivative(self, xp: Any, saved: Any, *parameters: Any) -> Any:
        """dy/dx on arrays, from the output where ``from_output``, else from the input; a mask where it is 0 or 1."""
        if saved.dtype.itemsize == 2 and is_float(saved.dtype):
            saved = saved.astype(np.float32)
        return self._df(xp, saved, *parameters)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name


class _Identity(Activation):
    """The function that returns its argument, whatever it is."""

    def __call__(self, x: Any, *parameters: Any) -> Any:
        if parameters:
            raise TypeError(f"identity(x) takes one argument, got {1 + len(parameters)}")
        return x

    def pull(self, dy: Tensor, x: Tensor) -> Tensor:
        return dy


KEEP_INTEGERS = ("relu", "relu6", "hardtanh")


def _ones_like(x: Tensor) -> Tensor:
    return Tensor(array_module(x.data).ones_like(x.data))


@functools.cache
def _tensors() -> SimpleNamespace:
    """This library's functions on tensors, as the ``xp`` of the table."""
    return SimpleNamespace(
        abs=absolute, exp=exp, expm1=expm1, log1p=log1p, tanh=tanh, where=where, maximum=maximum, minimum=minimum,
        clip=clip, ones_like=_ones_like,
    )


@array_function
def bias_act_forward(
    z: Any, b: Any, axis: int, activation: Activation, out: Any = None, parameters: tuple[float, ...] = ()
) -> Any:
    """act(z + b), with ``b`` along ``axis`` of ``z`` or None. ``out`` (perhaps ``z`` itself) is memory to use."""
    xp = array_module(z)
    if b is not None:
        z = xp.add(z, along(b, axis, z.ndim), out=out)
    return activation.function(xp, z, *parameters)


@array_function
def activation_backward(dy: Any, saved: Any, activation: Activation, parameters: tuple[float, ...] = ()) -> Any:
    """dz = dy act'; ``saved`` is the output where ``activation.from_output``, else the pre-activation."""
    if activation is identity:
        return dy
    xp = array_module(dy)
    slope = activation.derivative(xp, saved, *parameters)
    if slope.dtype == bool:
        return xp.where(slope, dy, 0)
    return (dy * slope).astype(dy.dtype, copy=False)


@array_function
def bias_backward(dz: Any, axis: int) -> Any:
    """db: the sum of ``dz`` over all axes but ``axis``."""
    axis %= dz.ndim
    axes = tuple(i for i in range(dz.ndim) if i != axis)
    return dz.sum(axis=axes, dtype=accumulator(dz.dtype)).astype(dz.dtype, copy=False)


nonlinearities = KernelFile("nonlinearities.cu")


def parameter_of(activation: Activation, parameters: tuple[float, ...]) -> float:
    """The number that a kernel is given for the activation's parameter."""
    return parameters[0] if parameters else activation.default or 0.0


@bias_act_forward.kernel(
    accepts="floats of activation.kernel_from elements or more, b of their dtype; not identity alone; copied where not "
    "contiguous"
)
def _(
    z: Any, b: Any, axis: int, activation: Activation, out: Any = None, parameters: tuple[float, ...] = ()
) -> Any:
    n, dtype = z.size, z.dtype
    if n < activation.kernel_from or not is_float(dtype):
        return NotImplemented
    if b is None and activation is identity:
        return NotImplemented  # the reference returns z itself
    constants = activation.constants
    p = parameter_of(activation, parameters)
    z, y = contiguous(z), empty(z.shape, dtype, like=z) if out is None else out
    if b is None:
        ran = nonlinearities("activation_forward", z, 1, n, z, y, p, n, constants=constants)
    else:
        channels = z.shape[axis]
        if b.shape != (channels,) or b.dtype != dtype:
            return NotImplemented
        b = contiguous(b)
        inner = math.prod(z.shape[axis + 1 if axis != -1 else z.ndim :])
        rows = n // inner
        if inner == 1:
            rows //= channels
            ran = nonlinearities(
                "bias_act_forward_last", z, rows, channels, z, b, y, p, rows, channels, constants=constants
            )
        else:
            ran = nonlinearities(
                "bias_act_forward", z, rows, inner, z, b, y, p, rows, channels, inner, constants=constants
            )
    return y if ran else NotImplemented


@activation_backward.kernel(
    accepts="floats of one dtype, activation.kernel_from elements or more; not identity; copied where not contiguous"
)
def _(dy: Any, saved: Any, activation: Activation, parameters: tuple[float, ...] = ()) -> Any:
    n, dtype = dy.size, dy.dtype
    if (
        activation is identity
        or n < activation.kernel_from
        or dy.ndim == 0  # perhaps a NumPy scalar
        or not is_float(dtype)
        or saved.dtype != dtype
    ):
        return NotImplemented
    dy, saved = contiguous(dy), contiguous(saved)
    dz = empty(dy.shape, dtype, like=dy)
    p = parameter_of(activation, parameters)
    ran = nonlinearities("activation_backward", dy, 1, n, dy, saved, dz, p, n, constants=activation.constants)
    return dz if ran else NotImplemented


@bias_backward.kernel(accepts="floats with axes after the bias's, not empty; copied where not contiguous")
def _(dz: Any, axis: int) -> Any:
    shape, dtype = dz.shape, dz.dtype
    axis %= len(shape)
    channels, inner = shape[axis], math.prod(shape[axis + 1 :])
    if inner == 1 or dz.size == 0 or not is_float(dtype):
        return NotImplemented
    dz, rows = contiguous(dz), dz.size // inner
    outer = rows // channels
    sums = empty((rows,), accumulator(dtype), like=dz)
    db = empty((channels,), dtype, like=dz)
    if not nonlinearities("bias_backward_planes", dz, rows, inner, dz, sums, rows, inner):
        return NotImplemented
    nonlinearities("bias_backward", dz, channels, outer, sums, db, outer, channels)
    return db


def along(b: Any, axis: int, ndim: int) -> Any:
    """``b`` (C,) shaped so that it broadcasts along ``axis`` of an array of ``ndim`` axes."""
    after = ndim - 1 - axis % ndim
    return b.reshape(-1, *(1,) * after) if after else b


def activation_of(f: Any) -> Activation | None:
    """The table's entry for a callable given to a layer; None for one that the fused ops don't know."""
    return f if isinstance(f, Activation) else None


def _bias_act(z: Any, b: Any, axis: int, activation: Activation) -> tuple[Any, Any]:
    """``(y, saved)``."""
    if activation.from_output:
        y = bias_act_forward(z, b, axis, activation)
        return y, y
    saved = z if b is None else z + along(b, axis, z.ndim)
    return bias_act_forward(saved, None, axis, activation), saved


def _bias_act_backward(dy: Any, saved: Any, axis: Any, activation: Any, needs: Any) -> Any:
    dz = activation_backward(dy, saved, activation)
    return dz, bias_backward(dz, axis) if needs[1] else None


def _bias_act_rule(dy: Tensor, z: Any, b: Any, axis: Any, activation: Any, needs: Any) -> Any:
    dz = activation.pull(dy, z if b is None else z + along(b, axis, z.ndim))
    if not needs[1]:
        return dz, None
    axis %= dz.ndim
    return dz, dz.sum(axis=tuple(i for i in range(dz.ndim) if i != axis))


_bias_act_operation = operation(
    "bias_act", _bias_act, backward=_bias_act_backward, rule=_bias_act_rule, residuals=("saved",)
)


def bias_act(z: Any, b: Any, axis: int = 1, activation: Any = None) -> Tensor:
    """act(z + b): ``z`` (..., C, ...) with ``b`` (C,) along ``axis``, or None; ``activation`` defaults to relu.

    Raises ValueError for a ``b`` of another shape, TypeError for a function that is not one of this file.
    """
    act = activation_of(relu if activation is None else activation)
    if act is None:
        raise TypeError(f"bias_act: the activation must be one of minitorch_flux.ops.nonlinearities, got {activation!r}; "
                        "apply another function to z + b")
    z, b = as_tensor(z), None if b is None else as_tensor(b)
    axis = normalise_axis("bias_act", axis, z.ndim, z.shape)
    if b is not None and b.shape != (z.shape[axis],):
        raise ValueError(f"bias_act: axis {axis} of z (shape {z.shape}) has size {z.shape[axis]}, so b must have shape "
                         f"({z.shape[axis]},), got {b.shape}")
    return _bias_act_operation(z, b, axis=axis, activation=act)


ACTIVATIONS = {row.name: (_Identity if row.name == "identity" else Activation)(row) for row in ROWS}
"""Every activation by name, in the order of kernels/nonlinearities.cu."""

identity = ACTIVATIONS["identity"]
sigmoid = σ = ACTIVATIONS["sigmoid"]
hardsigmoid = ACTIVATIONS["hardsigmoid"]
logsigmoid = ACTIVATIONS["logsigmoid"]
hardtanh = ACTIVATIONS["hardtanh"]
tanh = ACTIVATIONS["tanh"]
relu = ACTIVATIONS["relu"]
leakyrelu = ACTIVATIONS["leakyrelu"]
relu6 = ACTIVATIONS["relu6"]
elu = ACTIVATIONS["elu"]
gelu = ACTIVATIONS["gelu"]
gelu_erf = ACTIVATIONS["gelu_erf"]
swish = ACTIVATIONS["swish"]
hardswish = ACTIVATIONS["hardswish"]
lisht = ACTIVATIONS["lisht"]
selu = ACTIVATIONS["selu"]
celu = ACTIVATIONS["celu"]
softplus = ACTIVATIONS["softplus"]
softsign = ACTIVATIONS["softsign"]
logcosh = ACTIVATIONS["logcosh"]
mish = ACTIVATIONS["mish"]
tanhshrink = ACTIVATIONS["tanhshrink"]
softshrink = ACTIVATIONS["softshrink"]
hardshrink = ACTIVATIONS["hardshrink"]
trelu = ACTIVATIONS["trelu"]
