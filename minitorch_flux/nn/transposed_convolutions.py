"""ConvTranspose, the layer that enlarges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from ..ops.geometry import Window, window
from ..ops.nonlinearities import Activation
from ..ops.transposed_convolution import conv_transpose_bias_act
from .convolutions import Convolution, channel_pair
from .initialisers import glorot_uniform, zeros
from .lazy_sizes import open_size


@open_size("sizes", axis=lambda layer: -len(layer.kernel) - 1, multiple_of="groups",
           saved=lambda shapes, _: shapes["weight"][0])
class ConvTranspose(Convolution):
    """ConvTranspose(kernel, in, out, activation=identity, *, stride=1, pad=0, outpad=0, dilation=1, groups=1, ...)

    Transposed convolution: ``y = activation(conv_transpose(x, weight) + bias)``, over 1 to 3 axes. It is the adjoint of a
    ``Conv`` with the same kernel, stride, pad and dilation, and so turns that one's output sizes into its input sizes.

    ``x`` (N, in, *I), or (in, *I) for one sample, gives (N, out, *O) with ``O = (I - 1) stride + 1 + (k - 1) dilation - pads
    + outpad`` per axis. ``weight`` (in, out/groups, *kernel), ``bias`` (out,). The channels may be a pair.

    ``outpad``: an int or one per axis, smaller than the stride or the dilation: that many pixels more at the end.
    ``pad`` takes pixels away: an int, one per axis, (lo, hi) pairs, or ``SamePad()``, for which O = I stride.
    ``flipkernel``: True spreads the flipped kernel, as Flux does; the default is PyTorch's. ``stride``, ``dilation``,
    ``groups``, ``bias``, ``init``, ``init_bias``, ``rng`` as for ``Conv``; ``init`` gets the weight's own shape, so its
    fan_in counts the output channels (see ``nfan``). ``ConvTranspose(weight_array, bias, activation, ...)`` takes given
    weights.

    Raises ValueError that names the axis and both sizes where channels or axes do not fit. Source: Flux's and PyTorch's
    ``ConvTranspose``.
    """

    _axes = "in, out/groups"
    _defaults = {"stride": 1, "pad": 0, "outpad": 0, "dilation": 1, "groups": 1, "flipkernel": False}

    def __init__(
        self,
        kernel: Any,
        *sizes: Any,
        stride: Any = 1,
        pad: Any = 0,
        outpad: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] = zeros,
        flipkernel: bool = False,
        rng: Any = None,
    ) -> None:
        self.stride, self.pad, self.outpad, self.dilation = stride, pad, outpad, dilation
        self.groups, self.flipkernel = groups, flipkernel
        self._build(kernel, sizes, channel_pair, bias, init, init_bias, rng)

    def _make_window(self, name: str) -> Window:
        box = window(name, self.kernel, self.stride, self.pad, self.dilation, self.groups, transposed=True)
        return box.outpadded(self.outpad)

    def _shape(self, inputs: int, outputs: int) -> tuple[int, int]:
        return inputs, outputs // self.groups

    @property
    def in_(self) -> int:
        """The number of input channels."""
        return self.weight.shape[0]

    @property
    def out(self) -> int:
        """The number of output channels."""
        return self.weight.shape[1] * self.groups

    def _apply(self, x: Tensor, activation: Activation) -> Tensor:
        return conv_transpose_bias_act(x, self.weight, self.bias, self.window, activation, flipkernel=self.flipkernel)
