"""Normalisation over channels against PyTorch, nested loops and finite differences."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import channel_norms as ops
from minitorch_flux.ops.channel_norms import TILE, batch_norm, fixed_norm, group_norm
from minitorch_flux.ops.nonlinearities import ACTIVATIONS, gelu, identity, relu, tanh
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

SHAPES = [(4, 6), (5, TILE + 3), (3, 4, 5), (2, 6, 3, 2), (2, 3, 2, 1, 2), (1, 3, 7), (2, 1, 1, 3), (9, 2, 1, 1)]
EPS = 1e-3


def torch_activations():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    return [(identity, lambda v: v), (tanh, torch.tanh), (gelu, lambda v: F.gelu(v, approximate="tanh"))]


def loops(x, weight, bias, groups, over_batch, eps=EPS):
    """Normalisation one number at a time, in float64: ``(y, means, variances)`` by sample and group."""
    x = np.asarray(x, np.float64)
    n, channels = x.shape[:2]
    size = channels // groups
    y, means, variances = np.empty_like(x), np.empty((n, groups)), np.empty((n, groups))
    for i in range(n):
        for g in range(groups):
            mine = [x[j, c] for j in (range(n) if over_batch else [i]) for c in range(g * size, (g + 1) * size)]
            values = [float(v) for a in mine for v in np.ravel(a)]
            m = sum(values) / len(values)
            var = sum((v - m) ** 2 for v in values) / len(values)
            means[i, g], variances[i, g] = m, var
            for c in range(g * size, (g + 1) * size):
                y[i, c] = weight[c] * (x[i, c] - m) / (var + eps) ** 0.5 + bias[c]
    return y, means, variances


# -- values and derivatives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", range(3))
def test_batch_norm(shape, k):
    act, torch_act = torch_activations()[k]
    import torch.nn.functional as F

    x, w, b = normal(*shape), normal(shape[1], seed=1), normal(shape[1], seed=2)
    f = lambda x, w, b: batch_norm(x, w, b, eps=EPS, activation=act)  # noqa: E731
    check_operation(f, x, w, b, tolerance32=1e-4)
    check_operation(lambda x: batch_norm(x, None, None, eps=EPS, activation=act), x, tolerance32=1e-4, layouts=False)
    check_against_torch(f, lambda x, w, b: torch_act(F.batch_norm(x, None, None, w, b, True, 0.0, EPS)), x, w, b)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", range(3))
def test_fixed_norm(shape, k):
    act, torch_act = torch_activations()[k]
    import torch
    import torch.nn.functional as F

    x, w, b, mean, root = (normal(*s, seed=i) for i, s in enumerate([shape, *[shape[1:2]] * 4]))
    f = lambda x, w, b, m, r: fixed_norm(x, w, b, m, r * r + 0.5, eps=EPS, activation=act)  # noqa: E731
    check_operation(f, x, w, b, mean, root, tolerance32=1e-4)
    check_operation(lambda x, m: fixed_norm(x, None, None, m, np.ones(shape[1]), eps=EPS, activation=act), x, mean,
                    tolerance32=1e-4, layouts=False, dtypes=())
    given = torch.tensor(mean), torch.tensor(root**2 + 0.5)
    check_against_torch(
        lambda x, w, b: fixed_norm(x, w, b, given[0].numpy(), given[1].numpy(), eps=EPS, activation=act),
        lambda x, w, b: torch_act(F.batch_norm(x, *given, w, b, False, 0.0, EPS)), x, w, b,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) > 2])
@pytest.mark.parametrize("k", range(3))
def test_group_norm(shape, k):
    act, torch_act = torch_activations()[k]
    import torch.nn.functional as F

    x, w, b = normal(*shape), normal(shape[1], seed=1), normal(shape[1], seed=2)
    for groups in [g for g in (1, 2, shape[1]) if shape[1] % g == 0 and x.size > shape[0] * g]:
        f = lambda x, w, b: group_norm(x, w, b, groups=groups, eps=EPS, activation=act)  # noqa: B023, E731
        check_operation(f, x, w, b, tolerance32=1e-4)
        check_operation(lambda x: group_norm(x, None, None, groups=groups, eps=EPS), x,  # noqa: B023
                        tolerance32=1e-4, layouts=False, dtypes=())
        check_against_torch(f, lambda x, w, b: torch_act(F.group_norm(x, groups, w, b, EPS)), x, w, b)  # noqa: B023


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 4), max_size=3))
def test_any_shape_against_loops(n, groups, size, sizes):
    shape = (n, groups * size, *sizes)
    x, w, b = normal(*shape), normal(shape[1], seed=1), normal(shape[1], seed=2)
    for kernels in (True, False):
        with use_kernels(kernels):
            y, stats = ops.batch_norm_forward(x, w, b, EPS)
            wanted, means, variances = loops(x, w, b, shape[1], True)
            np.testing.assert_allclose(y, wanted, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(stats[0] + stats[1], means[0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(stats[2], variances[0], rtol=1e-9, atol=1e-12)
            y, stats = ops.group_norm_forward(x, w, b, groups, EPS)
            wanted, means, variances = loops(x, w, b, groups, False)
            np.testing.assert_allclose(y, wanted, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(stats[0] + stats[1], means.ravel(), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(stats[2], variances.ravel(), rtol=1e-9, atol=1e-12)


def test_a_weight_or_a_bias_may_be_missing():
    x, w, zero, one = normal(3, 4, 5), normal(4, seed=1), np.zeros(4), np.ones(4)
    for f in (lambda *a: batch_norm(*a, eps=EPS), lambda *a: group_norm(*a, groups=2, eps=EPS),
              lambda *a: fixed_norm(*a, zero, one, eps=EPS)):  # fmt: skip
        check_operation(lambda x, w: f(x, w, None), x, w, oracle=lambda x, w: f(x, w, zero).data, dtypes=())  # noqa: B023
        check_operation(lambda x, b: f(x, None, b), x, w, oracle=lambda x, b: f(x, one, b).data, dtypes=())  # noqa: B023


def test_third_order():
    x, w, b = normal(3, 2, 2), normal(2, seed=1), normal(2, seed=2)
    check_operation(lambda x, w, b: batch_norm(x, w, b, eps=0.1, activation=tanh), x, w, b, order=3, tolerance=1e-5)
    check_operation(lambda x, w, b: group_norm(x, w, b, groups=1, eps=0.1), x, w, b, order=3, tolerance=1e-5)


@pytest.mark.parametrize("name", ["leakyrelu", "swish", pytest.param("all the others", marks=pytest.mark.slow)])
def test_fused_activations(name):
    """The op with an activation is the op without, and then the activation; gradients, too, by kernel and reference."""
    names = [name] if name in ACTIVATIONS else sorted(ACTIVATIONS.keys() - {"leakyrelu", "swish"})
    x, w, b = normal(4, 6, 3, 5), 2 * normal(6, seed=1), normal(6, seed=2)
    zero, one = np.zeros(6), np.ones(6)
    forms = {
        "batch": lambda x, w, b, **k: batch_norm(x, w, b, eps=EPS, **k),
        "group": lambda x, w, b, **k: group_norm(x, w, b, groups=3, eps=EPS, **k),
        "fixed": lambda x, w, b, **k: fixed_norm(x, w, b, zero, one, eps=EPS, **k),
        "columns": lambda x, w, b, **k: batch_norm(x[:, :, 0, 0], w, b, eps=EPS, **k),
        "fixed columns": lambda x, w, b, **k: fixed_norm(x[:, :, 0, 0], w, b, zero, one, eps=EPS, **k),
    }
    for act, (label, f) in itertools.product([ACTIVATIONS[n] for n in names], forms.items()):
        wanted, back = flux.vjp(lambda x, w, b: act(f(x, w, b)), x, w, b)  # noqa: B023
        dy = normal(*wanted.shape, seed=3)
        for kernels in (True, False):
            with use_kernels(kernels):
                y, pull = flux.vjp(lambda x, w, b: f(x, w, b, activation=act), x, w, b)  # noqa: B023
                np.testing.assert_allclose(y, wanted, rtol=1e-9, atol=1e-9, err_msg=f"{label} {act}")
                for g, h in zip(pull(dy), back(dy), strict=True):
                    np.testing.assert_allclose(g, h, rtol=1e-8, atol=1e-8, err_msg=f"{label} {act}")


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32, 3, 9, 11), (200, 70), (2, 4, 40)])
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("outlier", [False, True])
def test_a_small_spread_beside_a_large_mean_loses_no_digits(shape, kernels, outlier):
    """Mean 1e4, standard deviation 1e-2, in float32, against the same numbers in float64."""
    x = (1e4 + 1e-2 * normal(*shape)).astype(np.float32)
    if outlier:
        x[0] = -3e4  # a sample from which no spread can be guessed
    w, b, dy = normal(shape[1], seed=1), normal(shape[1], seed=2), normal(*shape, seed=3)
    low = [a.astype(np.float32) for a in (w, b, dy)]
    cases = [lambda x, w, b: batch_norm(x, w, b, eps=1e-12)]
    if len(shape) > 2:
        cases.append(lambda x, w, b: group_norm(x, w, b, groups=1, eps=1e-12))
    for f in cases:
        with use_kernels(kernels):
            y, back = flux.vjp(f, x, *low[:2])
            grads = back(low[2])
        high = [a.astype(np.float64) for a in (x, *low)]
        with use_kernels(False):
            wanted, pull = flux.vjp(f, *high[:3])
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, wanted, rtol=2e-4, atol=2e-4)
        for g, h in zip(grads, pull(high[3]), strict=True):
            np.testing.assert_allclose(g, h, rtol=2e-4, atol=2e-4 * np.abs(h).max())


@pytest.mark.parametrize("kernels", [True, False])
def test_constant_channels_give_the_bias(kernels):
    x = np.broadcast_to(np.array([0.1, -7e8, 3e-30, 12345.678], np.float32)[:, None], (5, 4, 33)).copy()
    with use_kernels(kernels):
        for f in (lambda x, w, b: batch_norm(x, w, b, eps=1e-5), lambda x, w, b: group_norm(x, w, b, groups=4, eps=1e-5),
                  lambda x, w, b: batch_norm(x[:, :, 0], w, b, eps=1e-5)):
            y = f(x, np.ones(4, np.float32), np.arange(4, dtype=np.float32)).data
            for c in range(4):
                np.testing.assert_allclose(y[:, c], c, atol=1e-3)


@pytest.mark.parametrize("shape", [(6, 4, 5, 5), (50, 6)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_floats_are_added_up_in_float32(shape, dtype):
    dtype = np.dtype(np.float16) if dtype == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    near = 2e-3 if dtype == np.float16 else 2e-2
    w, b, dy = (normal(*s, seed=i).astype(dtype) for i, s in enumerate([shape[1:2], shape[1:2], shape]))
    x = (normal(*shape, seed=4) + 40).astype(dtype)
    for f in (lambda x, w, b: batch_norm(x, w, b, eps=EPS, activation=relu),
              lambda x, w, b: fixed_norm(x, w, b, w * 0 + 40, w * 0 + 1, eps=EPS),
              *([lambda x, w, b: group_norm(x, w, b, groups=2, eps=EPS)] if len(shape) > 2 else [])):
        wanted, pull = flux.vjp(f, *(a.astype(np.float32) for a in (x, w, b)))
        for kernels in (True, False):
            with use_kernels(kernels):
                y, back = flux.vjp(f, x, w, b)
                assert y.dtype == dtype
                np.testing.assert_allclose(y.astype(np.float32), wanted, rtol=near, atol=2 * near)
                for g, h in zip(back(dy), pull(dy.astype(np.float32)), strict=True):
                    assert g.dtype == dtype
                    np.testing.assert_allclose(g.astype(np.float32), h, rtol=near, atol=near * max(1, np.abs(h).max()))


# -- what is not finite, what is empty ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_channel_or_group(kernels, bad):
    x = normal(4, 6, 5, dtype=np.float32)
    x[1, 2, 3] = bad
    w, b = np.ones(6, np.float32), np.zeros(6, np.float32)
    with use_kernels(kernels):
        y = batch_norm(x, w, b, eps=EPS).data
        assert np.isnan(y[:, 2]).all()
        assert np.isfinite(np.delete(y, 2, axis=1)).all()
        y = batch_norm(x[:, :, 3], w, b, eps=EPS).data
        assert np.isnan(y[:, 2]).all()
        assert np.isfinite(np.delete(y, 2, axis=1)).all()
        y = group_norm(x, w, b, groups=3, eps=EPS).data
        assert np.isnan(y[1, 2:4]).all()
        y[1, 2:4] = 0
        assert np.isfinite(y).all()
        y = fixed_norm(x, w, b, b, w, eps=0.0, activation=relu).data
        assert np.array_equal(y[1, 2, 3], bad, equal_nan=True)
        assert np.isfinite(y).sum() == y.size - 1


@pytest.mark.parametrize("kernels", [True, False])
def test_with_fixed_statistics_an_infinite_gradient_stays_where_it_is(kernels):
    for shape in ((3, 2, 4), (3, 2)):
        x, w = normal(*shape, dtype=np.float32), np.ones(2, np.float32)
        dy = np.ones(shape, np.float32)
        dy[1, 1] = np.inf
        with use_kernels(kernels):
            _, back = flux.vjp(lambda x: fixed_norm(x, w, w, w, w, eps=EPS), x)  # noqa: B023
            dx = back(dy)
        assert (np.isinf(dx) == np.isinf(dy)).all()


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 0), (0, 3), (2, 0, 4), (0, 4, 2, 2)])
def test_empty_arrays(shape):
    x, w = np.zeros(shape, np.float32), np.ones(shape[1], np.float32)
    for f in (lambda x, w: batch_norm(x, w, w, eps=EPS), lambda x, w: fixed_norm(x, w, w, w, w, eps=EPS),
              lambda x, w: group_norm(x, w, w, groups=max(shape[1], 1), eps=EPS)):
        y, back = flux.vjp(f, x, w)
        dx, dw = back(y)
        assert y.shape == dx.shape == shape
        assert dw.tolist() == [0] * shape[1]
        second = flux.gradient(lambda x, f=f: (flux.gradient(lambda z: (f(z, w) ** 2).sum(), x) ** 2).sum(), x)
        assert second.shape == shape


# -- 16-bit floats -----------------------------------------------------------------------------------------------------

FORMS = [batch_norm, lambda *a, **k: group_norm(*a, groups=2, **k), lambda x, w, b, **k: fixed_norm(x, w, b, w, b * b, **k)]


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", short_dtypes(), ids=str)
def test_float32_weights_of_16_bit_inputs(dtype, form, kernels):
    """Computed in float32 and rounded at the end: y and dx; the gradients of the weights are not rounded at all."""
    for shape in ((6, 4, 9), (6, 4)):
        x, w, b = (normal(*s, seed=i, dtype=np.float32) for i, s in enumerate((shape, shape[1:2], shape[1:2])))
        short, dy = x.astype(dtype), normal(*shape, seed=3).astype(dtype)
        f = lambda *a: form(*a, eps=EPS, activation=gelu)  # noqa: E731
        with use_kernels(kernels):
            (y, back), (exact, exact_back) = flux.vjp(f, short, w, b), flux.vjp(f, short.astype(np.float32), w, b)
            (dx, *rest), (dx_exact, *rest_exact) = back(dy), exact_back(dy.astype(np.float32))
        assert y.dtype == dx.dtype == dtype
        assert_rounded(y, exact)
        assert_rounded(dx, dx_exact)
        for g, wanted in zip(rest, rest_exact, strict=True):
            assert g.dtype == np.float32
            np.testing.assert_allclose(g, wanted, rtol=1e-5, atol=1e-5)

        def second(x, w, b, f=f):
            inner = lambda x, w: ((flux.gradient(lambda t: (f(t, w, b) ** 2).sum(), x) * 0.1) ** 2).sum()  # noqa: E731
            return flux.gradient(inner, x, w)

        got, exact = second(short, w, b), second(*(a.astype(np.float64) for a in (short, w, b)))
        assert [g.dtype for g in got] == [dtype, np.float32]
        for g, wanted in zip(got, exact, strict=True):
            near = 0.02 if dtype == np.float16 else 0.15
            np.testing.assert_allclose(g.astype(np.float64), wanted, atol=near * np.abs(wanted).max())


def test_given_statistics_keep_their_dtype():
    x, w = normal(4, 3, dtype=np.float16), np.ones(3, np.float32)
    grads = flux.gradient(lambda *a: (fixed_norm(*a, eps=EPS) ** 2).sum(), x, w.astype(np.float16), w, w, w)
    assert [g.dtype.name for g in grads] == ["float16", "float16", "float32", "float32", "float32"]


# -- running statistics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [batch_norm, lambda x, w, b, **k: group_norm(x, w, b, groups=2, **k)])
def test_statistics_are_observed_once_in_a_forward_pass(f):
    seen = []
    x, w = normal(5, 4, 3), np.ones(4)
    g = lambda x: (f(x, w, w, eps=EPS, observe=seen.append) ** 3).sum()  # noqa: E731
    flux.gradient(lambda x: (flux.gradient(g, x) ** 2).sum(), x)
    assert len(seen) == 1
    rows = seen[0].shape[1]
    assert seen[0].shape == (4, 4 if f is batch_norm else 10)
    np.testing.assert_allclose(seen[0][3], 1 / np.sqrt(seen[0][2] + EPS))
    assert rows == seen[0].size // 4


# -- kernels -----------------------------------------------------------------------------------------------------------


@needs_compiler
def test_kernels_run():
    w = np.ones(6, np.float32)
    for shape in ((4, 6), (4, 6, 5), (4, 6, 3, 3)):
        for layout in (None, "Fortran-ordered", "strided", "reversed"):
            x = normal(*shape, dtype=np.float32)
            x = laid_out(x, layout) if layout else x
            calls = [(ops.batch_norm_forward, (x, w, w, EPS, relu)),
                     (ops.batch_norm_backward, (x, x, w, w, np.ones((4, 6), np.float32), relu, (True, True, True))),
                     (ops.batch_norm_backward, (x, x, w, w, np.ones((4, 6), np.float32), relu, (False, True, False), True)),
                     (ops.fixed_norm_forward, (x, w, w, np.ones((4, 6), np.float32), relu)),
                     (ops.group_norm_forward, (x, w, w, 2, EPS, relu)),
                     (ops.group_norm_backward, (x, x, w, w, np.ones((4, 8), np.float32), 2, relu, (True, True, True))),
                     (ops.group_norm_backward, (x, x, w, w, np.ones((4, 8), np.float32), 2, relu, (False, False, True))),
                     (ops.group_norm_backward, (x, x, w, w, np.ones((4, 8), np.float32), 2, relu, (True, False, False)))]
            for function, arguments in calls:
                before = function.launches
                got, wanted = function(*arguments), function.reference(*arguments)
                if function in (ops.batch_norm_forward, ops.group_norm_forward):
                    got, wanted = ((y, mean + rest, var, rstd) for y, (mean, rest, var, rstd) in (got, wanted))
                assert function.launches == before + 1, function
                for a, b in zip(got, wanted, strict=True) if isinstance(got, tuple) else [(got, wanted)]:
                    assert (a is None) == (b is None)
                    if a is not None:
                        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4, err_msg=function.name)
    before = ops.batch_norm_forward.launches
    ops.batch_norm_forward(np.ones((2, 6), np.float32)[:0], w, w, EPS)
    ops.batch_norm_forward(np.ones((2, 6)), w, w, EPS)  # two dtypes
    assert ops.batch_norm_forward.launches == before


def emulated_calls(shape, act=relu):
    """Every kernel of the file, beside its reference."""
    x, dy, w, b = [normal(*s, seed=i, dtype=np.float32) for i, s in enumerate([shape, shape, shape[1:2], shape[1:2]])]
    for forward, backward, more in ((ops.batch_norm_forward, ops.batch_norm_backward, ()),
                                    (ops.group_norm_forward, ops.group_norm_backward, (shape[1] // 2,))):  # fmt: skip
        y, stats = forward(x, w, b, *more, EPS, act)
        wanted, _ = forward.reference(x, w, b, *more, EPS, act)
        np.testing.assert_allclose(y, wanted, atol=1e-5)
        got = backward(dy, x, w, b, stats, *more, act, (True, True, True))
        wanted = backward.reference(dy, x, w, b, stats, *more, act, (True, True, True))
        for a, c in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-4)
    stats = np.stack([b, b * 0, w * w, 1 / np.abs(w)])
    fixed = ops.fixed_norm_forward
    np.testing.assert_allclose(fixed(x, w, b, stats, act), fixed.reference(x, w, b, stats, act), rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    for shape in ((9, 4, 5), (5, TILE + 2)):
        with emulated(**options) as count:
            emulated_calls(shape)
        assert count.launches == 6


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    for shape in ((3, 4, 5), (5, TILE + 2)):
        with emulated(sanitize=sanitize):
            emulated_calls(shape)


def test_the_same_call_gives_the_same_bits():
    x = normal(16, 33, 12, 12, dtype=np.float32)
    w = normal(33, dtype=np.float32)
    run = lambda: flux.vjp(lambda x, w: batch_norm(x, w, w, eps=EPS, activation=relu), x, w)  # noqa: E731
    (y, back), (z, again) = run(), run()
    assert y.tobytes() == z.tobytes()
    for g, h in zip(back(x), again(x), strict=True):
        assert g.tobytes() == h.tobytes()
