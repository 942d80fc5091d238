"""Scale and Bilinear: a gain and a shift of each feature, and a form in two inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Param, Tensor
from ..backend import is_array
from ..ops.contractions import einsum
from ..ops.nonlinearities import activation_of, bias_act, identity
from .initialisers import glorot_uniform, ones, zeros
from .inputs import as_input, bias_parameter, drawn, layer_name, weights_from, whole
from .layer_norms import check_activation, check_last_axes, sizes_of
from .lazy_sizes import open_size
from .module import Module


def _arguments_of(layer: Module, positional: list[Any], init: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that rebuild a layer of this file."""
    keywords: dict[str, Any] = {} if layer.bias is not None else {"bias": False}  # type: ignore[attr-defined]
    for name, default in (("init", init), ("init_bias", zeros)):
        if getattr(layer, name) is not default:
            keywords[name] = getattr(layer, name)
    activation = layer.activation  # type: ignore[attr-defined]
    return positional + ([] if activation is identity else [activation]), keywords


@open_size("size", axis=lambda layer: -layer.weight.ndim, saved=lambda shapes, _: shapes["weight"][0])
class Scale(Module):
    """Scale(size, activation=identity, *, bias=True, init=ones, init_bias=zeros, rng=None)

    Elementwise gain and shift: ``y = activation(weight * x + bias)``.

    ``size``: the size of the last axis, or a tuple of the sizes of the last axes; ``x`` (..., *size) keeps its shape.
    ``weight`` and ``bias`` (*size) are made by ``init`` and ``init_bias``; ``bias``: True, False or an array.
    ``Scale(weight_array, bias, activation)`` takes given weights. The layer computes in the dtype of its weights.

    Raises ValueError that names the axes and both sizes where the input has others. Source: Flux's ``Scale``.
    """

    def __init__(
        self,
        size: Any,
        activation: Any = identity,
        *more: Any,
        bias: Any = True,
        init: Callable[..., Any] = ones,
        init_bias: Callable[..., Any] = zeros,
        rng: Any = None,
    ) -> None:
        if is_array(size) or isinstance(size, Tensor):  # from arrays: Scale(weight, bias=True, activation=identity)
            weight = weights_from(size, None, "Scale", "weight")
            if not weight.ndim:
                raise ValueError("Scale: the weight has one axis at least, got shape ()")
            if not callable(activation):
                bias, activation, *more = activation, *(more or (identity,))  # type: ignore[assignment]
        else:
            weight = drawn(init, sizes_of("Scale", size), rng, "Scale")
        self.activation = check_activation("Scale", activation)
        if more:
            raise TypeError(f"Scale: unexpected arguments {', '.join(map(repr, more))}; after the activation come keywords")
        self.init, self.init_bias = init, init_bias
        self.weight = Param(weight)
        self.bias = bias_parameter(bias, self.weight, self.weight.shape, init_bias, "Scale")

    @property
    def size(self) -> Any:
        """The sizes of the axes that are scaled; a number for one axis."""
        return self.weight.shape if self.weight.ndim > 1 else self.weight.shape[0]

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.weight, self)
        check_last_axes(x, self.weight.shape, self)
        y = x * self.weight
        return self.activation(y if self.bias is None else y + self.bias)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return _arguments_of(self, [self.size], ones)


class Bilinear(Module):
    """Bilinear((in1, in2), out, activation=identity, *, bias=True, init=glorot_uniform, init_bias=zeros, rng=None)

    A layer that is linear in each of two inputs: ``z_o = activation(sum_ij x_i weight_oij y_j + bias_o)``.

    Called ``b(x, y)`` with ``x`` (..., in1) and ``y`` (..., in2), whose leading axes are the same: (..., out). ``b((x, y))``
    is the same, so that it can stand in a Chain, and ``b(x)`` is ``b(x, x)``. ``Bilinear(n, out)`` takes two inputs of n.
    ``weight`` (out, in1, in2) is drawn by ``init``, ``bias`` (out,) by ``init_bias``; ``bias``: True, False or an array.
    ``Bilinear(weight_array, bias, activation)`` takes given weights.

    Raises ValueError that names the input, its axis and both sizes where they do not fit.
    Sources: Flux's ``Bilinear``, PyTorch's.
    """

    def __init__(
        self,
        inputs: Any,
        out: Any = None,
        activation: Callable[..., Any] | None = None,
        *,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] = zeros,
        rng: Any = None,
    ) -> None:
        if is_array(inputs) or isinstance(inputs, Tensor):  # from arrays: Bilinear(weight, bias=True, activation=identity)
            weight = weights_from(inputs, 3, "Bilinear", "weight (out, in1, in2)")
            if callable(out):
                raise TypeError("Bilinear(weight, bias=True, activation=identity): the activation comes after the bias")
            bias = bias if out is None else out
        else:
            sizes = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs, inputs)
            if len(sizes) == 2 and isinstance(sizes[0], tuple | list):  # Flux's pair ((in1, in2), out)
                out, activation = sizes[1], activation if out is None else out
                sizes = tuple(sizes[0])
            if len(sizes) != 2:
                raise TypeError(f"Bilinear: give the sizes as (in1, in2), out; got {inputs!r} and {out!r}")
            shape = whole(out, "Bilinear: `out`"), *(whole(n, "Bilinear: the size of an input") for n in sizes)
            weight = drawn(init, shape, rng, "Bilinear")
        self.activation = check_activation("Bilinear", identity if activation is None else activation)
        self.init, self.init_bias = init, init_bias
        self.weight = Param(weight)
        self.bias = bias_parameter(bias, self.weight, self.weight.shape[0], init_bias, "Bilinear")

    @property
    def inputs(self) -> tuple[int, int]:
        """The numbers of features of the two inputs."""
        _, in1, in2 = self.weight.shape
        return in1, in2

    @property
    def out(self) -> int:
        """The number of output features."""
        return self.weight.shape[0]

    def __call__(self, x: Any, y: Any = None) -> Tensor:
        if y is None:
            x, y = self._pair(x) if isinstance(x, tuple) else (x, x)
        x, y = as_input(x, self.weight, self), as_input(y, self.weight, self)
        for name, t, size in zip(("first", "second"), (x, y), self.inputs):
            if not t.ndim or t.shape[-1] != size:
                got = f"{t.shape[-1]} features" if t.ndim else "no axes"
                raise ValueError(f"{layer_name(self)}: the {name} input has {got}, expected {size} on axis -1 "
                                 f"(input shape {t.shape})")
        if x.shape[:-1] != y.shape[:-1]:
            raise ValueError(f"{layer_name(self)}: the leading axes of the inputs differ, {x.shape[:-1]} and {y.shape[:-1]} "
                             f"(input shapes {x.shape} and {y.shape})")
        z = einsum("...i,oij,...j->...o", x, self.weight, y)
        act = activation_of(self.activation)
        if act is None:
            return self.activation(z if self.bias is None else z + self.bias)
        return bias_act(z, self.bias, -1, act)

    def _pair(self, x: tuple[Any, ...]) -> tuple[Any, Any]:
        if len(x) != 2:
            raise ValueError(f"{layer_name(self)}: takes one input or two, got a tuple of {len(x)}")
        return x

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return _arguments_of(self, [self.inputs, self.out], glorot_uniform)
