"""Dropout, and random numbers: of this library's generator, so another sequence than another runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import Generator, array_module, is_float, resolve_rng
from ..ops.dropouts import dropout as drop
from ..ops.elementwise import as_tensor
from .arguments import number
from .protos import dtype_of
from .registry import register


def _generator(seed: float | None) -> Generator:
    """With a seed the numbers are the same in every call."""
    return resolve_rng(None if seed is None else Generator(int(np.float32(seed).view(np.uint32))))


@register("Dropout")
def dropout_1(x: Any, *, ratio: float = 0.5, is_test: int = 0) -> Any:
    """Before opset 12 the dropout in a file is that of inference: nothing is dropped."""
    return _kept(x)


@register("Dropout", since=12, host=("ratio", "training_mode"))
def dropout(x: Any, ratio: Any = None, training_mode: Any = None, *, seed: int | None = None, node: Any) -> Any:
    x, p = as_tensor(x), 0.5 if ratio is None else number(ratio)
    if training_mode is None or not number(training_mode) or p == 0:
        return _kept(x)
    rng = _generator(seed)
    again = Generator(rng.key, rng.counter)
    y = drop(x, p, rng=rng)
    if len(node.outputs) == 1:
        return y
    ones = Tensor(array_module(x.data).ones(x.shape, np.float32))
    return y, drop(ones, p, rng=again) > 0  # the same key and counter draw the same mask


def _kept(x: Any) -> tuple[Tensor, Tensor]:
    x = as_tensor(x)
    return x, Tensor(array_module(x.data).ones(x.shape, bool))


def _dtype(code: int | None, like: Any) -> np.dtype:
    return as_tensor(like).dtype if code is None else dtype_of(code, "random numbers")


def _drawn(kind: str, shape: Any, dtype: np.dtype, seed: float | None, scale: float, shift: float, like: Any = None) -> Tensor:
    if not is_float(dtype):
        raise ValueError(f"random numbers are floats, not {dtype}")
    draw = getattr(_generator(seed), kind)
    return Tensor(draw(tuple(shape), np.float32, like=like) * np.float32(scale) + np.float32(shift)).astype(dtype)


@register("RandomNormal")
def random_normal(
    *, shape: Any, dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Any:
    return _drawn("normal", shape, _dtype(dtype, None), seed, scale, mean)


@register("RandomNormalLike")
def random_normal_like(
    x: Any, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Any:
    x = as_tensor(x)
    return _drawn("normal", x.shape, _dtype(dtype, x), seed, scale, mean, x.data)


@register("RandomUniform")
def random_uniform(
    *, shape: Any, dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: float | None = None
) -> Any:
    return _drawn("uniform", shape, _dtype(dtype, None), seed, high - low, low)


@register("RandomUniformLike")
def random_uniform_like(
    x: Any, *, dtype: int | None = None, high: float = 1.0, low: float = 0.0, seed: float | None = None
) -> Any:
    x = as_tensor(x)
    return _drawn("uniform", x.shape, _dtype(dtype, x), seed, high - low, low, x.data)


@register("Bernoulli")
def bernoulli(p: Any, *, dtype: int | None = None, seed: float | None = None) -> Any:
    """1 with the probability that each element gives, else 0."""
    p = as_tensor(p)
    return (_drawn("uniform", p.shape, np.dtype(np.float32), seed, 1.0, 0.0, p.data) < p).astype(_dtype(dtype, p))
