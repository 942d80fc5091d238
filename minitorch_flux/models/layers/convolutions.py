"""Convolution and normalisation in pairs: conv_norm, basic_conv_bn and dwsep_conv_norm, each a list of layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...autograd import Tensor
from ...backend import is_array
from ...nn.convolutions import Conv
from ...nn.norms import BatchNorm
from ...ops.nonlinearities import identity, relu
from .norm_factories import norm_layers


def conv_norm(
    kernel_size: Any,
    inplanes: Any,
    outplanes: Any = None,
    activation: Callable[..., Any] | None = None,
    *,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    preact: bool = False,
    bias: Any = None,
    weight: Any = None,
    **keywords: Any,
) -> list[Any]:
    """conv_norm(kernel_size, inplanes, outplanes, activation=relu, *, norm_layer=BatchNorm, revnorm=False, preact=False,
    bias=None, weight=None, stride=1, pad=0, dilation=1, groups=1, ...)

    Create a convolution + normalisation layer pair with activation: a list, for ``Chain(*conv_norm((3, 3), 32, 64))``.

    ============  =======  ======  ===================================================
    norm_layer    revnorm  preact  the layers
    ============  =======  ======  ===================================================
    identity      False    False   Conv with activation
    another       False    False   Conv, norm of ``outplanes`` with activation
    another       True     False   norm of ``inplanes``, Conv with activation
    another       False    True    Conv with activation, norm of ``outplanes``
    ============  =======  ======  ===================================================

    Everything else raises ValueError. The planes may be a pair: ``conv_norm((3, 3), (32, 64), relu)``.
    ``norm_layer``: ``BatchNorm``, ``GroupNorm`` (which means ``GroupNorm(planes, gcd(planes, 32))``), or a function of
    ``planes`` or ``(planes, activation)`` that makes a layer; where it takes no activation, the activation follows as a
    layer. ``identity`` is no normalisation. ``bias``: of the convolution, by default True without normalisation and False
    with it. ``weight``: a given array (outplanes, inplanes / groups, *kernel_size) in place of the initialiser ``init``.
    All other keywords are ``Conv``'s. Source: Metalhead's ``Layers.conv_norm``.
    """
    if isinstance(inplanes, tuple | list):
        if len(inplanes) != 2 or not (outplanes is None or (callable(outplanes) and activation is None)):
            raise TypeError(f"conv_norm: the planes are two numbers or a pair, got {inplanes!r} and {outplanes!r}")
        activation = activation if outplanes is None else outplanes
        inplanes, outplanes = inplanes
    activation = relu if activation is None else activation
    if norm_layer is identity and (revnorm or preact):
        on = " and ".join(f"{name}=True" for name, value in (("revnorm", revnorm), ("preact", preact)) if value)
        raise ValueError(f"conv_norm: {on} has no meaning with norm_layer=identity: there is no normalisation to be moved")
    if revnorm and preact:
        raise ValueError("conv_norm: revnorm=True and preact=True exclude each other: the first puts the normalisation before "
                         "the convolution, the second the activation between convolution and normalisation")
    bias = norm_layer is identity if bias is None else bias

    def conv(f: Callable[..., Any]) -> Conv:
        return _conv(kernel_size, inplanes, outplanes, f, bias=bias, weight=weight, **keywords)

    if norm_layer is identity:
        return [conv(activation)]
    if revnorm:
        return [*norm_layers(norm_layer, inplanes), conv(activation)]
    if preact:
        return [conv(activation), *norm_layers(norm_layer, outplanes)]
    return [conv(identity), *norm_layers(norm_layer, outplanes, activation)]


def _conv(kernel: Any, inplanes: int, outplanes: int, activation: Any, *, bias: Any, weight: Any, **keywords: Any) -> Conv:
    """A Conv that draws its weight, or takes the one that is given after a look at its shape."""
    if weight is None:
        return Conv(kernel, inplanes, outplanes, activation, bias=bias, **keywords)
    if not (is_array(weight) or isinstance(weight, Tensor)):
        raise TypeError(f"conv_norm: weight is an array; to draw it in another way give init=, got {weight!r}")
    if "init" in keywords:
        raise TypeError("conv_norm: give either weight, the array itself, or init, the function that draws it")
    wanted = (outplanes, inplanes // keywords.get("groups", 1), *kernel)
    if tuple(weight.shape) != wanted:
        raise ValueError(f"conv_norm: the weight has shape {tuple(weight.shape)}, expected {wanted}: (outplanes, inplanes / "
                         "groups, *kernel_size)")
    return Conv(weight, bias, activation, **keywords)


def basic_conv_bn(
    kernel_size: Any,
    inplanes: Any,
    outplanes: Any = None,
    activation: Callable[..., Any] | None = None,
    *,
    batchnorm: bool = True,
    **keywords: Any,
) -> list[Any]:
    """basic_conv_bn(kernel_size, inplanes, outplanes, activation=relu, *, batchnorm=True, ...)

    A convolution + batch normalisation pair as the Inception family uses it: ``conv_norm`` with TensorFlow's ``eps=1e-3``.

    ``batchnorm=False`` leaves the normalisation out, and then the convolution has a bias. The other keywords are
    ``conv_norm``'s. Source: Metalhead's ``Layers.basic_conv_bn``.
    """
    norm_layer = partial(BatchNorm, eps=1e-3) if batchnorm else identity
    return conv_norm(kernel_size, inplanes, outplanes, activation, norm_layer=norm_layer, **keywords)


def dwsep_conv_norm(
    kernel_size: Any,
    inplanes: int,
    outplanes: int,
    activation: Callable[..., Any] = relu,
    *,
    norm_layer: Callable[..., Any] = BatchNorm,
    bias: bool | None = None,
    stride: Any = 1,
    pad: Any = 0,
    dilation: Any = 1,
    weight: Any = None,
    **keywords: Any,
) -> list[Any]:
    """dwsep_conv_norm(kernel_size, inplanes, outplanes, activation=relu, *, norm_layer=BatchNorm, bias=None, stride=1,
    pad=0, dilation=1, weight=None, ...)

    A depthwise separable convolution, as in MobileNetv1: ``conv_norm`` of ``kernel_size`` with a group for each of the
    ``inplanes`` channels, then ``conv_norm`` of (1, 1) to ``outplanes``, both with normalisation and activation.

    ``stride``, ``pad``, ``dilation`` and ``weight`` (inplanes, 1, *kernel_size) are those of the first convolution; the
    other keywords (``bias``, ``init``, ``rng``) go to both. Sources: Metalhead's ``Layers.dwsep_conv_norm``; Howard and
    others, "MobileNets", 2017, figure 3.
    """
    both = {"norm_layer": norm_layer, "bias": bias, **keywords}
    depthwise = conv_norm(kernel_size, inplanes, inplanes, activation, groups=inplanes, stride=stride, pad=pad,
                          dilation=dilation, weight=weight, **both)
    if weight is not None:
        both.pop("init", None)
    return [*depthwise, *conv_norm((1, 1), inplanes, outplanes, activation, **both)]
