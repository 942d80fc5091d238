"""LayerNorm, LayerNormV2 and RMSNorm: normalisation over the last axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..autograd import Param, Tensor
from ..backend import DEFAULT, is_float
from ..ops.elementwise import as_tensor
from ..ops.layer_norms import layer_norm, rms_norm
from ..ops.nonlinearities import identity
from .initialisers import ones, zeros
from .inputs import as_input, as_real, bias_parameter, drawn, layer_name, whole
from .lazy_sizes import open_size
from .module import Module


def sizes_of(layer: str, size: Any) -> tuple[int, ...]:
    """The sizes of the last axes, which are given as a number or as several."""
    if not isinstance(size, tuple | list):
        return (whole(size, f"{layer}(size): the size"),)
    if not size:
        raise ValueError(f"{layer}: give the size of one axis at least, got {size!r}")
    return tuple(whole(n, f"{layer}(size): each size") for n in size)


def check_last_axes(x: Tensor, sizes: tuple[int, ...], layer: Module) -> None:
    """Raise ValueError that names the axes and both sizes where the last axes of ``x`` do not have ``sizes``."""
    n = len(sizes)
    if x.shape[-n:] == sizes:
        return
    if x.ndim < n:
        got = f"the input has {x.ndim} axes, expected {n} or more, the last of size{'s' * (n > 1)}"
    elif n == 1:
        got = f"axis -1 of the input has size {x.shape[-1]}, expected"
    else:
        got = f"axes {tuple(range(-n, 0))} of the input have sizes {x.shape[-n:]}, expected"
    raise ValueError(f"{layer_name(layer)}: {got} {sizes if n > 1 else sizes[0]} (input shape {x.shape})")


def check_activation(layer: str, activation: Any) -> Callable[..., Any]:
    """The activation that was given after the sizes."""
    if not callable(activation):
        raise TypeError(f"{layer}: the activation must be a function, got {activation!r}; several sizes are a tuple, "
                        f"{layer}((4, 3))")
    return activation


class _LastAxesNorm(Module):
    """What the three share: the sizes, the weight, checks and printing."""

    eps: float | None
    weight: Param | None
    _defaults: dict[str, Any]
    stays_float32 = True

    def _set(self, size: Any, activation: Any, affine: bool, eps: float | None, init: Callable[..., Any]) -> None:
        name = type(self).__name__
        if not (eps is self._defaults["eps"] or (isinstance(eps, int | float) and 0 <= eps < math.inf)):
            raise ValueError(f"{name}: eps must be 0 or a small positive number, got {eps!r}")
        self.sizes = sizes_of(name, size)
        self.activation = check_activation(name, activation)
        self.affine, self.eps, self.init = affine, eps, init
        self.weight = Param(drawn(init, self.sizes, None, name)) if affine else None

    @property
    def size(self) -> Any:
        """The sizes of the axes that are normalised over; a number for one axis."""
        return self.sizes if len(self.sizes) > 1 else self.sizes[0]

    def _input(self, x: Any) -> Tensor:
        if self.weight is None:
            x = as_real(x, self)
            x = x if is_float(x.dtype) else x.astype(DEFAULT)
        else:
            x = as_input(x, self.weight, self)
        check_last_axes(x, self.sizes, self)
        return x

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords: dict[str, Any] = {} if self.affine else {"affine": False}
        for name, default in self._defaults.items():
            if (value := getattr(self, name)) is not default and value != default:
                keywords[name] = value
        return [self.size] + ([] if self.activation is identity else [self.activation]), keywords


@open_size("size", axis=lambda layer: -len(layer.sizes), saved=lambda shapes, _: shapes["weight"][0])
class LayerNorm(_LastAxesNorm):
    """LayerNorm(size, activation=identity, *, affine=True, bias=True, eps=1e-5, init=ones, init_bias=zeros)

    Normalises over the last axes: ``y = activation((x - mean) / (std + eps) * weight + bias)``.

    ``size``: the size of the last axis, or a tuple of the sizes of the last axes: ``LayerNorm((4, 3))`` takes ``x``
    (..., 4, 3), with any axes before them or none, and keeps its shape. The standard deviation is the biased one; where it
    is 0, so is its derivative, and ``y`` is ``activation(bias)``. ``weight`` and ``bias`` (*size) are made by ``init`` and
    ``init_bias``; ``bias``: True, False or an array; ``affine=False`` leaves both out. The same in train and test mode.
    16-bit inputs beside float32 weights are computed in float32 and keep their dtype.

    Flux 0.11 to 0.14 has this form, without ``eps`` before; Flux 0.16 and PyTorch put ``eps`` under the root, which is
    ``LayerNormV2``. Raises ValueError that names the axes and both sizes where the input has others.
    Sources: Flux's ``LayerNorm``; Ba, Kiros, Hinton, "Layer normalization", 2016.
    """

    _defaults = {"eps": 1e-5, "init": ones, "init_bias": zeros}
    _eps_inside = False

    def __init__(
        self,
        size: Any,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = True,
        bias: Any = True,
        eps: float = 1e-5,
        init: Callable[..., Any] = ones,
        init_bias: Callable[..., Any] = zeros,
    ) -> None:
        self._set(size, activation, affine, eps, init)
        self.init_bias = init_bias
        name = type(self).__name__
        if self.weight is None and not isinstance(bias, bool | None):
            raise ValueError(f"{name}: affine=False leaves the bias out, too; got one of shape {as_tensor(bias).shape}")
        self.bias = None if self.weight is None else bias_parameter(bias, self.weight, self.sizes, init_bias, name)

    def __call__(self, x: Any) -> Tensor:
        y = layer_norm(self._input(x), self.weight, self.bias, ndim=len(self.sizes), eps=self.eps,  # type: ignore[arg-type]
                       eps_inside=self._eps_inside)
        return self.activation(y)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super()._arguments()
        return positional, {"bias": False, **keywords} if self.affine and self.bias is None else keywords


@open_size("size", axis=lambda layer: -len(layer.sizes), saved=lambda shapes, _: shapes["weight"][0])
class LayerNormV2(LayerNorm):
    """LayerNormV2(size, activation=identity, *, affine=True, bias=True, eps=1e-5, init=ones, init_bias=zeros)

    The same as ``LayerNorm``, but ``eps`` is added before the square root: ``y = activation((x - mean) / sqrt(var + eps) *
    weight + bias)``, as in PyTorch's LayerNorm, with the same names in a state dict.
    Source: Metalhead's ``Layers.LayerNormV2``.
    """

    _eps_inside = True


@open_size("size", axis=lambda layer: -len(layer.sizes), saved=lambda shapes, _: shapes["weight"][0])
class RMSNorm(_LastAxesNorm):
    """RMSNorm(size, activation=identity, *, affine=True, eps=None, init=ones)

    Divides by the root of the mean square over the last axes: ``y = activation(x / sqrt(mean(x^2) + eps) * weight)``.

    ``size`` and ``weight`` as for ``LayerNorm``; there is no bias. ``eps=None`` is PyTorch's default: the distance from 1
    to the next number of the dtype that is computed in, 1.19e-7 for float32 and 16-bit floats, 2.2e-16 for float64.
    Source: Zhang, Sennrich, "Root mean square layer normalization", 2019; PyTorch's ``RMSNorm``.
    """

    _defaults = {"eps": None, "init": ones}

    def __init__(
        self,
        size: Any,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = True,
        eps: float | None = None,
        init: Callable[..., Any] = ones,
    ) -> None:
        self._set(size, activation, affine, eps, init)

    def __call__(self, x: Any) -> Tensor:
        return self.activation(rms_norm(self._input(x), self.weight, ndim=len(self.sizes), eps=self.eps))
