"""DropBlock: dropout of square blocks of an image. The layer is in models/layers/drops.py.

    b = min(block_size, H, W)                                     a block has no more pixels than the image
    gamma = gamma_scale p H W / b^2 / ((H - b + 1) (W - b + 1))   at most 1
    s[n, c, i, j] = 1 with probability gamma                      the seeds
    kept[i, j] = 1 unless there is a seed in the window of b x b pixels around (i, j)
    y = x size / sum(kept) where kept, else 0                     dx = dy size / sum(kept) where kept, else 0

Seed i is the middle of its block, which reaches from i - (b - 1) // 2 to i + b // 2. ``edge="free"``: seeds lie anywhere,
and blocks may stick out; ``edge="valid"``: only where the whole block is inside. A pixel that k seeds could cover is
dropped with probability 1 - (1 - gamma)^k. The mask is a function of a key and a counter (Philox), the same bit for bit on
every device.

Sources: Ghiasi, Lin and Le, "DropBlock: a regularization method for convolutional networks", NeurIPS 2018 (with valid
seeds); Metalhead.jl, timm (free ones, and the options ``batchwise`` and ``noise``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, is_recording
from ..backend import Generator, array_function, array_module, is_float
from ..backend.generator import resolve_rng
from ..backend.outlines import Outline
from .comparisons import where
from .elementwise import as_tensor
from .philox import blocks_of, philox_bernoulli

EDGES = ("free", "valid")

# -- the mask ----------------------------------------------------------------------------------------------------------


def dropblock_gamma(drop_block_prob: float, block_size: int, gamma_scale: float, height: int, width: int) -> float:
    """The probability that a pixel is the seed of a block; see the head of this file."""
    b = min(block_size, height, width)
    gamma = gamma_scale * drop_block_prob * height * width / b**2 / ((height - b + 1) * (width - b + 1))
    return min(gamma, 1.0)


def _widened(seeds: Any, block: int, axis: int) -> Any:
    """True wherever a block that has its seed in the same line along ``axis`` lies."""
    lines = array_module(seeds).moveaxis(seeds, axis, -1)
    out = lines.copy()
    for d in range(1, block // 2 + 1):
        out[..., d:] |= lines[..., :-d]
    for d in range(1, (block - 1) // 2 + 1):
        out[..., :-d] |= lines[..., d:]
    return array_module(seeds).moveaxis(out, -1, axis)


@array_function
def dropblock_mask(
    key: int, counter: int, shape: tuple[int, ...], gamma: float, block: int, valid: bool, like: Any = None
) -> Any:
    """True where no block lies: (N, C, H, W), ``block`` at most H and W, on the device of ``like``."""
    seeds = philox_bernoulli(key, counter, shape, gamma, like=like)
    if valid:
        first, end = (block - 1) // 2, block // 2
        for axis in (2, 3):
            lines = array_module(seeds).moveaxis(seeds, axis, -1)
            lines[..., :first] = False
            lines[..., lines.shape[-1] - end :] = False
    return ~_widened(_widened(seeds, block, 2), block, 3)


@dropblock_mask.outlined
def _(key: int, counter: int, shape: tuple[int, ...], gamma: float, block: int, valid: bool, like: Any = None) -> Any:
    return Outline(shape, np.bool_)


# -- the function ------------------------------------------------------------------------------------------------------


def dropblock(
    *arguments: Any,
    rng: Any = None,
    batchwise: bool = False,
    edge: str = "free",
    noise: bool = False,
    name: str = "dropblock",
    **named: Any,
) -> Tensor:
    """dropblock([rng,] x, drop_block_prob, block_size, gamma_scale, active=True, *, rng=None, batchwise=False, edge="free",
    noise=False)

    The dropblock function: if ``active``, contiguous regions of ``block_size`` of the images ``x`` (N, C, H, W) are set to
    zero, and the rest is scaled by the number of pixels over the number of those kept. Otherwise, and where
    ``drop_block_prob`` is None, it returns the very ``x``. ``active=None`` drops inside a recording scope only.

    ``rng`` (a flux.Generator, or NumPy's for arrays on the CPU) may stand before ``x``. ``batchwise``: one mask for all
    samples. ``edge``: "free", blocks may stick out over the edge, or "valid", they lie inside. ``noise``: blocks hold
    standard normal noise, and nothing is scaled. Integers become float64.
    Raises ValueError for probabilities outside [0, 1] and for another number of axes. Source: Metalhead's ``dropblock``.
    """
    if arguments and isinstance(arguments[0], Generator | np.random.Generator):
        if rng is not None:
            raise TypeError(f"{name}: the generator is given twice, before x and as rng=")
        rng, *rest = arguments
        arguments = tuple(rest)
    return _dropblock(*arguments, rng=rng, batchwise=batchwise, edge=edge, noise=noise, name=name, **named)


def _dropblock(
    x: Any,
    drop_block_prob: float | None,
    block_size: int,
    gamma_scale: float,
    active: bool | None = True,
    *,
    rng: Any,
    batchwise: bool,
    edge: str,
    noise: bool,
    name: str,
) -> Tensor:
    if drop_block_prob is not None:
        check_dropblock(name, drop_block_prob, block_size, gamma_scale, edge)
    x = as_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"{name}: the input has {x.ndim} axes, expected 4, (N, C, H, W) (input shape {x.shape})")
    off = not drop_block_prob or not gamma_scale or not x.size
    if off or not (is_recording() if active is None else active):
        return x
    x = x if is_float(x.dtype) else x.astype(np.float64)
    (n, c, h, w), xp, rng = x.shape, array_module(x.data), resolve_rng(rng, x.data)
    shape = (1 if batchwise else n, c, h, w)
    gamma = dropblock_gamma(float(drop_block_prob), block_size, gamma_scale, h, w)  # type: ignore[arg-type]
    key, counter = rng.reserve(blocks_of(math.prod(shape)))
    kept = dropblock_mask(key, counter, shape, gamma, min(block_size, h, w), edge == "valid", x.data)
    if noise:
        return where(kept, x, rng.normal(shape, x.dtype, like=x.data))
    scale = xp.asarray(math.prod(shape) / xp.maximum(kept.sum(), 1)).astype(x.dtype)
    return where(kept, x * Tensor(scale), 0)


_dropblock.__qualname__ = "dropblock"  # what Python calls it where an argument is missing


def check_dropblock(name: str, drop_block_prob: Any, block_size: Any, gamma_scale: Any, edge: Any) -> None:
    """Raise TypeError or ValueError that names the argument which cannot be."""
    for what, value in (("drop_block_prob", drop_block_prob), ("gamma_scale", gamma_scale)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{name}: {what} must be a number between 0 and 1, got {value!r}")
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {what} must be between 0 and 1, got {value!r}")
    if isinstance(block_size, bool) or not isinstance(block_size, int | np.integer):
        raise TypeError(f"{name}: block_size must be a whole number, got {block_size!r}")
    if block_size < 1:
        raise ValueError(f"{name}: block_size must be at least 1, got {block_size}")
    if edge not in EDGES:
        raise ValueError(f"{name}: edge must be 'free' (blocks may stick out over the edge) or 'valid' (they lie inside), got "
                         f"{edge!r}")
