"""Conv and CrossCor, the convolutional layers, and what all layers that convolve share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Param, Tensor
from ..backend import is_array
from ..ops.convolution import conv_bias_act
from ..ops.geometry import Window, window
from ..ops.nonlinearities import Activation, activation_of, identity
from .initialisers import glorot_uniform, zeros
from .inputs import as_input, bias_parameter, drawn, layer_name, speak_for, weights_from, whole
from .lazy_sizes import open_size
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


class Convolution(Module):
    """What Conv, ConvTranspose, DepthwiseConv and CrossCor share: weights, checks, the call and printing.

    A layer calls ``_build`` from its ``__init__``, keeps its own arguments, and says how its weight lies: ``_axes``
    names its first two axes, ``_shape`` gives them, ``in_`` and ``out`` read the channels off, ``_apply`` convolves.
    """

    weight: Param
    bias: Param | None
    window: Window
    groups: int
    flipkernel = False
    _axes = "out, in/groups"
    _defaults = {"stride": 1, "pad": 0, "dilation": 1, "groups": 1, "flipkernel": False}

    def _build(
        self,
        kernel: Any,
        sizes: tuple[Any, ...],
        channels: Callable[[str, tuple[Any, ...]], tuple[int, int, list[Any]]],
        bias: Any,
        init: Callable[..., Any],
        init_bias: Callable[..., Any],
        rng: Any,
    ) -> None:
        """Weights and activation from ``(kernel, *sizes)``: sizes to draw for, or given arrays; the keywords are kept."""
        name, rest = type(self).__name__, list(sizes)
        self.groups = whole(self.groups, f"{name}: groups")
        if is_array(kernel) or isinstance(kernel, Tensor):
            weight = weights_from(kernel, None, name, "weight")
            if weight.ndim < 3:
                raise ValueError(f"{name}: the weight has the axes ({self._axes}, kernel...), got shape {weight.shape}")
            if rest and (rest[0] is None or isinstance(rest[0], bool | Tensor) or is_array(rest[0])):
                bias = rest.pop(0)
            self._keep(weight.shape[2:])
            self._check_weight(name, weight.shape)
        else:
            if not isinstance(kernel, tuple | list):
                raise TypeError(f"{name}: the kernel is a tuple with one size per axis, such as (3, 3), got {kernel!r}")
            inputs, outputs, rest = channels(name, sizes)
            self._keep(kernel)  # wrong sizes are named before anything is drawn
            if inputs % self.groups or outputs % self.groups:
                raise ValueError(f"{name}: {inputs} input and {outputs} output channels cannot be split into {self.groups} "
                                 "groups")
            weight = drawn(init, (*self._shape(inputs, outputs), *self.kernel), rng, name)
        if len(rest) > 1:
            raise TypeError(f"{name}: unexpected arguments {rest[1:]!r}; after the activation come keywords")
        self.activation = identity if not rest or rest[0] is None else rest[0]
        if not callable(self.activation):
            raise TypeError(f"{name}: the activation must be a function, got {self.activation!r}")
        self.init, self.init_bias = init, init_bias
        self.weight = Param(weight)
        self.bias = bias_parameter(bias, self.weight, self.out, init_bias, name)

    def _keep(self, kernel: Any) -> None:
        """Keep the kernel's size and make the window."""
        self.kernel = tuple(kernel)
        self.window = self._make_window(type(self).__name__)
        self.groups = self.window.groups

    def _make_window(self, name: str) -> Window:
        a = vars(self)
        return window(name, self.kernel, a["stride"], a["pad"], a["dilation"], a["groups"])

    def _check_weight(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise ValueError where a given weight does not fit the groups."""
        if shape[0] % self.groups:
            raise ValueError(f"{name}: the weight has {shape[0]} channels on axis 0, which cannot be split into "
                             f"{self.groups} groups (weight shape {shape})")

    def _shape(self, inputs: int, outputs: int) -> tuple[int, int]:
        """The first two axes of the weight."""
        return outputs, inputs // self.groups

    @property
    def in_(self) -> int:
        """The number of input channels."""
        return self.weight.shape[1] * self.groups

    @property
    def out(self) -> int:
        """The number of output channels."""
        return self.weight.shape[0]

    def _apply(self, x: Tensor, activation: Activation) -> Tensor:
        return conv_bias_act(x, self.weight, self.bias, self.window, activation, flipkernel=self.flipkernel)

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.weight, self)
        n = len(self.kernel)
        if x.ndim in (n + 1, n + 2) and x.shape[-n - 1] != self.in_:
            raise ValueError(f"{layer_name(self)}: the input has {x.shape[-n - 1]} channels on axis {x.ndim - n - 1}, "
                             f"expected {self.in_} (input shape {x.shape})")
        act = activation_of(self.activation)
        try:
            y = self._apply(x, identity if act is None else act)
        except ValueError as error:
            speak_for(error, self, x)
            raise
        return self.activation(y) if act is None else y

    def _sizes(self) -> list[Any]:
        """The channels, as they print."""
        return [self.in_, self.out]

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional = [self.kernel, *self._sizes()]
        if self.activation is not identity:
            positional.append(self.activation)
        keywords = {k: v for k, d in self._defaults.items() if (v := getattr(self, k)) is not d and v != d}
        if self.bias is None:
            keywords["bias"] = False
        for k, d in (("init", glorot_uniform), ("init_bias", zeros)):
            if getattr(self, k) is not d:
                keywords[k] = getattr(self, k)
        return positional, keywords


@open_size("sizes", axis=lambda layer: -len(layer.kernel) - 1, multiple_of="groups",
           saved=lambda shapes, layer: shapes["weight"][1] * layer.groups)
class Conv(Convolution):
    """Conv(kernel, in, out, activation=identity, *, stride=1, pad=0, dilation=1, groups=1, bias=True, ...)

    Standard convolutional layer: ``y = activation(conv(x, weight) + bias)``, over 1 to 3 axes.

    ``x`` (N, in, *I), or (in, *I) for one sample, gives (N, out, *O) with ``O = (I + pads - (k - 1) dilation - 1) // stride
    + 1`` per axis. ``kernel`` is a tuple in array order, (h, w) for images; its length is the number of axes. The channels
    may be a pair: ``Conv((3, 3), (1, 16), relu)``. ``weight`` (out, in/groups, *kernel), ``bias`` (out,).

    ``stride``, ``dilation``: an int or one per axis. ``pad``: an int, one per axis, (lo, hi) pairs, ``SamePad()``,
    ``SamePad("upper")`` or ``"same"``. ``groups``: in and out channels are split into as many parts that don't see each
    other. ``bias``: True (drawn by ``init_bias``), False, or an array. ``flipkernel``: True slides the flipped kernel,
    Flux's true convolution; the default is cross-correlation, as in PyTorch. ``Conv(weight_array, bias, activation, ...)``
    takes given weights; ``Conv((3, 3), None, 16)`` takes ``in`` from the first input.

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
        self.stride, self.pad, self.dilation, self.groups, self.flipkernel = stride, pad, dilation, groups, flipkernel
        self._build(kernel, sizes, channel_pair, bias, init, init_bias, rng)


@open_size("sizes", axis=lambda layer: -len(layer.kernel) - 1, multiple_of="groups",
           saved=lambda shapes, layer: shapes["weight"][1] * layer.groups)
class CrossCor(Convolution):
    """CrossCor(kernel, in, out, activation=identity, *, stride=1, pad=0, dilation=1, groups=1, bias=True, ...)

    Cross-correlation: ``Conv`` that never flips its kernel, by name. Arguments, shapes and weights are those of ``Conv``,
    without ``flipkernel``. Source: Flux's ``CrossCor``.
    """

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        if "flipkernel" in keywords:
            raise TypeError("CrossCor never flips its kernel; Conv(..., flipkernel=True) is the layer that does")
        return super().__new__(cls, *args, **keywords)

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
        rng: Any = None,
    ) -> None:
        self.stride, self.pad, self.dilation, self.groups = stride, pad, dilation, groups
        self._build(kernel, sizes, channel_pair, bias, init, init_bias, rng)
