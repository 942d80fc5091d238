"""dot_product_attention against nested loops and PyTorch."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import dot_product_attention, dropout, use_kernels
from minitorch_flux.backend import memory
from minitorch_flux.ops import attention as page
from minitorch_flux.ops.attention import attention_weights, attention_weights_backward, self_attention
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_against_torch, check_operation, laid_out, needs_compiler, normal


def loops(q, k, v, mask=None, causal=False, scale=None):
    """``(y, weights)``, one query after the other."""
    n, heads, length, d = q.shape
    y, weights = np.zeros((n, heads, length, v.shape[3])), np.zeros((n, heads, length, k.shape[2]))
    seen = np.ones(weights.shape, bool) if mask is None else np.broadcast_to(
        mask if mask.ndim != 3 else mask[:, None], weights.shape)
    for b, h, i in np.ndindex(n, heads, length):
        g = h // (heads // k.shape[1])
        keys = [j for j in range(k.shape[2]) if seen[b, h, i, j] and (j <= i or not causal)]
        if keys:
            s = (k[b, g, keys] @ q[b, h, i]) * (max(d, 1) ** -0.5 if scale is None else scale)
            p = np.exp(s - s.max())
            weights[b, h, i, keys] = p / p.sum()
            y[b, h, i] = weights[b, h, i, keys] @ v[b, g, keys]
    return y, weights


@st.composite
def cases(draw):
    """Queries, keys, values and keywords."""
    n, kv, groups, length, width, d, e = (draw(st.integers(1, 3)) for _ in range(7))
    q = normal(n, kv * groups, length, d)
    k, v = normal(n, kv, width, d, seed=1), normal(n, kv, width, e, seed=2)
    shape = draw(st.sampled_from([(length, width), (n, length, width), (n, kv * groups, length, width),
                                  (1, 1, length, width), (n, 1, 1, width), (1, width)]))  # fmt: skip
    mask = draw(st.none() | st.just(np.random.default_rng(draw(st.integers(0, 99))).random(shape) < 0.6))
    return q, k, v, {"mask": mask, "causal": draw(st.booleans()), "scale": draw(st.sampled_from([None, 0.3]))}


# -- the value and the gradients ---------------------------------------------------------------------------------------


@given(cases())
def test_value_and_derivatives(case):
    q, k, v, keywords = case
    check_operation(dot_product_attention, q, k, v, oracle=lambda *a, **kw: loops(*a, **kw)[0], **keywords)


@given(cases(), st.integers(1, 12))
def test_blocks_of_any_size_give_the_same(case, block):
    q, k, v, keywords = case
    dy = normal(*q.shape[:3], v.shape[3], seed=3)
    f = lambda *qkv: dot_product_attention(*qkv, **keywords)  # noqa: E731
    y, back = flux.vjp(f, q, k, v)
    before, page.BLOCK, served = page.BLOCK, block, page.suits
    page.suits = lambda *given: False  # the kernel with the products has blocks of its own
    try:
        other, back_in_blocks = flux.vjp(f, q, k, v)
        np.testing.assert_allclose(other, y, rtol=1e-12, atol=1e-12)
        for a, b in zip(back(dy), back_in_blocks(dy), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
    finally:
        page.BLOCK, page.suits = before, served


@given(cases())
def test_weights_and_what_drops_them(case):
    q, k, v, keywords = case
    y, w = dot_product_attention(q, k, v, return_weights=True, **keywords)
    wanted, weights = loops(q, k, v, **keywords)
    np.testing.assert_allclose(y.data, wanted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(w.data, weights, rtol=1e-10, atol=1e-12)
    mask = flux.Generator(5).bernoulli(0.5, weights.shape)
    groups = q.shape[1] // k.shape[1]
    y = dot_product_attention(q, k, v, drop=lambda w: dropout(w, 0.5, rng=flux.Generator(5)), **keywords)
    np.testing.assert_allclose(y.data, (2 * mask * weights) @ np.repeat(v, groups, axis=1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv", [4, 2, 1])
def test_against_torch(causal, kv):
    torch = pytest.importorskip("torch")
    sdpa = torch.nn.functional.scaled_dot_product_attention
    q, k, v = normal(2, 4, 5, 3), normal(2, kv, 6, 3, seed=1), normal(2, kv, 6, 2, seed=2)
    check_against_torch(lambda *a: dot_product_attention(*a, causal=causal),
                        lambda *a: sdpa(*a, is_causal=causal, enable_gqa=True), q, k, v)  # fmt: skip
    if not causal:
        mask = np.random.default_rng(0).random((2, 4, 5, 6)) < 0.7
        mask[..., 0] = True
        check_against_torch(lambda *a: dot_product_attention(*a, mask=mask, scale=0.7),
                            lambda *a: sdpa(*a, attn_mask=torch.tensor(mask), scale=0.7, enable_gqa=True), q, k, v)


def test_second_order_where_keys_are_masked_and_heads_share():
    mask = np.array([[True, False, True], [False, False, False]])
    for keywords in ({"mask": mask}, {"causal": True}, {"mask": mask, "causal": True}):
        check_operation(dot_product_attention, normal(2, 4, 2, 3), normal(2, 2, 3, 3, seed=1), normal(2, 2, 3, 2, seed=2),
                        **keywords)  # fmt: skip


@pytest.mark.parametrize(("n", "length", "width", "d"), [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0), (0, 0, 0, 0)])
def test_nothing_of_something(n, length, width, d):
    q, k, v = np.ones((n, 2, length, d)), np.ones((n, 2, width, d)), normal(n, 2, width, 3)
    check_operation(dot_product_attention, q, k, v, oracle=lambda *a: loops(*a)[0])
    _, w = dot_product_attention(q, k, v, return_weights=True)
    assert w.shape == (n, 2, length, width)
    check_operation(lambda x: self_attention(x, heads=2, kvheads=1, mask=None, causal=True, scale=1.0),
                    np.ones((n, length, 4 * d)))  # fmt: skip


@pytest.mark.parametrize(("heads", "kvheads"), [(3, 3), (4, 2), (2, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_the_same_of_one_array(heads, kvheads, causal):
    def unpacked(x):
        n, length, width = x.shape
        x = x.reshape(n, length, heads + 2 * kvheads, -1).swapaxes(1, 2)
        parts = x[:, :heads], x[:, heads : heads + kvheads], x[:, heads + kvheads :]
        return dot_product_attention(*parts, causal=causal, scale=0.5).swapaxes(1, 2).reshape(n, length, heads * 2)

    x = normal(2, 5, (heads + 2 * kvheads) * 2)
    f = lambda x: self_attention(x, heads=heads, kvheads=kvheads, mask=None, causal=causal, scale=0.5)  # noqa: E731
    check_operation(f, x, dtypes=(np.float32, np.float16), oracle=lambda x: unpacked(flux.tensor(x)).data)


def test_16_bit_inputs_are_attended_in_float32():
    q, k, v = (normal(1, 2, 40, 8, seed=s).astype(np.float16) for s in range(3))
    y = dot_product_attention(q, k, v)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data, loops(*(a.astype(np.float64) for a in (q, k, v)))[0], atol=2e-3)


# -- nothing to attend to, extremes ------------------------------------------------------------------------------------


def test_a_query_with_nothing_to_attend_to_gives_zeros_and_no_gradient():
    q, k, v = normal(1, 1, 3, 2), normal(1, 1, 4, 2, seed=1), normal(1, 1, 4, 2, seed=2)
    mask = np.ones((3, 4), bool)
    mask[1] = False
    for kernels in (True, False):
        with use_kernels(kernels):
            y, back = flux.vjp(lambda *a: dot_product_attention(*a, mask=mask), q, k, v)
            dq, dk, dv = back(np.ones_like(y))
        assert (y[0, 0, 1] == 0).all()
        assert (dq[0, 0, 1] == 0).all()
        assert all(np.isfinite(a).all() for a in (y, dq, dk, dv))
    hidden = np.zeros((3, 4), bool)
    y, back = flux.vjp(lambda *a: dot_product_attention(*a, mask=hidden), q, k, v)
    assert not any(a.any() for a in (y, *back(np.ones_like(y))))


def test_what_is_masked_has_no_influence():
    q, k, v = normal(1, 2, 3, 4), normal(1, 2, 5, 4, seed=1), normal(1, 2, 5, 4, seed=2)
    mask = np.array([True, False, True, True, False])[None]
    wanted = dot_product_attention(q, k[:, :, mask[0]], v[:, :, mask[0]]).data
    k[:, :, ~mask[0]] = 1e30
    v[:, :, ~mask[0]] = -7
    np.testing.assert_allclose(dot_product_attention(q, k, v, mask=mask).data, wanted, rtol=1e-12)


def test_large_scores_do_not_overflow_and_nan_is_kept():
    q, k = np.full((1, 1, 2, 2), 1e4, np.float32), np.array([[[[1e4, 1e4], [-1e4, 0], [0, 0]]]], np.float32)
    v = normal(1, 1, 3, 2, dtype=np.float32)
    for kernels in (True, False):
        with use_kernels(kernels):
            np.testing.assert_allclose(dot_product_attention(q, k, v).data, np.broadcast_to(v[:, :, :1], (1, 1, 2, 2)))
            k_nan = k.copy()
            k_nan[0, 0, 1, 0] = np.nan
            assert np.isnan(dot_product_attention(q, k_nan, v).data).all()


def test_memory_is_that_of_a_block(monkeypatch):
    monkeypatch.setattr(page, "suits", lambda *given: False)
    q = np.ones((1, 1, 3000, 2), np.float32)
    flux.gradient(lambda q: dot_product_attention(q, q, q).sum(), q[:, :, :10])
    monkeypatch.setattr(memory, "SMALLEST", 1 << 62)  # NumPy tells tracemalloc of all it allocates
    tracemalloc.start()
    try:
        flux.gradient(lambda q: dot_product_attention(q, q, q, causal=True).sum(), q)
        assert tracemalloc.get_traced_memory()[1] < 3000 * 3000 * 4 / 3  # a third of what one array of weights takes
    finally:
        tracemalloc.stop()


# -- errors ------------------------------------------------------------------------------------------------------------


def test_wrong_shapes_and_masks():
    q = np.ones((2, 4, 3, 5))
    cases = [
        ((q[0], q, q), "queries, keys and values must have four axes"),
        ((q, q[:1], q[:1]), "all must have one batch size, queries and keys vectors of one size"),
        ((q, q[..., :2], q), "all must have one batch size, queries and keys vectors of one size"),
        ((q, q, q[:, :, :2]), "keys and values the same heads and length, got queries"),
        ((q, q[:, :3], q[:, :3]), "the 4 heads of the queries must be a multiple of the 3 heads of the keys"),
        ((q, q[:, :0], q[:, :0]), "must be a multiple of the 0 heads"),
    ]
    for arrays, message in cases:
        with pytest.raises(ValueError, match=f"dot_product_attention: .*{message}"):
            dot_product_attention(*arrays)
    with pytest.raises(TypeError, match="mask must hold booleans, True where a query may attend to a key, got dtype float64"):
        dot_product_attention(q, q, q, mask=np.zeros((3, 3)))
    for shape in [(3,), (3, 4), (3, 3, 3), (2, 2, 3, 3), (1, 2, 4, 3, 3)]:
        with pytest.raises(ValueError, match=r"mask must have the shape \(queries, keys\) = \(3, 3\), \(2, 3, 3\) with the "
                           r"batch, or \(2, 4, 3, 3\) with the batch and the heads, got"):
            dot_product_attention(q, q, q, mask=np.ones(shape, bool))
    with pytest.raises(TypeError, match="`dim=` is spelled `axis=` here"):
        dot_product_attention(q, q, q, dim=1)


def test_integers_and_mixed_dtypes():
    q = np.arange(12).reshape(1, 1, 4, 3)
    assert dot_product_attention(q, q, q).dtype == np.float64
    half = q.astype(np.float16)
    assert dot_product_attention(half, q.astype(np.float32), half).dtype == np.float32


# -- kernels -----------------------------------------------------------------------------------------------------------


@needs_compiler
def test_kernels_run(monkeypatch):
    monkeypatch.setattr(page, "suits", lambda *given: False)
    q = normal(2, 4, 3, 5, dtype=np.float32)
    before = attention_weights.launches, attention_weights_backward.launches
    flux.gradient(lambda q: dot_product_attention(q, q, q).sum(), q)
    assert (attention_weights.launches, attention_weights_backward.launches) == (before[0] + 1, before[1] + 1)
    s = laid_out(normal(2, 2, 3, 4), "Fortran-ordered")
    p, lse = attention_weights(s, None, 1.0, -1)
    attention_weights_backward(s, s, None, lse, 1.0, -1)
    assert (attention_weights.launches, attention_weights_backward.launches) == (before[0] + 1, before[1] + 1)


def softmaxes_of(s, dp, last=4):
    masks = [None, *(np.random.default_rng(0).random(shape) < 0.5 for shape in (s.shape, (1, 1, *s.shape[2:]),
                                                                               (s.shape[0], 1, 1, s.shape[3])))]
    for mask in masks[:last]:
        for first in (-1, 2):
            wanted = attention_weights.reference(s, mask, 0.5, first)
            got = attention_weights(s.copy(), mask, 0.5, first)
            gradients = attention_weights_backward(s.copy(), dp.copy(), mask, got[1], 0.5, first)
            for a, b in zip([*got, *gradients],
                            [*wanted, *attention_weights_backward.reference(s, dp, mask, wanted[1], 0.5, first)], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [-400, 0, 400])
def test_the_ends_of_rows(level):
    """What is beyond the last key, zeros, is no part of a sum, however far from them the products are."""
    for width in [*range(1, 18), 33]:
        s, dp = 2 * normal(1, 2, 3, width, dtype=np.float32) + level, normal(1, 2, 3, width, seed=1, dtype=np.float32)
        mask = np.ones((1, 1, 3, width), bool)
        mask[..., -1] = width == 1
        for seen in (None, mask):
            p, lse = attention_weights.reference(s, seen, 0.5, -1)
            wanted = (p, lse, *attention_weights_backward.reference(s, dp, seen, lse, 0.5, -1))
            got = (*attention_weights(s.copy(), seen, 0.5, -1),
                   *attention_weights_backward(s.copy(), dp.copy(), seen, lse, 0.5, -1))
            for a, b in zip(got, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    s, dp = normal(2, 2, 3, 70, dtype=np.float32), normal(2, 2, 3, 70, seed=1, dtype=np.float32)
    with emulated(**options) as count:
        softmaxes_of(s, dp)
    assert count.launches == 16


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    with emulated(sanitize=sanitize):
        softmaxes_of(normal(1, 2, 2, 40, dtype=np.float32), normal(1, 2, 2, 40, seed=1, dtype=np.float32), last=2)
