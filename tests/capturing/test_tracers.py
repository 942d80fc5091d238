"""What NumPy does to arrays, in captured functions: every call comes out as it would without."""

import contextlib
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import CaptureError
from minitorch_flux.backend import Generator, array_module, device_of, empty, is_array, is_view, to_device
from minitorch_flux.backend.tracers import Live, Tracer, traced

from .random_programs import COMMON, run_program
from .sides import bits


def agrees(f, *calls, replays=None):
    """The captured function gives what the function gives."""
    fast = flux.capture(f)
    for args in calls:
        assert bits(fast(*args)) == bits(f(*args))
    assert fast.replays == (len(calls) - 3 if replays is None else replays)
    return fast


def pairs(n=5, *, dtype="f4", shape=(3, 4)):
    rng = np.random.default_rng(1)
    return [tuple(np.asarray(abs(rng.standard_normal(shape)) + 1).astype(dtype) for _ in range(2)) for _ in range(n)]


def into(x, y, f):
    out = np.empty_like(x)
    f(x, y, out)
    return out


def changed(x, f):
    z = x.copy()
    f(z)
    return z


CALLS = {
    "operators": lambda x, y: [x + y, x - 1, 2 * x, 1 / x, x // y, x % y, -x, +x, abs(x), x @ y.T, divmod(x, y)[0]],
    "comparisons": lambda x, y: [x < y, x <= 1, x == y, x != y, x > y, x >= y, (x > 1) & (y > 1), ~(x > 1), (x > 1) | (y > 1)],
    "powers": lambda x, y: [x**2, x**3, x**0.5, x**-1, x**y, 2**x, x**2.5],
    "in place": lambda x, y: changed(x, lambda z: [operator.iadd(z, y), operator.imul(z, 2), operator.ipow(z, 2)]),
    "ufuncs": lambda x, y: [np.exp(x), np.maximum(x, y), np.hypot(x, y), np.sqrt(x), np.modf(x), np.logaddexp(x, y)],
    "ufuncs with out": lambda x, y: into(x, y, lambda x, y, z: np.add(x, y, out=z)),
    "ufuncs with a positional out": lambda x, y: into(x, y, lambda x, y, z: np.multiply(x, y, z)),
    "ufuncs with where": lambda x, y: into(x, y, lambda x, y, z: (z.fill(0), np.log(x, out=z, where=x > 2))),
    "ufuncs with a dtype": lambda x, y: np.add(x, y, dtype="f8"),
    "maxima with out": lambda x, y: into(x, y, lambda x, y, z: np.maximum(x, y, out=z)),
    "reduce": lambda x, y: [np.add.reduce(x), np.multiply.reduce(x, axis=1), np.maximum.reduce(x, axis=None)],
    "accumulate and outer": lambda x, y: [np.add.accumulate(x, axis=1), np.multiply.outer(x[0], y[0]), np.subtract.outer(x, y)],
    "at": lambda x, y: changed(x, lambda z: np.add.at(z, [0, 0, 1], y)),
    "sums": lambda x, y: [x.sum(), x.sum(axis=0), x.sum(1, keepdims=True), np.sum(x, axis=1), x.sum(dtype="f8"), x.prod()],
    "means": lambda x, y: [x.mean(), x.mean(axis=0), x.var(axis=1), x.std(), np.mean(x), np.var(x, axis=0, ddof=1)],
    "extremes": lambda x, y: [x.max(), x.min(axis=0), x.argmax(), x.argmin(axis=1), np.max(x, axis=1), np.ptp(x)],
    "truths": lambda x, y: [(x > 2).any(), (x > 2).all(axis=0), np.any(x > 2, axis=1), np.all(x > 0)],
    "sum with out": lambda x, y: into(x[0], y, lambda a, y, z: y.sum(axis=0, out=z)),
    "take with a positional out": lambda x, y: into(x, y, lambda x, y, z: np.take(y, [2, 1, 0], 0, z)),
    "cumulative": lambda x, y: [x.cumsum(), x.cumsum(axis=1), np.cumprod(x, axis=0)],
    "shapes": lambda x, y: [x.T, x.reshape(4, 3), x.reshape(-1), x.T.reshape(-1), x.ravel(), x.T.ravel(), x.flatten(),
                            x.transpose(1, 0), x.swapaxes(0, 1), x[None].squeeze(0), np.expand_dims(x, 0), x.mT],
    "views of views": lambda x, y: [x[1:].T[::2][:, 1], x.reshape(2, 6)[1].reshape(3, 2), x[:, ::-1][..., 1:]],
    "views that are written to": lambda x, y: changed(x, lambda z: [z[0].fill(3), z.T[1].__setitem__(slice(None), y[:, 0])]),
    "items": lambda x, y: [x[1], x[1, 2], x[..., 0], x[[2, 0]], x[:, [1, 1]], x[[0, 1], [1, 2]], x[()]],
    "items that are set": lambda x, y: changed(x, lambda z: [operator.setitem(z, 0, y[1]), operator.setitem(z, ([1], [2]), 5)]),
    "items by arrays": lambda x, y: [x[np.argsort(y[:, 0])], np.take_along_axis(x, y.argsort(axis=1), 1)],
    "masks": lambda x, y: changed(x, lambda z: operator.setitem(z, y > 2, 0)),
    "types": lambda x, y: [x.astype("f8"), x.astype("i4"), x.astype(x.dtype, copy=False), x.view("i4"), x.copy(), x.real],
    "choices": lambda x, y: [np.where(x > y, x, y), np.where(x > 2, 1.0, x), np.select([x > 2], [y], 0), x.clip(1, 2)],
    "joining": lambda x, y: [np.concatenate([x, y]), np.stack([x, y], axis=1), np.vstack([x, y]), np.split(x, 2, axis=1)],
    "sorting": lambda x, y: [np.sort(x), x.argsort(axis=0), np.partition(x, 1), changed(x, lambda z: z.sort(axis=0))],
    "products": lambda x, y: [x @ y.T, np.dot(x, y.T), np.einsum("ij,ij->i", x, y), np.tensordot(x, y), np.matmul(x.T, y)],
    "functions": lambda x, y: [np.pad(x, 1), np.roll(x, 1, 0), np.flip(x), np.tile(x, 2), np.repeat(x, 2, axis=1), np.tril(x),
                               np.diff(x), np.broadcast_to(x, (2, 3, 4)), np.moveaxis(x, 0, 1), np.clip(x, 1, None)],
    "linear algebra": lambda x, y: [np.linalg.norm(x), np.linalg.inv(x[:3, :3] + 3 * np.eye(3, dtype="f4")), np.trace(x @ y.T)],
    "made ones": lambda x, y: [np.zeros_like(x), np.full_like(x, 2), np.ones_like(x) + y, np.empty_like(x).shape],
    "made ones that are written to": lambda x, y: changed(np.zeros_like(x), lambda z: operator.iadd(z, y)),
    "putting": lambda x, y: [changed(x, lambda z: np.copyto(z, y, where=x > 2)), changed(x, lambda z: z.put([0], 1)),
                             changed(x, lambda z: np.put(z, [0, 1], y[0, :2])),
                             changed(x, lambda z: np.fill_diagonal(z[:, :3], 0)),
                             changed(x, lambda z: np.put_along_axis(z, y.argsort(axis=1), 1.0, 1))],
    "scalars": lambda x, y: [x.sum() * y, x.mean() + 1, np.exp(x[0, 0]), x.max() - x.min(), x[0, 0] < x[0, 1], -x.sum()],
    "loops": lambda x, y: [row.sum() for row in x] + [len(x), x.shape, x.dtype.name, x.size, x.ndim, x.nbytes],
    "shapes only": lambda x, y: [np.shape(x), np.ndim(x), np.result_type(x, y).name, np.size(x)],
    "silence": lambda x, y: _silent(x - 3),
    "membership": lambda x, y: [np.isin(x, y)],
}  # fmt: skip


def _silent(x):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(x), np.sqrt(x), x / 0


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    agrees(CALLS[name], *pairs())


def test_silence_ends_where_it_ended():
    """A warning that the step would give, a replay gives."""

    def step(x):
        with np.errstate(all="ignore"):
            a = np.log(x)
        return a, np.sqrt(x)

    fast = agrees(step, *[(np.ones(3),)] * 5)
    with pytest.warns(RuntimeWarning, match="invalid value encountered in sqrt"):
        fast(-np.ones(3))


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (), (2, 0, 3)])
def test_sizes(shape):
    agrees(lambda x, y: [x + y, x.sum(), x * 2, x.reshape(-1), x.copy(), np.exp(x), x.astype("f8")], *pairs(shape=shape))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "u1", "?", "c8"])
def test_dtypes(dtype):
    agrees(lambda x, y: [x + y, x * 2, x.sum(), x == y, x.astype("f8") if dtype != "c8" else x.real], *pairs(dtype=dtype))


def test_shapes_that_depend_on_numbers():
    """The result of another shape is noticed, and recorded as another way."""
    step = lambda x: [x[x > 0].sum(), np.flatnonzero(x > 0), np.unique(x), x.compress(x > 0)]  # noqa: E731
    few, many = np.array([1.0, -1, -2]), np.array([1.0, 2, -2])
    fast = agrees(step, (few,), (few,), (few,), (few,), (many,), (many,), (many,), (few,), replays=3)
    assert len(fast._courses) == 2


def test_what_was_written_before_is_undone():
    """A replay that has to stop half-way leaves no trace."""
    counts, mean = flux.Buffer(np.zeros(2)), flux.Buffer(np.zeros(2))
    rng = flux.Generator(1)

    def step(x):
        counts.data[...] += 1
        mean.data[...] = mean.data * 0.5 + x.mean()
        noise = rng.uniform((2,), "float64")
        return x + noise if x.sum() > 0 else x - noise

    expected, numbers = [], [1.0, 1, 1, 1, -1, -1, -1, 1, -1, 1]
    for n in numbers:
        y = step(np.full(2, n))
        expected.append((bits(y), bits(counts.data), bits(mean.data), rng.counter))
    counts.data[...], mean.data[...], rng.counter = 0, 0, 0
    fast = flux.capture(step)
    for n, e in zip(numbers, expected, strict=True):
        y = fast(np.full(2, n))
        assert (bits(y), bits(counts.data), bits(mean.data), rng.counter) == e
    assert fast.replays == 5


def test_live_numbers():
    agrees(_numbers, *[(x,) for x, _ in pairs()])


def _numbers(x):
    n, k = x.sum().item(), x.argmax().item()
    return [
        n + 1, 1 + n, n - 2, 2 - n, n * 3, n / 4, 4 / n, n // 2, n % 3, n**2, 2**n, -n, +n, abs(n), n < 1, n <= 1, n == n,
        n != 2, n > 1, n >= 1, k & 3, 3 | k, k ^ 1, k << 2, k >> 1, ~k, x * n, n * x, x[0] * n, np.float32(2) * n,
        np.maximum(x, n), np.add(n, x), n + k,
    ]  # fmt: skip


@pytest.mark.parametrize("f", [lambda n: np.full(2, n), lambda n: np.array([n]), np.array])
def test_numbers_in_arrays_of_numpys_own(f):
    fast = flux.capture(lambda x: f(x.sum().item()))
    fast(np.zeros(2))
    with pytest.raises(CaptureError, match="an array of NumPy's own making"):
        fast(np.zeros(2))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_random_programs(program, seed):
    """Any sequence of views, writes, reductions and products, replayed on other numbers."""
    rng = np.random.default_rng(seed)
    inputs = [(rng.standard_normal((3, 3)), rng.standard_normal((3, 3))) for _ in range(4)]

    def step(x, y):
        return run_program([*COMMON, "sort", "zeros_like"], program, np, x, y)

    agrees(step, *inputs)


# -- the stand-ins themselves ------------------------------------------------------------------------------------------


def test_a_tracer_is_an_array_to_the_library():
    calls = iter(range(9))

    def step(x):
        if next(calls) == 1:
            assert type(x) is Tracer
            assert is_array(x)
            assert not is_array(x.sum())
            assert device_of(x) == "cpu"
            assert array_module(x) is traced
            assert array_module() is traced
            assert to_device(x, "cpu") is x
            assert is_view(x.T, x)
            assert not is_view(x.copy(), x)
            assert type(empty((2,), "f4")) is Tracer
            assert type(traced.asarray(x)) is Tracer
            assert traced.asarray(x) is x
            assert type(traced.asarray([1, 2])) is Tracer
            assert repr(x) == "<array of a captured step: (3, 4) float32>"
            assert repr(x.sum().item()) == "<number of a captured step>"
            assert type(x.sum().item()) is Live
            with pytest.raises(ValueError, match="ambiguous"):
                bool(x)
            with pytest.raises(TypeError, match="len"):
                len(x.sum())
            key, counter = Generator(3).reserve(2)
            assert (key.now, counter.now) == (3, 0)
        return x

    fast = flux.capture(step)
    fast(np.ones((3, 4), "f4"))
    fast(np.ones((3, 4), "f4"))
    assert array_module() is np


def test_a_tracer_that_was_kept_computes_on():
    """What leaks out of a captured step is no danger to what comes after it."""
    kept = []
    leak = type("Leak", (), {"__call__": lambda self, x: kept.append(x)})()
    fast = flux.capture(lambda x: (leak(x), x * 2)[1])
    for _ in range(2):
        with contextlib.suppress(CaptureError):
            fast(np.ones(3))
    t = kept[-1]
    if type(t) is Tracer:
        assert type(t + 1) is np.ndarray
        assert (t.sum() == 3) in (True, np.True_)
