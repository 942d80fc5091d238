"""dropout and alpha_dropout against the generator's own masks, against statistics and against PyTorch."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Generator, alpha_dropout, dropout, use_kernels
from minitorch_flux.ops.dropouts import ALPHA, dropout_backward, dropout_forward
from minitorch_flux.ops.philox import philox_bernoulli
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_operation, laid_out, needs_compiler, normal, shapes, solid_shapes

CONSTANTS = {0.1: (0.9212845161, 0.1619709701), 0.2: (0.8789035834, 0.3090399621), 0.5: (0.8864048947, 0.7791939305)}
"""A and B of alpha dropout by p, computed by hand."""


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


# -- the values --------------------------------------------------------------------------------------------------------


@given(shape=shapes, p=st.floats(0.01, 0.99), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_the_mask_is_the_generators_in_every_dtype_with_kernels_and_without(shape, p, dtype):
    x = normal(*shape).astype(dtype)
    mask = Generator(7).bernoulli(1 - p, shape)
    wide = np.float32 if dtype == np.float16 else dtype
    wanted = np.where(mask, x.astype(wide) * (1 / (1 - p)), 0).astype(dtype)
    for kernels in (True, False):
        with use_kernels(kernels):
            y = dropout(x, p, rng=Generator(7))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.data, wanted)


@given(shape=solid_shapes, data=st.data())
def test_axis_is_where_the_choice_is_made_and_the_others_share_it(shape, data):
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True))
    mask = Generator(3).bernoulli(0.5, [n if i in axes else 1 for i, n in enumerate(shape)])
    signed = tuple(a - len(shape) if data.draw(st.booleans()) else a for a in axes)
    for kernels in (True, False):
        with use_kernels(kernels):
            y = dropout(ones(*shape), 0.5, axis=signed, rng=Generator(3))
        np.testing.assert_array_equal(y.data, np.broadcast_to(2.0 * mask, shape))


def test_dims_is_flux_word_for_axis_with_our_numbers():
    x = ones(8, 5, 3)
    y = dropout(x, 0.5, dims=(0, 1), rng=Generator(1)).data
    np.testing.assert_array_equal(y, dropout(x, 0.5, axis=(0, 1), rng=Generator(1)).data)
    # Flux's Dropout(p; dims=3) of an array of size (3, 5, 8) draws along the last dimension, our axis 3 - 3 = 0
    y = dropout(x, 0.5, dims=0, rng=Generator(1)).data
    assert (y == y[:, :1, :1]).all()
    assert 0 < (y[:, 0, 0] == 0).sum() < 8


def test_an_empty_axis_is_one_draw_for_all():
    drawn = {float(dropout(ones(4, 3), 0.5, axis=(), rng=Generator(k)).data.sum()) for k in range(20)}
    assert drawn == {0.0, 24.0}


@pytest.mark.parametrize("f", [dropout, alpha_dropout])
def test_gradients_of_both_orders(f):
    for shape in [(), (1,), (3, 4), (2, 3, 5), (0, 3)]:
        check_operation(lambda x: f(x, 0.4, rng=Generator(5)), normal(*shape), dtypes=(np.float16, np.float32))
    check_operation(lambda x: f(x, 1.0), normal(3, 4))


def test_gradients_along_an_axis():
    for axis in (0, (0, 1), 2, (1, 2), ()):
        check_operation(lambda x, axis=axis: dropout(x, 0.4, axis=axis, rng=Generator(6)), normal(3, 2, 4))


def test_a_gradient_of_second_order_draws_the_same_mask():
    x = normal(3, 5)
    mask = Generator(2).bernoulli(0.7, x.shape)
    hessian = flux.hessian(lambda x: (dropout(x, 0.3, rng=Generator(2)) ** 2).sum(), x).reshape(15, 15)
    np.testing.assert_allclose(hessian, np.diag(2 * mask.ravel() / 0.7**2), rtol=1e-12)


@given(shape=solid_shapes, p=st.sampled_from(list(CONSTANTS)))
def test_alpha_dropout_is_its_formula(shape, p):
    a, b = CONSTANTS[p]
    x, mask = normal(*shape), Generator(9).bernoulli(1 - p, shape)
    for kernels in (True, False):
        with use_kernels(kernels):
            y = alpha_dropout(x, p, rng=Generator(9))
        np.testing.assert_allclose(y.data, a * np.where(mask, x, -1.7580993408473766) + b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
def test_both_values_of_alpha_dropout_are_torchs(p):
    torch = pytest.importorskip("torch")
    for x in (1.0, -0.5):
        wanted = torch.nn.functional.alpha_dropout(torch.full((2000,), x, dtype=torch.float64), p, True)
        got = alpha_dropout(np.full(2000, x), p, rng=Generator(0)).data
        np.testing.assert_allclose(np.unique(got), np.unique(wanted.numpy()), rtol=1e-6)


# -- the limits of p, odd numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [dropout, alpha_dropout])
def test_nothing_to_drop_is_the_very_input(f):
    x, t = ones(3), flux.tensor(ones(3))
    assert f(t, 0.0) is t
    for y in (f(x, 0), f(x, 0.5, active=False), f(x, 0.5, active=None)):  # None: outside a recording scope
        assert y.data is x
    with flux.record():
        assert f(x, 0.5, active=None, rng=Generator(1)).data is not x


@pytest.mark.parametrize("f", [dropout, alpha_dropout])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_everything_dropped_is_zeros_without_nan(f, dtype):
    x = np.array([1, -2, np.inf, np.nan, 0], dtype)
    for kernels in (True, False):
        with use_kernels(kernels):
            y, back = flux.vjp(lambda x: f(x, 1), x)
            np.testing.assert_array_equal(y, np.zeros(5, dtype))
            np.testing.assert_array_equal(back(x), np.zeros(5, dtype))
            assert y.dtype == back(x).dtype == dtype


def test_what_is_dropped_is_zero_whatever_it_was():
    x = np.full(64, np.nan, np.float32)
    mask = Generator(4).bernoulli(0.5, 64)
    for kernels in (True, False):
        with use_kernels(kernels):
            y = dropout(x, 0.5, rng=Generator(4)).data
        np.testing.assert_array_equal(np.isnan(y), mask)
        assert not y[~mask].any()


def test_numpys_floats_and_integers_as_p_and_as_input():
    x = np.arange(6)
    y = dropout(x, np.float32(0.5), rng=Generator(1))
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y.data, np.where(Generator(1).bernoulli(0.5, 6), 2.0 * x, 0))
    assert dropout(ones(3), np.float64(0.5)).dtype == np.float32
    assert dropout([1.0, 2.0], True).data.tolist() == [0, 0]


@pytest.mark.parametrize("f", [dropout, alpha_dropout])
def test_a_wrong_p(f):
    name = f.__name__
    for p in (-0.1, 1.5, np.nan, 2):
        with pytest.raises(ValueError, match=rf"{name}: the probability p must be between 0 and 1, got {p}"):
            f(ones(3), p)
    for p in ("half", None, [0.1, 0.2]):
        with pytest.raises(TypeError, match=rf"{name}: the probability p must be a number between 0 and 1, got"):
            f(ones(3), p)


def test_wrong_axes_and_generators():
    with pytest.raises(IndexError, match=r"dropout: there is no axis 2 in an array of shape \(3, 2\)"):
        dropout(ones(3, 2), 0.5, axis=2)
    with pytest.raises(TypeError, match="dropout: axis=0 and dims=1 are two words for the same; give one"):
        dropout(ones(3, 2), 0.5, axis=0, dims=1)
    with pytest.raises(TypeError, match=r"rng= must be a flux.Generator or a numpy.random.Generator, got int"):
        dropout(ones(3), 0.5, rng=3)
    with pytest.raises(TypeError, match="dropout: `dim=` is spelled `axis=` here"):
        dropout(ones(3), 0.5, dim=0)


# -- repetition --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [dropout, alpha_dropout])
def test_the_same_seed_gives_the_same_bits(f):
    x = normal(50, 3, dtype=np.float32)
    runs = []
    for _ in range(2):
        flux.seed(11)
        runs.append([f(x, 0.3).data for _ in range(3)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[0][1])
    flux.seed(12)
    assert not np.array_equal(f(x, 0.3).data, runs[0][0])


def test_numpys_generators_serve_too():
    x = ones(40, 40)
    first, other = (np.random.default_rng(5) for _ in range(2))
    a, b = dropout(x, 0.5, rng=first).data, dropout(x, 0.5, rng=first).data
    np.testing.assert_array_equal(a, dropout(x, 0.5, rng=other).data)
    np.testing.assert_array_equal(b, dropout(x, 0.5, rng=other).data)
    assert not np.array_equal(a, b)


def test_numpys_global_generator_is_not_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    dropout(ones(100), 0.5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_threads_that_share_a_generator_never_share_a_mask():
    x, shared = ones(37), Generator(8)
    masks = []

    def work():
        masks.extend(dropout(x, 0.5, rng=shared).data.tobytes() for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alone = Generator(8)
    assert sorted(masks) == sorted(dropout(x, 0.5, rng=alone).data.tobytes() for _ in range(150))
    assert len(set(masks)) == 150


# -- statistics: each bound is about four standard deviations ----------------------------------------------------------


@pytest.mark.parametrize("p", [0.05, 0.25, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_a_share_p(p):
    n = 200_000
    y = dropout(ones(n, dtype=np.float64), p, rng=Generator(21)).data
    deviation = np.sqrt(p * (1 - p) / n)
    assert abs((y == 0).mean() - p) < 4 * deviation
    assert abs(y.mean() - 1) < 4 * deviation / (1 - p)
    assert abs(y.var() - p / (1 - p)) < 4 * abs(2 * p - 1) * deviation / (1 - p) ** 2 + 40 / n / (1 - p) ** 2


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_alpha_dropout_keeps_mean_zero_and_variance_one(p):
    n = 400_000
    x = np.random.default_rng(0).standard_normal(n)
    y = alpha_dropout(x, p, rng=Generator(22)).data
    assert abs(y.mean()) < 4 / np.sqrt(n)
    fourth = ((y - y.mean()) ** 4).mean()
    assert abs(y.var() - 1) < 4 * np.sqrt((fourth - 1) / n)
    a = 1 / np.sqrt((1 - p) * (1 + p * ALPHA**2))
    assert abs(a * np.sqrt(1 - p) - 1) > 0.02  # without the rescaling the variance would be another


def test_neighbours_and_calls_are_independent():
    n = 1 << 17
    g = Generator(23)
    a, b = ((dropout(ones(n), 0.5, rng=g).data != 0) * 2.0 - 1 for _ in range(2))
    for lag in (1, 2, 3, 4, 8, 256, 1024):
        assert abs((a[:-lag] * a[lag:]).mean()) < 4 / np.sqrt(n - lag), lag
    assert abs((a * b).mean()) < 4 / np.sqrt(n)
    patterns = np.bincount((a.reshape(-1, 8) > 0) @ (1 << np.arange(8)), minlength=256)
    chi_square = ((patterns - n / 8 / 256) ** 2 / (n / 8 / 256)).sum()
    assert abs(chi_square - 255) < 4 * np.sqrt(2 * 255)


def test_along_an_axis_rows_are_independent_and_equal_inside():
    y = dropout(ones(20_000, 3), 0.3, axis=0, rng=Generator(24)).data
    assert (y == y[:, :1]).all()
    kept = y[:, 0] != 0
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / 20_000)
    z = kept - 0.7
    assert abs((z[1:] * z[:-1]).mean() / 0.21) < 4 / np.sqrt(20_000)


# -- kernels -----------------------------------------------------------------------------------------------------------


@needs_compiler
def test_kernels_run_for_elements_and_for_rows():
    x = normal(6, 5, 4, dtype=np.float32)
    for shape in [(6, 5, 4), (6, 5, 1), (6, 1, 1), (1, 1, 1)]:
        for f in (dropout_forward, dropout_backward):
            before = dropout_forward.launches
            f(x, 0.5, (1, 2), shape, 2.0)
            assert dropout_forward.launches == before + 1
    before = dropout_forward.launches
    dropout_forward(x, 0.5, (1, 2), (1, 5, 1), 2.0)
    dropout_forward(x[:0], 0.5, (1, 2), (0, 5, 4), 2.0)
    assert dropout_forward.launches == before
    dropout_forward(laid_out(x, "Fortran-ordered"), 0.5, (1, 2), x.shape, 2.0)
    assert dropout_forward.launches == before + 1, "copied"


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 255, 256, 257, 1023])
def test_every_length_and_a_counter_beyond_64_bits(n):
    x, draw = normal(n), (2**64 - 3, 2**64 - 2)
    wanted = np.where(philox_bernoulli(*draw, (n,), 0.6), 3 * x + 0.5, -1)
    np.testing.assert_allclose(dropout_forward(x, 0.6, draw, (n,), 3.0, 0.5, -1.0), wanted, rtol=1e-12)
    rows = normal(n, 2)
    wanted = np.where(philox_bernoulli(*draw, (n, 1), 0.6), 3 * rows, 0)
    np.testing.assert_allclose(dropout_forward(rows, 0.6, draw, (n, 1), 3.0), wanted, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    with emulated(**options) as count:
        for shape, mask in (((301,), (301,)), ((7, 70), (7, 1)), ((3, 2, 5), (3, 2, 5))):
            x = normal(*shape, dtype=np.float32)
            for arguments in ((1.5,), (1.5, 0.25, -1.0)):
                y = dropout_forward(x, 0.7, (5, 6), mask, *arguments)
                np.testing.assert_allclose(y, dropout_forward.reference(x, 0.7, (5, 6), mask, *arguments), rtol=1e-6)
    assert count.launches == 6 + 6  # the reference's masks have a kernel, too


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    with emulated(sanitize=sanitize):
        for shape, mask in (((301,), (301,)), ((7, 70), (7, 1))):
            dropout_forward(normal(*shape, dtype=np.float32), 0.7, (5, 6), mask, 1.5, 0.5, 0.25)
