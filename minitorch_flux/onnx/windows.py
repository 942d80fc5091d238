"""The geometry of sliding windows as ONNX writes it: ``auto_pad``, ``pads``, ``strides``, ``dilations``."""

from __future__ import annotations

from typing import Any

Pairs = tuple[tuple[int, int], ...]


def numbers(values: Any, ndim: int, default: int) -> tuple[int, ...]:
    """One number per axis."""
    return tuple(values) if values is not None else (default,) * ndim


def pairs_of(pads: Any, ndim: int) -> Pairs:
    """ONNX's list, all beginnings and then all ends, as a pair per axis."""
    pads = [0] * (2 * ndim) if pads is None else pads
    return tuple(zip(pads[:ndim], pads[ndim:], strict=True))


def padding_of(
    auto_pad: str, pads: Any, sizes: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Pairs:
    """The padding per axis: as it is given, none, or as much as makes the output ceil(size / stride) long.

    The odd one comes last with SAME_UPPER, first with SAME_LOWER.
    """
    if auto_pad in ("NOTSET", ""):
        return pairs_of(pads, len(kernel))
    if auto_pad == "VALID":
        return ((0, 0),) * len(kernel)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad={auto_pad!r} is not NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    totals = [max((-(-n // s) - 1) * s + span - n, 0) for n, s, span in zip(sizes, stride, spans)]
    return tuple(halves(total, auto_pad == "SAME_UPPER") for total in totals)


def halves(total: int, upper: bool) -> tuple[int, int]:
    """``total`` in two parts, the larger one last where ``upper``."""
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)
