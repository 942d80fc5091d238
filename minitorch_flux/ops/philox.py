"""Philox4x32-10: random numbers as a function of a key and a counter (kernels: kernels/philox.cu).

    round:   (h0, l0) = 0xD2511F53 * c0,  (h1, l1) = 0xCD9E8D57 * c2     high and low 32 bits each
             c <- (h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0)
    between two rounds:  k0 += 0x9E3779B9,  k1 += 0xBB67AE85             mod 2**32

Block number ``b`` of a draw is the counter ``counter + b`` (128 bits, lowest word first) after ten
rounds: four words w0..w3. Integers only, so that NumPy, the CPU kernel and a GPU agree in every
bit; the conversions to floats are exact too:

    16- and 32-bit floats   element i is word w = i % 4 of block i // 4:  u = (w >> 32 - p) * 2**-p,
                            p = 8, 11 or 24: the bits of bfloat16, float16 or float32
    float64                 element i is words a, b = 2j, 2j + 1 of block i // 2, j = i % 2:
                            u = ((a >> 5) * 2**26 + (b >> 6)) * 2**-53
    bernoulli(p)            element i is true if word i % 4 of block i // 4 is < round(p * 2**32)

so u is uniform on the multiples of 2**-p in [0, 1), and p is exact to 2**-33.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ..backend import Array, Generator, array_function, array_module, empty, is_float
from ..readings import KernelFile

LOW = (1 << 32) - 1
BITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}


def philox4x32(c0: Array, c1: Array, c2: Array, c3: Array, key: int) -> tuple[Array, Array, Array, Array]:
    """Ten rounds on counters given as four uint64 arrays of 32-bit words; key = k0 + 2**32 * k1."""
    k0, k1 = key & LOW, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & LOW, (p0 >> 32) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c0, c1, c2, c3


def philox_words(key: int, counter: int, blocks: int, like: Array | None = None) -> Array:
    """The words of ``blocks`` blocks from ``counter`` (below 2**128) on: uint32 ``(blocks, 4)``."""
    xp = array_module(like)
    start, high = np.uint64(counter & (1 << 64) - 1), np.uint64(counter >> 64)
    low = xp.arange(blocks, dtype=np.uint64) + start
    high = (low < start) + high  # the carry
    words = philox4x32(low & LOW, low >> 32, high & LOW, high >> 32, key)
    return xp.stack(words, axis=1).astype(np.uint32)


@array_function
def philox_uniform(key: int, counter: int, shape: tuple[int, ...], dtype: Any, like: Array | None = None) -> Array:
    """Uniform numbers in [0, 1) on the device of ``like`` (default: the CPU)."""
    n, dtype = math.prod(shape), np.dtype(dtype)
    words = philox_words(key, counter, blocks_of(n, dtype), like)
    if dtype == np.float64:
        pairs = words.reshape(-1, 2).astype(np.uint64)
        u = (((pairs[:, 0] >> 5) << 26) + (pairs[:, 1] >> 6)).astype(np.float64) * 2.0**-53
    else:
        p = BITS[dtype.name]
        u = (words.ravel() >> 32 - p).astype(np.float32) * np.float32(2.0**-p)
    return u[:n].astype(dtype).reshape(shape)


@array_function
def philox_bernoulli(key: int, counter: int, shape: tuple[int, ...], p: float, like: Array | None = None) -> Array:
    """A boolean mask, true with probability ``p``, on the device of ``like`` (default: the CPU)."""
    n = math.prod(shape)
    words = philox_words(key, counter, blocks_of(n), like).astype(np.uint64)
    return (words.ravel()[:n] < threshold(p)).reshape(shape)


# Kernels ------------------------------------------------------------------------------------------

philox = KernelFile("philox.cu")


def _place(key: int, counter: int) -> tuple[int, int, int, int]:
    return key & LOW, key >> 32, counter & (1 << 64) - 1, counter >> 64


@philox_uniform.kernel(accepts="every float dtype and shape with at least one element")
def _(key: int, counter: int, shape: tuple[int, ...], dtype: Any, like: Array | None = None) -> Any:
    y = empty(shape, dtype, like)
    blocks, bits = blocks_of(y.size, y.dtype), {"BITS": BITS[y.dtype.name]}
    place = _place(key, counter)
    ran = blocks and philox("philox_uniform", y, 1, blocks, y, *place, y.size, constants=bits)
    return y if ran else NotImplemented


@philox_bernoulli.kernel(accepts="every shape with at least one element")
def _(key: int, counter: int, shape: tuple[int, ...], p: float, like: Array | None = None) -> Any:
    y = empty(shape, np.bool_, like)
    args = (blocks_of(y.size), y, threshold(p), *_place(key, counter), y.size)
    build = {"BITS": BITS["float32"]}  # no use for it here: this and float32's uniform share one library
    ran = y.size and philox("philox_bernoulli", y, 1, *args, constants=build, T=np.float32)
    return y if ran else NotImplemented


def blocks_of(n: int, dtype: Any = np.float32) -> int:
    """How many blocks ``n`` numbers of ``dtype`` use up."""
    per_block = 2 if np.dtype(dtype) == np.float64 else 4
    return -(-n // per_block)


def threshold(p: float) -> int:
    """The number of 32-bit words that count as true."""
    return round(p * (1 << 32))


# The draws of flux.Generator ---------------------------------------------------------------------


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    shape = tuple(operator.index(n) for n in sizes)
    if any(n < 0 for n in shape):
        raise ValueError(f"a random array cannot have the shape {shape}: sizes are at least 0")
    return shape


def _float(dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if not is_float(dtype) or dtype.name not in BITS:
        raise TypeError(f"random numbers are {', '.join(BITS)}, not {dtype}")
    return dtype


def uniform(self: Generator, shape: Any, dtype: Any = np.float32, like: Array | None = None) -> Array:
    """Uniform numbers in [0, 1) on the device of ``like`` (default: the CPU), everywhere alike."""
    shape, dtype = _shape(shape), _float(dtype)
    return philox_uniform(*self.reserve(blocks_of(math.prod(shape), dtype)), shape, dtype, like)


def bernoulli(self: Generator, p: float, shape: Any, like: Array | None = None) -> Array:
    """A boolean mask, true with probability ``p``: the same bits on every device."""
    if not 0 <= p <= 1:
        raise ValueError(f"bernoulli: the probability must be between 0 and 1, got {p}")
    shape = _shape(shape)
    return philox_bernoulli(*self.reserve(blocks_of(math.prod(shape))), shape, p, like)


def normal(self: Generator, shape: Any, dtype: Any = np.float32, like: Array | None = None) -> Array:
    """Standard normal numbers by Box and Muller's transform of float64 uniforms, then rounded:

        z_2i, z_2i+1 = sqrt(-2 log(1 - u_2i)) * (cos, sin)(2 pi u_2i+1)

    The logarithm and the circle are the device's, right to some 4 ulp of float64: two devices agree
    within 2**-48 relative to the number, so that float32 differs by one ulp about once in 10**7
    numbers. |z| is below 8.58.
    """
    shape, dtype = _shape(shape), _float(dtype)
    n = math.prod(shape)
    pairs = -(-n // 2)
    u = philox_uniform(*self.reserve(pairs), (pairs, 2), np.dtype(np.float64), like)
    xp = array_module(u)
    radius, angle = xp.sqrt(-2 * xp.log1p(-u[:, 0])), 2 * math.pi * u[:, 1]
    z = xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], axis=1)
    return z.ravel()[:n].astype(dtype).reshape(shape)


for _draw in (uniform, bernoulli, normal):
    setattr(Generator, _draw.__name__, _draw)
