"""The kernel that makes attention with its products, against the blocks of attention.py (which nested loops check)."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.backend.threads import num_threads
from minitorch_flux.ops import fused_attention as page
from minitorch_flux.ops.attention import (
    attention_backward,
    attention_forward,
    self_attention_backward,
    self_attention_forward,
)
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import laid_out, needs_compiler, normal

TOLERANCE = {np.float32: {"rtol": 1e-4, "atol": 2e-5}, np.float64: {"rtol": 1e-10, "atol": 1e-12}}


def masks(n, h, length, width):
    rng = np.random.default_rng(0)
    return [None, *(rng.random(shape) < 0.6 for shape in ((n, 1, length, width), (1, h, 1, width), (n, h, length, width)))]


def agree(q, k, v, dy, mask, causal, **tolerance):
    """Both passes equal the references; in how many launches."""
    y, lse = attention_forward.reference(q, k, v, mask, causal, 0.3)
    wanted = y, lse, *attention_backward.reference(dy, q, k, v, lse, mask, causal, 0.3)
    before = attention_forward.launches + attention_backward.launches
    got = *attention_forward(q, k, v, mask, causal, 0.3), *attention_backward(dy, q, k, v, lse, mask, causal, 0.3)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **tolerance)
    return attention_forward.launches + attention_backward.launches - before


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["contiguous", "heads inside", "with gaps"])
@pytest.mark.parametrize(("n", "h", "kv", "length", "width", "d", "e"), [
    (2, 2, 2, 5, 8, 3, 4), (2, 4, 2, 70, 73, 33, 20), (1, 6, 2, 17, 49, 64, 96), (2, 2, 2, 1, 1, 1, 1),
    (3, 1, 1, 66, 15, 49, 2),
])  # fmt: skip
def test_it_is_what_the_blocks_give(n, h, kv, length, width, d, e, layout, dtype):
    def heads(*shape, seed):
        if layout == "heads inside":
            a, b, c, last = shape
            return normal(a, c, b, last, seed=seed, dtype=dtype).swapaxes(1, 2)
        x = normal(*shape, seed=seed, dtype=dtype)
        return laid_out(x, "with gaps") if layout == "with gaps" else x

    q, k, v = heads(n, h, length, d, seed=1), heads(n, kv, width, d, seed=2), heads(n, kv, width, e, seed=3)
    dy = heads(n, h, length, e, seed=4)
    for mask in masks(n, h, length, width):
        for causal in (False, True):
            assert agree(q, k, v, dy, mask, causal, **TOLERANCE[dtype]) == 2


@needs_compiler
@pytest.mark.parametrize(("heads", "kvheads"), [(4, 4), (4, 2), (2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_queries_keys_and_values_side_by_side(heads, kvheads, dtype):
    x = normal(2, 19, (heads + 2 * kvheads) * 6, dtype=dtype)
    dy = normal(2, 19, heads * 6, seed=1, dtype=dtype)
    y, lse = self_attention_forward.reference(x, heads, kvheads, None, True, 0.3)
    wanted = y, lse, self_attention_backward.reference(dy, x, lse, heads, kvheads, None, True, 0.3)
    got = (*self_attention_forward(x, heads, kvheads, None, True, 0.3),
           self_attention_backward(dy, x, lse, heads, kvheads, None, True, 0.3))
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **TOLERANCE.get(dtype, {"rtol": 2e-3, "atol": 2e-3}))


@needs_compiler
@pytest.mark.parametrize("level", [-300, 300])
def test_what_is_far_from_zero_infinite_or_nan(level):
    q, k = normal(2, 2, 3, 4, dtype=np.float32), normal(2, 2, 18, 4, seed=1, dtype=np.float32)
    v, dy = normal(2, 2, 18, 5, seed=2, dtype=np.float32), normal(2, 2, 3, 5, seed=3, dtype=np.float32)
    q[..., 0], k[..., 0] = 40, level  # products about 12,000 times the scale from the zeros beyond the last key
    assert agree(q, k, v, dy, None, False, rtol=5e-3, atol=5e-3) == 2
    q[0, 0, 1] = np.nan
    y, lse = attention_forward(q, k, v, None, False, 0.3)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(q[..., :1]) & np.ones(5, bool))
    np.testing.assert_array_equal(np.isnan(lse), np.isnan(q[..., 0]))
    y, lse = attention_forward(q, k, v, np.zeros((1, 1, 1, 18), bool), False, 0.3)
    np.testing.assert_array_equal(y[1], np.zeros_like(y[1]))
    np.testing.assert_array_equal(lse[1], np.full_like(lse[1], np.inf))


def test_declined():
    q = normal(1, num_threads() - 1, 3, 4, dtype=np.float32) if num_threads() > 1 else normal(1, 1, 0, 4, dtype=np.float32)
    long = normal(2, 2, page.LONGEST + 1, 1, dtype=np.float32)
    before = attention_forward.launches
    attention_forward(q, q, q, None, False, 0.3)
    attention_forward(long[:, :, :1], long, long, None, False, 0.3)
    with flux.use_kernels(False):
        attention_forward(long[:, :, :2], long[:, :, :2], long[:, :, :2], None, False, 0.3)
    assert attention_forward.launches == before


@needs_compiler
def test_the_same_bits_each_time():
    q, dy = normal(2, 2, 70, 8, dtype=np.float32), normal(2, 2, 70, 8, seed=1, dtype=np.float32)
    first, again = (flux.vjp(lambda q: flux.dot_product_attention(q, q, q), q)[1](dy) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    q, k = normal(2, 2, 9, 5, dtype=np.float32), normal(2, 2, 37, 5, seed=1, dtype=np.float32)
    v, dy = normal(2, 2, 37, 6, seed=2, dtype=np.float32), normal(2, 2, 9, 6, seed=3, dtype=np.float32)
    with emulated(**how) as count:
        for mask in masks(2, 2, 9, 37)[:2]:
            agree(q, k, v, dy, mask, mask is None, rtol=1e-4, atol=2e-5)
    assert count.launches >= 4


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    q = normal(2, 2, 5, 3, dtype=np.float32)
    with emulated(sanitize=sanitize):
        y, lse = attention_forward(q, q, q, None, True, 0.3)
        attention_backward(y, q, q, q, lse, None, True, 0.3)
