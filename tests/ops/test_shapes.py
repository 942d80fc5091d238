import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import axes_of, check_against_torch, check_operation, normal, shapes

from minitorch_flux.autograd import Tensor, gradient, record, tensor
from minitorch_flux.ops import shapes as ops
from minitorch_flux.ops.padding import pad, pad_constant


def factorised(shape):
    """The same number of elements with other axes."""
    flat = [p for n in shape for p in ((2, 2) if n == 4 else (n,))]
    return flat[::-1]


# -- reshape -----------------------------------------------------------------------------------------------------------


@given(shapes)
def test_reshape_is_numpys(shape):
    new = factorised(shape)
    check_operation(ops.reshape, normal(*shape), shape=new, oracle=lambda x, shape: x.reshape(shape))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((2, 3), -1),
        ((2, 3), 6),
        ((2, 3, 4), (2, -1)),
        ((6,), [3, 2]),
        ((), (1, 1)),
        ((0, 3), (3, 0)),
        ((0, 3), (-1, 3)),
        ((1,), ()),
    ],
)
def test_reshape_forms(old, new):
    check_operation(ops.reshape, normal(*old), shape=new, oracle=lambda x, shape: x.reshape(shape))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ((2, 3), (4, 2), r"shape \(2, 3\) has 6 elements, the new shape \(4, 2\) 8"),
        ((2, 3), (4, -1), r"6 elements, which is no multiple of 4, as the new shape \(4, -1\) needs"),
        ((2, 3), (-1, -1), "can have one -1"),
        ((2, 3), (-2, 3), "no other negative length"),
        ((0, 3), (0, -1), "the -1 could be anything beside a 0: write its length"),
    ],
)
def test_reshape_says_what_does_not_fit(old, new, text):
    with pytest.raises(ValueError, match=text):
        ops.reshape(normal(*old), new)


def test_reshape_gives_a_view_and_takes_both_spellings():
    a = normal(2, 3)
    x = Tensor(a)
    assert np.shares_memory(x.reshape(3, 2).data, a)
    assert x.reshape((3, 2)).shape == x.reshape([3, 2]).shape == x.reshape(3, -1).shape == (3, 2)


@given(shapes)
def test_ravel_and_the_method_flatten(shape):
    check_operation(ops.ravel, normal(*shape), oracle=np.ravel)
    np.testing.assert_array_equal(Tensor(normal(*shape)).flatten().data, normal(*shape).flatten())
    np.testing.assert_array_equal(Tensor(normal(*shape)).ravel().data, normal(*shape).ravel())


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3), (2,), (0, 3, 4), (2, 0, 4)])
def test_flatten_keeps_the_batch_axis(shape):
    check_operation(ops.flatten, normal(*shape), oracle=lambda x: x.reshape(shape[0], int(np.prod(shape[1:]))))


def test_flatten_needs_a_batch_axis():
    with pytest.raises(ValueError, match="flatten: needs a batch axis"):
        ops.flatten(3.0)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((1, 2, 1), None), ((1, 2, 1), 0), ((1, 2, 1), -1), ((1, 2, 1), (0, 2)), ((1, 0), 0), ((), None), ((1,), None)],
)
def test_squeeze(shape, axis):
    check_operation(ops.squeeze, normal(*shape), axis=axis, oracle=np.squeeze)
    assert Tensor(normal(*shape)).squeeze(axis).shape == np.squeeze(normal(*shape), axis).shape


def test_squeeze_refuses_an_axis_with_elements():
    with pytest.raises(ValueError, match=r"squeeze: axis 1 of shape \(1, 3\) has length 3"):
        ops.squeeze(normal(1, 3), 1)
    with pytest.raises(
        np.exceptions.AxisError,
        match=r"squeeze: there is no axis 2 in an array of shape \(1, 3\), whose "
        "axes are -2 to 1",
    ):
        ops.squeeze(normal(1, 3), 2)
    with pytest.raises(ValueError, match=r"squeeze: axes \(0, -2\) name an axis twice"):
        ops.squeeze(normal(1, 3), (0, -2))
    with pytest.raises(np.exceptions.AxisError, match="squeeze: there is no axis 0 .* which has no axes"):
        ops.squeeze(normal(), 0)
    with pytest.raises(TypeError, match="squeeze: an axis is an integer, got 0.5"):
        ops.squeeze(normal(1, 3), 0.5)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 3), 0), ((2, 3), 1), ((2, 3), -1), ((2, 3), (0, -1)), ((2, 3), (3, 1)), ((), 0), ((0,), 1), ((), (0, 1))],
)
def test_expand_dims(shape, axis):
    check_operation(ops.expand_dims, normal(*shape), axis=axis, oracle=np.expand_dims)


def test_expand_dims_counts_axes_in_the_result():
    with pytest.raises(np.exceptions.AxisError, match="expand_dims: there is no axis 3 in a result with 3 axes"):
        ops.expand_dims(normal(2, 3), 3)


@pytest.mark.parametrize("name", ["atleast_1d", "atleast_2d", "atleast_3d"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (2, 3, 4), (1, 2, 3, 4), (0,)])
def test_atleast(name, shape):
    check_operation(getattr(ops, name), normal(*shape), oracle=getattr(np, name))


# -- axes --------------------------------------------------------------------------------------------------------------


@given(st.data(), shapes)
def test_transpose_is_numpys(data, shape):
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    axes = tuple(a - data.draw(st.sampled_from([0, len(shape)])) for a in axes)
    check_operation(ops.transpose, normal(*shape), axes=axes, oracle=np.transpose)
    check_operation(ops.transpose, normal(*shape), oracle=np.transpose)


def test_transpose_spellings_and_views():
    a = normal(2, 3, 4)
    x = Tensor(a)
    for y in (x.transpose(2, 0, 1), x.transpose((2, 0, 1)), x.permute(2, 0, 1), ops.permute(a, (2, 0, 1))):
        np.testing.assert_array_equal(y.data, a.transpose(2, 0, 1))
        assert np.shares_memory(y.data, a)
    for y in (x.T, x.transpose(), x.transpose(None)):
        np.testing.assert_array_equal(y.data, a.T)
    np.testing.assert_array_equal(x.mT.data, a.mT)
    np.testing.assert_array_equal(x.swapaxes(0, 2).data, a.swapaxes(0, 2))


def test_transpose_wants_every_axis_once():
    with pytest.raises(
        ValueError, match=r"transpose: axes \(0, 1\) name 2 of the 3 axes .* swapaxes\(i, j\) exchanges two"
    ):
        Tensor(normal(2, 3, 4)).transpose(0, 1)
    with pytest.raises(ValueError, match="name an axis twice"):
        ops.transpose(normal(2, 3), (0, 0))


@pytest.mark.parametrize(("i", "j"), [(0, 1), (-1, 0), (1, 1), (2, -2)])
def test_swapaxes(i, j):
    check_operation(ops.swapaxes, normal(2, 1, 3), axis1=i, axis2=j, oracle=np.swapaxes)


@pytest.mark.parametrize(
    ("source", "destination"), [(0, -1), (2, 0), ((0, 1), (-1, -2)), ((0, 3), (3, 0)), ([1, 0], [0, 1])]
)
def test_moveaxis(source, destination):
    check_operation(ops.moveaxis, normal(2, 1, 3, 2), source=source, destination=destination, oracle=np.moveaxis)


def test_moveaxis_wants_as_many_places_as_axes():
    with pytest.raises(ValueError, match="moveaxis: source 0 and destination .* different lengths"):
        ops.moveaxis(normal(2, 3), 0, (0, 1))


# -- flip, roll, rot90 -------------------------------------------------------------------------------------------------


@given(st.data(), shapes)
def test_flip(data, shape):
    axis = data.draw(axes_of(len(shape)))
    check_operation(ops.flip, normal(*shape), axis=axis, oracle=np.flip)


@given(st.data(), shapes)
def test_roll(data, shape):
    axis = data.draw(axes_of(len(shape)))
    count = len(axis) if isinstance(axis, tuple) else 1
    shifts = st.integers(-5, 5)
    shift = data.draw(shifts if count == 1 else shifts | st.tuples(*[shifts] * count))
    if isinstance(axis, tuple) and count == 1 and not isinstance(shift, tuple):
        shift = (shift,)
    check_operation(ops.roll, normal(*shape), shift=shift, axis=axis, oracle=np.roll)


def test_roll_wants_a_shift_for_each_axis():
    with pytest.raises(ValueError, match=r"roll: 2 shifts \(1, 2\) for 1 axes \(0,\)"):
        ops.roll(normal(2, 3), (1, 2), 0)


@pytest.mark.parametrize("k", range(-1, 5))
@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (2, 0), (-1, 1)])
def test_rot90(k, axes):
    check_operation(ops.rot90, normal(2, 3, 2), k=k, axes=axes, oracle=np.rot90)


def test_rot90_turns_a_plane():
    with pytest.raises(ValueError, match="rot90: a plane has two axes"):
        ops.rot90(normal(2, 3), axes=(0,))


# -- tile and repeat ---------------------------------------------------------------------------------------------------


@given(shapes, st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_tile(shape, reps):
    shape = shape[:3]
    check_operation(ops.tile, normal(*shape), reps=tuple(reps), oracle=np.tile)


def test_tile_by_an_int_and_its_error():
    check_operation(ops.tile, normal(2, 3), reps=2, oracle=np.tile)
    with pytest.raises(ValueError, match=r"tile: cannot repeat \(-1,\) times"):
        ops.tile(normal(2), -1)


@given(st.data(), shapes)
def test_repeat(data, shape):
    axis = data.draw(axes_of(len(shape), several=False))
    n = int(np.prod(shape)) if axis is None else shape[axis]
    if n > 12:
        return
    repeats = data.draw(st.integers(0, 3) | st.lists(st.integers(0, 3), min_size=n, max_size=n))
    if isinstance(repeats, list) and not repeats:
        repeats = 1
    check_operation(ops.repeat, normal(*shape), repeats=repeats, axis=axis, oracle=np.repeat)


def test_repeat_takes_arrays_tensors_and_one_in_a_list():
    a = normal(3, 2)
    for counts in (np.array([1, 0, 2]), Tensor(np.array([1, 0, 2]))):
        np.testing.assert_array_equal(ops.repeat(a, counts, 0).data, np.repeat(a, [1, 0, 2], 0))
    np.testing.assert_array_equal(Tensor(a).repeat([2], axis=1).data, np.repeat(a, 2, 1))
    np.testing.assert_array_equal(Tensor(a).repeat(2).data, np.repeat(a, 2))


@pytest.mark.parametrize(
    ("repeats", "text"),
    [
        ([1, 2], "one for each of the 3 elements along axis 0"),
        (1.5, "dtype float64"),
        (-1, "cannot repeat -1 times"),
        ([[1, 2, 3]], r"got shape \(1, 3\)"),
    ],
)
def test_repeat_says_what_does_not_fit(repeats, text):
    with pytest.raises(ValueError, match=f"repeat: .*{text}"):
        ops.repeat(normal(3, 2), repeats, 0)


# -- pad ---------------------------------------------------------------------------------------------------------------


@given(
    st.data(),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(["edge", "reflect", "symmetric", "wrap"]),
)
def test_pad_modes(data, shape, mode):
    widths = [tuple(data.draw(st.lists(st.integers(0, 5), min_size=2, max_size=2))) for _ in shape]
    check_operation(
        pad, normal(*shape), widths=widths, mode=mode, oracle=lambda x, widths, mode: np.pad(x, widths, mode)
    )


@given(st.data(), shapes)
def test_pad_constant(data, shape):
    shape = shape[:3] or (1,)
    widths = [tuple(data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=2))) for _ in shape]
    check_operation(
        pad,
        normal(*shape),
        widths=widths,
        value=1.5,
        oracle=lambda x, widths, value: np.pad(x, widths, constant_values=value),
    )


@pytest.mark.parametrize("widths", [1, (1, 2), [(1, 2)], ((0, 1), (2, 0)), [[1], [2]], np.array([[1, 2], [0, 0]]), 0])
def test_pad_takes_numpys_widths(widths):
    for mode in ("constant", "edge"):
        np.testing.assert_array_equal(pad(normal(2, 3), widths, mode).data, np.pad(normal(2, 3), widths, mode))
    np.testing.assert_array_equal(
        pad_constant(normal(2, 3), widths, -1).data, np.pad(normal(2, 3), widths, constant_values=-1)
    )


def test_pad_keeps_dtypes():
    assert pad(np.arange(3), 1, value=7).data.tolist() == [7, 0, 1, 2, 7]
    assert pad(np.ones(2, np.float32), 1).dtype == np.float32
    assert pad(np.ones(2, np.float16), 1, "reflect").dtype == np.float16


@pytest.mark.parametrize(
    ("widths", "keywords", "text"),
    [
        ((1, 2, 3, 4), {}, r"give an int, a pair, or a pair for each of its 2 axes: \(\(1, 2\), \(3, 4\)\)"),
        ((1, 2, 3), {}, r"for each of its 2 axes: \(\(lo, hi\), \(lo, hi\)\)"),
        (1.5, {}, "do not fit an array of shape"),
        (-1, {}, "widths -1 are negative somewhere"),
        (1, {"mode": "mirror"}, "there is no mode 'mirror'; the modes are constant, edge"),
        (1, {"mode": "replicate"}, "there is no mode 'replicate'; it is 'edge' here"),
        (1, {"mode": "edge", "value": 1}, "value=1 is for mode='constant'"),
    ],
)
def test_pad_says_what_does_not_fit(widths, keywords, text):
    with pytest.raises(ValueError, match=f"pad: .*{text}"):
        pad(normal(2, 3), widths, **keywords)


def test_pad_has_nothing_to_repeat_on_an_empty_axis():
    with pytest.raises(ValueError, match=r"axis 1 of shape \(2, 0\) is empty, mode 'edge' has nothing to repeat"):
        pad(normal(2, 0), 1, "edge")
    with pytest.raises(ValueError, match="dtype int64 cannot hold the value 0.5"):
        pad(np.arange(3), 1, value=0.5)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_against_torch(mode):
    torch = pytest.importorskip("torch")
    ours = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    check_against_torch(
        lambda x: pad(x, ((0, 0), (0, 0), (2, 1), (1, 3)), ours),
        lambda x: torch.nn.functional.pad(x, (1, 3, 2, 1), mode),
        normal(2, 3, 4, 5),
    )


# -- dtype and copies --------------------------------------------------------------------------------------------------


def test_astype_carries_gradients_between_floats():
    x = normal(2, 3)
    g = gradient(lambda t: (t.astype("float32") * 2).sum(), x)
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g, np.full((2, 3), 2.0))
    assert Tensor(x).astype(np.float16).dtype == np.float16
    check_operation(ops.astype, x, dtype=np.float64, oracle=lambda x, dtype: x, dtypes=())


def test_astype_to_integers_is_a_constant():
    with record():
        t = tensor(normal(3), requires_grad=True)
        y = t.astype(int)
    assert y.dtype == np.int64
    assert y.node is None
    assert ops.astype(np.arange(3), bool).data.tolist() == [False, True, True]
    with pytest.raises(TypeError, match="astype: complex numbers are not supported"):
        t.astype(complex)


def test_copy_has_memory_of_its_own():
    a = normal(3, 2).T
    y = Tensor(a).copy()
    assert not np.shares_memory(y.data, a)
    check_operation(ops.copy, a, oracle=np.copy)


def test_views_are_seen_through_by_the_version_counter():
    t = tensor(normal(2, 3), requires_grad=True)
    y = t.reshape(6)[1:4][None].T
    z = (y * y).sum()
    t.version += 1  # what an in-place update does
    with pytest.raises(RuntimeError, match="changed in place"):
        z.backward()
