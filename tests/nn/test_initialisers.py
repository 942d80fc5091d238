"""Initialisers: fans, bounds, moments, structure, keywords and errors."""

import copy
import inspect
import pickle

import numpy as np
import pytest

from minitorch_flux.backend.generator import Generator, default_generator, seed
from minitorch_flux.nn import initialisers
from minitorch_flux.nn.initialisers import (
    Initialiser,
    glorot_normal,
    glorot_uniform,
    identity_init,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    nfan,
    normal_init,
    ones,
    orthogonal,
    sparse_init,
    truncated_normal,
    uniform_init,
    zeros,
)

ALL = [v for v in vars(initialisers).values() if isinstance(v, Initialiser)]
RANDOM = [f for f in ALL if f not in (zeros, ones, identity_init)]
NEEDS = {"sparse_init": {"sparsity": 0.5}}  # keywords without a default


def draw(f, *shape, **settings):
    return f(*shape, **NEEDS.get(f.__name__, {}), **settings)


@pytest.fixture(autouse=True)
def seeded():
    state = default_generator().state_dict()
    seed(1234)
    yield
    default_generator().load_state_dict(state)


# Fans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((), (1, 1)),
        ((7,), (1, 7)),
        ((20, 10), (10, 20)),  # Dense(10, 20)
        ((10, 2, 3, 3), (18, 90)),  # Conv((3, 3), 2, 10)
        ((8, 4, 5), (20, 40)),
        ((6, 1, 3, 3), (9, 54)),  # depthwise
        ((4, 2, 1, 2, 3), (12, 24)),
        ((0, 5), (5, 0)),
    ],
)
def test_nfan(shape, fans):
    assert nfan(shape) == fans
    assert nfan(*shape) == fans


@pytest.mark.parametrize("shape", [(20, 10), (10, 2, 3, 3), (8, 4, 5), (6, 1, 3, 3), (4, 2, 1, 2, 3)])
def test_nfan_is_torch_s(shape):
    init = pytest.importorskip("torch").nn.init
    torch = pytest.importorskip("torch")
    assert nfan(shape) == init._calculate_fan_in_and_fan_out(torch.empty(shape))


def test_nfan_of_a_transposed_convolution_is_the_reversed_pair():
    assert nfan(2, 10, 3, 3) == nfan(10, 2, 3, 3)[::-1] == (90, 18)
    assert np.abs(glorot_uniform(2, 10, 3, 3)).max() <= np.float32(np.sqrt(6 / 108))


# The scale of each --------------------------------------------------------------------------------

SHAPES = [(300, 200), (60, 40, 5, 5), (90, 30, 7)]


def check_uniform(w, bound):
    """Bounds that are reached, mean and variance within five standard errors."""
    n = w.size
    assert np.abs(w).max() <= np.float32(bound)
    assert np.abs(w).max() > bound * (1 - 20 / n)
    assert abs(w.mean(dtype=np.float64)) < 5 * bound / np.sqrt(3 * n)
    assert w.var(dtype=np.float64) == pytest.approx(bound**2 / 3, rel=5 / np.sqrt(n))


def check_normal(w, std):
    stats = pytest.importorskip("scipy.stats")
    n = w.size
    assert abs(w.mean(dtype=np.float64)) < 5 * std / np.sqrt(n)
    assert w.std(dtype=np.float64) == pytest.approx(std, rel=5 / np.sqrt(2 * n))
    assert stats.kstest(w.ravel().astype(np.float64) / std, "norm").pvalue > 1e-3


@pytest.mark.parametrize("gain", [1, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_glorot(shape, gain):
    fans = sum(nfan(shape))
    check_uniform(glorot_uniform(shape, gain=gain), gain * np.sqrt(6 / fans))
    check_normal(glorot_normal(shape, gain=gain), gain * np.sqrt(2 / fans))


def test_glorot_of_a_convolution_counts_the_window_in_both_fans():
    """(3, 3, 2, 10) in Flux: +-0.2357, where the sum of all sizes would give +-0.5774."""
    w = np.concatenate([glorot_uniform(10, 2, 3, 3).ravel() for _ in range(20)])
    check_uniform(w, 0.235702)


def test_glorot_of_a_vector():
    check_uniform(glorot_uniform(5000), np.sqrt(6 / 5001))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("gain", [None, 1.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_kaiming(shape, gain, mode):
    fan_in, fan_out = nfan(shape)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    settings = {} if gain is None else {"gain": gain}
    gain = np.sqrt(2) if gain is None else gain
    check_uniform(kaiming_uniform(shape, mode=mode, **settings), gain * np.sqrt(3 / fan))
    check_normal(kaiming_normal(shape, mode=mode, **settings), gain / np.sqrt(fan))


def test_kaiming_uniform_can_be_what_torch_s_layers_start_with():
    torch = pytest.importorskip("torch")
    bound = torch.nn.Linear(40, 2000).weight.abs().max().item()
    assert np.abs(kaiming_uniform(2000, 40, gain=3**-0.5)).max() == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_lecun_normal(shape):
    check_normal(lecun_normal(shape), np.sqrt(1 / nfan(shape)[0]))


@pytest.mark.parametrize(
    ("mean", "std", "lo", "hi"),
    [
        (0, 1, -2, 2),
        (0, 0.02, -2, 2),  # hardly truncated
        (1, 2, 0, 1.5),
        (-1, 0.5, -np.inf, -1.2),
        (0, 1, 2, np.inf),  # a tail
        (0, 1, -9, -4),
        (3, 0.1, 2.99, 3.001),  # narrow
        (0, 1, 30, 31),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_truncated_normal(mean, std, lo, hi, dtype):
    stats = pytest.importorskip("scipy.stats")
    w = truncated_normal(120, 50, mean=mean, std=std, lo=lo, hi=hi, dtype=dtype)
    assert w.min() >= np.dtype(dtype).type(lo)
    assert w.max() <= np.dtype(dtype).type(hi)
    a, b = (lo - mean) / std, (hi - mean) / std
    oracle = stats.truncnorm(a, b, loc=mean, scale=std)
    # Deep in a tail float32 is coarse beside the distribution's width: compare in float64 only.
    if dtype == "float64" or abs(a + b) < 50:
        assert stats.kstest(w.ravel().astype(np.float64), oracle.cdf).pvalue > 1e-3


@pytest.mark.parametrize("bad", [{"std": 0}, {"std": -1}, {"lo": 2, "hi": 2}, {"lo": 1, "hi": 0}, {"lo": np.nan}])
def test_truncated_normal_refuses(bad):
    with pytest.raises(ValueError, match="truncated_normal: needs std > 0 and lo < hi, got std="):
        truncated_normal(3, **bad)


def test_truncated_normal_too_far_away():
    with pytest.raises(ValueError, match="nothing of a normal with mean=0 and std=1 lies between lo=50"):
        truncated_normal(3, lo=50, hi=60)


def test_uniform_init():
    w = uniform_init(300, 200, low=-3, high=5)
    check_uniform(w - 1, 4)
    assert uniform_init(1000).min() >= 0
    assert uniform_init(1000).max() <= 1


def test_normal_init():
    check_normal(normal_init(300, 200), 1)
    check_normal(normal_init(300, 200, mean=4, std=0.5) - 4, 0.5)


# Structure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (6, 6), (1, 4), (4, 1), (4, 3, 2, 2), (30, 2, 3, 3)])
@pytest.mark.parametrize("gain", [1, 2.5, -1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_orthogonal(shape, gain, dtype):
    w = orthogonal(shape, gain=gain, dtype=dtype)
    assert w.shape == shape
    assert w.flags.c_contiguous
    flat = w.reshape(shape[0], -1)
    product = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), atol=tolerance)


def test_orthogonal_is_evenly_drawn():
    """The trace of an even (Haar) orthogonal matrix has mean 0 and variance 1."""
    traces = np.array([np.trace(orthogonal(3, 3)) for _ in range(1000)])
    assert abs(traces.mean()) < 5 / np.sqrt(1000)
    assert traces.var() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_orthogonal_needs_two_axes(shape):
    with pytest.raises(ValueError, match=r"orthogonal: needs at least two axes, \(out, in, \.\.\.\)"):
        orthogonal(shape)


@pytest.mark.parametrize(("sparsity", "zeros"), [(0, 0), (0.1, 1), (0.25, 3), (0.5, 5), (1, 10)])
def test_sparse_init(sparsity, zeros):
    w = sparse_init(10, 400, sparsity=sparsity)
    assert ((w == 0).sum(axis=0) == zeros).all()
    if 0 < zeros < 10:
        places = (w == 0).mean(axis=1)  # every row is hit equally often
        assert np.abs(places - zeros / 10).max() < 5 * np.sqrt(0.25 / 400)
    if zeros < 10:
        check_normal(w[w != 0], 0.01)


def test_sparse_init_std():
    check_normal(sparse_init(100, 100, sparsity=0, std=2), 2)


def test_sparse_init_errors():
    with pytest.raises(TypeError, match="sparse_init: the keyword 'sparsity' has no default; pass spars"):
        sparse_init(3, 3)
    with pytest.raises(ValueError, match=r"sparsity must be between 0 and 1, got 1\.5"):
        sparse_init(3, 3, sparsity=1.5)
    with pytest.raises(ValueError, match=r"needs two axes, \(out, in\), got the shape \(3, 3, 3\)"):
        sparse_init(3, 3, 3, sparsity=0.5)


def test_identity_init():
    assert np.array_equal(identity_init(3, 3), np.eye(3))
    assert np.array_equal(identity_init(3, 5, gain=2), 2 * np.eye(3, 5))
    assert np.array_equal(identity_init(5, 3), np.eye(5, 3))
    assert np.array_equal(identity_init(4), np.zeros(4))
    assert identity_init(()).shape == ()
    assert identity_init(2, 2, 0).shape == (2, 2, 0)


@pytest.mark.parametrize("window", [(3,), (1,), (2,), (4, 3), (5, 1, 2)])
def test_identity_init_of_a_convolution(window):
    """With the odd pixel of the padding first, the convolution returns its input."""
    w = identity_init(3, 3, *window, dtype="float64")
    x = np.random.default_rng(0).standard_normal((3, *(6,) * len(window)))
    padded = np.pad(x, [(0, 0)] + [(k // 2, (k - 1) // 2) for k in window])
    y = np.zeros_like(x)
    for place in np.ndindex(*window):
        part = padded[(slice(None), *(slice(a, a + 6) for a in place))]
        y += np.tensordot(w[(slice(None), slice(None), *place)], part, 1)
    assert np.array_equal(x, y)


def test_identity_init_shift():
    assert np.array_equal(identity_init(3, 4, shift=1), np.roll(np.eye(3, 4), 1, axis=0))
    rolled = np.roll(np.eye(3, 4), (1, -2), axis=(0, 1))
    assert np.array_equal(identity_init(3, 4, shift=(1, -2)), rolled)
    with pytest.raises(ValueError, match=r"shift=\(1, 2, 3\) has more entries than the shape \(3, 4\)"):
        identity_init(3, 4, shift=(1, 2, 3))


def test_zeros_and_ones():
    assert np.array_equal(zeros(2, 3), np.zeros((2, 3)))
    assert np.array_equal(ones((2, 3)), np.ones((2, 3)))


# What all have in common --------------------------------------------------------------------------


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.__name__)
class TestEvery:
    def test_sizes_or_a_tuple(self, f):
        rng = Generator(5)
        start = rng.state_dict()
        a = draw(f, 4, 6, rng=rng)
        rng.load_state_dict(start)
        b = draw(f, (4, 6), rng=rng)
        rng.load_state_dict(start)
        c = draw(f, [np.int64(4), 6], rng=rng)
        assert a.shape == (4, 6)
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)

    def test_dtype(self, f):
        assert draw(f, 4, 6).dtype == np.float32
        for dtype in ("float16", np.float32, "float64"):
            w = draw(f, 4, 6, dtype=dtype)
            assert type(w) is np.ndarray
            assert w.dtype == dtype
            assert w.flags.c_contiguous
            assert w.flags.writeable
            assert np.isfinite(w).all()

    def test_bfloat16(self, f):
        bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
        assert draw(f, 4, 6, dtype=bfloat16).dtype == bfloat16

    @pytest.mark.parametrize("dtype", ["int32", "complex64", "bool"])
    def test_wrong_dtype(self, f, dtype):
        with pytest.raises(TypeError, match=f"{f.__name__}: .*floating-point numbers, not {dtype}"):
            draw(f, 4, 6, dtype=dtype)

    @pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1)])
    def test_without_elements_or_with_one(self, f, shape):
        w = draw(f, shape)
        assert w.shape == shape
        assert np.isfinite(w).all()

    def test_keywords_only_gives_an_initialiser(self, f):
        curried = draw(f, dtype="float64")
        assert isinstance(curried, Initialiser)
        assert curried.__name__ == f.__name__
        assert curried.__doc__ == f.__doc__
        w = curried(3, 4, rng=Generator(3))
        assert w.dtype == np.float64
        assert np.array_equal(w, draw(f, 3, 4, dtype="float64", rng=Generator(3)))
        assert curried(3, 4, dtype="float32").dtype == np.float32  # the call decides
        twice = curried(rng=Generator(3))
        assert np.array_equal(w, twice(3, 4))

    def test_prints_as_the_call_that_rebuilds_it(self, f):
        assert repr(f) == f.__name__
        curried = draw(f, dtype="float64")
        settings = ", ".join(f"{k}={v!r}" for k, v in NEEDS.get(f.__name__, {}).items())
        assert repr(curried) == f"{f.__name__}({settings}{', ' * bool(settings)}dtype='float64')"
        assert repr(eval(repr(curried))) == repr(curried)

    def test_copies_and_pickles(self, f):
        assert copy.deepcopy(f) is f
        assert pickle.loads(pickle.dumps(f)) is f
        curried = draw(f, dtype="float64")
        for again in (copy.deepcopy(curried), pickle.loads(pickle.dumps(curried))):
            assert repr(again) == repr(curried)
            assert again(2, 2).dtype == np.float64

    def test_unknown_keyword(self, f):
        with pytest.raises(TypeError, match=f"{f.__name__}: no keyword 'gian'; it takes .*dtype, rng"):
            f(gian=2)
        with pytest.raises(TypeError, match="no keyword 'gian'"):
            f(3, 4, gian=2)

    def test_wrong_sizes(self, f):
        with pytest.raises(ValueError, match=rf"{f.__name__}: the sizes must be at least 0, got \(3, -1\)"):
            draw(f, 3, -1)
        with pytest.raises(TypeError, match=rf"{f.__name__}: the sizes must be integers or one tuple"):
            draw(f, 3, 2.5)
        with pytest.raises(TypeError, match="integers or one tuple of them"):
            draw(f, (3, 4), 5)

    def test_wrong_rng(self, f):
        with pytest.raises(TypeError, match=r"rng= must be .* pass flux\.Generator\(42\)"):
            draw(f, 3, 4, rng=42)

    def test_signature_shows_the_keywords(self, f):
        names = list(inspect.signature(f).parameters)
        assert names[0] == "shape"
        assert names[-2:] == ["dtype", "rng"]


@pytest.mark.parametrize("f", RANDOM, ids=lambda f: f.__name__)
class TestEveryRandomOne:
    def test_flux_seed_decides(self, f):
        seed(1)
        a, b = draw(f, 8, 9), draw(f, 8, 9)
        seed(1)
        c = draw(f, 8, 9)
        assert np.array_equal(a, c)
        assert not np.array_equal(a, b)

    def test_rng(self, f):
        before = default_generator().state_dict()
        a = draw(f, 8, 9, rng=Generator(1))
        assert np.array_equal(a, draw(f, 8, 9, rng=Generator(1)))
        assert not np.array_equal(a, draw(f, 8, 9, rng=Generator(2)))
        b = draw(f, 8, 9, rng=np.random.default_rng(1))
        assert np.array_equal(b, draw(f, 8, 9, rng=np.random.default_rng(1)))
        assert default_generator().state_dict() == before

    def test_numpy_s_global_generator_is_not_touched(self, f):
        np.random.seed(0)  # noqa: NPY002
        before = np.random.get_state()  # noqa: NPY002
        draw(f, 8, 9)
        after = np.random.get_state()  # noqa: NPY002
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("f", [kaiming_uniform, kaiming_normal])
def test_wrong_mode(f):
    with pytest.raises(ValueError, match=f"{f.__name__}: mode must be one of fan_in, fan_out, fan_avg"):
        f(3, 4, mode="in")
