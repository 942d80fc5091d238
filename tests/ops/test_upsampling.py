"""upsample_* and pixel_shuffle: PyTorch and nested loops as oracles, kernels, conventions, errors."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import upsampling
from minitorch_flux.ops.upsampling import (
    Taps,
    cubic_taps,
    linear_taps,
    nearest_taps,
    pixel_shuffle,
    upsample_bicubic,
    upsample_linear,
    upsample_nearest,
)
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_against_torch, check_operation, laid_out, needs_compiler, normal

SHAPES = [(2, 3, 4), (1, 2, 3, 5), (2, 1, 2, 3, 4), (2, 2, 1, 3), (0, 2, 3), (2, 0, 3, 2), (1, 1, 1)]
SCALES = [2, 3, 1.5, 0.7, 2.4, 1, 1.1]
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def interpolated(x, mode, **keywords):
    functional = pytest.importorskip("torch").nn.functional
    return functional.interpolate(x, mode=mode, **keywords)


def linear_by_loops(x, sizes, positions):
    """The weighted sum over the corners of the cell around each position."""
    n, c, *inside = x.shape
    y = np.zeros((n, c, *sizes))
    for p in np.ndindex(*sizes):
        for corner in np.ndindex(*(2,) * len(sizes)):
            weight, at = 1.0, []
            for axis, k in enumerate(corner):
                i = math.floor(positions[axis][p[axis]])
                f = positions[axis][p[axis]] - i
                weight *= f if k else 1 - f
                at.append(min(i + k, inside[axis] - 1))
            y[(..., *p)] += weight * x[(..., *at)]
    return y


def shortened(sizes, scale):
    """Whether PyTorch's nearest takes the pixels of a scale of 1 or 2 in some of its forms, although another was given."""
    return any(math.floor(n * scale) in (n, 2 * n) for n in sizes) and scale not in (1, 2)


# -- against PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_scale(shape, scale):
    axes = len(shape) - 2
    if any(math.floor(n * scale) == 0 for n in shape[2:]):
        pytest.skip("nothing would be left")
    x = normal(*shape)
    check_operation(upsample_nearest, x, scale=scale, layouts=False)
    check_operation(upsample_linear, x, scale=scale, dtypes=(np.float32, np.float16))
    if x.size == 0:
        return  # PyTorch refuses a batch of nothing
    given = {"scale_factor": (float(scale),) * axes}
    if not shortened(shape[2:], scale):
        check_against_torch(upsample_nearest, lambda x: interpolated(x, "nearest", **given), x, scale=scale)
    for corners in (False, True):
        given["align_corners"] = corners
        check_against_torch(upsample_linear, lambda x: interpolated(x, MODES[axes], **given), x, scale=scale,
                            align_corners=corners)  # fmt: skip


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3), data=st.data())
def test_size(sizes, data):
    outs = tuple(data.draw(st.integers(1, 11)) for _ in sizes)
    corners = data.draw(st.booleans())
    x = normal(1, 2, *sizes)
    check_against_torch(upsample_nearest, lambda x: interpolated(x, "nearest", size=outs), x, size=outs)
    check_against_torch(upsample_linear, lambda x: interpolated(x, MODES[len(sizes)], size=outs, align_corners=corners), x,
                        size=outs, align_corners=corners)  # fmt: skip
    check_operation(upsample_linear, x, size=outs, align_corners=corners, order=1)


@given(sizes=st.tuples(st.integers(1, 7), st.integers(1, 7)), outs=st.tuples(st.integers(1, 11), st.integers(1, 11)),
       corners=st.booleans())  # fmt: skip
def test_bicubic_size(sizes, outs, corners):
    x = normal(1, 2, *sizes)
    check_against_torch(upsample_bicubic, lambda x: interpolated(x, "bicubic", size=outs, align_corners=corners), x,
                        size=outs, align_corners=corners)  # fmt: skip


@pytest.mark.parametrize("scale", [2, 1.5, 0.7, (3, 0.5)])  # where a size stays, PyTorch's gradient is not that of its value
@pytest.mark.parametrize("corners", [False, True])
def test_bicubic_scale(scale, corners):
    x = normal(2, 1, 3, 4)
    pair = tuple(map(float, scale)) if isinstance(scale, tuple) else float(scale)
    check_operation(upsample_bicubic, x, scale=scale, align_corners=corners)
    check_against_torch(upsample_bicubic, lambda x: interpolated(x, "bicubic", scale_factor=pair, align_corners=corners), x,
                        scale=scale, align_corners=corners)  # fmt: skip


@pytest.mark.parametrize("scale", [(2, 1.5), (0.5, 3), (1, 2)])
def test_a_scale_for_each_axis(scale):
    x = normal(2, 2, 4, 3)
    given = {"scale_factor": tuple(map(float, scale))}
    check_against_torch(upsample_nearest, lambda x: interpolated(x, "nearest", **given), x, scale=scale)
    check_against_torch(upsample_linear, lambda x: interpolated(x, "bilinear", **given), x, scale=scale)
    check_against_torch(upsample_linear, lambda x: interpolated(x, "bilinear", size=(5, 2)), x, size=(5, 2))


# -- against loops -----------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), corners=st.booleans(), data=st.data())
def test_linear_by_loops(sizes, corners, data):
    scales = [data.draw(st.sampled_from([1, 1.5, 2, 2.3])) for _ in sizes]
    outs = [math.floor(n * s) for n, s in zip(sizes, scales)]
    positions = []
    for n, o, s in zip(sizes, outs, scales):
        if corners or n == o:
            positions.append([p * (n - 1) / (o - 1) if o > 1 else 0.0 for p in range(o)])
        else:
            positions.append([min(max((p + 0.5) / s - 0.5, 0.0), n - 1) for p in range(o)])
    x = normal(1, 2, *sizes)
    wanted = linear_by_loops(x, outs, positions)
    np.testing.assert_allclose(upsample_linear(x, scales, align_corners=corners).data, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [1, 3, 41, 55])
def test_nearest_is_exact_where_float32_is_not(length):
    """41 * float32(1 / 41) is less than 1: PyTorch takes the wrong pixel there."""
    x = np.arange(7.0).reshape(1, 1, 7)
    wanted = [p // length for p in range(7 * length)]
    assert upsample_nearest(x, length).data[0, 0].tolist() == wanted
    assert upsample_nearest(x, size=7 * length).data[0, 0].tolist() == wanted
    for out in (5, 9, 20, 82):
        assert upsample_nearest(x, size=out).data[0, 0].tolist() == [math.floor(Fraction(7 * p, out)) for p in range(out)]


def test_positions_follow_the_scale_that_was_given():
    """3 pixels times 1.5 are 4, which is 4/3 as many: the positions are those of 1.5."""
    x = np.array([[[0.0, 1, 2]]])
    np.testing.assert_allclose(upsample_linear(x, 1.5).data[0, 0], [0, 0.5, 7 / 6, 11 / 6])
    np.testing.assert_allclose(upsample_linear(x, size=4).data[0, 0], [0, 0.625, 1.375, 2])
    assert upsample_nearest(np.arange(5.0).reshape(1, 1, 5), 1.3).data.ravel().tolist() == [0, 0, 1, 2, 3, 3]


def test_an_axis_that_keeps_its_size_is_left_alone():
    x = normal(1, 2, 3, 9)
    for f in (upsample_nearest, upsample_linear):
        np.testing.assert_array_equal(f(x, 1.1).data, x)
    check_operation(upsample_bicubic, x, scale=1.1)
    assert not np.allclose(upsample_bicubic(x, 1.1).data, x)


def test_corners_stay_where_they_are():
    x = np.array([[[1.0, 3, 7]]])
    np.testing.assert_allclose(upsample_linear(x, 3, align_corners=True).data[0, 0, [0, 4, 8]], [1, 3, 7])
    np.testing.assert_allclose(upsample_linear(x, size=1, align_corners=True).data.ravel(), [1])


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_dtypes():
    x = np.arange(6).reshape(1, 1, 6)
    assert upsample_nearest(x, 2).dtype == x.dtype
    assert upsample_nearest(x % 2 == 0, 2).data[0, 0, :4].tolist() == [True, True, False, False]
    assert upsample_linear(x, 2).dtype == np.float64
    assert upsample_bicubic(x[:, :, None], 2).dtype == np.float64
    assert upsample_linear([[[1, 2]]], 2).shape == (1, 1, 4)
    for dtype in (np.float16, np.float32):
        big = np.full((1, 1, 2, 2), np.finfo(dtype).max / 2, dtype)
        np.testing.assert_allclose(upsample_linear(big, 2).data, big[0, 0, 0, 0])


@pytest.mark.parametrize("kernels", [True, False])
def test_what_is_not_finite_reaches_its_neighbours_only(kernels):
    x = np.zeros((1, 2, 3, 7), np.float32)
    x[0, 0, 1, 3] = np.inf
    x[0, 1, 1, 3] = np.nan
    with use_kernels(kernels):
        for f, reach in ((upsample_linear, 1), (upsample_bicubic, 2)):
            y = f(x, 2).data
            bad = ~np.isfinite(y).all(axis=(0, 1))
            rows, columns = bad.nonzero()
            assert rows.min() >= 2 * (1 - reach)
            assert columns.min() >= 2 * (3 - reach)
            assert columns.max() <= 2 * (3 + reach) + 1
        dy = np.zeros((1, 2, 6, 14), np.float32)
        dy[:, :, 2:4, 6:8] = np.inf
        dx = flux.vjp(lambda x: upsample_linear(x, 2), x)[1](dy)
        assert np.isfinite(dx[..., :2]).all()
        assert np.isfinite(dx[..., 5:]).all()


def test_second_order_through_a_nonlinear_loss():
    flux.check(lambda x: flux.tanh(upsample_linear(x, (2, 1.5))) ** 2, normal(1, 2, 3, 4))
    flux.check(lambda x: flux.tanh(upsample_nearest(x, size=(5, 2))) ** 2, normal(1, 2, 3, 4))


def test_the_same_bits_each_time():
    x = normal(2, 3, 5, 7, dtype=np.float32)
    dy = normal(2, 3, 12, 17, dtype=np.float32)
    a, b = (flux.vjp(lambda x: upsample_linear(x, 2.5), x)[1](dy) for _ in range(2))
    np.testing.assert_array_equal(a, b)


# -- taps --------------------------------------------------------------------------------------------------------------


def matrix(taps):
    m = np.zeros((taps.out, taps.size))
    for (k, p), w in np.ndenumerate(taps.weights):
        if w:
            m[p, taps.first[p] + k] += w
    return m


@given(size=st.integers(1, 9), out=st.integers(1, 20), corners=st.booleans(),
       make=st.sampled_from([nearest_taps, linear_taps, cubic_taps]))  # fmt: skip
def test_taps_stay_inside_and_transpose(size, out, corners, make):
    taps = make(size, out, None, corners)
    for t in (taps, taps.transposed):
        assert t.first.min() >= 0
        assert (t.first + t.weights.shape[0]).max() <= t.size
    np.testing.assert_allclose(matrix(taps).sum(axis=1), 1)
    np.testing.assert_array_equal(matrix(taps.transposed), matrix(taps).T)
    assert taps.rises
    assert taps.transposed.rises
    assert taps.transposed.transposed is taps
    assert taps.plain == (make is nearest_taps or (taps.weights.shape[0] == 1 and (taps.weights == 1).all()))


def test_taps_that_fall_on_one_element_are_added_up():
    taps = Taps(3, np.array([[0, 2], [0, 1]]), np.array([[0.25, 0.5], [0.5, 0.5]]))
    np.testing.assert_array_equal(matrix(taps), [[0.75, 0, 0], [0, 0.5, 0.5]])


def test_a_line_that_is_turned_around():
    """Its neighbours' taps do not lie side by side: not for a kernel that looks for them in one piece of the line."""
    taps = Taps(40, np.arange(40)[None, ::-1], np.ones((1, 40)))
    assert not taps.rises
    x = normal(2, 3, 40, 40)
    np.testing.assert_array_equal(upsampling.resample(x, 3, taps), x[..., ::-1])
    np.testing.assert_array_equal(upsampling.resample_planes(x, taps, taps), x[..., ::-1, ::-1])


# -- kernels -----------------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_run_and_agree_with_the_reference(dtype):
    x = normal(2, 3, 5, 7, dtype=dtype)
    for f, scale in ((upsample_nearest, (2, 3)), (upsample_linear, (2, 1.7)), (upsample_bicubic, (0.6, 2))):
        before = upsampling.resample_planes.launches
        y, back = flux.vjp(lambda x, f=f, scale=scale: f(x, scale), x)
        dx = back(np.ones_like(y))
        assert upsampling.resample_planes.launches == before + 2
        with use_kernels(False):
            y0, back = flux.vjp(lambda x, f=f, scale=scale: f(x, scale), x)
            dx0 = back(np.ones_like(y))
        assert y.dtype == dx.dtype == dtype
        np.testing.assert_allclose(y, y0, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(dx, dx0, rtol=1e-5, atol=1e-6)
    before = upsampling.resample.launches
    upsample_nearest(x.astype(int), 2)
    upsample_linear(x[:0], 2)
    assert upsampling.resample.launches == before
    upsample_linear(laid_out(x, "Fortran-ordered"), (1, 2))
    assert upsampling.resample.launches == before + 1, "copied"


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    x = normal(2, 2, 3, 37, dtype=np.float32)
    for f, scale in ((upsample_nearest, 2), (upsample_linear, (2, 1.7)), (upsample_bicubic, 2)):
        dy = normal(*f(x, scale).shape, dtype=np.float32)
        with use_kernels(False):
            wanted = f(x, scale).data, flux.vjp(lambda x, f=f, scale=scale: f(x, scale), x)[1](dy)
        with emulated(**options) as count:
            got = f(x, scale).data, flux.vjp(lambda x, f=f, scale=scale: f(x, scale), x)[1](dy)
        assert count.launches == 3
        for y, z in zip(got, wanted, strict=True):
            np.testing.assert_allclose(y, z, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    x = normal(2, 2, 3, 37, dtype=np.float32)
    with emulated(sanitize=sanitize):
        for f in (upsample_nearest, upsample_linear, upsample_bicubic):
            y, back = flux.vjp(lambda x, f=f: f(x, (2, 1.3)), x)
            back(y)


# -- pixel_shuffle -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "r"), [
    ((2, 8, 3, 2), 2), ((1, 9, 2, 3), 3), ((2, 4, 3, 2), 1), ((0, 4, 2, 2), 2), ((1, 4, 0, 2), 2),
])  # fmt: skip
def test_pixel_shuffle_is_pytorchs(shape, r):
    functional = pytest.importorskip("torch").nn.functional
    x = normal(*shape)
    check_operation(pixel_shuffle, x, r=r, oracle=lambda x, r: functional.pixel_shuffle(x_tensor(x), r).numpy())
    if x.size:
        check_against_torch(pixel_shuffle, lambda x: functional.pixel_shuffle(x, r), x, r=r)


def x_tensor(x):
    return pytest.importorskip("torch").tensor(x)


@pytest.mark.parametrize("shape", [(2, 6, 3), (1, 8, 2, 3), (1, 16, 1, 2, 3)])
def test_pixel_shuffle_by_loops(shape):
    n, c, *sizes = shape
    d, r = len(sizes), 2
    x = np.arange(math.prod(shape)).reshape(shape)
    y = pixel_shuffle(x, r).data
    assert y.shape == (n, c // r**d, *(s * r for s in sizes))
    assert y.dtype == x.dtype
    for p in np.ndindex(*y.shape[2:]):
        for channel in range(c // r**d):
            source = channel
            for v in p:
                source = source * r + v % r
            np.testing.assert_array_equal(y[(slice(None), channel, *p)], x[(slice(None), source, *(v // r for v in p))])


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [upsample_nearest, upsample_linear, upsample_bicubic])
def test_errors(f):
    name, x = f.__name__, np.zeros((2, 3, 4, 5))
    with pytest.raises(TypeError, match=rf"{name}: give either scale= or size=, got neither"):
        f(x)
    with pytest.raises(TypeError, match=rf"{name}: give either scale= or size=, got both"):
        f(x, 2, size=3)
    for scale in ("2", None, True, (2, "3")):
        if scale is not None:
            with pytest.raises(TypeError, match=rf"{name}: scale is a number or a tuple with one for each axis, got"):
                f(x, scale)
    with pytest.raises(TypeError, match=rf"{name}: size is a whole number or a tuple with one for each axis, got 2.5"):
        f(x, size=2.5)
    with pytest.raises(ValueError, match=rf"{name}: scale \(2, 2, 2\) has 3 numbers, the input has 2 axes after N and C"):
        f(x, (2, 2, 2))
    for scale in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"{name}: scale must be positive"):
            f(x, scale)
    with pytest.raises(ValueError, match=rf"{name}: size must be positive, got \(2, 0\)"):
        f(x, size=(2, 0))
    with pytest.raises(ValueError, match=rf"{name}: axis 2 of the input has size 4 and would get 0, both must be 1 or more"):
        f(x, 0.2)
    with pytest.raises(ValueError, match=rf"{name}: axis 3 of the input has size 0 and would get 2, both must be 1 or more"):
        f(np.zeros((2, 3, 4, 0)), size=2)
    axes = r"4 axes \(N, C, H, W\)" if f is upsample_bicubic else r"3 to 5 axes \(N, C, \.\.\.\)"
    for shape in ((2, 3), (2, 3, 1, 1, 1, 1)):
        with pytest.raises(ValueError, match=rf"{name}: takes an input of {axes}; got {len(shape)} axes \(input shape"):
            f(np.zeros(shape), 2)


def test_errors_of_pixel_shuffle():
    with pytest.raises(ValueError, match=r"pixel_shuffle: axis 1 of the input has 6 channels, which cannot be divided by r\^2"):
        pixel_shuffle(np.zeros((1, 6, 2, 2)), 2)
    with pytest.raises(ValueError, match=r"pixel_shuffle: takes an input of 3 to 5 axes \(N, C, \.\.\.\); got 2 axes"):
        pixel_shuffle(np.zeros((1, 6)), 2)
    for r in (0, 1.5, True):
        with pytest.raises(TypeError, match="pixel_shuffle: r is a whole number from 1 on"):
            pixel_shuffle(np.zeros((1, 4, 2, 2)), r)
