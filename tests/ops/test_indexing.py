import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import check_against_torch, check_operation, normal, solid_shapes

from minitorch_flux.autograd import Tensor, gradient, no_grad, record, tensor
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import indexing as ops
from minitorch_flux.ops.diagonals import diag, diagonal, tril, triu
from minitorch_flux.ops.positions import stable_order
from minitorch_flux.ops.scattering import put_along_axis, scatter, scatter_add
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from minitorch_flux.readings.toolchain import toolchain

# -- x[index] ----------------------------------------------------------------------------------------------------------


@st.composite
def indices(draw, shape):
    """Any index that NumPy accepts: ints, slices, ..., None, integer arrays and masks, in any mixture."""
    common = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    key, axis, dots = [], 0, False
    while axis < len(shape):
        kind = draw(st.sampled_from(["int", "slice", "array", "mask", "none", "stop", "dots", "slice", "array"]))
        n = shape[axis]
        if kind == "int":
            key.append(draw(st.sampled_from([int, np.int64, np.array]))(draw(st.integers(-n, n - 1))))
            axis += 1
        elif kind == "slice":
            key.append(draw(st.slices(n)))
            axis += 1
        elif kind == "array":
            part = tuple(draw(st.sampled_from([1, m])) for m in common)
            key.append(
                draw(hnp.arrays(draw(st.sampled_from([np.int64, np.int8])), part, elements=st.integers(-n, n - 1)))
            )
            axis += 1
        elif kind == "mask":
            ndim = draw(st.integers(1, len(shape) - axis))
            key.append(draw(hnp.arrays(bool, shape[axis : axis + ndim])))
            axis += ndim
        elif kind == "none":
            if len(key) < 6:
                key.append(None)
        elif kind == "dots" and not dots:
            dots = True
            key.append(...)
            axis += draw(st.integers(0, len(shape) - axis))
        elif kind == "stop":
            break
    if draw(st.integers(0, 9)) == 0:
        key.insert(draw(st.integers(0, len(key))), draw(st.booleans()))
    return key[0] if len(key) == 1 and draw(st.booleans()) else tuple(key)


def differs(x, index):
    """NumPy's answer, or None where NumPy refuses: masks and arrays drawn together do not always broadcast."""
    try:
        return x[index]
    except IndexError:
        return None


@given(st.data(), solid_shapes)
def test_getitem_is_numpys_for_every_index(data, shape):
    x, index = normal(*shape), data.draw(indices(shape))
    wanted = differs(x, index)
    if wanted is None:
        with pytest.raises((IndexError, ValueError)):
            Tensor(x)[index]
        return
    np.testing.assert_array_equal(Tensor(x)[index].data, wanted)
    check_operation(lambda t: ops.getitem(t, index), x, oracle=lambda a: a[index])


@given(st.data(), solid_shapes)
def test_gradient_of_getitem_adds_up_where_positions_repeat(data, shape):
    x, index = normal(*shape), data.draw(indices(shape))
    wanted = differs(x, index)
    if wanted is None:
        return
    dy = normal(*np.shape(wanted), seed=1)
    dx = np.zeros(shape)
    np.add.at(dx, index, dy)
    np.testing.assert_allclose(gradient(lambda t: (t[index] * dy).sum(), x), dx, rtol=1e-12, atol=1e-12)


A = np.array
CASES = [
    (...,),
    (),
    None,
    1,
    -1,
    np.int32(1),
    slice(None, None, -1),
    slice(4, 0, -2),
    (slice(None), -1),
    (1, ..., 0),
    [0, 0, 1],
    [],
    (slice(None), []),
    A([], int),
    [[0, 1], [1, 1]],
    ([0, 1], [2, 2]),
    ([[0], [1]], [2, 0]),
    (slice(None), [1, 1], slice(None), [0, 1]),
    ([1, 1], slice(None), [0, 2]),
    (0, slice(None), [0, 2]),
    (slice(None), 0, [0, 2]),
    (slice(None), [0, 2], None, 0),
    (slice(None), [0, 2], 0, None),
    (None, [0, 1, 1]),
    (slice(None), [0, 1], ..., 0),
    True,
    False,
    (True, [0, 1]),
    (slice(None), True, [0, 1]),
    A(True),
    A(1),
    range(2),
    (slice(None), A([True, False, True])),
    (A([True, True]), [0, 1]),
    (A([True, False]), slice(None), [0, 1, 1, 1]),
    ([-1, -2, -1],),
    ([1, 1], [0, 0], [-1, -1]),
    (slice(1, None), [0, 2, 0], slice(None, None, -2)),
    (A([[1]], np.uint8),),
]


@pytest.mark.parametrize("index", CASES, ids=str)
def test_getitem_cases(index):
    x = normal(2, 3, 4, 2)
    check_operation(lambda t: ops.getitem(t, index), x, oracle=lambda a: a[index])
    dy, dx = normal(*x[index].shape, seed=1), np.zeros(x.shape)
    np.add.at(dx, index, dy)
    np.testing.assert_allclose(gradient(lambda t: (t[index] * dy).sum(), x), dx, rtol=1e-12)


def test_getitem_of_a_whole_mask_and_of_nothing():
    x = normal(3, 4)
    check_operation(lambda t: ops.getitem(t, x > 0), x, oracle=lambda a: a[x > 0])
    check_operation(lambda t: ops.getitem(t, np.zeros((3, 4), bool)), x, oracle=lambda a: a[np.zeros((3, 4), bool)])
    check_operation(lambda t: ops.getitem(t, (slice(None), [1, 1])), normal(0, 3), oracle=lambda a: a[:, [1, 1]])
    check_operation(lambda t: ops.getitem(t, []), normal(0, 3), oracle=lambda a: a[[]])
    check_operation(lambda t: ops.getitem(t, ()), normal(), oracle=np.copy)
    check_operation(lambda t: ops.getitem(t, (None, ...)), normal(), oracle=lambda a: a[None])


def test_tensors_are_indices():
    x = normal(4, 3)
    i, mask = Tensor(A([2, 0, 2])), Tensor(A([True, False, True, True]))
    np.testing.assert_array_equal(Tensor(x)[i].data, x[[2, 0, 2]])
    np.testing.assert_array_equal(Tensor(x)[mask, 1:].data, x[mask.data, 1:])
    np.testing.assert_array_equal(Tensor(x)[Tensor(A(1)), Tensor(A(2))].data, x[1, 2])
    np.testing.assert_array_equal(Tensor(x)[Tensor(A(1)) : Tensor(A(3))].data, x[1:3])
    np.testing.assert_array_equal(ops.getitem(x, i).data, x[[2, 0, 2]])


def test_getitem_of_integers_is_a_constant():
    assert Tensor(np.arange(3))[1].item() == 1


def test_slices_are_views_and_arrays_copies():
    a = normal(3, 4)
    assert np.shares_memory(Tensor(a)[1:, ::2].data, a)
    assert np.shares_memory(Tensor(a)[np.int64(1), ..., None].data, a)
    assert not np.shares_memory(Tensor(a)[[0, 1]].data, a)


def test_the_tape_keeps_its_own_index():
    i = A([0, 0, 1])
    with record():
        t = tensor(normal(3), requires_grad=True)
        y = t[i].sum()
    i[:] = 2
    y.backward()
    assert t.grad.tolist() == [2, 1, 0]


def test_iterating_a_tensor():
    a = normal(3, 2)
    assert [t.shape for t in Tensor(a)] == [(2,)] * 3
    p, q, r = Tensor(a)
    np.testing.assert_array_equal(r.data, a[2])
    g = gradient(lambda t: sum((k + 1) * row.sum() for k, row in enumerate(t)), a)
    np.testing.assert_array_equal(g, [[1, 1], [2, 2], [3, 3]])
    with pytest.raises(ValueError, match="unstack: a single number has no axis"):
        iter(Tensor(1.0))


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (5, r"x\[index\] with x of shape \(2, 3\): index 5 is out of bounds for axis 0 with size 2"),
        ((0, 0, 0), r"x\[index\] with x of shape \(2, 3\): too many indices"),
        ((0, 0, [0]), r"x\[index\]: too many indices, 3 for an array of shape \(2, 3\)"),
        (
            (slice(None), [0, 3]),
            r"x\[index\]: index 3 is outside axis 1 of an array of shape \(2, 3\): its indices are -3 to 2",
        ),
        ((..., [-4, 1]), r"index -4 is outside axis 1"),
        (
            (slice(None), A([True, False])),
            r"a mask of shape \(2,\) does not fit axes 1 to 1 of an array of shape \(2, 3\)",
        ),
        (A([[True, False]]), "does not fit axes 0 to 1"),
        (A([0.0, 1.0]), r"got dtype float64; convert it with .astype\('int64'\)"),
        (A(1.5), "got dtype float64"),
        (1.5, r"got 1\.5"),
        ("a", "got 'a'"),
        ((..., 0, ...), "an index can only have a single ellipsis"),
        ((..., [0], ...), "an index can have one '...', this one has 2"),
        (([0, 1], [0, 1, 2]), r"with x of shape \(2, 3\): shape mismatch"),
        ([[0, 1], [0]], "an index is made of integers"),
    ],
)
def test_an_index_that_does_not_fit_is_named(index, text):
    with pytest.raises(IndexError, match=text):
        Tensor(normal(2, 3))[index]


def test_an_index_into_an_empty_axis():
    with pytest.raises(
        IndexError, match=r"index 0 is outside axis 0 of an array of shape \(0, 2\): that axis is empty"
    ):
        Tensor(normal(0, 2))[[0]]


# -- accumulate_rows ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 12), st.integers(0, 99))
def test_accumulate_rows_adds_every_row(m, width, n, seed):
    rng = np.random.default_rng(seed)
    rows, index = rng.standard_normal((m, width)), rng.integers(0, n, m)
    wanted = np.zeros((n, width))
    np.add.at(wanted, index, rows)
    np.testing.assert_allclose(ops.accumulate_rows(rows, index, n), wanted, atol=1e-13)
    with use_kernels(False):
        np.testing.assert_allclose(ops.accumulate_rows(rows, index, n), wanted, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kernels", [False, True])
def test_accumulate_rows_is_exact_and_repeatable(dtype, kernels):
    rng = np.random.default_rng(0)
    rows, index = rng.standard_normal((3000, 3)).astype(dtype), rng.integers(0, 7, 3000)
    exact = np.stack([rows[index == i].astype(np.float64).sum(0) for i in range(7)])
    with use_kernels(kernels):
        y = ops.accumulate_rows(rows, index, 7)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, exact, rtol=20 * np.finfo(dtype).eps, atol=1e-3 if dtype == np.float16 else 1e-4)
        np.testing.assert_array_equal(y, ops.accumulate_rows(rows, index, 7))


def test_a_nan_stays_in_its_place():
    rows = np.ones((4, 1))
    rows[2] = np.nan
    for kernels in (False, True):
        with use_kernels(kernels):
            np.testing.assert_array_equal(ops.accumulate_rows(rows, A([0, 0, 1, 2]), 3), [[2], [np.nan], [1]])


@pytest.mark.parametrize("n", [1, 2, 65536, 65537, 1 << 20, 1 << 33])
def test_stable_order_sorts_any_range(n):
    index = np.random.default_rng(0).integers(0, n, 500) // 3 * 3 % n
    np.testing.assert_array_equal(stable_order(index, n), np.argsort(index, kind="stable"))


def test_the_kernels_of_this_page_ran():
    before = ops.accumulate_rows.launches, ops.take_forward.launches
    if ops.accumulate_rows(np.ones((2, 2), np.float32), A([1, 1]), 3).tolist() != [[0, 0], [2, 2], [0, 0]]:
        pytest.fail("wrong sum")
    x = normal(50, 32, dtype=np.float32)
    i = np.random.default_rng(0).integers(0, 50, (30, 40))
    np.testing.assert_array_equal(ops.take(x, i, 0).data, x[i])
    launched = ops.accumulate_rows.launches - before[0], ops.take_forward.launches - before[1]
    if launched == (0, 0):
        pytest.skip("no compiler here")
    assert launched == (1, 1)


needs_compiler = pytest.mark.skipif(toolchain() is None, reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gpu_s_reading_in_the_emulator(dtype, how):
    x, i = normal(6, 40, dtype=dtype), np.random.default_rng(0).integers(0, 5, (2, 205))
    wanted = ops.take(x, i, 0).data, ops.accumulate_rows(x, A([4, 0, 4, 4, 4, 4]), 6)
    with emulated(**how) as emulation:
        got = ops.take(x, i, 0).data, ops.accumulate_rows(x, A([4, 0, 4, 4, 4, 4]), 6)
    assert emulation.launches == 2
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


# -- take --------------------------------------------------------------------------------------------------------------


@given(st.data(), solid_shapes)
def test_take(data, shape):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    n = int(np.prod(shape)) if axis is None else shape[axis]
    i = data.draw(
        hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3), elements=st.integers(-n, n - 1))
    )
    check_operation(ops.take, normal(*shape), i, axis=axis, oracle=np.take)


def test_take_forms():
    x = normal(4, 3)
    for i in ([3, -1], (3, -1), Tensor(A([3, -1])), A([3, -1], np.int8)):
        np.testing.assert_array_equal(Tensor(x).take(i, 0).data, x[[3, -1]])
    assert Tensor(x).take([], axis=1).shape == (4, 0)
    assert ops.take(x, 2, 0).shape == (3,)
    assert ops.take(normal(0, 3), A([], int), 0).shape == (0, 3)


def test_embedding_like_take_against_torch():
    torch = pytest.importorskip("torch")
    i = np.random.default_rng(0).integers(0, 96, (32, 64))
    check_against_torch(
        lambda w: ops.take(w, i, 0), lambda w: torch.nn.functional.embedding(torch.tensor(i), w), normal(96, 64)
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda x: ops.take(x, [4], 0),
            IndexError,
            r"take: index 4 is outside axis 0 of an array of shape \(4, 3\): its indices are "
            "-4 to 3",
        ),
        (lambda x: ops.take(x, [-13]), IndexError, r"take: index -13 is outside axis 0 of an array of shape \(12,\)"),
        (lambda x: ops.take(x, [0.5], 0), TypeError, r"take: indices are integers, got dtype float64; convert them"),
        (lambda x: ops.take(x, [True], 0), TypeError, r"take: .* got dtype bool; a mask goes into x\[mask\]"),
        (lambda x: ops.take(x, [0], 2), ValueError, "take: there is no axis 2"),
        (
            lambda x: ops.take_along_axis(x, [0], 0),
            ValueError,
            r"take_along_axis: indices of shape \(1,\) do not fit an array of "
            r"shape \(4, 3\) along axis 0",
        ),
        (lambda x: ops.take_along_axis(x, [[0, 1]], 0), ValueError, "the others equal or 1"),
        (lambda x: ops.take_along_axis(x, [[9]], 1), IndexError, "take_along_axis: index 9 is outside axis 1"),
    ],
)
def test_take_says_what_does_not_fit(call, error, text):
    with pytest.raises(error, match=text):
        call(normal(4, 3))


@given(st.data(), solid_shapes)
def test_take_along_axis(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n, length = shape[axis], data.draw(st.integers(0, 4))
    part = [data.draw(st.sampled_from([1, m])) for m in shape]
    part[axis] = length
    i = data.draw(hnp.arrays(np.int64, tuple(part), elements=st.integers(-n, n - 1)))
    check_operation(ops.take_along_axis, normal(*shape), i, axis=axis, oracle=np.take_along_axis)


def test_take_along_axis_stretches_the_array_too():
    i = A([[0, 1, 1], [1, 1, 0]])
    check_operation(ops.take_along_axis, normal(1, 2), i, axis=1, oracle=np.take_along_axis)
    check_operation(ops.take_along_axis, normal(1, 3), A([[0], [2], [0]]), axis=1, oracle=np.take_along_axis)
    check_operation(ops.take_along_axis, normal(2, 3), A([5, 0, 5]), axis=None, oracle=np.take_along_axis)


def test_take_along_axis_picks_the_classes():
    torch = pytest.importorskip("torch")
    y = A([2, 0, 1, 1])[:, None]
    check_against_torch(
        lambda x: ops.take_along_axis(x, y, 1), lambda x: torch.gather(x, 1, torch.tensor(y)), normal(4, 3)
    )


# -- scatter -----------------------------------------------------------------------------------------------------------


def assigned(x, v, index):
    y = x.copy()
    y[index] = v
    return y


@given(st.data(), solid_shapes)
def test_scatter_is_numpys_assignment(data, shape):
    x, index = normal(*shape), data.draw(indices(shape))
    wanted = differs(x, index)
    if wanted is None:
        return
    part = tuple(data.draw(st.sampled_from([1, n])) for n in wanted.shape)[data.draw(st.integers(0, wanted.ndim)) :]
    v = normal(*part, seed=2)
    check_operation(lambda x, v: scatter(x, index, v), x, v, oracle=lambda x, v: assigned(x, v, index))

    def added(x, v):
        y = x.copy()
        np.add.at(y, index, v)
        return y

    check_operation(lambda x, v: scatter_add(x, index, v), x, v, oracle=added)


def test_the_last_value_stays_and_has_the_gradient():
    x, v = normal(4), normal(3, seed=1)
    y = Tensor(x).scatter([1, 2, 1], v)
    np.testing.assert_array_equal(y.data, [x[0], v[2], v[1], x[3]])
    dx, dv = gradient(lambda x, v: (x.scatter([1, 2, 1], v) * A([1.0, 2, 3, 4])).sum(), x, v)
    np.testing.assert_array_equal(dx, [1, 0, 0, 4])
    np.testing.assert_array_equal(dv, [0, 3, 2])


def test_scatter_changes_nothing_and_takes_numbers():
    x = np.zeros(3, np.float32)
    y = scatter(x, 1, 5)
    assert (x == 0).all()
    assert y.dtype == np.float32
    assert y.data.tolist() == [0, 5, 0]
    assert scatter(np.arange(3), [0, 2], 7).data.tolist() == [7, 1, 7]
    assert scatter(np.zeros(2, bool), 0, True).data.tolist() == [True, False]
    assert Tensor(x).scatter_add([0, 0], 1.5).data.tolist() == [3, 0, 0]
    assert scatter_add(np.arange(3), [0, 0], 1).data.tolist() == [2, 1, 2]


@pytest.mark.parametrize("update", [scatter, scatter_add])
@pytest.mark.parametrize(
    ("x", "index", "v", "error", "text"),
    [
        (
            normal(3, 2),
            0,
            normal(3),
            ValueError,
            r"values of shape \(3,\) do not broadcast to x\[index\], which has shape \(2,\) "
            r"\(x has shape \(3, 2\)\)",
        ),
        (normal(3, 2), [0], normal(1, 1, 2), ValueError, "do not broadcast"),
        (np.arange(3), 0, 1.5, TypeError, "dtype int64 cannot hold values of dtype float64"),
        (np.zeros(3, bool), 0, 2, TypeError, "dtype bool cannot hold values of dtype int64"),
        (normal(3), [3], 1.0, IndexError, "index 3 is outside axis 0"),
    ],
)
def test_scatter_says_what_does_not_fit(update, x, index, v, error, text):
    with pytest.raises(error, match=text):
        update(x, index, v)


@given(st.data(), solid_shapes)
def test_put_along_axis(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    part = list(shape)
    part[axis] = data.draw(st.integers(0, 3))
    i = data.draw(hnp.arrays(np.int64, tuple(part), elements=st.integers(-n, n - 1)))

    def oracle(x, i, v):
        y = x.copy()
        np.put_along_axis(y, i, v, axis)
        return y

    check_operation(
        lambda x, i, v: put_along_axis(x, i, v, axis), normal(*shape), i, normal(*part, seed=1), oracle=oracle
    )


def test_put_along_the_flattened_array():
    y = put_along_axis(np.zeros((2, 2)), [3, 0], [1.0, 2.0], None)
    assert y.data.tolist() == [[2, 0], [0, 1]]
    with pytest.raises(ValueError, match="put_along_axis: indices of shape"):
        put_along_axis(np.zeros((2, 2)), [0], 1.0, 0)


# -- matrices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (2, 3, 3), (1, 1), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("k", [-4, -1, 0, 2])
def test_triangles_and_diagonals(shape, k):
    x = normal(*shape)
    check_operation(tril, x, k=k, oracle=np.tril)
    check_operation(triu, x, k=k, oracle=np.triu)
    check_operation(diagonal, x, offset=k, axis1=-2, axis2=-1, oracle=np.diagonal)
    check_operation(diagonal, x, offset=k, axis1=1, axis2=0, oracle=np.diagonal)


def test_a_triangle_of_nan_is_zero_outside():
    assert tril(np.full((2, 2), np.nan)).data[0, 1] == 0


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_diag(k):
    check_operation(diag, normal(3), k=k, oracle=np.diag)
    check_operation(diag, normal(3, 4), k=k, oracle=np.diag)
    check_operation(diag, normal(0), k=k, oracle=np.diag)


def test_matrices_need_two_axes():
    with pytest.raises(ValueError, match=r"tril: needs an array with at least two axes, got shape \(3,\)"):
        tril(normal(3))
    with pytest.raises(ValueError, match="diagonal: axis1 and axis2 are both axis 1"):
        diagonal(normal(2, 3), axis1=1, axis2=-1)
    with pytest.raises(ValueError, match=r"diag: takes a vector or a matrix, got shape \(2, 2, 2\)"):
        diag(normal(2, 2, 2))


def test_method_diagonal():
    np.testing.assert_array_equal(Tensor(normal(3, 3)).diagonal(1).data, normal(3, 3).diagonal(1))


# -- what holds for all ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda t: ops.getitem(t, [0, 0, 1]),
        lambda t: ops.getitem(t, np.s_[1:, ::-1]),
        lambda t: ops.take(t, [1, 1, 0], 0),
        lambda t: ops.take_along_axis(t, A([[0, 1, 0], [1, 1, 1]]), 0),
        lambda t: scatter(t, ([0, 0], [1, 1]), t[0, :2]),
        lambda t: scatter_add(t, [0, 0], t),
        lambda t: diagonal(t, 1),
        lambda t: tril(t),
    ],
)
def test_third_order(f):
    """Each of these inside something curved: derivatives of order three."""
    check_operation(lambda t: f(t * t * t) * f(t), normal(2, 3), order=3, tolerance=1e-5)


def test_nothing_is_recorded_inside_no_grad():
    t = tensor(normal(3), requires_grad=True)
    with no_grad():
        assert t[[0, 1]].node is None
