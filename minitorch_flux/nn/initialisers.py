"""Initialisers: the first values of weights.

An initialiser is called with the sizes, ``glorot_uniform(10, 100)`` or ``glorot_uniform((10,
100))``, and gives an array. Called with keywords only it gives an initialiser with these settings:
``Dense(4, 8, init=kaiming_normal(gain=1))``. Every one takes ``dtype=`` (default float32) and
``rng=`` (a ``flux.Generator`` or a ``numpy.random.Generator``; default: the generator that
``flux.seed`` seeds), draws on the host and returns a NumPy array.

The fans that scale most of them are read from the weight's own shape, see ``nfan``.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import DEFAULT, Generator, is_float, resolve_rng
from ..ops.philox import uniform

Shape = tuple[int, ...]


class Initialiser:
    """A function of a shape together with its settings; ``repr`` is the call that rebuilds it.

    As a decorator it makes an initialiser from ``draw(shape, dtype, rng, **options)``.
    """

    __name__: str

    def __init__(self, draw: Callable[..., np.ndarray], **settings: Any) -> None:
        functools.update_wrapper(self, draw)
        named = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(draw).parameters.values()][3:]
        named += [
            inspect.Parameter("dtype", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT.name),
            inspect.Parameter("rng", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
        shape = inspect.Parameter("shape", inspect.Parameter.VAR_POSITIONAL)
        self.__signature__ = inspect.Signature([shape, *named])
        self.options = {p.name: p.default for p in named}
        self.draw, self.settings, self.bare = draw, settings, self

    def __call__(self, *shape: Any, **settings: Any) -> Any:
        name = self.__name__
        for key in settings:
            if key not in self.options:
                raise TypeError(f"{name}: no keyword {key!r}; it takes {', '.join(self.options)}")
        settings = self.settings | settings
        if not shape:
            curried = Initialiser(self.draw, **settings)
            curried.bare = self.bare
            return curried
        options = self.options | settings
        for key, value in options.items():
            if value is inspect.Parameter.empty:
                raise TypeError(f"{name}: the keyword {key!r} has no default; pass {key}=")
        dtype, rng = np.dtype(options.pop("dtype")), options.pop("rng")
        if not is_float(dtype):
            raise TypeError(f"{name}: weights are real floating-point numbers, not {dtype}")
        return self.draw(_sizes(name, shape), dtype, resolve_rng(rng), **options)

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        return f"{self.__name__}({settings})" if settings else self.__name__

    def __reduce__(self) -> Any:
        # By its module's name, which means the bare initialiser and not the function ``draw``.
        if self.bare is self:
            return self.__name__
        return functools.partial(self.bare, **self.settings), ()


def _sizes(name: str, shape: tuple[Any, ...]) -> Shape:
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    try:
        sizes = tuple(operator.index(n) for n in shape)
    except TypeError:
        raise TypeError(f"{name}: the sizes must be integers or one tuple of them, got {shape}") from None
    if any(n < 0 for n in sizes):
        raise ValueError(f"{name}: the sizes must be at least 0, got {sizes}")
    return sizes


def nfan(*shape: Any) -> tuple[int, int]:
    """``(fan_in, fan_out)``: the inputs that reach one output, the outputs that one input reaches.

        ()                      (1, 1)
        (n,)                    (1, n)
        (out, in)               (in, out)                   Dense
        (out, in/groups, *k)    k * (in/groups, out)        Conv; k: the window's number of elements

    As in PyTorch and Flux the shape alone decides. ConvTranspose's weight ``(in, out/groups, *k)``
    therefore gives the pair the other way round: glorot's sum does not see it, and
    ``kaiming_normal(mode="fan_out")`` is the one that counts the terms of an output there. With
    groups, ``out`` counts all groups.
    """
    sizes = _sizes("nfan", shape)
    if len(sizes) < 2:
        return 1, math.prod(sizes)
    window = math.prod(sizes[2:])
    return window * sizes[1], window * sizes[0]


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype to compute in: float64 for float64, else float32."""
    return dtype if dtype == np.float64 else np.dtype(np.float32)


def _uniform(shape: Shape, dtype: np.dtype, rng: Generator, low: float, high: float) -> np.ndarray:
    u = uniform(rng, shape, _wide(dtype))
    u *= high - low
    u += low
    return u.astype(dtype, copy=False)


def _normal(shape: Shape, dtype: np.dtype, rng: Generator, mean: float, std: float) -> np.ndarray:
    z = rng.host().standard_normal(shape, _wide(dtype))
    z *= std
    z += mean
    return z.astype(dtype, copy=False)


def _fan(name: str, shape: Shape, mode: str) -> float:
    """The number that a variance is divided by; at least 1, for arrays without elements."""
    fan_in, fan_out = nfan(shape)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in fans:
        raise ValueError(f"{name}: mode must be one of {', '.join(fans)}, got {mode!r}")
    return max(fans[mode], 1)


@Initialiser
def glorot_uniform(shape: Shape, dtype: np.dtype, rng: Generator, gain: float = 1) -> np.ndarray:
    """Uniform within ``+- gain * sqrt(6 / (fan_in + fan_out))``; also called Xavier.

    The default of every layer. Its variance is ``gain**2 * 2 / (fan_in + fan_out)``. Glorot and
    Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    """
    bound = gain * math.sqrt(3 / _fan("glorot_uniform", shape, "fan_avg"))
    return _uniform(shape, dtype, rng, -bound, bound)


@Initialiser
def glorot_normal(shape: Shape, dtype: np.dtype, rng: Generator, gain: float = 1) -> np.ndarray:
    """Normal with std ``gain * sqrt(2 / (fan_in + fan_out))``, see ``glorot_uniform``."""
    return _normal(shape, dtype, rng, 0, gain / math.sqrt(_fan("glorot_normal", shape, "fan_avg")))


@Initialiser
def kaiming_uniform(
    shape: Shape, dtype: np.dtype, rng: Generator, gain: float = math.sqrt(2), mode: str = "fan_in"
) -> np.ndarray:
    """Uniform within ``+- gain * sqrt(3 / fan_in)``: variance ``gain**2 / fan_in``; also called He.

    ``mode`` is ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``. ``gain=3**-0.5`` is what PyTorch's
    layers start with. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    bound = gain * math.sqrt(3 / _fan("kaiming_uniform", shape, mode))
    return _uniform(shape, dtype, rng, -bound, bound)


@Initialiser
def kaiming_normal(
    shape: Shape, dtype: np.dtype, rng: Generator, gain: float = math.sqrt(2), mode: str = "fan_in"
) -> np.ndarray:
    """Normal with std ``gain / sqrt(fan_in)``, see ``kaiming_uniform``."""
    return _normal(shape, dtype, rng, 0, gain / math.sqrt(_fan("kaiming_normal", shape, mode)))


@Initialiser
def lecun_normal(shape: Shape, dtype: np.dtype, rng: Generator) -> np.ndarray:
    """Normal with std ``sqrt(1 / fan_in)``: the one for selu.

    LeCun et al., "Efficient BackProp", 1998; Klambauer et al., "Self-normalizing neural networks",
    2017.
    """
    return _normal(shape, dtype, rng, 0, math.sqrt(1 / _fan("lecun_normal", shape, "fan_in")))


@Initialiser
def truncated_normal(
    shape: Shape,
    dtype: np.dtype,
    rng: Generator,
    mean: float = 0,
    std: float = 1,
    lo: float = -2,
    hi: float = 2,
) -> np.ndarray:
    """Normal with ``mean`` and ``std``, drawn again until it lies between ``lo`` and ``hi``.

    The bounds are absolute, not in units of ``std``, as in Flux and PyTorch.
    """
    if not (std > 0 and lo < hi):
        raise ValueError(f"truncated_normal: needs std > 0 and lo < hi, got std={std}, lo={lo}, hi={hi}")
    a, b = (lo - mean) / std, (hi - mean) / std
    sign = 1 if a + b < 0 else -1  # in the lower tail small probabilities keep their digits
    a, b = (a, b) if sign == 1 else (-b, -a)
    below, mass = _cdf(a), _cdf(b) - _cdf(a)
    if mass <= 0:
        raise ValueError(
            f"truncated_normal: nothing of a normal with mean={mean} and std={std} lies between "
            f"lo={lo} and hi={hi}; bring them within 37 std of the mean"
        )
    host = rng.host()
    if mass < 0.1:  # too many would be rejected: invert the distribution, number by number
        probabilities = below + mass * host.random(math.prod(shape))
        from statistics import NormalDist  # which imports much

        z = np.array([NormalDist().inv_cdf(p or math.ulp(0)) for p in probabilities.tolist()])
    else:
        z = host.standard_normal(math.prod(shape), _wide(dtype))
        outside = np.flatnonzero((z < a) | (z > b))
        while outside.size:
            z[outside] = host.standard_normal(outside.size, z.dtype)
            outside = outside[(z[outside] < a) | (z[outside] > b)]
    z *= sign * std
    z += mean
    return np.clip(z, lo, hi, out=z).astype(dtype).reshape(shape)


def _cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@Initialiser
def orthogonal(shape: Shape, dtype: np.dtype, rng: Generator, gain: float = 1) -> np.ndarray:
    """``gain`` times an evenly drawn matrix with orthonormal rows, or columns if it has fewer.

    The shape, of at least two axes, is read as ``(out, everything else)``, so that a Conv's filters
    are orthonormal. Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks", ICLR 2014; the signs that make it even: Mezzadri,
    Notices of the AMS 54 (2007).
    """
    if len(shape) < 2:
        raise ValueError(f"orthogonal: needs at least two axes, (out, in, ...), got the shape {shape}")
    rows, columns = shape[0], math.prod(shape[1:])
    a = rng.host().standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(a)
    q *= np.where(np.diagonal(r) < 0, -gain, gain)
    return np.ascontiguousarray(q if rows >= columns else q.T).astype(dtype).reshape(shape)


@Initialiser
def sparse_init(shape: Shape, dtype: np.dtype, rng: Generator, sparsity: float, std: float = 0.01) -> np.ndarray:
    """Normal with ``std``, but every column of ``(out, in)`` has ``ceil(sparsity * out)`` zeros.

    So every input reaches the same number of outputs. Martens, "Deep learning via Hessian-free
    optimization", 2010.
    """
    if len(shape) != 2:
        raise ValueError(f"sparse_init: needs two axes, (out, in), got the shape {shape}")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_init: sparsity must be between 0 and 1, got {sparsity}")
    host = rng.host()
    w = (host.standard_normal(shape) * std).astype(dtype)
    w[: math.ceil(sparsity * shape[0])] = 0
    return host.permuted(w, axis=0)


@Initialiser
def identity_init(
    shape: Shape, dtype: np.dtype, rng: Generator, gain: float = 1, shift: int | tuple[int, ...] = 0
) -> np.ndarray:
    """``gain`` times the weight that returns its input; nothing is random.

    One axis (a bias): zeros. ``(out, in)``: the identity matrix, cut or padded with zeros. ``(out,
    in, *k)``: a Conv's, with 1 at the middle ``k // 2`` of the window from each channel to itself,
    the identity with ``pad=SamePad()``. ``shift`` then rolls the array: along the first axis, or a
    tuple along the first axes.
    """
    w = np.zeros(shape, dtype)
    if len(shape) < 2:
        return w
    if all(shape):
        middle = tuple(k // 2 for k in shape[2:])
        for channel in range(min(shape[:2])):
            w[channel, channel, *middle] = gain
    shifts = tuple(shift) if isinstance(shift, (tuple, list)) else (shift,)
    if len(shifts) > len(shape):
        raise ValueError(f"identity_init: shift={shift} has more entries than the shape {shape} has axes")
    return np.roll(w, shifts, tuple(range(len(shifts))))


@Initialiser
def zeros(shape: Shape, dtype: np.dtype, rng: Generator) -> np.ndarray:
    """All 0: the default of biases."""
    return np.zeros(shape, dtype)


@Initialiser
def ones(shape: Shape, dtype: np.dtype, rng: Generator) -> np.ndarray:
    """All 1: the default of the scales of norms."""
    return np.ones(shape, dtype)


@Initialiser
def uniform_init(shape: Shape, dtype: np.dtype, rng: Generator, low: float = 0, high: float = 1) -> np.ndarray:
    """Uniform from ``low`` to ``high``."""
    return _uniform(shape, dtype, rng, low, high)


@Initialiser
def normal_init(shape: Shape, dtype: np.dtype, rng: Generator, mean: float = 0, std: float = 1) -> np.ndarray:
    """Normal with ``mean`` and ``std``."""
    return _normal(shape, dtype, rng, mean, std)
