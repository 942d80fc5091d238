"""Convolutions within the bound on work space: ``set_workspace_limit`` (backend/workspaces.py).

Where the algorithm that was chosen takes more, the batch is computed in parts, as large as the bound permits; where one image
is too much for it, by the algorithm that takes the least for one. A filter gradient is the sum over the parts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..backend import Outline, device_of, empty, too_small, workspace_limit, workspace_of
from ..backend.threads import num_threads
from .convolution_table import POSSIBLE, Case

PASSES = ("forward", "data", "filter")
LEAN = ("blocked", "direct", "columns")
"""What is tried for one image at a time, where the algorithm that is fastest takes too much."""


def bounded(algorithms: Mapping[str, tuple[Any, ...]], name: str, passing: str, a: Any, b: Any, *rest: Any) -> Any:
    """``algorithms[name][pass](a, b, *rest)``, in parts of the batch where work space is bounded; a is (N, ...).

    ``passing``: "forward" (a = x, b = w, rest = window, out), "data" (y, w, window, sizes) or "filter" (x, y, window).
    """
    number = PASSES.index(passing)
    limit = workspace_limit()
    if limit is None or device_of(a) != "cpu":
        return algorithms[name][number](a, b, *rest)
    candidates = (name, *(lean for lean in LEAN if lean != name and POSSIBLE[lean](_case(passing, a, b, rest))))
    functions = tuple(algorithms[c][number] for c in candidates)
    key = (passing, a.shape, b.shape, a.dtype, rest)
    function, images = _choice(functions, limit, num_threads(), key)
    if images >= a.shape[0]:
        return function(a, b, *rest)
    return _in_parts(function, images, passing, a, b, rest)


def _case(passing: str, a: Any, b: Any, rest: tuple[Any, ...]) -> Case:
    window = rest[0]
    if passing == "filter":
        inputs, outputs, image, result = a.shape[1] // window.groups, b.shape[1] // window.groups, a.shape[2:], b.shape[2:]
    else:
        inputs, outputs = b.shape[1], b.shape[0] // window.groups
        image, result = (a.shape[2:], rest[1]) if passing == "forward" else (rest[1], a.shape[2:])
    return Case(passing, window, a.dtype.name, a.shape[0], inputs, outputs, tuple(image), tuple(result), True)


@functools.lru_cache(maxsize=1024)
def _choice(functions: tuple[Callable[..., Any], ...], limit: int, threads: int, key: Any) -> tuple[Callable[..., Any], int]:
    """The function that computes, and how many images at a time."""
    passing, shape, other, dtype, rest = key
    images, least = shape[0], []
    while True:
        for function in functions[:1] if images > 1 else functions:
            taken = _taken(function, images, images < shape[0], passing, shape, other, dtype, rest)
            if taken <= limit:
                return function, images
            least.append(taken)
        if images == 1:
            raise too_small(f"conv_{passing}", min(least))
        images = -(-images // 2)


def _taken(
    function: Callable[..., Any], images: int, in_parts: bool, passing: str, shape: Any, other: Any, dtype: Any, rest: Any
) -> int:
    """Bytes of work space for so many images at a time."""
    a = Outline((images, *shape[1:]), dtype)
    b = Outline((images, *other[1:]) if passing == "filter" else other, dtype)
    taken = workspace_of(function, a, b, *rest)
    if in_parts:  # the result of a part is copied, or added, to the whole
        taken += dtype.itemsize * _size(images, passing, a, b, rest)
    return taken


def _size(images: int, passing: str, a: Any, b: Any, rest: Any) -> int:
    if passing == "filter":
        return b.shape[1] * a.shape[1] // rest[0].groups * math.prod(rest[0].kernel)
    return images * math.prod(rest[1]) * (b.shape[0] if passing == "forward" else b.shape[1] * rest[0].groups)


def _in_parts(function: Callable[..., Any], images: int, passing: str, a: Any, b: Any, rest: tuple[Any, ...]) -> Any:
    whole: Any = None
    for i in range(0, a.shape[0], images):
        part = None  # two are never there at a time
        part = function(a[i : i + images], b[i : i + images] if passing == "filter" else b, *rest)
        if part is NotImplemented:
            return part
        if passing == "filter":
            whole = part if whole is None else _added(whole, part)
            continue
        if whole is None:
            whole = empty((a.shape[0], *part.shape[1:]), part.dtype, like=part)
        whole[i : i + images] = part
    return whole


def _added(whole: Any, part: Any) -> Any:
    whole += part
    return whole
