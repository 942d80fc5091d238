"""The one checker that every test of an op uses, and the data that it is fed with.

    check_operation(flux.matmul, a, b, oracle=np.matmul)
    check_operation(flux.softmax, x, axis=1, oracle=scipy.special.softmax)

Keywords that it does not know are static keywords of the op (and of the oracle). In float64 it compares the value with
the oracle and the gradients of every order with central differences; see ``check_operation`` for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor, gradient, no_grad
from minitorch_flux.backend import use_kernels

FEW = 24
"""Up to this many elements every single derivative is compared; above, derivatives in random directions are."""
DIRECTIONS = 4


# -- the checker -------------------------------------------------------------------------------------------------------


def check_operation(
    f: Callable[..., Any],
    *arrays: Any,
    oracle: Callable[..., Any] | None = None,
    order: int = 2,
    constants: Sequence[int] = (),
    dtypes: Sequence[Any] = (np.float32,),
    tolerance: float = 1e-6,
    tolerance32: float = 2e-5,
    step: float = 1e-5,
    layouts: bool = True,
    seed: int = 0,
    **keywords: Any,
) -> Any:
    """Check ``f(*arrays, **keywords)``, a Tensor or a tuple of them; returns the value in float64 as plain arrays.

    Float arrays are differentiated, but for those at the positions in ``constants``; integer and boolean arrays,
    numbers and None are passed through. What is compared:

    * the value in float64 with ``oracle(*arrays, **keywords)`` (shape, dtype and numbers; NaN equals NaN);
    * the gradients of orders 1 to ``order`` with central differences of ``step`` in float64: each derivative for small
      inputs, random directions otherwise. The point must be ``step`` away from kinks (see ``apart``). The second order
      differentiates with respect to the incoming gradient too, and its differences are those of the ordinary backward
      pass, so ``backward`` and ``rule`` are held against each other;
    * kernels with references, values and first gradients;
    * Fortran-ordered, strided and reversed copies of the inputs with contiguous ones;
    * each dtype in ``dtypes``: kept by the value and the gradients, and right to ``tolerance32`` (float16: 1e-2);
    * that no input is written to, and that nothing is recorded where no input is.
    """
    arrays = tuple(np.asarray(a, np.float64) if _is_float(a) else a for a in arrays)
    active = [i for i, a in enumerate(arrays) if _is_float(a) and i not in constants]
    rng = np.random.default_rng(seed)
    before = [_copy(a) for a in arrays]

    value = _run(f, arrays, keywords)
    if oracle is not None:
        _same_as_oracle(value, oracle(*map(_copy, arrays), **keywords), tolerance)
    for y in _outputs(f(*arrays, **keywords)):
        assert y.node is None, "recorded, although no input is"
    for y, a in zip(before, arrays, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, y, "an input was written to")

    dys = [rng.standard_normal(y.shape) for y in value if _is_float(y)]
    if active and dys and order:

        def level(*xs: Any) -> list[Tensor]:  # f as a function of the arrays that are differentiated
            full = list(arrays)
            for i, x in zip(active, xs, strict=True):
                full[i] = x
            return [y for y in _outputs(f(*full, **keywords)) if _is_float(y)]

        points = [arrays[i] for i in active]
        for n in range(1, order + 1):
            names = [f"order {n}: input {i}" for i in active] + [f"order {n}: an incoming gradient"] * len(points)
            _against_differences(level, points, dys, names, rng, tolerance, step)
            k = len(points)
            level, points = _gradient_function(level, k), [*points, *dys]
            dys = [rng.standard_normal(p.shape) for p in points[:k]]

    first = _first_gradients(f, arrays, active, keywords, value, rng.integers(1 << 30)) if order else None
    _kernels_against_references(f, arrays, active, keywords, value, first)
    if layouts:
        _layouts(f, arrays, active, keywords, value, first)
    for dtype in dtypes:
        _in_dtype(f, arrays, active, keywords, np.dtype(dtype), tolerance32, bool(order))
    return value[0] if len(value) == 1 else tuple(value)


def _is_float(a: Any) -> bool:
    return getattr(a, "dtype", None) is not None and a.dtype.kind == "f"


def _copy(a: Any) -> Any:
    return a.copy() if isinstance(a, np.ndarray) else a


def _outputs(y: Any) -> list[Tensor]:
    ys = list(y) if isinstance(y, tuple | list) else [y]
    assert all(isinstance(t, Tensor) for t in ys), f"the value is not a Tensor: {ys}"
    return ys


def _run(f: Callable[..., Any], arrays: Sequence[Any], keywords: dict[str, Any]) -> list[np.ndarray]:
    with no_grad():
        return [y.data for y in _outputs(f(*arrays, **keywords))]


def _same_as_oracle(value: list[np.ndarray], wanted: Any, tolerance: float) -> None:
    wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
    assert len(value) == len(wanted), f"{len(value)} outputs, the oracle has {len(wanted)}"
    for y, w in zip(value, wanted, strict=True):
        w = np.asarray(w.detach() if hasattr(w, "detach") else w)
        assert y.shape == w.shape, f"shape {y.shape}, the oracle has {w.shape}"
        assert y.dtype == w.dtype, f"dtype {y.dtype}, the oracle has {w.dtype}"
        np.testing.assert_allclose(y, w, rtol=tolerance * 1e-3, atol=tolerance * 1e-3, err_msg="against the oracle")


def _gradient_function(f: Callable[..., Any], k: int) -> Callable[..., Any]:
    """``(x1, ..., xk, dy...) -> the gradients at x1 ... xk`` of the function ``f`` of k arrays."""

    def gradients(*xs: Any) -> list[Any]:
        points, dys = xs[:k], xs[k:]

        def projected(*points: Any) -> Any:
            total: Any = 0.0
            for y, dy in zip(f(*points), dys, strict=True):
                total = total + (y * dy).sum()
            return total

        g = gradient(projected, *points)
        return list(g) if k > 1 else [g]

    return gradients


def _plain(y: Any) -> np.ndarray:
    return y.data if isinstance(y, Tensor) else y


def _against_differences(
    f: Callable[..., Any], points: list[Any], dys: list[Any], names: list[str], rng: Any, tolerance: float, step: float
) -> None:
    """The gradients of ``sum(dy * f(*points))`` against central differences."""

    def phi(moved: list[Any]) -> float:
        # summed difference by difference: exact where two large values cancel
        return [np.asarray(_plain(y), np.longdouble) for y in f(*moved)]

    grads = _gradient_function(f, len(points))(*points, *dys)
    for i, (x, g) in enumerate(zip(points, grads, strict=True)):
        g = _plain(g)
        assert g.shape == x.shape, f"{names[i]}: the gradient has shape {g.shape}, the input {x.shape}"
        assert g.dtype == np.float64, f"{names[i]}: the gradient of float64 is {g.dtype}"
        for where, direction in _directions(x, rng):
            plus, minus = list(points), list(points)
            plus[i], minus[i] = x + step * direction, x - step * direction
            moved = sum(float(np.sum((p - m) * dy)) for p, m, dy in zip(phi(plus), phi(minus), dys, strict=True))
            wanted, got = moved / (2 * step), float(np.sum(g * direction))
            scale = max(1.0, abs(wanted), *(float(np.max(np.abs(dy), initial=0)) for dy in dys))
            if not abs(got - wanted) <= tolerance * scale:
                raise AssertionError(f"{names[i]}{where}: the gradient is {got}, differences give {wanted}")


def _directions(x: np.ndarray, rng: Any) -> Iterator[tuple[str, np.ndarray]]:
    if x.size <= FEW:
        for index in np.ndindex(x.shape):
            unit = np.zeros(x.shape)
            unit[index] = 1
            yield f" at {index}", unit
    else:
        for _ in range(DIRECTIONS):
            v = rng.standard_normal(x.shape)
            yield " in a random direction", v / np.linalg.norm(v)


def _first_gradients(
    f: Callable[..., Any], arrays: Sequence[Any], active: list[int], keywords: dict[str, Any], value: list[Any], seed: int
) -> list[np.ndarray]:
    """The ordinary backward pass from fixed incoming gradients, in the dtype of the arrays."""
    if not active:
        return []
    rng = np.random.default_rng(seed)
    dys = [rng.standard_normal(y.shape).astype(y.dtype) for y in value if _is_float(y)]

    def floats(*xs: Any) -> list[Tensor]:
        full = list(arrays)
        for i, x in zip(active, xs, strict=True):
            full[i] = x
        return [y for y in _outputs(f(*full, **keywords)) if _is_float(y)]

    return _gradient_function(floats, len(active))(*(arrays[i] for i in active), *dys)


def _close(got: Sequence[Any], wanted: Sequence[Any], what: str, tolerance: float = 1e-11) -> None:
    for y, w in zip(got, wanted, strict=True):
        assert y.shape == w.shape, f"{what}: shape {y.shape}, not {w.shape}"
        assert y.dtype == w.dtype, f"{what}: dtype {y.dtype}, not {w.dtype}"
        scale = max(1.0, float(np.max(np.abs(w[np.isfinite(w)]), initial=0))) if _is_float(w) else 1.0
        np.testing.assert_allclose(y, w, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def _kernels_against_references(
    f: Callable[..., Any], arrays: Any, active: list[int], keywords: dict[str, Any], value: Any, first: Any
) -> None:
    with use_kernels(False):
        _close(_run(f, arrays, keywords), value, "the reference against the kernel")
        if first is not None:
            grads = _first_gradients(f, arrays, active, keywords, value, _SEED)
            _close(grads, _first_again(f, arrays, active, keywords, value), "the reference's gradient against the kernel's")
