"""The one checker that every test of an op uses, and the data that it is fed with.

    check_operation(flux.matmul, a, b, oracle=np.matmul)
    check_operation(flux.softmax, x, axis=1, oracle=scipy.special.softmax)
    check_against_torch(flux.softmax, lambda x: torch.softmax(x, 1), x, axis=1)

Keywords that the checker does not know are static keywords of the op, and of the oracle.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor, gradient, no_grad
from minitorch_flux.backend import device_of, is_array, to_device, use_kernels
from minitorch_flux.readings.toolchain import Toolchain, toolchain

HAS_COMPILER = isinstance(toolchain(), Toolchain)
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler, so no kernels")

DEVICES = ["cpu"]
"""Where operations are checked: conftest.py adds "cuda:0" where there is a GPU, or where one is to be pretended."""

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
    devices: bool = True,
    wide: bool = False,
    seed: int = 0,
    **keywords: Any,
) -> Any:
    """Check ``f(*arrays, **keywords)``, a Tensor or a tuple of them; returns the value in float64 as plain arrays.

    Float arrays are made float64 and differentiated, but for those at the positions in ``constants``; integer and
    boolean arrays, numbers and None are passed through. Compared are:

    * the value with ``oracle(*arrays, **keywords)``: shape, dtype and numbers (NaN is NaN), to ``tolerance / 1000``;
    * the gradients of orders 1 to ``order`` with central differences of ``step``, to ``tolerance``: each derivative for
      small inputs, random directions for others. The point must not be nearer than ``step`` to a kink (see ``apart``).
      The second order differentiates with respect to the incoming gradient too, and its differences are those of the
      ordinary backward pass, so that ``backward`` and ``rule`` are held against each other;
    * kernels with references: values and first gradients;
    * ``layouts``: Fortran-ordered, strided and reversed copies of the inputs with contiguous ones;
    * each of ``dtypes``: kept by the value (float32 for 16 bits where it is ``wide``) and the gradients, and right to
      ``tolerance32`` (float16: 1e-2);
    * ``devices``: what a GPU makes of it, where there is one (an ``f`` that holds NumPy arrays can't go there);
    * that no input is written to, and that nothing is recorded where no input is.
    """
    case = _Case(f, arrays, constants, keywords, seed)
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in case.arrays]
    value = case.value()
    if oracle is not None:
        _same_as_oracle(value, oracle(*before, **keywords), tolerance / 1000)
    if order:
        case.check_derivatives(order, tolerance, step)
    for i, (b, a) in enumerate(zip(before, case.arrays, strict=True)):
        np.testing.assert_array_equal(a, b, f"input {i} was written to")
    plain = f(*case.arrays, **keywords)  # of arrays; a lambda of operators gives arrays, an op tensors
    for y, v in zip(plain if isinstance(plain, tuple | list) else [plain], value, strict=True):
        assert getattr(y, "node", None) is None, "recorded, although no input is"
        np.testing.assert_array_equal(_plain(y), v, "of arrays, not tensors")

    grads = case.gradients(value) if order else []
    with use_kernels(False):
        _close(case.value(), value, "the reference against the kernel")
        if order:
            _close(case.gradients(value), grads, "the gradient of the reference against the kernel's")
    for name, other in _layouts(case) if layouts else ():
        _close(other.value(), value, f"{name} inputs against contiguous ones")
        if order:
            _close(other.gradients(value), grads, f"gradient with {name} inputs against contiguous ones")
    for dtype in dtypes:
        low = case.with_arrays([a.astype(dtype) if _is_float(a) else a for a in case.arrays])
        high = case.with_arrays([a.astype(np.float64) if _is_float(a) else a for a in low.arrays])
        near = 1e-2 if np.dtype(dtype) == np.float16 else tolerance32
        value = high.value()
        kept = np.float32 if wide and np.dtype(dtype).itemsize == 2 else dtype
        _close(low.value(), [y.astype(kept) if _is_float(y) else y for y in value], f"in {np.dtype(dtype)}", near)
        if order:
            wanted = [g.astype(dtype) for g in high.gradients(value)]
            _close(low.gradients(value), wanted, f"gradient in {np.dtype(dtype)}", near)
    if devices:
        _check_on_devices(case, dtypes, order, tolerance32)
    value = case.value()
    return value[0] if len(value) == 1 else tuple(value)


def _check_on_devices(case: _Case, dtypes: Sequence[Any], order: int, tolerance32: float) -> None:
    """Values and gradients of every other device against those of the CPU, in float64 and ``dtypes``."""
    for device in DEVICES[1:]:
        for dtype in (np.float64, *dtypes):
            here = case.with_arrays([a.astype(dtype) if _is_float(a) else a for a in case.arrays])
            near = {2: 1e-2, 4: tolerance32, 8: 1e-10}[np.dtype(dtype).itemsize]
            value, there = here.value(), here.on(device)
            _close(there.value(), value, f"on {device} in {np.dtype(dtype)}", near)
            if order:
                _close(there.gradients(value), here.gradients(value), f"gradient on {device} in {np.dtype(dtype)}", near)


def same_on_devices(f: Callable[..., Any], *args: Any, near: float = 1e-5, **keywords: Any) -> Any:
    """``f(*args, **keywords)`` of raw arrays, an array or a tuple of them; on every device it must be the same."""
    y = f(*args, **keywords)
    wanted = [a for a in (y if isinstance(y, tuple | list) else [y]) if a is not None]
    for device in DEVICES[1:]:
        there = f(*(_moved(a, device) for a in args), **{k: _moved(a, device) for k, a in keywords.items()})
        there = [a for a in (there if isinstance(there, tuple | list) else [there]) if a is not None]
        assert all(device_of(a) == device for a in there), f"the result is not on {device}"
        _close([_host(a) for a in there], wanted, f"on {device}", near)
    return y


def short_dtypes() -> list[Any]:
    """The 16-bit floats of this machine: bfloat16 where ml_dtypes is installed."""
    if importlib.util.find_spec("ml_dtypes") is None:
        return [np.dtype(np.float16)]
    import ml_dtypes

    return [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


def assert_rounded(y: Any, exact: Any) -> None:
    """``y``, of 16 bits, is ``exact``, of more, within one rounding: one unit in the last place."""
    assert y.dtype.itemsize == 2
    unit = 2.0**-10 if y.dtype == np.float16 else 2.0**-7
    exact = np.asarray(exact, np.float64)
    np.testing.assert_allclose(np.asarray(y).astype(np.float64), exact, rtol=unit, atol=2.0**-24 + 1e-6 * unit)


def check_against_torch(
    f: Callable[..., Any], g: Callable[..., Any], *arrays: Any, tolerance: float = 1e-9, seed: int = 0, **keywords: Any
) -> None:
    """Compare ``f(*arrays, **keywords)`` and its first gradients in float64 with the torch function ``g(*tensors)``."""
    torch = pytest.importorskip("torch")
    case = _Case(f, arrays, (), keywords, seed)
    value = case.value()
    tensors = [torch.tensor(a, requires_grad=_is_float(a)) if isinstance(a, np.ndarray) else a for a in case.arrays]
    wanted = g(*tensors)
    wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
    _same_as_oracle(value, [w.detach().numpy() for w in wanted], tolerance)
    dys = [torch.tensor(dy) for dy in case.incoming(value)]
    loss = sum((w * dy).sum() for w, dy in zip([w for w in wanted if w.dtype.is_floating_point], dys, strict=True))
    loss.backward()
    grads = [tensors[i].grad for i in case.active]
    grads = [np.zeros(tensors[i].shape) if d is None else d.numpy() for i, d in zip(case.active, grads, strict=True)]
    _close(case.gradients(value), grads, "the gradient against torch's", tolerance)


class _Case:
    """One call of an op: the function, its inputs and keywords, and which inputs are differentiated."""

    def __init__(self, f: Any, arrays: Sequence[Any], constants: Sequence[int], keywords: Any, seed: int) -> None:
        self.f, self.keywords, self.seed, self.device = f, keywords, seed, "cpu"
        self.arrays = [np.asarray(a, np.float64) if _is_float(a) else a for a in arrays]
        self.active = [i for i, a in enumerate(self.arrays) if _is_float(a) and i not in constants]

    def with_arrays(self, arrays: list[Any]) -> _Case:
        other = _Case(self.f, (), (), self.keywords, self.seed)
        other.arrays, other.active = arrays, self.active
        return other

    def on(self, device: str) -> _Case:
        """The case on another device."""
        other = _Case(self.f, (), (), {k: _moved(a, device) for k, a in self.keywords.items()}, self.seed)
        other.arrays, other.active, other.device = [_moved(a, device) for a in self.arrays], self.active, device
        return other

    def value(self) -> list[np.ndarray]:
        with no_grad():
            ys = [y.data for y in _outputs(self.f(*map(_tensor, self.arrays), **self.keywords))]
        assert all(device_of(y) == self.device for y in ys), f"a value is not on {self.device}"
        return [_host(y) for y in ys]

    def floats(self, *xs: Any) -> list[Tensor]:
        """The floating-point outputs as a function of the inputs that are differentiated."""
        full = [_tensor(a) for a in self.arrays]
        for i, x in zip(self.active, xs, strict=True):
            full[i] = _tensor(x)
        return [y for y in _outputs(self.f(*full, **self.keywords)) if _is_float(y)]

    def incoming(self, value: list[np.ndarray]) -> list[np.ndarray]:
        """Gradients to start from: the same numbers for the same case."""
        rng = np.random.default_rng(self.seed)
        return [rng.standard_normal(y.shape) for y in value if _is_float(y)]

    def gradients(self, value: list[np.ndarray]) -> list[np.ndarray]:
        """An ordinary backward pass in the dtypes of the arrays."""
        if not self.active:
            return []
        dtype = self.arrays[self.active[0]].dtype
        dys = [_moved(dy.astype(dtype), self.device) for dy in self.incoming(value)]
        grads = _gradient_function(self.floats, len(self.active))(*(self.arrays[i] for i in self.active), *dys)
        return [_host(g) if is_array(g) else g for g in grads]

    def check_derivatives(self, order: int, tolerance: float, step: float) -> None:
        f: Callable[..., list[Any]] = self.floats
        points = [self.arrays[i] for i in self.active]
        dys = self.incoming(self.value())
        if not points or not dys:
            return
        names = [f"input {i}" for i in self.active]
        rng = np.random.default_rng(self.seed + 1)
        for n in range(1, order + 1):
            _against_differences(f, points, dys, [f"derivative {n}, {name}" for name in names], rng, tolerance, step)
            f, k = _gradient_function(f, len(points)), len(points)
            names += [f"incoming gradient {i}" for i in range(len(dys))]
            points, dys = [*points, *dys], [rng.standard_normal(p.shape) for p in points[:k]]


def _is_float(a: Any) -> bool:
    dtype = getattr(a, "dtype", None)
    return dtype is not None and dtype.kind == "f"


def _tensor(a: Any) -> Any:
    return Tensor(a) if is_array(a) else a


def _moved(a: Any, device: str) -> Any:
    return to_device(a, device) if isinstance(a, np.ndarray) else a


def _host(a: Any) -> np.ndarray:
    return to_device(a, "cpu")


def _outputs(y: Any) -> list[Tensor]:
    ys = list(y) if isinstance(y, tuple | list) else [y]
    for t in ys:
        assert isinstance(t, Tensor), f"the value is a {type(t).__name__}, not a Tensor"
    return ys


def _same_as_oracle(value: list[np.ndarray], wanted: Any, tolerance: float) -> None:
    wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
    assert len(value) == len(wanted), f"{len(value)} outputs, the oracle has {len(wanted)}"
    _close(value, [np.asarray(w) for w in wanted], "against the oracle", tolerance)


def _close(got: Sequence[Any], wanted: Sequence[Any], what: str, tolerance: float = 1e-11) -> None:
    for y, w in zip(got, wanted, strict=True):
        assert y.shape == w.shape, f"{what}: shape {y.shape}, not {w.shape}"
        assert y.dtype == w.dtype, f"{what}: dtype {y.dtype}, not {w.dtype}"
        if not _is_float(w):
            np.testing.assert_array_equal(y, w, what)
            continue
        scale = max(1.0, float(np.max(np.abs(w[np.isfinite(w)]), initial=0)))
        np.testing.assert_allclose(y, w, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def _plain(y: Any) -> np.ndarray:
    return y.data if isinstance(y, Tensor) else y


def _gradient_function(f: Callable[..., list[Any]], k: int) -> Callable[..., list[Any]]:
    """``(x1, ..., xk, dy1, ...) -> [dx1, ..., dxk]`` of a function of k arrays with a list of values."""

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


def _against_differences(
    f: Callable[..., list[Any]],
    points: list[Any],
    dys: list[Any],
    names: list[str],
    rng: np.random.Generator,
    tolerance: float,
    step: float,
) -> None:
    """The gradients of ``sum(dy * f(*points))`` against central differences, each in its own scale."""
    grads = _gradient_function(f, len(points))(*points, *dys)
    for i, (x, g) in enumerate(zip(points, map(_plain, grads), strict=True)):
        assert g.shape == x.shape, f"{names[i]}: the gradient has shape {g.shape}, the input {x.shape}"
        assert g.dtype == x.dtype, f"{names[i]}: the gradient is {g.dtype}, the input {x.dtype}"
        for where, direction in _directions(x, rng):
            ends = [[*points[:i], np.asarray(x + h * direction), *points[i + 1 :]] for h in (step, -step)]
            up, down = ([_plain(y) for y in f(*end)] for end in ends)
            products = [(u - d) * dy / (2 * step) for u, d, dy in zip(up, down, dys, strict=True)]
            wanted, got = sum(float(p.sum()) for p in products), float((g * direction).sum())
            scale = max(1.0, sum(float(np.abs(p).sum()) for p in products))
            if not abs(got - wanted) <= tolerance * scale:
                raise AssertionError(f"{names[i]} {where}: the gradient is {got:.12g}, differences give {wanted:.12g}")


def _directions(x: np.ndarray, rng: Any) -> Iterator[tuple[str, np.ndarray]]:
    if x.size <= FEW:
        for index in np.ndindex(x.shape):
            unit = np.zeros(x.shape)
            unit[index] = 1
            yield f"at {index}", unit
        return
    for _ in range(DIRECTIONS):
        v = rng.standard_normal(x.shape)
        yield "in a random direction", v / np.linalg.norm(v)


def _layouts(case: _Case) -> Iterator[tuple[str, _Case]]:
    for name in ("Fortran-ordered", "strided", "reversed"):
        arrays = [laid_out(a, name) if isinstance(a, np.ndarray) else a for a in case.arrays]
        if any(isinstance(a, np.ndarray) and a.strides != b.strides for a, b in zip(arrays, case.arrays, strict=True)):
            yield name, case.with_arrays(arrays)


def laid_out(a: np.ndarray, layout: str) -> np.ndarray:
    """A copy of ``a`` that is ``"Fortran-ordered"``, ``"strided"`` (every other element, NaN between) or
    ``"reversed"`` (negative strides)."""
    if not a.ndim:
        return a
    if layout == "Fortran-ordered":
        return np.asfortranarray(a)
    if layout == "reversed":
        flip = (slice(None, None, -1),) * a.ndim
        return np.ascontiguousarray(a[flip])[flip]
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan if _is_float(a) else 1).astype(a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


# -- data --------------------------------------------------------------------------------------------------------------


def normal(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    """Standard normal numbers, the same for the same shape and seed."""
    return np.asarray(np.random.default_rng((seed, *shape)).standard_normal(shape), dtype)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> np.ndarray:
    """Numbers between ``low`` and ``high``, the same for the same shape and seed."""
    return np.asarray(np.random.default_rng((seed, *shape)).uniform(low, high, shape))


def apart(*shape: int, seed: int = 0, gap: float = 0.02) -> np.ndarray:
    """Numbers in random order that differ from each other, from 0 and in size by at least ``gap``: no ties or kinks."""
    n = int(np.prod(shape))
    values = (np.arange(n) - n // 2 + 0.75) * gap * 4
    return np.random.default_rng((seed, *shape)).permutation(values).reshape(shape)


SHAPES = [(), (1,), (3,), (0,), (2, 1, 3), (2, 0, 3)]
"""Shapes that every elementwise op is tested with."""

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
"""Any small shape, with zero-size and size-one axes."""

solid_shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
"""Small shapes with at least one axis and no empty one."""


@st.composite
def broadcastable(draw: Any, n: int = 2, max_ndim: int = 3) -> list[tuple[int, ...]]:
    """``n`` shapes that broadcast to each other: axes are missing, of size one, or equal (perhaps zero)."""
    full = draw(st.lists(st.integers(0, 3), max_size=max_ndim))
    found = []
    for _ in range(n):
        kept = full[draw(st.integers(0, len(full))) :]
        found.append(tuple(1 if draw(st.booleans()) else size for size in kept))
    return found


@st.composite
def axes_of(draw: Any, ndim: int, several: bool = True) -> Any:
    """None, an axis, or (``several``) a tuple of axes of an array with ``ndim`` axes; some negative."""
    if not ndim or draw(st.integers(0, 4)) == 0:
        return None
    one = st.integers(-ndim, ndim - 1)
    if not several or draw(st.booleans()):
        return draw(one)
    return tuple(draw(st.lists(one, max_size=ndim, unique_by=lambda axis: axis % ndim)))
