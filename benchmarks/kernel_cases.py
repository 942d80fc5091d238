"""What ``python -m benchmarks.kernels`` times: one call of each op that has a kernel, at a size that fills the machine.

A case gives an array function and its arguments. Its traffic is that of the arrays that go in and come out, each once: what
no implementation can do without. Where the work is multiplication, it has a number of floating-point operations instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOATS = ("float32", "float16")


class Draw:
    """Arrays on a device: ``n`` numbers make a large one. The numbers repeat after a million."""

    def __init__(self, device: str, dtype: str, n: int) -> None:
        from minitorch_flux.backend import array_module, to_device

        self.device, self.dtype, self.n = device, np.dtype(dtype), n
        rng = np.random.default_rng(0)
        self._numbers = to_device(rng.standard_normal(min(n, 1 << 20)).astype(self.dtype), device)
        self._xp = array_module(self._numbers)

    def normal(self, *shape: int) -> Any:
        """Standard normal numbers."""
        count = math.prod(shape)
        copies = -(-count // self._numbers.size)
        return self._xp.ascontiguousarray(self._xp.tile(self._numbers, copies)[:count].reshape(shape))

    def rows(self, width: int, n: int | None = None) -> Any:
        """About ``n`` numbers in rows of ``width``."""
        return self.normal(max(1, (n or self.n) // width), width)

    def images(self, channels: int, size: int, n: int | None = None) -> Any:
        """About ``n`` numbers as images (N, channels, size, size)."""
        return self.normal(max(1, (n or self.n) // (channels * size * size)), channels, size, size)

    def whole(self, high: int, *shape: int) -> Any:
        """Whole numbers below ``high``, int64."""
        return self._xp.asarray(np.random.default_rng(1).integers(high, size=shape))


@dataclass(frozen=True)
class Case:
    """``make(draw)`` gives (function, arguments, operations): of 0 operations the traffic counts."""

    name: str
    make: Callable[[Draw], tuple[Any, tuple[Any, ...], float]]
    dtypes: tuple[str, ...] = FLOATS


CASES: dict[str, Case] = {}


def case(name: str, dtypes: tuple[str, ...] = FLOATS) -> Callable[[Any], Any]:
    """Decorator: what makes the call of this name."""

    def register(make: Any) -> Any:
        CASES[name] = Case(name, make, dtypes)
        return make

    return register


def _of(module: str, name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"minitorch_flux.ops.{module}"), name)


def _plain(name: str, module: str, arguments: Callable[[Draw], tuple[Any, ...]], dtypes: tuple[str, ...] = FLOATS) -> None:
    CASES[name] = Case(name, lambda d: (_of(module, name), arguments(d), 0.0), dtypes)


# -- elementwise -------------------------------------------------------------------------------------------------------


def _relu() -> Any:
    return _of("nonlinearities", "relu")


def _binary(name: str) -> Callable[[Draw], Any]:
    from minitorch_flux.backend import FUNCTIONS

    return lambda d: (FUNCTIONS[f"{name}_forward"], (d.normal(d.n), d.normal(d.n)), 0.0)


def _unary(name: str) -> Callable[[Draw], Any]:
    from minitorch_flux.backend import FUNCTIONS

    return lambda d: (FUNCTIONS[f"{name}_forward"], (d.normal(d.n),), 0.0)


case("add_forward")(lambda d: _binary("add")(d))
case("exp_forward")(lambda d: _unary("exp")(d))
_plain("erf_forward", "special", lambda d: (d.normal(d.n),))
_plain("astype_forward", "casts", lambda d: (d.normal(d.n), {"float32": "float16", "float16": "float32"}[d.dtype.name]))
_plain("bias_act_forward", "nonlinearities", lambda d: (d.images(64, 56), d.normal(64), 1, _relu()))
_plain("activation_backward", "nonlinearities", lambda d: (d.normal(d.n), d.normal(d.n), _relu()))
_plain("bias_backward", "nonlinearities", lambda d: (d.images(64, 56), 1))
_plain("where_forward", "comparisons", lambda d: (d.normal(d.n) > 0, d.normal(d.n), d.normal(d.n)))


@case("dropout_forward")
def _dropout(d: Draw) -> Any:
    x = d.rows(1024)
    return _of("dropouts", "dropout_forward"), (x, 0.9, (1, 2), x.shape, 1 / 0.9), 0.0


@case("philox_uniform", ("float32",))
def _philox(d: Draw) -> Any:
    return _of("philox", "philox_uniform"), (1, 2, (d.n,), d.dtype, d.normal(1)), 0.0


# -- along rows --------------------------------------------------------------------------------------------------------

for _name in ("softmax", "logsoftmax"):
    _plain(f"{_name}_forward", "softmaxes", lambda d: (d.rows(1024), -1))
    _plain(f"{_name}_backward", "softmaxes", lambda d: (d.rows(1024), d.rows(1024), -1))
_plain("logsumexp_forward", "softmaxes", lambda d: (d.rows(1024), -1))
_plain("sum_forward", "reductions", lambda d: (d.rows(1024), (1,)))
_plain("cumsum_forward", "scans", lambda d: (d.rows(1024), 1))
_plain("max_forward", "extremes", lambda d: (d.rows(1024), (1,)))
_plain("argmax_forward", "extremes", lambda d: (d.rows(1024), (1,)))


@case("sum_forward, columns")
def _sum_columns(d: Draw) -> Any:
    return _of("reductions", "sum_forward"), (d.rows(1024), (0,)), 0.0


@case("argmax_forward, columns")
def _argmax_columns(d: Draw) -> Any:
    return _of("extremes", "argmax_forward"), (d.rows(1024), (0,)), 0.0


@case("place_forward")
def _place(d: Draw) -> Any:
    rows = max(1, d.n // 1024)
    return _of("extremes", "place_forward"), (d.normal(rows), d.whole(1024, rows), (1,), (rows, 1024)), 0.0


@case("logitcrossentropy_forward")
def _crossentropy(d: Draw) -> Any:
    x = d.rows(1000)
    return _of("crossentropies", "logitcrossentropy_forward"), (x, d.whole(1000, len(x)), None, 1), 0.0


@case("layer_norm_forward")
def _layer_norm(d: Draw) -> Any:
    return _of("layer_norms", "layer_norm_forward"), (d.rows(768), d.normal(768), d.normal(768), 1, 1e-5, True), 0.0


@case("layer_norm_backward")
def _layer_norm_back(d: Draw) -> Any:
    f, (x, w, b, *rest), _ = _layer_norm(d)
    _, shift, s = f(x, w, b, *rest)
    return _of("layer_norms", "layer_norm_backward"), (d.rows(768), x, w, shift, s, *rest, (True, True, True)), 0.0


@case("rms_norm_forward")
def _rms_norm(d: Draw) -> Any:
    return _of("layer_norms", "rms_norm_forward"), (d.rows(768), d.normal(768), 1, 1e-5), 0.0


@case("take_forward")
def _take(d: Draw) -> Any:
    x = d.rows(256)
    return _of("indexing", "take_forward"), (x, d.whole(len(x), len(x)), 0), 0.0


@case("accumulate_rows")
def _accumulate(d: Draw) -> Any:
    rows = d.rows(256)
    return _of("indexing", "accumulate_rows"), (rows, d.whole(1000, len(rows)), 1000), 0.0


# -- images ------------------------------------------------------------------------------------------------------------


def _window(kernel: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Any:
    return _of("geometry", "window")("benchmark", (kernel, kernel), stride, pad, 1, groups)


@case("batch_norm_forward")
def _batch_norm(d: Draw) -> Any:
    return _of("channel_norms", "batch_norm_forward"), (d.images(64, 56), d.normal(64), d.normal(64), 1e-5, _relu()), 0.0


@case("batch_norm_backward")
def _batch_norm_back(d: Draw) -> Any:
    f, (x, w, b, eps, act), _ = _batch_norm(d)
    stats = f(x, w, b, eps, act)[1]
    return _of("channel_norms", "batch_norm_backward"), (d.images(64, 56), x, w, b, stats, act, (True, True, True)), 0.0


@case("group_norm_forward")
def _group_norm(d: Draw) -> Any:
    return _of("channel_norms", "group_norm_forward"), (d.images(64, 56), d.normal(64), d.normal(64), 32, 1e-5), 0.0


_plain("max_pool_forward", "pooling", lambda d: (d.images(64, 56), _window(2, 2)))
_plain("max_pool_values", "pooling", lambda d: (d.images(64, 56), _window(2, 2)))
_plain("mean_pool_forward", "pooling", lambda d: (d.images(64, 56), _window(2, 2), True))
_plain("lp_pool_forward", "lp_pooling", lambda d: (d.images(64, 56), _window(2, 2), 2.0))
_plain("adaptive_mean_forward", "adaptive_pooling", lambda d: (d.images(256, 13), (6, 6)))
_plain("im2col_forward", "im2col", lambda d: (d.images(64, 28, d.n // 9), _window(3, 1, 1)), ("float32",))


@case("max_pool_backward")
def _max_pool_back(d: Draw) -> Any:
    x = d.images(64, 56)
    y, arg = _of("pooling", "max_pool_forward")(x, _window(2, 2))
    return _of("pooling", "max_pool_backward"), (y, arg, _window(2, 2), (56, 56)), 0.0


@case("mean_pool_backward")
def _mean_pool_back(d: Draw) -> Any:
    return _of("pooling", "mean_pool_backward"), (d.images(64, 28, d.n // 4), _window(2, 2), True, (56, 56)), 0.0


@case("col2im_forward", ("float32",))
def _col2im(d: Draw) -> Any:
    col = d.normal(max(1, d.n // (64 * 9 * 784)), 64 * 9, 784)
    return _of("im2col", "col2im_forward"), (col, _window(3, 1, 1), (28, 28)), 0.0


@case("resample", ("float32",))
def _resample(d: Draw) -> Any:
    x = d.images(64, 28, d.n // 2)
    return _of("upsampling", "resample"), (x, 3, _of("upsampling", "linear_taps")(28, 56, None, False)), 0.0


@case("resample_planes")
def _resample_planes(d: Draw) -> Any:
    x, taps = d.images(64, 28, d.n // 4), _of("upsampling", "linear_taps")(28, 56, None, False)
    return _of("upsampling", "resample_planes"), (x, taps, taps), 0.0


@case("depthwise_forward", ("float32",))
def _depthwise(d: Draw) -> Any:
    return _of("depthwise", "depthwise_forward"), (d.images(128, 56), d.normal(128, 1, 3, 3), _window(3, 1, 1, 128)), 0.0


# -- multiplication ----------------------------------------------------------------------------------------------------

SHAPES = {"64 channels, 56 x 56": (64, 56), "256 channels, 14 x 14": (256, 14)}


def _convolutions(kind: str) -> Iterator[tuple[str, Callable[[Draw], Any]]]:
    for what, (channels, size) in SHAPES.items():

        def make(d: Draw, channels: int = channels, size: int = size) -> Any:
            x, w = d.images(channels, size, d.n // 4), d.normal(channels, channels, 3, 3)
            window, operations = _window(3, 1, 1), 2.0 * x.size * channels * 9
            arguments = {"conv": (x, w, window), "conv_data": (x, w, window, (size, size)), "conv_filter": (x, x, window)}
            return _of("convolution", f"{kind}_forward"), arguments[kind], operations

        yield f"{kind}_forward, {what}", make


for _kind in ("conv", "conv_data", "conv_filter"):
    for _what, _make in _convolutions(_kind):
        CASES[_what] = Case(_what, _make, FLOATS)


@case("matmul_forward")
def _matmul(d: Draw) -> Any:
    n = 1 << max(4, int(math.log2(d.n)) // 2 - 1)
    return _of("products", "matmul_forward"), (d.normal(n, n), d.normal(n, n)), 2.0 * n**3


@case("attention_forward", ("float32",))
def _attention(d: Draw) -> Any:
    length, width, heads = 256, 64, 8
    n = max(1, d.n // 4 // (length * width * heads))
    q, k, v = (d.normal(n, heads, length, width) for _ in range(3))
    return _of("attention", "attention_forward"), (q, k, v, None, False, width**-0.5), 4.0 * q.size * length
