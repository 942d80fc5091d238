"""Pooling layers: over sliding windows, to a given size, and over everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from ..ops.adaptive_pooling import adaptive_maxpool, adaptive_meanpool
from ..ops.geometry import Pad, window
from ..ops.lp_pooling import lpnormpool
from ..ops.pooling import maxpool, meanpool, with_batch
from ..ops.reductions import mean
from .inputs import as_real, layer_name, speak_for, whole
from .module import Module


class _Pool(Module):
    """What the sliding pools share: a window that is checked at once, and printing without what has its default."""

    k: Any
    stride: Any
    pad: Pad

    def _check(self, pad: Pad, dilation: Any, ceil_mode: bool) -> None:
        window(type(self).__name__, self.k, self.stride, pad, dilation, ceil_mode=ceil_mode,
               ndim=len(self.k) if isinstance(self.k, tuple) else 1)

    def _pooled(self, pool: Callable[..., Tensor], x: Any, **keywords: Any) -> Tensor:
        x = as_real(x, self)
        try:
            return pool(x, self.k, stride=self.stride, pad=self.pad, name=type(self).__name__, **keywords)
        except ValueError as error:
            speak_for(error, self, x)
            raise

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """For printing: what rebuilds the layer, a stride only where it is not ``k``."""
        attributes = {n: v for n, v in vars(self).items() if n not in ("k", "p", "active")}
        defaults = {"stride": self.k, "pad": 0, "dilation": 1, "ceil_mode": False, "count_include_pad": True}
        first = [self.k, self.p] if hasattr(self, "p") else [self.k]
        return first, {n: v for n, v in attributes.items() if v != defaults[n]}


def _plain(k: Any) -> Any:
    return tuple(k) if isinstance(k, list) else k


def _sizes(layer: str, out: Any) -> Any:
    out = _plain(out)
    for n in out if isinstance(out, tuple) else (out,):
        if whole(n, f"{layer}(out): each size") < 1:
            raise ValueError(f"{layer}(out): the output size is a positive int or one per axis, got {out!r}")
    return out


class MaxPool(_Pool):
    """MaxPool(k, *, stride=k, pad=0, dilation=1, ceil_mode=False)

    Max pooling: ``x`` (N, C, *I) gives the maximum of every window, (N, C, *O), over 1 to 3 axes.

    ``k``: the window, a tuple in array order, (h, w) for images, or an int for every axis; with a tuple, the batch axis
    of ``x`` may be missing. ``pad``: an int, one per axis, (lo, hi) pairs, ``SamePad()``, ``SamePad("upper")`` or ``"same"``;
    minus infinity is padded. ``ceil_mode`` keeps a last window that does not fit whole. The gradient goes to the first
    maximum in row-major order; a NaN is the maximum of its window. Source: Flux's ``MaxPool``.
    """

    def __init__(
        self, k: Any, *, stride: Any = None, pad: Pad = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.k = _plain(k)
        self.stride = self.k if stride is None else stride
        self.pad, self.dilation, self.ceil_mode = pad, dilation, ceil_mode
        self._check(pad, dilation, ceil_mode)

    def __call__(self, x: Any) -> Tensor:
        return self._pooled(maxpool, x, dilation=self.dilation, ceil_mode=self.ceil_mode)


class MeanPool(_Pool):
    """MeanPool(k, *, stride=k, pad=0, ceil_mode=False, count_include_pad=True)

    Mean pooling: ``x`` (N, C, *I) gives the mean of every window, (N, C, *O); arguments as for ``MaxPool``.

    ``count_include_pad``: whether the zeros of the padding count as elements. Source: Flux's ``MeanPool``.
    """

    def __init__(
        self, k: Any, *, stride: Any = None, pad: Pad = 0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> None:
        self.k = _plain(k)
        self.stride = self.k if stride is None else stride
        self.pad, self.ceil_mode, self.count_include_pad = pad, ceil_mode, count_include_pad
        self._check(pad, 1, ceil_mode)

    def __call__(self, x: Any) -> Tensor:
        return self._pooled(meanpool, x, ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad)


class LpPool(_Pool):
    """LpPool(k, p, *, stride=k, pad=0)

    The p-norm of every window, ``(sum |x|^p)^(1/p)``; arguments as for ``MaxPool``. Source: NNlib's ``lpnormpool``.
    """

    def __init__(self, k: Any, p: float, *, stride: Any = None, pad: Pad = 0) -> None:
        if not p > 0:
            raise ValueError(f"LpPool: p must be positive, got {p}")
        self.k, self.p = _plain(k), p
        self.stride = self.k if stride is None else stride
        self.pad = pad
        self._check(pad, 1, False)

    def __call__(self, x: Any) -> Tensor:
        return self._pooled(lpnormpool, x, p=self.p)


class AdaptiveMaxPool(Module):
    """AdaptiveMaxPool(out)

    Max pooling to the size ``out``, a tuple or an int for every axis: (N, C, *I) gives (N, C, *out), whatever I.

    Window p of an axis reaches from floor(p I / out) to ceil((p + 1) I / out): PyTorch's windows, which exist for every
    size. Flux's have one length for all; both are the same where ``out`` divides I.
    """

    def __init__(self, out: Any) -> None:
        self.out = _sizes(type(self).__name__, out)

    def __call__(self, x: Any) -> Tensor:
        return adaptive_maxpool(as_real(x, self), self.out, name=layer_name(self))


class AdaptiveMeanPool(Module):
    """AdaptiveMeanPool(out)

    Mean pooling to the size ``out``: (N, C, *I) gives (N, C, *out), whatever I. The windows are ``AdaptiveMaxPool``'s.
    """

    def __init__(self, out: Any) -> None:
        self.out = _sizes(type(self).__name__, out)

    def __call__(self, x: Any) -> Tensor:
        return adaptive_meanpool(as_real(x, self), self.out, name=layer_name(self))


class GlobalMaxPool(Module):
    """GlobalMaxPool(): the maximum over all axes after the channels; (N, C, *I) gives (N, C, 1, ...).

    Source: Flux's ``GlobalMaxPool``.
    """

    def __init__(self) -> None:
        pass

    def __call__(self, x: Any) -> Tensor:
        return adaptive_maxpool(as_real(x, self), 1, name="GlobalMaxPool()")


class GlobalMeanPool(Module):
    """GlobalMeanPool(): the mean over all axes after the channels; (N, C, *I) gives (N, C, 1, ...).

    Source: Flux's ``GlobalMeanPool``.
    """

    def __init__(self) -> None:
        pass

    def __call__(self, x: Any) -> Tensor:
        x, _ = with_batch("GlobalMeanPool()", as_real(x, self), None)
        if 0 in x.shape[2:]:
            raise ValueError(f"GlobalMeanPool(): the input has an empty axis, there is nothing to pool (input shape {x.shape})")
        return mean(x, tuple(range(2, x.ndim)), keepdims=True)
