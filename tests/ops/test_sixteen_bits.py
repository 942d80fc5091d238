"""16-bit floats are computed in float32 and rounded once: operations with sums inside give float32's result, rounded."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import losses
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.attention import dot_product_attention, self_attention
from tests.oracles import assert_rounded, normal, short_dtypes

ROWS = (4 * normal(5, 33, seed=1),)
HEADS = tuple(normal(2, 3, 9, 8, seed=i) for i in range(3))
PACKED = (normal(2, 9, 3 * 24, seed=4),)
OPS = {
    "softmax": (flux.softmax, ROWS),
    "softmax of columns": (lambda x: flux.softmax(x, axis=0), ROWS),
    "logsoftmax": (flux.logsoftmax, ROWS),
    "logsumexp": (flux.logsumexp, ROWS),
    "attention": (dot_product_attention, HEADS),
    "causal attention": (lambda q, k, v: dot_product_attention(q, k, v, causal=True), HEADS),
    "self-attention": (lambda x: self_attention(x, heads=3, kvheads=3, mask=None, causal=False, scale=0.35), PACKED),
    "sum": (lambda x: flux.sum(x, axis=1), ROWS),
    "mean": (lambda x: flux.mean(x, axis=0), ROWS),
    "variance": (lambda x: flux.var(x, axis=1), ROWS),
    "length": (lambda x: flux.norm(x, axis=1), ROWS),
    "product": (flux.matmul, (ROWS[0], ROWS[0].T.copy())),
    "running sum": (lambda x: flux.cumsum(x, axis=1), ROWS),
}


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", short_dtypes(), ids=str)
@pytest.mark.parametrize("name", OPS)
def test_results_and_gradients_are_float32s_rounded(name, dtype, kernels):
    f, arrays = OPS[name]
    short = [a.astype(dtype) for a in arrays]
    with use_kernels(kernels):
        y, back = flux.vjp(f, *short)
        exact, exact_back = flux.vjp(f, *(a.astype(np.float32) for a in short))
        dy = normal(*y.shape, seed=9).astype(dtype)
        grads, wanted = back(dy), exact_back(dy.astype(np.float32))
    assert_rounded(y, exact)
    if len(arrays) == 1:
        grads, wanted = (grads,), (wanted,)
    unit = 2.0**-10 if dtype == np.float16 else 2.0**-7
    for g, w in zip(grads, wanted, strict=True):
        assert g.dtype == dtype
        np.testing.assert_allclose(g.astype(np.float64), w, rtol=0, atol=unit * np.abs(w).max())


def test_the_gradient_of_a_loss_is_rounded_once_and_after_the_loss_scale():
    """A small probability, divided by the number of samples, is below float16's smallest number; times the scale it is not."""
    x, labels = np.tile(np.array([12, 0, 0], np.float16), (1000, 1)), np.zeros(1000, int)
    plain = flux.gradient(lambda x: losses.logitcrossentropy(x, labels), x)
    scaled = flux.gradient(lambda x: losses.logitcrossentropy(x, labels) * 65536.0, x)
    assert plain.dtype == scaled.dtype == np.float16
    assert not plain.any()
    small = np.exp(-12) / (1 + 2 * np.exp(-12)) / 1000
    np.testing.assert_allclose(scaled[:, 1:].astype(np.float32) / 65536, small, rtol=1e-3)


def test_what_overflows_becomes_infinite_and_warns_nobody():
    x = np.full((1, 3), 1e-3, np.float16)
    g = flux.gradient(lambda x: losses.logitcrossentropy(x, np.array([0])) * 1e6, x)
    np.testing.assert_array_equal(g, [[-np.inf, np.inf, np.inf]])
