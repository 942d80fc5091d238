"""Samples of the kernels that work on one element at a time, or on parameters: no row has a sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...backend import FUNCTIONS, accumulator, empty
from ...ops.batches import Batch
from ...ops.casts import casts
from ...ops.comparisons import comparisons
from ...ops.dropouts import dropout_forward
from ...ops.elementwise import elementwise
from ...ops.nonlinearities import ACTIVATIONS, activation_backward, bias_act_forward, bias_backward
from ...ops.philox import philox_bernoulli, philox_uniform, philox_words
from ...ops.scans import cumprod_forward, cumsum_forward, recurrence_forward, scans
from ...ops.special import erf_forward
from ...ops.updates import updates
from .registry import Calls, Draw, sample

# -- elementwise.cu, special.cu, comparisons.cu ------------------------------------------------------------------------


def _binary(name: str) -> Calls:
    def calls(d: Draw) -> Iterator[Any]:
        for numbers in ((None, None), (None, 1.5), (0.5, None)):
            x, y = d.normal(d.n), d.uniform(d.n, low=0.5, high=2)
            if d.kernels:
                z = empty(x.shape, x.dtype)
                arrays = [None if number is not None else a for number, a in zip(numbers, (x, y), strict=True)]
                if not elementwise(f"{name}_forward", x, 1, d.n, *arrays, *(v or 0.0 for v in numbers), z, d.n):
                    return
                yield z
            else:
                a, b = (a if number is None else number for number, a in zip(numbers, (x, y), strict=True))
                yield np.asarray(getattr(np, name)(a, b), d.dtype)

    return calls


def _unary(name: str) -> Calls:
    def calls(d: Draw) -> Iterator[Any]:
        yield FUNCTIONS[f"{name}_forward"](d.uniform(d.n, low=0.1, high=2))

    return calls


for _name in ("add", "subtract", "multiply", "divide"):
    sample(f"{_name}_forward")(_binary(_name))
for _name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos"):
    sample(f"{_name}_forward")(_unary(_name))


@sample("erf_forward")
def _erf(d: Draw) -> Iterator[Any]:
    yield erf_forward(d.normal(d.n))


@sample("where_forward")
def _where(d: Draw) -> Iterator[Any]:
    bits = np.dtype(f"uint{8 * d.dtype.itemsize}")
    for numbers in ((False, False), (False, True), (True, False)):
        condition, x, y = d.flags(d.n, share=0.5), d.normal(d.n), d.normal(d.n)
        a, b = (np.asarray(v, d.dtype) for v in (2.5, -1.5))
        if d.kernels:
            z = empty(x.shape, x.dtype)
            arrays = [None if number else v.view(bits) for number, v in zip(numbers, (x, y), strict=True)]
            raw = [v.view(bits).item() for v in (a, b)]
            inputs = (condition.view(np.uint8), *arrays, *raw)
            if not comparisons("where_forward", x, 1, d.n, *inputs, z.view(bits), d.n, BITS=bits):
                return
            yield z
        else:
            yield np.where(condition, a if numbers[0] else x, b if numbers[1] else y)


@sample("astype_forward", dtypes=("float32", "float16"), tolerance=0)
def _astype(d: Draw) -> Iterator[Any]:
    if d.dtype.itemsize > 4:
        return  # NumPy's conversion is as quick
    other = np.dtype(np.float32 if d.dtype.itemsize == 2 else np.float16)
    for n in (d.n, 4096 + d.n):  # a row is 4096 numbers
        x, y = d.normal(n), empty((n,), other)
        if not d.kernels:
            yield x.astype(other)
        elif casts("astype_forward", x, -(-n // 4096), 4096, x, y, n, FROM=x.dtype, T=other, ACC=np.dtype(np.float32)):
            yield y


# -- nonlinearities.cu -------------------------------------------------------------------------------------------------

_SMOOTH = ("sigmoid", "gelu", "leakyrelu")


@sample("activation_forward")
def _activation(d: Draw) -> Iterator[Any]:
    for name in _SMOOTH:
        yield bias_act_forward(d.normal(d.n), None, -1, ACTIVATIONS[name])


@sample("activation_backward")
def _activation_back(d: Draw) -> Iterator[Any]:
    for name in _SMOOTH:
        yield activation_backward(d.normal(d.n), d.uniform(d.n), ACTIVATIONS[name])


@sample("bias_act_forward")
def _bias_act(d: Draw) -> Iterator[Any]:
    for shape in ((3, 5, d.n), (2, 3, d.n, 2)):
        for name in _SMOOTH[:2]:
            yield bias_act_forward(d.normal(*shape), d.normal(shape[1]), 1, ACTIVATIONS[name])


@sample("bias_act_forward_last")
def _bias_act_last(d: Draw) -> Iterator[Any]:
    for name in _SMOOTH[:2]:
        yield bias_act_forward(d.normal(5, d.n), d.normal(d.n), 1, ACTIVATIONS[name])


@sample("bias_backward_planes", "bias_backward")
def _bias_back(d: Draw) -> Iterator[Any]:
    for shape in ((3, 5, d.n + 1), (d.n, 3, 2)):
        yield bias_backward(d.normal(*shape), 1)


# -- philox.cu, dropouts.cu: the same bits everywhere ------------------------------------------------------------------

_KEY, _COUNTER = 0x0123456789ABCDEF, (1 << 64) - 3  # the low word of the counter overflows on the way


@sample("philox_uniform", tolerance=0)
def _uniform(d: Draw) -> Iterator[Any]:
    for n in (d.n, 4 * d.n, 4 * d.n + 3):
        yield philox_uniform(_KEY, _COUNTER, (n,), d.dtype)


@sample("philox_bernoulli", tolerance=0)
def _bernoulli(d: Draw) -> Iterator[Any]:
    for n in (d.n, 4 * d.n, 4 * d.n + 3):
        yield philox_bernoulli(_KEY, _COUNTER, (n,), 0.3)
    for word in philox_words(_KEY, _COUNTER, 1)[0]:
        yield philox_bernoulli(_KEY, _COUNTER, (4 * d.n,), int(word) / 2**32)  # the smallest number that is not below


@sample("dropout_forward")
def _dropout(d: Draw) -> Iterator[Any]:
    for n in (d.n, 4 * d.n, 4 * d.n + 3):
        yield dropout_forward(d.normal(n), 0.6, (_KEY, 7), (n,), 1.5, 0.25, -2.0)
    keep = (int(philox_words(_KEY, 7, 1)[0, 0]) + 1) / 2**32  # the largest number that is kept
    yield dropout_forward(d.normal(4 * d.n), keep, (_KEY, 7), (4 * d.n,), 1.5, 0.25, -2.0)


@sample("dropout_rows")
def _dropout_rows(d: Draw) -> Iterator[Any]:
    yield dropout_forward(d.normal(3, 3, d.n + 1), 0.6, (_KEY, 7), (3, 3, 1), 1.5, 0.25, -2.0)


# -- scans.cu ----------------------------------------------------------------------------------------------------------


@sample("scan_rows", op="cumsum_forward")
def _scan_rows(d: Draw) -> Iterator[Any]:
    for product, f in enumerate((cumsum_forward, cumprod_forward)):
        for reverse in (False, True):
            x, y = d.uniform(5, d.n, low=0.9, high=1.1), empty((5, d.n), d.dtype)
            if d.kernels:
                if not scans("scan_rows", x, 5, d.n, x, y, 5, d.n, reverse, constants={"PRODUCT": product}):
                    return
                yield y
            else:
                yield f.reference(x, 1, reverse)


@sample("scan_columns", op="cumsum_forward")
def _scan_columns(d: Draw) -> Iterator[Any]:
    for product, f in enumerate((cumsum_forward, cumprod_forward)):
        for reverse, tile in ((False, 200), (True, 7)):
            x, y = d.uniform(2, 4, d.n, low=0.5, high=1.5), empty((2, 4, d.n), d.dtype)
            if d.kernels:
                tiles, constants = -(-d.n // tile), {"PRODUCT": product}
                if not scans("scan_columns", x, 2 * tiles, tile, x, y, 2, 4, d.n, reverse, tile, constants=constants):
                    return
                yield y
            else:
                yield f.reference(x, 1, reverse)


@sample("recurrence_forward")
def _recurrence(d: Draw) -> Iterator[Any]:
    for reverse in (False, True):
        shape = (5, 4, d.n)
        yield recurrence_forward(d.uniform(*shape, low=-1), d.normal(*shape), 1, reverse)


# -- updates.cu --------------------------------------------------------------------------------------------------------

# state arrays (with ?: may be missing), coefficients
_STEPS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "momentum_update": (("u?",), (-1.0, 0.1, 0.05, 0.9, 0.8, 1.0, 0.9)),
    "rmsprop_update": (("v", "a?", "u?"), (1.0, 0.1, 0.01, 0.99, 0.01, 0.01, 1e-4, 0.5)),
    "adam_update": (("m", "v", "top?"), (1.0, 0.1, 0.99, 0.9, 0.1, 0.99, 0.01, 1.0, 1e-3, 2.0, 1e-3, 0.01, 0.02)),
    "adamax_update": (("m", "u"), (1.0, 0.1, 0.01, 0.9, 0.1, 0.99, 1e-3)),
    "adadelta_update": (("v", "u"), (1.0, 0.1, 0.5, 0.9, 0.1, 1e-4)),
    "lion_update": (("m",), (-1.0, 0.1, 0.99, 0.02, 0.9, 0.1, 0.99, 0.01)),
}


def _update(name: str) -> Calls:
    slots, coefficients = _STEPS[name]
    missing = sum(slot.endswith("?") for slot in slots)

    def calls(d: Draw) -> Iterator[Any]:
        for present in range(-1, 1 << missing):
            x, dx, high = d.normal(d.n + 3), d.normal(d.n + 3), accumulator(d.dtype)
            master = x.astype(high) if present < 0 else None  # -1 has all bits, too
            if master is not None:
                x[::5] += 1  # somebody else has written here
            state: list[Any] = []
            for slot in slots:
                optional = sum(s.endswith("?") for s in slots[: len(state)])
                drawn = d.uniform(d.n + 3, low=0.5, high=2, dtype=high)
                state.append(None if slot.endswith("?") and not present >> optional & 1 else drawn)
            if d.kernels:
                width = max(3, d.n // 2 + 1)  # the longer parameter takes two chunks
                chunks = [(i, d.n - i) for i in range(0, d.n, width)] + [(d.n, 3)]
                begins, left = np.array(chunks, np.int64).T.copy()
                begins, left, at = map(d.place, (begins, left, begins * d.dtype.itemsize))
                table = (x, at, dx, at, begins, left, master, len(chunks), width)
                build: dict[str, Any] = {} if master is None else {"constants": {"MASTER": 1}}
                if not updates(name, x, len(chunks), width, *table, *state, *coefficients, **build):
                    return
            else:
                ends = x[: d.n], x[d.n :]
                batch = Batch(ends, [0, d.n], master=master)
                batch.load([dx[: d.n], dx[d.n :]])
                FUNCTIONS[name](batch, *state, *coefficients)
            yield x, state, master

    return calls


for _name in _STEPS:
    sample(_name)(_update(_name))
