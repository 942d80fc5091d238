"""Where arrays lie: addresses, owners and extents, on the CPU and on a GPU alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ..backend import address_of, array_module


def address(a: Any) -> int:
    """Where the first element of an array lies."""
    return a.__array_interface__["data"][0] if isinstance(a, np.ndarray) else address_of(a)


def owner(a: Any) -> Any:
    """The array whose memory ``a`` is a view of."""
    kind = np.ndarray if isinstance(a, np.ndarray) else type(a)
    while isinstance(a.base, kind):
        a = a.base
    return a


def extent(a: Any) -> tuple[int, int]:
    """The address of the first byte of an array and of the one after its last."""
    if isinstance(a, np.ndarray):
        return byte_bounds(a)
    low = high = address(a)
    if a.size:
        for n, step in zip(a.shape, a.strides, strict=True):
            low, high = low + min((n - 1) * step, 0), high + max((n - 1) * step, 0)
        high += a.itemsize
    return low, high


def flat_bytes(a: Any) -> Any:
    """The memory of a new array, from its first byte on, as a flat array of bytes; None where the array has gaps."""
    flat = a if a.ndim < 2 else a.transpose(sorted(range(a.ndim), key=lambda i: -a.strides[i]))
    return flat.reshape(-1).view(np.uint8) if flat.flags.c_contiguous and min(a.strides, default=1) > 0 else None


def array_at(memory: Any, offset: int, like: Any) -> Any:
    """The array with the shape, dtype and strides of ``like`` whose first element lies ``offset`` bytes into ``memory``."""
    xp = array_module(memory)
    if not np.prod(like.shape):
        return xp.empty(like.shape, like.dtype)
    first = memory[offset : offset + like.dtype.itemsize].view(like.dtype)
    return xp.lib.stride_tricks.as_strided(first, like.shape, like.strides)
