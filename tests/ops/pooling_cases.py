"""Windows of every geometry, walked through one by one: what the tests of the sliding pools share."""

import itertools

import numpy as np

from minitorch_flux.ops.geometry import SamePad, window


def windows(x, k, stride=None, pad=0, dilation=1, ceil_mode=False):
    """``(cell, places inside, number of places in the padded input)`` for every window, in row-major order."""
    ndim = len(k) if isinstance(k, tuple) else x.ndim - 2
    sizes = x.shape[2:]
    box = window("slow", k, k if stride is None else stride, pad, dilation, ceil_mode=ceil_mode, ndim=ndim).at(sizes)
    for p in np.ndindex(*box.output_size(sizes)):
        inside, counted = [], 0
        for tap in itertools.product(*map(range, box.kernel)):
            at = tuple(p[i] * box.stride[i] - box.lo[i] + tap[i] * box.dilation[i] for i in range(ndim))
            counted += all(-lo <= a < s + hi for a, s, (lo, hi) in zip(at, sizes, box.pad, strict=True))
            if all(0 <= a < s for a, s in zip(at, sizes, strict=True)):
                inside.append(at)
        yield p, inside, counted


def collected(x, values):
    cells = list(values)
    out = tuple(np.max([p for p, _ in cells], axis=0) + 1)
    y = np.zeros((*x.shape[:2], *out), x.dtype)
    for p, v in cells:
        y[(slice(None), slice(None), *p)] = v
    return y


CASES = {  # shape, k, options
    "2x2": ((2, 3, 6, 8), (2, 2), {}),
    "int": ((2, 3, 6, 8), 2, {}),
    "rest left over": ((2, 2, 7, 9), (2, 2), {}),
    "overlapping": ((2, 2, 7, 9), (3, 3), dict(stride=2, pad=1)),
    "stride 1": ((1, 2, 5, 6), (2, 3), dict(stride=1)),
    "gaps": ((1, 2, 7, 11), (2, 2), dict(stride=(4, 3))),
    "1-d": ((2, 3, 10), (3,), dict(stride=2, pad=((2, 1),))),
    "3-d": ((1, 2, 4, 5, 6), (2, 3, 2), dict(stride=(1, 2, 2), pad=(1, 0, 1))),
    "asymmetric": ((2, 2, 5, 6), (3, 2), dict(stride=(2, 1), pad=((2, 0), (0, 1)))),
    "ceil": ((2, 2, 6, 8), (3, 3), dict(stride=2, ceil_mode=True)),
    "ceil and pad": ((1, 2, 6, 7), (3, 2), dict(stride=(2, 3), pad=1, ceil_mode=True)),
    "SamePad": ((1, 2, 5, 6), (2, 3), dict(stride=2, pad=SamePad())),
    "SamePad upper": ((1, 2, 5, 6), (2, 3), dict(stride=2, pad=SamePad("upper"))),
    "same": ((1, 2, 5, 6), (2, 3), dict(stride=1, pad="same")),
    "whole": ((2, 2, 3, 4), (3, 4), {}),
    "wide": ((1, 1, 2, 40), (2, 17), dict(stride=1)),
    "long lines": ((1, 1, 3, 150), (2, 3), dict(stride=(1, 2), pad=1)),
    "no images": ((0, 2, 4, 4), (2, 2), {}),
}
DILATED = {
    "dilation": ((1, 2, 8, 9), (3, 2), dict(stride=1, pad=1, dilation=(2, 3))),
    "dilation and stride": ((2, 1, 9, 12), (2, 3), dict(stride=2, pad=(0, 1), dilation=2)),
    "dilation 3-d": ((1, 1, 5, 4, 7), (2, 2, 3), dict(stride=(2, 1, 2), dilation=(2, 1, 2))),
}
