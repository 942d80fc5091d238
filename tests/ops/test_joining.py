import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import check_against_torch, check_operation, normal, shapes, solid_shapes

from minitorch_flux.autograd import Tensor, gradient, record, tensor
from minitorch_flux.ops import joining as ops


@given(st.data(), solid_shapes, st.integers(1, 4))
def test_concatenate(data, shape, count):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for k in range(count):
        part = list(shape)
        part[axis] = data.draw(st.integers(0, 3))
        parts.append(normal(*part, seed=k))
    check_operation(lambda *xs: ops.concatenate(xs, axis), *parts, oracle=lambda *xs: np.concatenate(xs, axis))


def test_concatenate_forms():
    a, b = normal(2, 3), normal(4, 3)
    for xs in ([a, b], (a, b), [Tensor(a), b], [a.tolist(), Tensor(b)]):
        np.testing.assert_array_equal(ops.cat(xs).data, np.concatenate([a, b]))
    np.testing.assert_array_equal(ops.cat([a, b], axis=None).data, np.concatenate([a, b], None))
    np.testing.assert_array_equal(ops.cat(normal(2, 3, 4), axis=1).data, np.concatenate(normal(2, 3, 4), axis=1))
    assert ops.cat is ops.concatenate


def test_concatenate_promotes_and_gives_each_its_own_dtype():
    a, b = np.ones(2, np.float32), np.ones(3)
    assert ops.concatenate([a, b]).dtype == np.float64
    da, db = gradient(lambda x, y: ops.concatenate([x, y]).sum(), a, b)
    assert (da.dtype, db.dtype) == (np.float32, np.float64)
    assert ops.concatenate([np.arange(2), a]).dtype == np.float64
    assert ops.concatenate([np.arange(2), np.arange(2)]).dtype == np.int64


def test_one_array_twice():
    check_operation(lambda x: ops.concatenate([x, x], 1), normal(2, 3), oracle=lambda x: np.concatenate([x, x], 1))
    check_operation(lambda x: ops.stack([x, x, x], -1), normal(2, 3), oracle=lambda x: np.stack([x, x, x], -1))


@given(st.data(), shapes, st.integers(1, 3))
def test_stack(data, shape, count):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    parts = [normal(*shape, seed=k) for k in range(count)]
    check_operation(lambda *xs: ops.stack(xs, axis), *parts, oracle=lambda *xs: np.stack(xs, axis))


@pytest.mark.parametrize("name", ["hstack", "vstack", "dstack"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (2, 3, 4), (0,)])
def test_numpys_other_stacks(name, shape):
    f, g = getattr(ops, name), getattr(np, name)
    check_operation(lambda *xs: f(xs), normal(*shape), normal(*shape, seed=1), oracle=lambda *xs: g(xs))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ops.concatenate([]), r"concatenate: takes a list of at least one array, got \[\]"),
        (lambda: ops.concatenate(3), r"concatenate: takes a list .* write concatenate\(\[a, b\], axis=...\)"),
        (
            lambda: ops.concatenate([normal(2, 3), normal(2)]),
            r"array 0 has shape \(2, 3\), array 1 has shape \(2,\): they need the "
            "same number of axes; stack joins",
        ),
        (
            lambda: ops.concatenate([normal(2, 3), normal(2, 4)]),
            r"along axis 0 all other axes must be equal, but axis 1 has length "
            r"3 in array 0 \(shape \(2, 3\)\) and 4 in array 1 \(shape \(2, 4\)\)",
        ),
        (lambda: ops.concatenate([normal(2, 3)], 2), "concatenate: there is no axis 2"),
        (lambda: ops.concatenate([normal()]), "concatenate: there is no axis 0 .* which has no axes"),
        (
            lambda: ops.stack([normal(2), normal(3)]),
            r"stack: all arrays need one shape, but array 0 has \(2,\) and array 1 has \(3,\)",
        ),
        (lambda: ops.stack([normal(2)], 2), "stack: there is no axis 2 in a result with 2 axes"),
        (
            lambda: ops.split(normal(4, 3), 3),
            r"split: axis 0 of shape \(4, 3\) has length 4, which is not 3 equal parts; .* chunk",
        ),
        (lambda: ops.split(normal(4), 0), "not 0 equal parts"),
        (lambda: ops.split(normal(4), [3, 1]), r"split: the cuts \[3, 1\] along axis 0 \(length 4\) must ascend"),
        (lambda: ops.chunk(normal(4), 0), "chunk: needs at least one part, got chunks=0"),
        (lambda: ops.unstack(normal()), "unstack: a single number has no axis"),
    ],
)
def test_what_does_not_fit_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def numpys_split(x, sections_or_indices, axis):
    return np.split(x, sections_or_indices, axis)


# -- taking apart ------------------------------------------------------------------------------------------------------


@given(st.data(), shapes.filter(len))
def test_split_at_places(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    cuts = sorted(data.draw(st.lists(st.integers(0, n + 2), max_size=3)))
    cuts = [c - n if c < n and data.draw(st.booleans()) else c for c in cuts]
    check_operation(ops.split, normal(*shape), sections_or_indices=cuts, axis=axis, oracle=numpys_split)


@pytest.mark.parametrize(("parts", "axis"), [(1, 0), (2, 0), (4, 0), (3, 1), (2, -1)])
def test_split_into_equal_parts(parts, axis):
    check_operation(ops.split, normal(4, 3, 2), sections_or_indices=parts, axis=axis, oracle=numpys_split)


def test_split_of_an_empty_axis():
    check_operation(ops.split, normal(0, 2), sections_or_indices=2, axis=0, oracle=numpys_split)
    check_operation(ops.split, normal(3), sections_or_indices=np.array([1, 2]), axis=0, oracle=numpys_split)


@given(st.data(), shapes.filter(len), st.integers(1, 5))
def test_chunk_is_torchs(data, shape, chunks):
    torch = pytest.importorskip("torch")
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check_against_torch(lambda x: ops.chunk(x, chunks, axis), lambda x: torch.chunk(x, chunks, axis), normal(*shape))


@given(st.data(), shapes.filter(len))
def test_unstack(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check_operation(
        ops.unstack,
        normal(*shape),
        axis=axis,
        oracle=lambda x, axis: [np.take(x, i, axis) for i in range(x.shape[axis])],
    )


def test_parts_are_views_and_the_inverse_of_joining():
    a = normal(4, 3)
    for parts in (ops.split(a, 2), ops.chunk(a, 3), ops.unstack(a, 1)):
        assert isinstance(parts, tuple)
        assert all(np.shares_memory(p.data, a) for p in parts)
    np.testing.assert_array_equal(ops.concatenate(ops.split(a, [1, 3])).data, a)
    np.testing.assert_array_equal(ops.stack(ops.unstack(a, 1), 1).data, a)


def test_parts_that_are_not_used_have_no_gradient():
    a = normal(6)
    p = ops.split
    np.testing.assert_array_equal(gradient(lambda x: p(x, 3)[1].sum(), a), [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(gradient(lambda x: ops.unstack(x)[-1], a), [0, 0, 0, 0, 0, 1])
    check_operation(lambda x: p(x, 3)[1] * p(x, 3)[0], a, order=3)
    check_operation(lambda x: ops.unstack(x, 1)[1] * ops.unstack(x, 1)[0], normal(2, 3), order=3)
    check_operation(lambda x: p(x, 1)[0], a)


def test_the_version_counter_sees_through_parts():
    t = tensor(normal(4), requires_grad=True)
    with record():
        part = ops.split(t, 2)[1]
        y = (part * part).sum()
    t.version += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_sequences_of_many_parts():
    """Twenty steps of a recurrence: taken apart, used, put together."""
    x = normal(20, 2)

    def f(x):
        h, out = 0.0, []
        for step in ops.unstack(x):
            h = h * 0.5 + step * step
            out.append(h)
        return ops.stack(out)

    check_operation(f, x)
