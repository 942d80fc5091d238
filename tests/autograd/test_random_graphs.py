"""Random programs, run here and in PyTorch: values, gradients and second derivatives must agree.

A program is drawn by running it: every step picks an operation that fits the shapes that are there. What comes out is a
list of plain steps, which an interpreter then runs with either library.
"""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.autograd import Param, Tensor

torch = pytest.importorskip("torch")


class Flux:
    """The vocabulary of programs in minitorch_flux."""

    add, subtract, multiply, power = (staticmethod(f) for f in (flux.add, flux.subtract, flux.multiply, flux.power))
    tanh, sin, sigmoid, softplus, relu, exp = (
        staticmethod(f) for f in (flux.tanh, flux.sin, flux.sigmoid, flux.softplus, flux.relu, flux.exp)
    )
    matmul, where = staticmethod(flux.matmul), staticmethod(flux.where)
    wide = staticmethod(lambda x: x.astype(np.float64))
    narrow = staticmethod(lambda x: x.astype(np.float32))
    sum = staticmethod(lambda x, axis, keep: flux.sum(x, axis, keepdims=keep))
    mean = staticmethod(lambda x, axis, keep: flux.mean(x, axis, keepdims=keep))
    max = staticmethod(lambda x, axis, keep: flux.max(x, axis, keepdims=keep))
    logsumexp = staticmethod(lambda x, axis, keep: flux.logsumexp(x, axis, keepdims=keep))
    softmax = staticmethod(lambda x, axis: flux.softmax(x, axis=axis))
    cumsum = staticmethod(flux.cumsum)
    reshape, transpose, broadcast = (staticmethod(f) for f in (flux.reshape, flux.transpose, flux.broadcast_to))
    index = staticmethod(lambda x, key: x[key])
    split = staticmethod(lambda x, sizes, axis: flux.split(x, np.cumsum(sizes)[:-1].tolist(), axis))
    concatenate = staticmethod(lambda xs, axis: flux.concatenate(xs, axis))
    stack = staticmethod(lambda xs, axis: flux.stack(xs, axis))
    constant = staticmethod(lambda a: a)


class Torch:
    """The same vocabulary in PyTorch."""

    add, subtract, multiply, power = (staticmethod(f) for f in (torch.add, torch.sub, torch.mul, torch.pow))
    tanh, sin, sigmoid, relu, exp = (
        staticmethod(f) for f in (torch.tanh, torch.sin, torch.sigmoid, torch.relu, torch.exp)
    )
    softplus = staticmethod(torch.nn.functional.softplus)
    matmul, where = staticmethod(torch.matmul), staticmethod(torch.where)
    wide = staticmethod(lambda x: x.double())
    narrow = staticmethod(lambda x: x.float())
    sum = staticmethod(lambda x, axis, keep: torch.sum(x, axis, keepdim=keep))
    mean = staticmethod(lambda x, axis, keep: torch.mean(x, axis, keepdim=keep))
    max = staticmethod(lambda x, axis, keep: torch.max(x, axis, keepdim=keep).values)
    logsumexp = staticmethod(lambda x, axis, keep: torch.logsumexp(x, axis, keepdim=keep))
    softmax = staticmethod(torch.softmax)
    cumsum = staticmethod(torch.cumsum)
    reshape, transpose, broadcast = (staticmethod(f) for f in (torch.reshape, torch.permute, torch.broadcast_to))
    index = staticmethod(lambda x, key: x[tuple(torch.tensor(k) if isinstance(k, list) else k for k in key)])
    split = staticmethod(torch.split)
    concatenate = staticmethod(torch.cat)
    stack = staticmethod(torch.stack)
    constant = staticmethod(lambda a: torch.tensor(a) if isinstance(a, np.ndarray) else a)


# -- programs ----------------------------------------------------------------------------------------------------------


class Ref(int):
    """An earlier value by its number."""


class Constant:
    """An array that nothing flows through."""

    def __init__(self, array):
        self.array = array

    def __repr__(self):
        return f"Constant({self.array!r})"


def run(words, steps, leaves):
    """The values of all steps, the leaves first."""
    values = list(leaves)
    for name, args in steps:
        args = [_resolve(words, values, a) for a in args]
        result = getattr(words, name)(*args)
        values += result if isinstance(result, tuple | list) else [result]
    return values


def _resolve(words, values, a):
    if isinstance(a, Ref):
        return values[a]
    if isinstance(a, Constant):
        return words.constant(a.array)
    if isinstance(a, tuple) and a and isinstance(a[0], Ref):
        return [values[i] for i in a]
    return a


def numbers(shape, seed, dtype=np.float64):
    return np.asarray(np.random.default_rng(seed).uniform(-2, 2, shape), dtype)


shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def programs(draw, max_steps=10):
    """``(leaf arrays, steps)``."""
    n = draw(st.integers(1, 3))
    dtypes = [draw(st.sampled_from([np.float64, np.float64, np.float32])) for _ in range(n)]
    leaves = [numbers(draw(shapes), i, dtype) for i, dtype in enumerate(dtypes)]
    steps, values = [], [Tensor(a) for a in leaves]
    for k in range(draw(st.integers(1, max_steps))):
        step = _step(draw, values, k)
        if step is not None:
            steps.append(step)
            values = run(Flux, steps, [Tensor(a) for a in leaves])
    return leaves, steps


UNARY = ("tanh", "sin", "sigmoid", "softplus", "relu", "exp", "wide", "narrow")
KINDS = ("unary", "unary", "binary", "binary", "constant", "reduce", "matmul", "reshape", "transpose", "broadcast",
         "index", "split", "join", "where", "softmax", "cumsum", "power")


def _step(draw, values, k):
    """One step that fits the values; None where the drawn kind fits none."""
    kind, x = draw(st.sampled_from(KINDS)), Ref(draw(st.integers(max(0, len(values) - 6), len(values) - 1)))
    value, shape = values[x], values[x].shape
    axis = draw(st.integers(-len(shape), len(shape) - 1)) if shape else None
    same = [i for i, v in enumerate(values) if v.shape == shape and v.dtype == value.dtype]
    if kind == "unary":
        name = draw(st.sampled_from(UNARY))
        return (name, [x]) if name != "exp" or np.abs(value.data).max(initial=0) < 3 else None
    if kind == "binary":
        others = [i for i, v in enumerate(values) if _combines(value, v)]
        return draw(st.sampled_from(("add", "subtract", "multiply"))), [x, Ref(draw(st.sampled_from(others)))]
    if kind == "constant":
        dtype = draw(st.sampled_from((value.dtype, np.float32, np.int64)))
        if (dtype != value.dtype and not shape) or (dtype == np.int64 and value.dtype == np.float32):
            return None  # NumPy makes float64 of int64 and float32, PyTorch float32
        array = Constant(numbers(shape, 100 + k).astype(dtype))
        return draw(st.sampled_from(("add", "subtract", "multiply"))), draw(st.permutations([x, array]))
    if kind == "reduce" and shape and shape[axis]:
        return draw(st.sampled_from(("sum", "mean", "max", "logsumexp"))), [x, axis, draw(st.booleans())]
    if kind == "matmul":
        fits = [i for i, v in enumerate(values) if _matmuls(value, v)]
        return ("matmul", [x, Ref(draw(st.sampled_from(fits)))]) if fits else None
    if kind == "reshape":
        size = math.prod(shape)
        return "reshape", [x, draw(st.sampled_from([(size,), (1, size), (size, 1), shape[::-1], (*shape, 1)]))]
    if kind == "transpose":
        return "transpose", [x, tuple(draw(st.permutations(range(len(shape)))))]
    if kind == "broadcast":
        stretched = tuple(draw(st.integers(0, 3)) if n == 1 else n for n in shape)
        return "broadcast", [x, (draw(st.integers(0, 2)), *stretched)]
    if kind == "index" and shape:
        return "index", [x, tuple(_index(draw, n) for n in shape[: draw(st.integers(1, len(shape)))])]
    if kind == "split" and shape and shape[axis]:
        at = draw(st.integers(0, shape[axis]))
        return "split", [x, [at, shape[axis] - at], axis % len(shape)]
    if kind == "join" and shape:
        others = draw(st.lists(st.sampled_from(same), max_size=2))
        return draw(st.sampled_from(("concatenate", "stack"))), [tuple(map(Ref, [x, *others])), axis]
    if kind == "where":
        mask = Constant(np.asarray(np.random.default_rng(k).random(shape) < 0.5))
        return "where", [mask, x, Ref(draw(st.sampled_from(same)))]
    if kind in ("softmax", "cumsum") and shape and math.prod(shape):
        return kind, [x, axis]
    if kind == "power" and (value.data > 0.1).all():
        return "power", [x, draw(st.sampled_from([2, 3, 0.5, -1.0]))]
    return None


def _combines(x, y):
    """Whether the shapes broadcast, and the two libraries agree about the dtype (not where a number meets an array)."""
    return _broadcast(x.shape, y.shape) and (x.dtype == y.dtype or (x.ndim > 0 and y.ndim > 0))


def _broadcast(a, b):
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True


def _matmuls(x, y):
    if not x.ndim or not y.ndim or x.dtype != y.dtype:
        return False
    return x.shape[-1] == y.shape[-2 if y.ndim > 1 else 0] and _broadcast(x.shape[:-2], y.shape[:-2])


def _index(draw, n):
    kinds = [slice(None), slice(None, None, 2), slice(1, None)]
    if n:
        kinds += [draw(st.integers(0, n - 1)), draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2))]
    return draw(st.sampled_from(kinds))


# -- what is compared --------------------------------------------------------------------------------------------------


def weights(value, seed):
    return numbers(value.shape, 1000 + seed)


def loss_of(values, used):
    """A number to which every value in ``used`` contributes."""
    total = 0.0
    for i in used:
        total = total + (values[i] * weights(values[i], i)).sum()
    return total


def by_torch(leaves, steps, used):
    """Values, gradients, and gradients of a projection of the gradients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xs = [torch.tensor(a, requires_grad=True) for a in leaves]
        values = run(Torch, steps, xs)
        zero = sum((x * 0.0).sum() for x in xs)  # so that every leaf takes part
        loss = sum((values[i] * torch.tensor(weights(values[i], i))).sum() for i in used)
        first = torch.autograd.grad(loss + zero, xs, create_graph=True)
        along = sum((g * torch.tensor(weights(g, 50 + i))).sum() for i, g in enumerate(first))
        second = torch.autograd.grad(along + zero, xs)
    return [[t.detach().numpy() for t in ts] for ts in (values, first, second)]


def close(got, wanted, what, tolerance):
    for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
        g = g.data if isinstance(g, Tensor) else g
        assert g.shape == w.shape, f"{what} {i}: shape"
        assert g.dtype == w.dtype, f"{what} {i}: dtype"
        atol = tolerance * max(1.0, float(np.abs(w).max(initial=0)))
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=atol, err_msg=f"{what} {i}")


def tolerance_of(leaves, steps):
    """Programs in float64 agree far better than those that pass through float32."""
    values = run(Flux, steps, [Tensor(a) for a in leaves])
    return 1e-9 if all(v.dtype == np.float64 for v in values) else 3e-4


def stored(x):
    """``x.grad``, zeros where nothing arrived; and nothing is left there."""
    g = np.zeros(x.shape, x.dtype) if x.grad is None else x.grad
    x.grad = None
    return g


@given(programs(), st.data())
def test_values_and_gradients_of_both_orders_agree_with_torch(program, data):
    leaves, steps = program
    before = [a.copy() for a in leaves]
    n = len(run(Flux, steps, [Tensor(a) for a in leaves]))
    used = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=3, unique=True))
    values, first, second = by_torch(leaves, steps, used)
    tolerance = tolerance_of(leaves, steps)
    close(run(Flux, steps, [Tensor(a) for a in leaves]), values, "value", tolerance)

    f = lambda *xs: loss_of(run(Flux, steps, xs), used)  # noqa: E731
    several = lambda g: g if len(leaves) > 1 else (g,)  # noqa: E731
    grads = several(flux.gradient(f, *leaves))
    close(grads, first, "gradient", tolerance)

    def along(*xs):
        return sum((g * weights(g, 50 + i)).sum() for i, g in enumerate(several(flux.gradient(f, *xs))))

    close(several(flux.gradient(along, *leaves)), second, "second derivative", tolerance)

    # The tape gives the same bits as the transforms; a backward pass that is itself recorded gives the same numbers.
    xs = [flux.tensor(a, requires_grad=True) for a in leaves]
    loss = f(*xs)
    loss.backward(retain_graph=True)
    for x, g in zip(xs, grads, strict=True):
        np.testing.assert_array_equal(stored(x), g)
    loss.backward(create_graph=True)
    close([stored(x) for x in xs], first, "recorded gradient", tolerance)
    for a, b in zip(leaves, before, strict=True):
        np.testing.assert_array_equal(a, b)


@given(programs(max_steps=6), st.data())
def test_parameters_frozen_ones_and_scopes(program, data):
    """The same program on parameters: nothing outside a scope, and in one exactly what trains."""
    leaves, steps = program
    kinds = [data.draw(st.sampled_from(["param", "frozen", "constant", "tensor"])) for _ in leaves]
    make = {
        "param": Param,
        "frozen": lambda a: flux.freeze(Param(a)),
        "constant": Tensor,
        "tensor": lambda a: flux.tensor(a, requires_grad=True),
    }
    xs = [make[kind](a.copy()) for kind, a in zip(kinds, leaves, strict=True)]
    values = run(Flux, steps, xs)
    with flux.no_grad():
        assert all(v.node is None for v in run(Flux, steps, xs)[len(xs) :])
    if "tensor" not in kinds:
        assert all(v.node is None for v in values[len(xs) :])
    used = list(range(len(values)))
    wanted = flux.gradient(lambda *ys: loss_of(run(Flux, steps, ys), used), *leaves)
    with flux.record():
        loss = loss_of(run(Flux, steps, xs), used)
    if not set(kinds) & {"param", "tensor"}:
        assert loss.node is None
        return
    loss.backward()
    for x, kind, g in zip(xs, kinds, wanted if len(leaves) > 1 else (wanted,), strict=True):
        if kind in ("param", "tensor"):
            np.testing.assert_array_equal(x.grad, g)
        else:
            assert x.grad is None


@given(programs(max_steps=6), st.integers(0, 5))
def test_products_with_the_jacobian_from_either_side(program, which):
    leaves, steps = program
    x, rest = leaves[0], leaves[1:]
    f = lambda t: run(Flux, steps, [t, *rest])[-1 - which % max(len(steps), 1)]  # noqa: E731
    y, back = flux.vjp(f, x)
    y = np.asarray(y)
    if y.size > 20:
        return
    jac = flux.jacobian(f, x)
    assert jac.shape == y.shape + x.shape
    assert jac.dtype == x.dtype
    tolerance = tolerance_of(leaves, steps)
    dy, v = numbers(y.shape, 7).astype(y.dtype), numbers(x.shape, 8).astype(x.dtype)
    close([back(dy)], [np.tensordot(dy, jac, y.ndim).astype(x.dtype)], "dy J", tolerance)
    # back() is linear in dy: its gradient is the product from the other side
    close([flux.gradient(lambda d: (back(d) * v).sum(), dy)], [np.tensordot(jac, v, x.ndim).astype(y.dtype)], "J v", tolerance)
