"""What goes around a residual block: nothing, a subsampled and padded input, a convolution, or a pool and a convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...autograd import Tensor
from ...nn.chain import Chain
from ...nn.inputs import layer_name
from ...nn.module import Module
from ...nn.norms import BatchNorm
from ...nn.pools import MeanPool
from ...ops.elementwise import as_tensor
from ...ops.nonlinearities import identity
from ...ops.padding import pad
from ..layers.convolutions import conv_norm
from ..networks import named_layers


class ZeroPadShortcut(Module):
    """ZeroPadShortcut(inplanes, outplanes, stride=1)

    The input with every ``stride``-th row and column only, and channels of zeros after its own: ``x`` (N, inplanes, H, W)
    gives (N, outplanes, ceil(H / stride), ceil(W / stride)). Nothing trains.
    Source: He and others, "Deep residual learning for image recognition", 2016, option A.
    """

    def __init__(self, inplanes: int, outplanes: int, stride: int = 1) -> None:
        if outplanes < inplanes:
            raise ValueError(f"ZeroPadShortcut: {inplanes} channels cannot be padded to {outplanes}; a shortcut to fewer needs "
                             "a convolution, type 'B', 'C' or 'D'")
        self.inplanes, self.outplanes, self.stride = inplanes, outplanes, stride

    def __call__(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if x.ndim != 4 or x.shape[1] != self.inplanes:
            raise ValueError(f"{layer_name(self)}: expected an input (N, {self.inplanes}, H, W) (input shape {x.shape})")
        y = x[:, :, :: self.stride, :: self.stride]
        return pad(y, ((0, 0), (0, self.outplanes - self.inplanes), (0, 0), (0, 0)))


def downsample_identity(inplanes: int, outplanes: int, *, stride: int = 1, **_: Any) -> Any:
    """``identity``, or a ``ZeroPadShortcut`` where planes or stride change. Further keywords are for the other kinds."""
    return identity if inplanes == outplanes and stride == 1 else ZeroPadShortcut(inplanes, outplanes, stride)


def downsample_conv(
    inplanes: int,
    outplanes: int,
    *,
    stride: int = 1,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    rng: Any = None,
) -> Chain:
    """A 1x1 convolution with ``stride`` and its norm: ``conv_norm`` without activation."""
    layers = conv_norm((1, 1), inplanes, outplanes, identity, norm_layer=norm_layer, revnorm=revnorm, stride=stride, rng=rng)
    return Chain(**named_layers(layers, identity))


def downsample_pool(
    inplanes: int,
    outplanes: int,
    *,
    stride: int = 1,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    rng: Any = None,
) -> Chain:
    """A 2x2 mean pool with ``stride``, which loses nothing, then a 1x1 convolution and its norm.

    Source: He and others, "Bag of tricks for image classification", 2019, ResNet-D. Odd maps keep their last row and column,
    the mean of what is there.
    """
    pool = {} if stride == 1 else {"pool": MeanPool((2, 2), stride=stride, ceil_mode=True, count_include_pad=False)}
    layers = conv_norm((1, 1), inplanes, outplanes, identity, norm_layer=norm_layer, revnorm=revnorm, rng=rng)
    return Chain(**pool, **named_layers(layers, identity))


SHORTCUTS = {
    "A": (downsample_identity, downsample_identity),
    "B": (downsample_conv, downsample_identity),
    "C": (downsample_conv, downsample_conv),
    "D": (downsample_pool, downsample_identity),
}
"""By type: the shortcut of a block that changes planes or size, and of any other."""
