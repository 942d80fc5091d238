"""Dense, the fully connected layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Param, Tensor
from ..backend import is_array
from ..ops.dense import dense
from ..ops.nonlinearities import activation_of, identity
from .initialisers import glorot_uniform, zeros
from .inputs import as_input, bias_parameter, layer_name, weights_from
from .module import Module


class Dense(Module):
    """Dense(in, out, activation=identity, *, bias=True, init=glorot_uniform, init_bias=zeros, rng=None)

    Creates a traditional dense layer: ``y = activation(x @ weight.T + bias)``.

    ``x`` (..., in) gives ``y`` (..., out): a vector, a batch (N, in), or any number of leading axes. ``weight``
    (out, in) is drawn by ``init``, ``bias`` (out,) by ``init_bias``; ``bias=False`` leaves it out, an array is taken as
    the bias. ``Dense((in, out))`` and ``Dense(weight_array, bias, activation)`` work too. The layer computes in the dtype
    of its weights (float32 by default) and converts real inputs to it.

    Raises ValueError where the last axis of the input is not ``in``, and for an input without axes.
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
            if out is not None:
                bias = out
        else:
            if isinstance(in_, tuple):
                if activation is None and (out is None or callable(out)):
                    activation, (in_, out) = out, in_
                else:
                    raise TypeError(f"Dense: give the sizes as a pair or as two numbers, got {in_!r} and {out!r}")
            for size, what in ((in_, "in"), (out, "out")):
                if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                    raise TypeError(f"Dense(in, out): `{what}` must be a whole number, got {size!r}")
            weight = init(out, in_, **({} if rng is None else {"rng": rng}))
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
        if x.ndim == 0 or x.shape[-1] != self.in_:
            got = f"the input has {x.shape[-1]} features" if x.ndim else "the input has no axes"
            raise ValueError(f"{layer_name(self)}: {got}, expected {self.in_} (input shape {x.shape})")
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
