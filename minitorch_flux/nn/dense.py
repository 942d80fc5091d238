"""Dense, the fully connected layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Param, Tensor
from ..backend import is_array
from ..ops.dense import dense
from ..ops.nonlinearities import activation_of, identity
from .initialisers import glorot_uniform, zeros
from .inputs import as_input, bias_parameter, drawn, layer_name, weights_from, whole
from .lazy_sizes import open_size
from .module import Module


@open_size("in_", axis=-1, saved=lambda shapes, _: shapes["weight"][1])
class Dense(Module):
    """Dense(in, out, activation=identity, *, bias=True, init=glorot_uniform, init_bias=zeros, rng=None)

    Creates a traditional dense layer: ``y = activation(x @ weight.T + bias)``.

    ``x`` (..., in) gives ``y`` (..., out): a vector, a batch (N, in), or any number of leading axes. ``weight``
    (out, in) is drawn by ``init``, ``bias`` (out,) by ``init_bias``; ``bias=False`` leaves it out, an array is taken as
    the bias. ``Dense((in, out))`` and ``Dense(weight_array, bias, activation)`` work too. The layer computes in the dtype
    of its weights (float32 by default) and converts real inputs to it.

    Raises ValueError where the last axis of the input is not ``in``, for an input without axes, and for an ``init`` that
    gives another shape than it was asked for. ``Dense(None, out)`` takes ``in`` from the first input.
    Source: Flux's ``Dense``.
    """

    def __init__(
        self,
        in_: Any,
        out: Any = None,
        activation: Callable[..., Any] | None = None,
        *,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] = zeros,
        rng: Any = None,
    ) -> None:
        if is_array(in_) or isinstance(in_, Tensor):  # from arrays: Dense(weight, bias=True, activation=identity)
            weight = weights_from(in_, 2, "Dense", "weight (out, in)")
            if callable(out):
                raise TypeError("Dense(weight, bias=True, activation=identity): the activation comes after the bias")
            if out is not None:
                bias = out
        else:
            if isinstance(in_, tuple | list):
                if len(in_) != 2 or not (out is None or (callable(out) and activation is None)):
                    raise TypeError(f"Dense: give the sizes as a pair or as two numbers, got {in_!r} and {out!r}")
                activation = activation if out is None else out
                in_, out = in_
            shape = whole(out, "Dense(in, out): `out`"), whole(in_, "Dense(in, out): `in`")
            weight = drawn(init, shape, rng, "Dense")
        self.activation = identity if activation is None else activation
        if not callable(self.activation):
            raise TypeError(f"Dense: the activation must be a function, got {self.activation!r}")
        self.init, self.init_bias = init, init_bias
        self.weight = Param(weight)
        self.bias = bias_parameter(bias, self.weight, self.weight.shape[0], init_bias, "Dense")

    @property
    def in_(self) -> int:
        """The number of input features."""
        return self.weight.shape[1]

    @property
    def out(self) -> int:
        """The number of output features."""
        return self.weight.shape[0]

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.weight, self)
        shape = x.data.shape
        if not shape or shape[-1] != self.weight.data.shape[1]:
            got = f"the input has {shape[-1]} features" if shape else "the input has no axes"
            raise ValueError(f"{layer_name(self)}: {got}, expected {self.in_} (input shape {shape})")
        act = activation_of(self.activation)
        if act is None:
            return self.activation(dense(x, self.weight, self.bias))
        return dense(x, self.weight, self.bias, activation=act)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords: dict[str, Any] = {}
        if self.bias is None:
            keywords["bias"] = False
        for name, default in (("init", glorot_uniform), ("init_bias", zeros)):
            if getattr(self, name) is not default:
                keywords[name] = getattr(self, name)
        return [self.in_, self.out] + ([] if self.activation is identity else [self.activation]), keywords
