"""layer_norm and rms_norm: PyTorch and nested loops as oracles, stable statistics, zero variance, kernels."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import layer_norms
from minitorch_flux.ops.layer_norms import chunks, layer_norm, rms_norm
from minitorch_flux.readings.emulator import emulated
from tests.oracles import (
    assert_rounded,
    check_against_torch,
    check_operation,
    laid_out,
    needs_compiler,
    normal,
    short_dtypes,
)

CASES = [((4, 3), 1), ((3, 1), 1), ((1, 5), 1), ((2, 3, 4), 2), ((2, 3, 4), 3), ((7,), 1), ((2, 2, 3, 2), 1), ((70, 5), 1)]
EMPTY = [((0, 3), 1), ((2, 0), 1), ((2, 0, 3), 2)]
NAMES = ["layer_norm_forward", "layer_norm_backward", "rms_norm_forward", "rms_norm_backward"]


def by_loops(x, weight=None, bias=None, *, ndim=1, eps=1e-5, eps_inside=True):
    """One number after the other."""
    width = int(np.prod(x.shape[x.ndim - ndim :]))
    y = np.empty(x.shape).reshape(-1, width)
    w = np.ones(width) if weight is None else weight.reshape(-1)
    b = np.zeros(width) if bias is None else bias.reshape(-1)
    for to, row in zip(y, x.reshape(-1, width), strict=True):
        mean = sum(float(v) for v in row) / width
        var = sum((float(v) - mean) ** 2 for v in row) / width
        scale = 1 / np.sqrt(var + eps) if eps_inside else 1 / (np.sqrt(var) + eps)
        for j, v in enumerate(row):
            to[j] = (float(v) - mean) * scale * w[j] + b[j]
    return y.reshape(x.shape)


def rms_by_loops(x, weight=None, *, ndim=1, eps=2.0**-52):
    width = int(np.prod(x.shape[x.ndim - ndim :]))
    y = np.empty(x.shape).reshape(-1, width)
    w = np.ones(width) if weight is None else weight.reshape(-1)
    for to, row in zip(y, x.reshape(-1, width), strict=True):
        scale = 1 / np.sqrt(sum(float(v) ** 2 for v in row) / width + eps)
        for j, v in enumerate(row):
            to[j] = float(v) * scale * w[j]
    return y.reshape(x.shape)


def arrays(shape, ndim):
    sizes = shape[len(shape) - ndim :]
    return normal(*shape), normal(*sizes, seed=1), normal(*sizes, seed=2)


# -- values and derivatives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "ndim"), CASES)
@pytest.mark.parametrize("eps_inside", [True, False])
def test_layer_norm(shape, ndim, eps_inside):
    x, w, b = arrays(shape, ndim)
    given = {"ndim": ndim, "eps": 0.1, "eps_inside": eps_inside}
    # of one number the standard deviation is 0, and no difference of (std + eps) is taken there
    order = 2 if eps_inside or x.size > np.prod(shape[: len(shape) - ndim]) else 0
    check_operation(layer_norm, x, w, b, oracle=by_loops, order=order, dtypes=(np.float32, np.float16), **given)


@pytest.mark.parametrize("eps_inside", [True, False])
def test_layer_norm_without_weight_or_bias(eps_inside):
    x, w, b = arrays((3, 4), 1)
    for weight, bias in ((None, None), (w, None), (None, b)):
        check_operation(layer_norm, x, weight, bias, eps=0.1, eps_inside=eps_inside, oracle=by_loops)


@pytest.mark.parametrize(("shape", "ndim"), CASES)
def test_layer_norm_is_pytorchs(shape, ndim):
    functional = pytest.importorskip("torch").nn.functional
    x, w, b = arrays(shape, ndim)
    sizes = shape[len(shape) - ndim :]
    check_against_torch(layer_norm, lambda x, w, b: functional.layer_norm(x, sizes, w, b), x, w, b, ndim=ndim)
    check_against_torch(layer_norm, lambda x: functional.layer_norm(x, sizes, eps=0.3), x, ndim=ndim, eps=0.3)


@pytest.mark.parametrize(("shape", "ndim"), CASES)
def test_rms_norm_is_pytorchs(shape, ndim):
    functional = pytest.importorskip("torch").nn.functional
    x, w, _ = arrays(shape, ndim)
    sizes = shape[len(shape) - ndim :]
    check_operation(rms_norm, x, w, ndim=ndim, eps=0.1, oracle=rms_by_loops, dtypes=(np.float32, np.float16))
    check_against_torch(rms_norm, lambda x, w: functional.rms_norm(x, sizes, w), x, w, ndim=ndim)
    check_against_torch(rms_norm, lambda x: functional.rms_norm(x, sizes, eps=0.3), x, ndim=ndim, eps=0.3)


@given(data=st.data(), shape=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_any_shape(data, shape):
    ndim = data.draw(st.integers(1, len(shape)))
    eps = data.draw(st.sampled_from([1e-5, 1e-2, 1.0]))
    x, w, b = arrays(tuple(shape), ndim)
    inside = data.draw(st.booleans())
    check_operation(layer_norm, x, w, b, ndim=ndim, eps=eps, eps_inside=inside, oracle=by_loops, order=0)
    check_operation(rms_norm, x, w, ndim=ndim, eps=eps, oracle=rms_by_loops, order=0)


def test_third_order():
    x, w, b = arrays((2, 3), 1)
    check_operation(layer_norm, x, w, b, eps=0.1, eps_inside=False, order=3, tolerance=1e-5)
    check_operation(rms_norm, x, w, eps=0.1, order=3, tolerance=1e-5)


@pytest.mark.parametrize(("shape", "ndim"), EMPTY)
def test_nothing_to_normalise(shape, ndim):
    x, w, b = arrays(shape, ndim)
    for inside in (True, False):
        check_operation(layer_norm, x, w, b, ndim=ndim, eps_inside=inside, oracle=lambda x, w, b, **_: x)
    check_operation(rms_norm, x, w, ndim=ndim, oracle=lambda x, w, **_: x)


# -- numbers that are hard ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("eps_inside", [True, False])
@pytest.mark.parametrize(("mean", "std"), [(1e4, 1e-2), (-3e6, 10.0), (0.0, 1e-12), (0.0, 1e12)])
def test_large_means_lose_no_digits(mean, std, eps_inside, kernels):
    x = (mean + std * normal(50, 33)).astype(np.float32)
    dy = normal(50, 33, seed=1, dtype=np.float32)
    eps = float(std) * 1e-3 if eps_inside is False else float(std) ** 2 * 1e-3

    def f(x):
        return layer_norm(x, eps=eps, eps_inside=eps_inside)

    with use_kernels(kernels):
        y, back = flux.vjp(f, x)
        dx = back(dy)
    wanted, exact_back = flux.vjp(f, x.astype(np.float64))
    exact = exact_back(dy.astype(np.float64))
    assert y.dtype == dx.dtype == np.float32
    np.testing.assert_allclose(y, wanted, atol=2e-5)
    np.testing.assert_allclose(dx, exact, atol=2e-5 * np.abs(exact).max())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("eps_inside", [True, False])
def test_equal_numbers_give_the_bias(dtype, kernels, eps_inside):
    w, b = np.array([2, -1, 3, 1, 1], dtype), np.array([0.5, 0, -4, 1, 2], dtype)
    for value in (0, 0.1, -3.3e4):
        with use_kernels(kernels):
            y = layer_norm(np.full((2, 5), value, dtype), w, b, eps_inside=eps_inside)
        np.testing.assert_array_equal(y.data, np.stack([b, b]))


@pytest.mark.parametrize("kernels", [True, False])
def test_the_derivative_of_a_standard_deviation_of_0_is_0(kernels):
    """Then (x - m) / (s + eps) has the derivative that 1 / (s + eps) is constant in."""
    x, w, dy = np.full((2, 4), 7.0), normal(4), normal(2, 4, seed=1)
    eps = 0.5
    with use_kernels(kernels):
        f = lambda x, w, b: (layer_norm(x, w, b, eps=eps, eps_inside=False) * dy).sum()  # noqa: E731
        dx, dw, db = flux.gradient(f, x, w, np.zeros(4))
    g = dy * w
    np.testing.assert_allclose(dx, (g - g.mean(1, keepdims=True)) / eps, rtol=1e-12)
    np.testing.assert_array_equal(dw, 0)
    np.testing.assert_allclose(db, dy.sum(0), rtol=1e-12)

    def inner(x):
        return (flux.gradient(lambda t: (layer_norm(t, w, eps=eps, eps_inside=False) * dy).sum(), x) ** 2).sum()

    assert np.isfinite(flux.gradient(inner, x)).all()  # recorded, so by the rule


@pytest.mark.parametrize("kernels", [True, False])
def test_what_is_not_finite_stays_in_its_row_and_warns_nobody(kernels):
    x = normal(3, 4, dtype=np.float32)
    x[0, 2], x[2, 0] = np.nan, np.inf
    with use_kernels(kernels), warnings.catch_warnings():
        warnings.simplefilter("error")
        for f in (layer_norm, rms_norm, lambda x: layer_norm(x, eps_inside=False)):
            y, back = flux.vjp(f, x)
            dx = back(np.ones_like(x))
            assert np.isnan(y[[0, 2]]).any(axis=1).all()
            assert np.isfinite(y[1]).all()
            assert np.isnan(dx[[0, 2]]).any(axis=1).all()
            assert np.isfinite(dx[1]).all()


def test_float16_is_computed_in_float32():
    x = np.full((1, 4096), 300.0, np.float16)  # the sum of squares would overflow
    x[0, ::2] = 200
    y = layer_norm(x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data[0, :2], [-1, 1], rtol=1e-3)
    np.testing.assert_allclose(rms_norm(x).data[0, :2], np.array([200, 300]) / np.sqrt(65000), rtol=1e-3)


def test_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, w, b = (a.astype(bfloat16) for a in arrays((3, 40), 1))
    for f, inputs in ((layer_norm, (x, w, b)), (rms_norm, (x, w))):
        y = f(*inputs)
        assert y.dtype == bfloat16
        wanted = f(*(a.astype(np.float32) for a in inputs))
        np.testing.assert_allclose(y.data.astype(np.float32), wanted.data, atol=0.05)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", short_dtypes(), ids=str)
def test_float32_weights_of_16_bit_inputs(dtype, kernels):
    """Computed in float32 and rounded at the end: y and dx; the gradients of the weights are not rounded at all."""
    x, w, b = (a.astype(np.float32) for a in arrays((19, 33), 1))
    short, dy = x.astype(dtype), normal(19, 33, seed=3).astype(dtype)
    for f, weights in ((layer_norm, (w, b)), (rms_norm, (w,)), (lambda *a: layer_norm(*a, eps_inside=False), (w, b))):
        with use_kernels(kernels):
            y, back = flux.vjp(f, short, *weights)
            dx, *rest = back(dy)
            exact, exact_back = flux.vjp(f, short.astype(np.float32), *weights)
            dx_exact, *rest_exact = exact_back(dy.astype(np.float32))
        assert y.dtype == dx.dtype == dtype
        assert_rounded(y, exact)
        assert_rounded(dx, dx_exact)
        for g, wanted in zip(rest, rest_exact, strict=True):
            assert g.dtype == np.float32
            np.testing.assert_allclose(g, wanted, rtol=1e-5, atol=1e-5)

    def second(x, w):
        def inner(x, w):
            return ((flux.gradient(lambda t: (layer_norm(t, w, b) ** 2).sum(), x) * 0.1) ** 2).sum()

        return flux.gradient(inner, x, w)

    got, wanted = second(short, w), second(short.astype(np.float64), w.astype(np.float64))
    assert [g.dtype for g in got] == [dtype, np.float32]
    near = 0.02 if dtype == np.float16 else 0.15
    for g, exact in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g.astype(np.float64), exact, atol=near * np.abs(exact).max())


def test_weights_of_both_widths_beside_16_bit_inputs():
    x, w, b = (a.astype(np.float16) for a in arrays((3, 5), 1))
    both = flux.gradient(lambda x, w, b: (layer_norm(x, w, b) ** 2).sum(), x, w, b.astype(np.float32))
    assert [g.dtype for g in both] == [np.float16, np.float16, np.float32]
    assert layer_norm(x, None, b.astype(np.float32)).dtype == np.float32, "a bias alone is promoted with x"
    assert layer_norm(x, w.astype(np.float64)).dtype == np.float64


def test_the_default_eps_of_rms_norm_is_pytorchs():
    torch = pytest.importorskip("torch")
    for dtype in (np.float16, np.float32, np.float64):
        x = np.full((1, 4), 1e-4 if dtype != np.float64 else 1e-8, dtype)
        wanted = torch.nn.functional.rms_norm(torch.tensor(x), (4,)).numpy()
        np.testing.assert_allclose(rms_norm(x).data, wanted, rtol=2e-3 if dtype == np.float16 else 1e-6)


def test_dtypes_are_promoted_as_numpy_does():
    assert layer_norm(np.arange(6).reshape(2, 3)).dtype == np.float64
    assert rms_norm([[1, 2, 3]]).dtype == np.float64
    assert layer_norm(np.zeros((2, 3), np.float32), np.ones(3)).dtype == np.float64
    assert layer_norm(np.zeros((2, 3), np.float32), np.ones(3, np.float16)).dtype == np.float32


def test_errors():
    x = np.zeros((2, 4, 3))
    with pytest.raises(ValueError, match=r"layer_norm: the weight has shape \(4,\), expected \(3,\), the sizes of the last 1"):
        layer_norm(x, np.ones(4))
    with pytest.raises(ValueError, match=r"layer_norm: the bias has shape \(3,\), expected \(4, 3\).*input shape \(2, 4, 3\)"):
        layer_norm(x, np.ones((4, 3)), np.ones(3), ndim=2)
    with pytest.raises(ValueError, match=r"rms_norm: the weight has shape \(2,\)"):
        rms_norm(x, np.ones(2))
    for ndim in (0, 4):
        with pytest.raises(ValueError, match=rf"rms_norm: the input .* has 3 axes, so ndim is from 1 to 3, got {ndim}"):
            rms_norm(x, ndim=ndim)


# -- kernels -----------------------------------------------------------------------------------------------------------


def launches():
    return [getattr(layer_norms, name).launches for name in NAMES]


def run_all(x, w, b, dy):
    """Values and gradients of both, with every combination of parameters that a kernel takes."""
    found = []
    for inside in (True, False):
        for inputs in ((x, w, b), (x, w), (x,)):
            y, back = flux.vjp(lambda *a, inside=inside: layer_norm(*a, eps_inside=inside), *inputs)
            found += [y, back(dy)] if len(inputs) == 1 else [y, *back(dy)]
    y, back = flux.vjp(rms_norm, x, w)
    found += [y, *back(dy)]
    y, back = flux.vjp(rms_norm, x)
    return [*found, y, back(dy)]


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (40, 33), (1, 300), (600, 3)])
def test_kernels_agree_with_the_references(shape, dtype):
    x, w, b = (a.astype(dtype) for a in arrays(shape, 1))
    dy = normal(*shape, seed=3).astype(dtype)
    before = launches()
    got = run_all(x, w, b, dy)
    assert all(now > then for now, then in zip(launches(), before, strict=True))
    with use_kernels(False):
        wanted = run_all(x, w, b, dy)
    near = {np.float16: 2e-2, np.float32: 1e-4, np.float64: 1e-11}[dtype]
    for y, z in zip(got, wanted, strict=True):
        assert y.dtype == z.dtype == dtype
        np.testing.assert_allclose(y, z, rtol=near, atol=near * max(1, np.abs(z).max()))


@needs_compiler
def test_what_the_kernels_decline():
    x, w, b = (a.astype(np.float32) for a in arrays((4, 6), 1))
    before = launches()
    layer_norm(x[:0], w, b)
    layer_norm(x, None, b)
    rms_norm(x[:0], w)
    assert launches() == before
    flux.gradient(lambda b: layer_norm(x, None, b).sum(), b)
    assert launches() == before


@needs_compiler
@pytest.mark.parametrize("level", [0, 1e38])
def test_the_ends_of_rows(level):
    """What is beyond a row, zeros, is no part of a sum, however far from them the row is."""

    def results(weight, bias, how):
        f = {name: how(getattr(layer_norms, name)) for name in NAMES}
        wanted = (True, weight is not None)
        y, shift, s = f[NAMES[0]](x, weight, bias, 1, 1e-5, True)
        found = [y, *f[NAMES[1]](dy, x, weight, shift, s, 1, 1e-5, True, (*wanted, weight is not None))]
        if level:  # too large to be squared
            return found
        y, scale = f[NAMES[2]](x, weight, 1, 1e-3)
        return [*found, y, *f[NAMES[3]](dy, x, weight, scale, 1, wanted)]

    for width in [*range(2, 18), 33]:
        x, dy = level + normal(17, width, dtype=np.float32), normal(17, width, seed=1, dtype=np.float32)
        for weights in ((None, None), (1 + normal(width, seed=2, dtype=np.float32), normal(width, seed=3, dtype=np.float32))):
            wanted = results(*weights, lambda f: f.reference)
            for a, b in zip(results(*weights, lambda f: f), wanted, strict=True):
                assert (a is None) == (b is None)
                if b is not None:
                    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * max(abs(b).max(), 1e-3))


@needs_compiler
def test_the_kernels_take_any_layout():
    """A patch embedding is normalised as it comes: transposed. So is its gradient."""
    x, w, b = (a.astype(np.float32) for a in arrays((4, 6), 1))
    for layout in ("Fortran-ordered", "strided"):
        before = sum(launches())
        flux.gradient(lambda x, w, b: (layer_norm(x, w, b).T * 2).sum(), laid_out(x, layout), w, b)
        flux.gradient(lambda x, w: (rms_norm(x, w).T * 2).sum(), laid_out(x, layout), w)
        assert sum(launches()) == before + 4


def test_sums_are_cut_by_the_shape_alone():
    assert chunks(1) == (1, 16)
    assert chunks(17) == (2, 16)
    assert chunks(8192) == (512, 16)
    assert chunks(10**6) == (512, 1954)


def test_the_same_bits_each_time():
    x, w, b = (a.astype(np.float32) for a in arrays((300, 65), 1))
    dy = normal(300, 65, seed=3, dtype=np.float32)
    for y, z in zip(run_all(x, w, b, dy), run_all(x, w, b, dy), strict=True):
        np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    x, w, b = (a.astype(np.float32) for a in arrays((19, 70), 1))
    dy = normal(19, 70, seed=3, dtype=np.float32)
    with use_kernels(False):
        wanted = run_all(x, w, b, dy)
    with emulated(**options) as count:
        got = run_all(x, w, b, dy)
    assert count.launches == 16
    for y, z in zip(got, wanted, strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    x, w, b = (a.astype(np.float32) for a in arrays((19, 70), 1))
    with emulated(sanitize=sanitize):
        run_all(x, w, b, normal(19, 70, seed=3, dtype=np.float32))
