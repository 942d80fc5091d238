"""Conv, the convolutional layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Param, Tensor
from ..backend import is_array
from ..ops.convolution import conv_bias_act
from ..ops.geometry import window
from ..ops.nonlinearities import activation_of, identity
from .initialisers import glorot_uniform, zeros
from .inputs import as_input, bias_parameter, drawn, layer_name, weights_from, whole
from .module import Module


def channel_pair(layer: str, sizes: tuple[Any, ...]) -> tuple[int, int, list[Any]]:
    """``(in, out)`` from ``in, out`` or ``(in, out)``, and what follows them."""
    if sizes and isinstance(sizes[0], tuple | list):
        pair, rest = tuple(sizes[0]), list(sizes[1:])
    else:
        pair, rest = sizes[:2], list(sizes[2:])
    try:
        inputs, outputs = [whole(n, "channels") for n in pair]
    except (TypeError, ValueError):
        got = ", ".join(map(repr, pair))
        raise TypeError(f"{layer}: the channels are two whole numbers, in and out, got {got}") from None
    return inputs, outputs, rest


class Conv(Module):
    """Conv(kernel, in, out, activation=identity, *, stride=1, pad=0, dilation=1, groups=1, bias=True, ...)

    Standard convolutional layer: ``y = activation(conv(x, weight) + bias)``, over 1 to 3 axes.

    ``x`` (N, in, *I), or (in, *I) for one sample, gives (N, out, *O) with ``O = (I + pads - (k - 1) dilation - 1) // stride
    + 1`` per axis. ``kernel`` is a tuple in array order, (h, w) for images; its length is the number of axes. The channels
    may be a pair: ``Conv((3, 3), (1, 16), relu)``. ``weight`` (out, in/groups, *kernel), ``bias`` (out,).

    ``stride``, ``dilation``: an int or one per axis. ``pad``: an int, one per axis, (lo, hi) pairs, ``SamePad()``,
    ``SamePad("upper")`` or ``"same"``. ``groups``: in and out channels are split into as many parts that don't see each
    other. ``bias``: True (drawn by ``init_bias``), False, or an array. ``flipkernel``: True slides the flipped kernel,
    Flux's true convolution; the default is cross-correlation, as in PyTorch. ``Conv(weight_array, bias, activation, ...)``
    takes given weights.

    Raises ValueError that names the axis and both sizes where channels or axes do not fit. Source: Flux's ``Conv``.
    """

    def __init__(
        self,
        kernel: Any,
        *sizes: Any,
        stride: Any = 1,
        pad: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] = zeros,
        flipkernel: bool = False,
        rng: Any = None,
    ) -> None:
        name = type(self).__name__
        if is_array(kernel) or isinstance(kernel, Tensor):  # from arrays
            weight = weights_from(kernel, None, name, "weight")
            if weight.ndim < 3:
                raise ValueError(f"{name}: the weight has the axes (out, in/groups, kernel...), got shape {weight.shape}")
            rest = list(sizes)
            if rest and (rest[0] is None or isinstance(rest[0], bool) or is_array(rest[0])):
                bias = rest.pop(0)
            kernel = weight.shape[2:]
        else:
            if not isinstance(kernel, tuple | list):
                raise TypeError(f"{name}: the kernel is a tuple with one size per axis, such as (3, 3), got {kernel!r}")
            inputs, outputs, rest = channel_pair(name, sizes)
            if isinstance(groups, int) and groups > 0 and (inputs % groups or outputs % groups):
                raise ValueError(f"{name}: {inputs} input and {outputs} output channels cannot be split into {groups} groups")
            window(name, kernel, stride, pad, dilation, groups)  # wrong sizes are named before anything is drawn
            weight = drawn(init, (outputs, inputs // groups, *kernel), rng, name)
        if len(rest) > 1:
            raise TypeError(f"{name}: unexpected arguments {rest[1:]!r}; after the activation come keywords")
        self.activation = identity if not rest or rest[0] is None else rest[0]
        if not callable(self.activation):
            raise TypeError(f"{name}: the activation must be a function, got {self.activation!r}")
        self.kernel, self.stride, self.pad, self.dilation, self.groups = tuple(kernel), stride, pad, dilation, groups
        self.flipkernel, self.init, self.init_bias = flipkernel, init, init_bias
        self.window = window(name, kernel, stride, pad, dilation, groups)
        self.weight = Param(weight)
        self.bias = bias_parameter(bias, self.weight, self.weight.shape[0], init_bias, name)

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.weight, self)
        n = len(self.kernel)
        wanted = self.weight.shape[1] * self.groups
        if x.ndim in (n + 1, n + 2) and x.shape[-n - 1] != wanted:
            raise ValueError(f"{layer_name(self)}: the input has {x.shape[-n - 1]} channels on axis {x.ndim - n - 1}, "
                             f"expected {wanted} (input shape {x.shape})")
        act = activation_of(self.activation)
        if act is None:
            return self.activation(conv_bias_act(x, self.weight, self.bias, self.window, flipkernel=self.flipkernel))
        return conv_bias_act(x, self.weight, self.bias, self.window, act, flipkernel=self.flipkernel)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional = [self.kernel, self.weight.shape[1] * self.groups, self.weight.shape[0]]
        if self.activation is not identity:
            positional.append(self.activation)
        defaults = {"stride": 1, "pad": 0, "dilation": 1, "groups": 1, "flipkernel": False,
                    "init": glorot_uniform, "init_bias": zeros}
        keywords = {k: getattr(self, k) for k, d in defaults.items() if getattr(self, k) is not d and getattr(self, k) != d}
        if self.bias is None:
            keywords["bias"] = False
        return positional, keywords
