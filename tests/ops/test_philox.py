"""Philox: published vectors, the exact rules, kernels against references, distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.backend import use_kernels
from minitorch_flux.backend.generator import Generator
from minitorch_flux.ops.philox import (
    BITS,
    philox4x32,
    philox_bernoulli,
    philox_uniform,
    philox_words,
)
from minitorch_flux.readings.emulator import EMULATIONS, emulated

# Random123's kat_vectors for philox4x32-10: counter, key, words.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip
EDGES = [0, 1, 2**32 - 2, 2**32, 2**40 + 17, 2**64 - 3, 2**64, 2**96 - 1, 2**128 - 3]


def number(words):
    return sum(int(w, 16) << 32 * i for i, w in enumerate(words.split()))


def words_of(text):
    return [int(w, 16) for w in text.split()]


def python_block(counter, key):
    """Philox4x32-10 on Python integers, straight from the paper."""
    c = [counter >> 32 * i & 0xFFFFFFFF for i in range(4)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        (h0, l0), (h1, l1) = divmod(0xD2511F53 * c[0], 2**32), divmod(0xCD9E8D57 * c[2], 2**32)
        c = [h1 ^ c[1] ^ k[0], l1, h0 ^ c[3] ^ k[1], l0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def python_words(key, counter, blocks):
    return [w for b in range(blocks) for w in python_block((counter + b) % 2**128, key)]


def python_uniform(key, counter, n, dtype):
    words = python_words(key, counter, n)
    if dtype == "float64":
        pairs = zip(words[0::2], words[1::2], strict=True)
        return [((a >> 5) * 2**26 + (b >> 6)) / 2**53 for a, b in pairs][:n]
    return [(w >> 32 - BITS[dtype]) / 2 ** BITS[dtype] for w in words][:n]


@pytest.fixture(params=["kernel", "reference"])
def way(request):
    """Run a test through the kernel and through the reference; the kernel must then really run."""
    before = philox_uniform.launches + philox_bernoulli.launches
    with use_kernels(request.param == "kernel"):
        yield request.param
    launched = philox_uniform.launches + philox_bernoulli.launches > before
    assert launched == (request.param == "kernel")


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_vectors(counter, key, words):
    c = [np.array([w], np.uint64) for w in words_of(counter)]
    assert [int(w[0]) for w in philox4x32(*c, number(key))] == words_of(words)
    assert philox_words(number(key), number(counter), 1).tolist() == [words_of(words)]
    assert python_block(number(counter), number(key)) == words_of(words)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_vectors_as_numbers(counter, key, words, way):
    w = words_of(words)
    place = number(key), number(counter)
    single = philox_uniform(*place, (4,), np.dtype("float32"))
    assert (single.astype(np.float64) * 2**24).tolist() == [v >> 8 for v in w]
    double = philox_uniform(*place, (2,), np.dtype("float64"))
    wanted = [(w[0] >> 5) * 2**26 + (w[1] >> 6), (w[2] >> 5) * 2**26 + (w[3] >> 6)]
    assert [int(v * 2**53) for v in double] == wanted
    for v in w:  # the mask tells a word from its successor: the full 32 bits
        at_v, after_v = (philox_bernoulli(*place, (4,), t / 2**32) for t in (v, v + 1))
        assert (at_v[w.index(v)], after_v[w.index(v)]) == (False, True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("counter", EDGES)
def test_uniform_follows_its_rule(dtype, counter, way):
    key = 0xA4093822299F31D0
    for n in (1, 2, 3, 4, 5, 8, 67):
        u = philox_uniform(key, counter, (n,), np.dtype(dtype))
        assert u.dtype == dtype
        assert u.astype(np.float64).tolist() == python_uniform(key, counter, n, dtype)


@pytest.mark.parametrize("counter", EDGES)
def test_bernoulli_follows_its_rule(counter, way):
    key = 0xA4093822299F31D0
    for n, p in [(1, 0.5), (2, 0.1), (3, 0.9), (4, 0.5), (5, 1e-9), (67, 1 / 3)]:
        mask = philox_bernoulli(key, counter, (n,), p)
        assert mask.dtype == np.bool_
        wanted = [w < round(p * 2**32) for w in python_words(key, counter, n)[:n]]
        assert mask.tolist() == wanted


def test_bfloat16():
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    before = philox_uniform.launches
    u = philox_uniform(5, 7, (3, 11), bfloat16)
    assert philox_uniform.launches == before + 1
    for draw in (u, philox_uniform.reference(5, 7, (3, 11), bfloat16)):
        assert draw.dtype == bfloat16
        assert draw.ravel().astype(np.float64).tolist() == python_uniform(5, 7, 33, "bfloat16")


@given(
    key=st.integers(0, 2**64 - 1),
    counter=st.integers(0, 2**128 - 1),
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    p=st.floats(0, 1),
)
def test_kernel_and_reference_agree_bit_for_bit(key, counter, shape, dtype, p):
    for f, argument in ((philox_uniform, np.dtype(dtype)), (philox_bernoulli, p)):
        got, reference = (g(key, counter, shape, argument) for g in (f, f.reference))
        assert got.shape == reference.shape == shape
        assert got.dtype == reference.dtype
        assert got.tobytes() == reference.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_arrays_agree_bit_for_bit(dtype):
    """Large enough for the pool's memory and for several threads."""
    shape = (3, 700_001)
    before = philox_uniform.launches
    u = philox_uniform(1, 2**32 - 5, shape, np.dtype(dtype))
    assert philox_uniform.launches == before + 1
    assert np.array_equal(u, philox_uniform.reference(1, 2**32 - 5, shape, np.dtype(dtype)))
    mask = philox_bernoulli(1, 2**32 - 5, shape, 0.25)
    assert np.array_equal(mask, philox_bernoulli.reference(1, 2**32 - 5, shape, 0.25))


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_gpu_s_reading_in_the_emulator(dtype, how):
    for n, counter in [(1, 2**32 - 1), (7, 2**64 - 1), (64, 5), (999, 2**128 - 70)]:
        with emulated(**how) as emulation:
            u = philox_uniform(3, counter, (n,), np.dtype(dtype))
            mask = philox_bernoulli(3, counter, (n,), 0.3)
        assert emulation.launches == 2
        assert u.tobytes() == philox_uniform.reference(3, counter, (n,), np.dtype(dtype)).tobytes()
        assert np.array_equal(mask, philox_bernoulli.reference(3, counter, (n,), 0.3))


def test_no_elements():
    rng = Generator(0)
    assert rng.uniform((0, 3)).shape == (0, 3)
    assert rng.bernoulli(0.5, 0).shape == (0,)
    assert rng.normal((2, 0)).shape == (2, 0)
    assert rng.counter == 0


def test_shapes_and_dtypes():
    rng = Generator(0)
    assert rng.uniform(()).shape == ()
    assert rng.uniform(np.int64(3)).shape == (3,)
    assert rng.uniform([2, 3], like=np.zeros(1)).shape == (2, 3)
    assert rng.uniform(2).dtype == np.float32
    for dtype in ("float16", "float32", "float64"):
        assert rng.uniform(3, dtype).dtype == dtype
        assert rng.normal(3, dtype).dtype == dtype


@pytest.mark.parametrize(("dtype", "blocks"), [("float16", 2), ("float32", 2), ("float64", 4)])
def test_blocks_used_up(dtype, blocks):
    rng = Generator(0)
    rng.uniform(7, dtype)
    assert rng.counter == blocks
    rng.normal(7, dtype)
    assert rng.counter == blocks + 4
    rng.bernoulli(0.5, 9)
    assert rng.counter == blocks + 7


@pytest.mark.parametrize("draw", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool"])
def test_wrong_dtype(draw, dtype):
    with pytest.raises(TypeError, match=rf"bfloat16, float16, float32, float64, not {dtype}"):
        getattr(Generator(0), draw)(3, dtype)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"the shape \(2, -1\): sizes are at least 0"):
        Generator(0).uniform((2, -1))
    with pytest.raises(TypeError, match="float"):
        Generator(0).bernoulli(0.5, 2.5)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_wrong_probability(p):
    with pytest.raises(ValueError, match=f"probability must be between 0 and 1, got {p}"):
        Generator(0).bernoulli(p, 3)


def test_bernoulli_limits():
    rng = Generator(0)
    assert rng.bernoulli(1, 1000).all()
    assert not rng.bernoulli(0, 1000).any()
    assert rng.bernoulli(np.float32(1), 10).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_is_uniform(dtype):
    stats = pytest.importorskip("scipy.stats")
    u = Generator(11).uniform(200_000, dtype).astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() + 2.0 ** -BITS[dtype] / 2 - 0.5) < 5 * np.sqrt(1 / 12 / u.size)
    assert abs(u.var() - 1 / 12) < 1e-3
    counts = np.bincount((u * 256).astype(int), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    pairs = np.histogram2d(u[0::2], u[1::2], bins=16)[0]  # neighbours are independent
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_every_bit_is_even():
    bits = np.unpackbits(philox_words(123, 0, 50_000).view(np.uint8).reshape(-1, 4), axis=1)
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(bits))


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9])
def test_bernoulli_has_its_probability(p):
    mask = Generator(5).bernoulli(p, (400, 501))
    assert abs(mask.mean() - p) < 5 * np.sqrt(p * (1 - p) / mask.size)
    rows = mask.mean(1)
    assert rows.std() == pytest.approx(np.sqrt(p * (1 - p) / 501), rel=0.2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_is_normal(dtype):
    stats = pytest.importorskip("scipy.stats")
    z = Generator(2).normal(200_001, dtype)
    assert stats.kstest(z.astype(np.float64), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(z[:-1:2], z[1::2])[0, 1]) < 5 / np.sqrt(1e5)
    assert abs(z).max() < 8.58


def test_normal_is_box_and_muller_s_transform_of_the_uniforms():
    u = Generator(2).uniform((50, 2), "float64")
    angle, radius = 2 * np.pi * u[:, 1], np.sqrt(-2 * np.log(1 - u[:, 0]))
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()
    np.testing.assert_allclose(Generator(2).normal(99, "float64"), z[:99], rtol=1e-13)
    assert np.array_equal(Generator(2).normal(99), z[:99].astype(np.float32))


def test_normal_is_the_same_with_and_without_kernels():
    with use_kernels(False):
        reference = Generator(2).normal((31, 3))
    assert np.array_equal(Generator(2).normal((31, 3)), reference)
