"""Sliding pools against nested loops and PyTorch: ties, NaN, padding, every geometry; kernels and references."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.geometry import window
from minitorch_flux.ops.pooling import (
    max_pool_backward,
    max_pool_forward,
    max_pool_gather,
    max_pool_values,
    maxpool,
    mean_pool_backward,
    mean_pool_forward,
    meanpool,
)
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.ops.pooling_cases import CASES, DILATED, collected, windows
from tests.oracles import apart, check_against_torch, check_operation, needs_compiler, normal

BFLOAT16 = pytest.importorskip("ml_dtypes").bfloat16


def slow_maxpool(x, k, **options):
    def largest(inside):
        return np.max([x[(slice(None), slice(None), *at)] for at in inside], axis=0)

    return collected(x, ((p, largest(inside)) for p, inside, _ in windows(x, k, **options)))


def slow_meanpool(x, k, count_include_pad=True, **options):
    def total(inside):
        return sum((x[(slice(None), slice(None), *at)] for at in inside), np.zeros(x.shape[:2]))

    return collected(x, (
        (p, total(inside) / max(counted if count_include_pad else len(inside), 1))
        for p, inside, counted in windows(x, k, **options)
    ))


@pytest.mark.parametrize("case", [*CASES, *DILATED])
def test_maxpool(case):
    shape, k, options = (CASES | DILATED)[case]
    check_operation(maxpool, apart(*shape), oracle=slow_maxpool if shape[0] else None, k=k, **options)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("case", [*CASES, *DILATED])
def test_meanpool(case, count_include_pad):
    shape, k, options = (CASES | DILATED)[case]
    check_operation(meanpool, normal(*shape), oracle=slow_meanpool if shape[0] else None, k=k,
                    count_include_pad=count_include_pad, **options)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("k", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1)])
def test_against_torch(k, stride, pad, ceil_mode):
    F = pytest.importorskip("torch").nn.functional
    x = np.round(normal(2, 3, 9, 10), 1)  # with ties
    options = dict(stride=stride, pad=pad, ceil_mode=ceil_mode)
    check_against_torch(
        lambda x: maxpool(x, k, **options), lambda x: F.max_pool2d(x, k, stride, pad, ceil_mode=ceil_mode), x
    )
    for counted in (True, False):
        check_against_torch(
            lambda x: meanpool(x, k, count_include_pad=counted, **options),  # noqa: B023
            lambda x: F.avg_pool2d(x, k, stride, pad, ceil_mode, counted),  # noqa: B023
            x,
        )


@pytest.mark.parametrize(("shape", "k", "stride", "pad"), [((2, 3, 2, 3), 3, 2, 0), ((1, 2, 2, 1), 4, 3, 1)])
def test_ceil_mode_where_no_window_fits_whole(shape, k, stride, pad):
    F = pytest.importorskip("torch").nn.functional
    x, options = normal(*shape), {"stride": stride, "pad": pad, "ceil_mode": True}
    check_against_torch(
        lambda x: maxpool(x, k, **options), lambda x: F.max_pool2d(x, k, stride, pad, ceil_mode=True), x
    )
    for counted in (True, False):
        check_against_torch(
            lambda x: meanpool(x, k, count_include_pad=counted, **options),  # noqa: B023
            lambda x: F.avg_pool2d(x, k, stride, pad, True, counted),  # noqa: B023
            x,
        )


@given(
    st.integers(1, 3), st.integers(1, 2), st.integers(1, 8), st.integers(1, 40), st.integers(1, 3), st.sampled_from([1, 2, 3]),
    st.integers(1, 3), st.sampled_from([1, 2, 3]), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2), st.booleans(),
    st.sampled_from([np.float32, np.float64, np.float16, BFLOAT16]),
)
def test_kernels_equal_references(n, c, h, w, kh, kw, sh, sw, dilation, lo, hi, ceil_mode, dtype):
    box = window("w", (kh, kw), (sh, sw), ((lo, hi), (hi, lo)), dilation, ceil_mode=ceil_mode)
    missing = [span - i - lo - hi for i, span in zip((h, w), box.span, strict=True)]
    assume(all(n < (s if ceil_mode else 1) for n, s in zip(missing, (sh, sw), strict=True)))
    x = np.round(normal(n, c, h, w)).astype(dtype)  # many ties
    functions = max_pool_forward, max_pool_backward, mean_pool_forward, mean_pool_backward
    before = [f.launches for f in functions]
    y, arg = max_pool_forward(x, box)
    dy = normal(*y.shape, seed=1).astype(dtype)

    def all_of_them():
        return (*max_pool_forward(x, box), max_pool_values(x, box), max_pool_backward(dy, arg, box, (h, w)),
                mean_pool_forward(x, box, True), mean_pool_forward(x, box, False), mean_pool_backward(dy, box, False, (h, w)))

    got = all_of_them()
    assert [f.launches - b for f, b in zip(functions, before, strict=True)] == [2, 1, 2, 1]
    with use_kernels(False):
        wanted = all_of_them()
    tolerance = {np.float32: 2e-6, np.float64: 1e-14, np.float16: 1e-3, BFLOAT16: 8e-3}[dtype]
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        a, b = (v.astype(np.float64) if v.dtype.itemsize == 2 else v for v in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    for shape, k, options in [*(CASES[c] for c in ("2x2", "overlapping", "3-d", "ceil and pad")), DILATED["dilation"]]:
        box = window("w", k, **({"stride": k} | options))
        x = np.round(normal(*shape, dtype=np.float32), 1)

        def all_of_them(x=x, box=box):
            y, arg = max_pool_forward(x, box)
            return (y, arg, max_pool_values(x, box), max_pool_backward(y, arg, box, x.shape[2:]),
                    mean_pool_forward(x, box, False), mean_pool_backward(y, box, True, x.shape[2:]))

        with use_kernels(False):
            wanted = all_of_them()
        with emulated(**how) as emulation:
            got = all_of_them()
        assert emulation.launches == 5
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@needs_compiler
def test_places_are_looked_for_only_where_a_gradient_may_ask_for_them():
    x = normal(2, 3, 6, 8)
    x[0, 0, 1, 1] = np.nan
    before = max_pool_forward.launches, max_pool_values.launches
    y = maxpool(x, (2, 2)).data
    assert (max_pool_forward.launches, max_pool_values.launches) == (before[0], before[1] + 1)
    z, _ = flux.vjp(lambda x: maxpool(x, (2, 2)), x)
    assert (max_pool_forward.launches, max_pool_values.launches) == (before[0] + 1, before[1] + 1)
    np.testing.assert_array_equal(y, z)


# -- ties, NaN, infinities, padding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [True, False])
def test_the_gradient_goes_to_the_first_maximum(kernels):
    x = flux.tensor(np.ones((1, 1, 3, 20)), requires_grad=True)
    with use_kernels(kernels):
        maxpool(x, (3, 3), stride=(3, 3)).sum().backward()
    assert x.grad.sum() == 6
    np.testing.assert_array_equal(np.argwhere(x.grad[0, 0])[:, 0], 0)
    np.testing.assert_array_equal(np.argwhere(x.grad[0, 0])[:, 1], [0, 3, 6, 9, 12, 15])


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_the_maximum_and_the_first_one_counts(kernels, dtype):
    x = np.zeros((1, 1, 2, 40), dtype)
    x[0, 0, 0, 1], x[0, 0, 1, 0], x[0, 0, 1, 6] = np.nan, np.nan, np.nan
    x[0, 0, 0, 6], x[0, 0, 1, 7] = 5, 7
    with use_kernels(kernels):
        y, arg = max_pool_forward(x, window("w", (2, 2), 2))
    assert np.isnan(y[0, 0, 0]).nonzero()[0].tolist() == [0, 3]
    assert (arg[0, 0, 0, 0], arg[0, 0, 0, 3]) == (1, 46)


@pytest.mark.parametrize("kernels", [True, False])
def test_minus_infinity_has_a_place_too(kernels):
    x = np.full((1, 1, 4, 4), -np.inf, np.float32)
    with use_kernels(kernels):
        y, arg = max_pool_forward(x, window("w", (3, 3), 1, 1))
    assert (y == -np.inf).all()
    assert (arg[0, 0, 0] == [0, 0, 1, 2]).all()


@pytest.mark.parametrize("kernels", [True, False])
def test_padding_never_wins(kernels):
    x = np.full((1, 1, 3, 3), -5.0, np.float32)
    with use_kernels(kernels):
        np.testing.assert_array_equal(maxpool(x, (3, 3), stride=1, pad=1).data, np.full((1, 1, 3, 3), -5))


@pytest.mark.parametrize("kernels", [True, False])
def test_a_window_between_all_pixels_has_no_maximum(kernels):
    x = np.ones((1, 1, 1), np.float32)
    box = window("w", (2,), 1, 1, 2)
    with use_kernels(kernels):
        y, arg = max_pool_forward(x, box)
        assert (y.item(), arg.item()) == (-np.inf, -1)
        assert max_pool_backward(y, arg, box, (1,)).item() == 0
        assert mean_pool_forward(x, box, False).item() == 0
    assert max_pool_gather(x, arg).item() == 0


def test_the_known_example_of_count_include_pad():
    x = np.array([[[1.0, 2, 3, 4, 5]]])
    np.testing.assert_allclose(meanpool(x, (2,), pad=1).data, [[[0.5, 2.5, 4.5]]])
    np.testing.assert_allclose(meanpool(x, (2,), pad=1, count_include_pad=False).data, [[[1, 2.5, 4.5]]])


def test_other_dtypes():
    x = np.arange(16).reshape(1, 1, 4, 4)
    assert maxpool(x, 2).data.tolist() == [[[[5, 7], [13, 15]]]]
    assert maxpool(x, 2).dtype == np.int64
    assert meanpool(x, 2).data.tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert meanpool(np.full((1, 1, 3000), 1, np.float16), (3000,)).data.item() == 1
    assert maxpool(x.astype(np.float16), 2).dtype == np.float16


def test_padding_of_nothing():
    x = np.zeros((1, 1, 0, 3), np.float32)
    for kernels in (True, False):
        with use_kernels(kernels):
            assert (maxpool(x, 2, pad=1).data == -np.inf).all()
            assert (meanpool(x, 2, pad=1).data == 0).all()
            box = window("w", (2, 2), 2, 1)
            y, arg = max_pool_forward(x, box)
            assert max_pool_backward(y, arg, box, (0, 3)).shape == mean_pool_backward(y, box, True, (0, 3)).shape == x.shape
            assert (max_pool_gather(x, arg) == 0).all()


def test_a_missing_batch_axis():
    x = apart(2, 4, 6)
    np.testing.assert_array_equal(maxpool(x, (2, 2)).data, maxpool(x[None], 2).data[0])
    np.testing.assert_array_equal(meanpool(x, (2, 2)).data, meanpool(x[None], 2).data[0])
    check_operation(maxpool, x, k=(2, 2))


def test_errors():
    x = normal(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"maxpool: padding 2 \+ 2 on axis -2 must be smaller than the window, which spans 2"):
        maxpool(x, 2, pad=2)
    with pytest.raises(ValueError, match=r"meanpool: the kernel is larger than the input on axis -1 \(width\)"):
        meanpool(x, (2, 6))
    with pytest.raises(ValueError, match=r"maxpool: takes an input of 5 axes \(N, C, ...\), or 4 for one sample; got 3 axes"):
        maxpool(normal(3, 4, 5), (2, 2, 2))
    with pytest.raises(ValueError, match=r"takes an input of 3 to 5 axes \(N, C, ...\); got 2 axes \(input shape \(4, 5\)\)"):
        maxpool(normal(4, 5), 2)
