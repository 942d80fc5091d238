"""The fused dense operation: its kernels against loops, the reference and PyTorch."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import gelu, identity, leakyrelu, relu, tanh
from minitorch_flux.backend import FUNCTIONS, use_kernels
from minitorch_flux.backend.threads import num_threads
from minitorch_flux.ops.dense import (
    FEW,
    MANY,
    by_panels,
    by_rows,
    dense,
    dense_data,
    dense_forward,
    dense_weights,
    weights_by_parts,
)
from tests.oracles import needs_compiler

RNG = np.random.default_rng(0)


def arrays(rows, k, n, dtype=np.float64):
    return tuple(RNG.standard_normal(shape).astype(dtype) for shape in ((rows, k), (n, k), (n,)))


def by_loops(x, w, b, act):
    z = np.empty((len(x), len(w)))
    for i, j in itertools.product(range(len(x)), range(len(w))):
        z[i, j] = b[j] + sum(float(u) * float(v) for u, v in zip(x[i], w[j], strict=True))
    return act.function(np, z), z


@needs_compiler
@pytest.mark.parametrize("act", [identity, relu, tanh, gelu, leakyrelu])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (9, 7, 49), (34, 3, 48), (8, 50, 97)])
def test_both_kernels_against_loops(shape, act):
    x, w, b = arrays(*shape)
    y, z = by_loops(x, w, b, act)
    for found in (by_rows(x, w, b, act), *(by_panels(x, w, b, act, True, parts) for parts in (1, 2, 5)),
                  by_panels(x, np.ascontiguousarray(w.T), b, act, False, 2)):
        np.testing.assert_allclose(found[0], y, rtol=1e-12, atol=1e-12)
        if act.from_output:
            assert found[1] is None
        else:
            np.testing.assert_allclose(found[1], z, rtol=1e-12, atol=1e-12)


@needs_compiler
@given(st.integers(1, 70), st.integers(1, 60), st.integers(1, 110), st.sampled_from([np.float32, np.float64]), st.booleans(),
       st.integers(1, 4))
def test_any_shape_is_that_of_the_reference(rows, k, n, dtype, with_bias, parts):
    x, w, b = arrays(rows, k, n, dtype)
    b = b if with_bias else None
    wanted = dense_forward.reference(x, w, b, gelu)
    for found in (dense_forward(x, w, b, gelu), by_panels(x, w, b, gelu, True, parts), by_rows(x, w, b, gelu)):
        for a, e in zip(found, wanted, strict=True):
            assert (a.dtype, a.shape) == (e.dtype, e.shape)
            np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)
    dz = RNG.standard_normal((rows, n)).astype(dtype)
    np.testing.assert_allclose(dense_data(dz, w), dz @ w, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_the_bits_depend_neither_on_the_threads_nor_on_the_other_rows():
    x, w, b = arrays(100, 60, 130, np.float32)
    whole = by_panels(x, w, b, tanh, True, 1)[0]
    for parts in (2, 3, 7):
        np.testing.assert_array_equal(by_panels(x, w, b, tanh, True, parts)[0], whole)
    np.testing.assert_array_equal(by_panels(x[13:50], w, b, tanh, True, 1)[0], whole[13:50])


@needs_compiler
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 110), st.sampled_from([np.float32, np.float64]),
       st.integers(1, 4), st.integers(1, 50), st.sampled_from([8, 16, 1024]))
def test_gradients_of_weights_of_any_shape(rows, n, k, dtype, parts, chunk, group):
    dz, x = RNG.standard_normal((rows, n)).astype(dtype), RNG.standard_normal((rows, k)).astype(dtype)
    wanted = np.einsum("mi,mj->ij", dz, x)
    found = weights_by_parts(dz, x, parts, chunk, group)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(weights_by_parts(dz, x, 1, chunk, 1024), found)  # whichever thread makes which part


@needs_compiler
def test_large_gradients_of_weights_are_the_kernels():
    dz, x = RNG.standard_normal((64, 128)), RNG.standard_normal((64, 128))
    assert dz.size * 128 == MANY
    before = FUNCTIONS["dense_weights"].launches
    for a, b in ((dz, x), (dz[::-1], np.asfortranarray(x))):
        np.testing.assert_allclose(dense_weights(a, b), a.T @ b, rtol=1e-9, atol=1e-12)
    assert FUNCTIONS["dense_weights"].launches == before + 2
    dz[3, 5], x[7, 9] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isfinite(dense_weights(dz, x)), np.isfinite(dz.T @ x))
    dense_weights(dz[:, 1:], x)
    dense_weights(dz, x.astype(np.float32))
    dense_weights(*[np.tile(a, (1, 16))[:7] for a in (dz, x)])
    try:
        flux.set_workspace_limit(1000)
        np.testing.assert_allclose(dense_weights(dz[10:], x[10:]), dz[10:].T @ x[10:], rtol=1e-9, atol=1e-12)
    finally:
        flux.set_workspace_limit(None)
    assert FUNCTIONS["dense_weights"].launches == before + 3


def test_one_sample_makes_an_outer_product():
    dz, x = RNG.standard_normal((1, 7)), RNG.standard_normal((1, 9))
    x[0, 2], dz[0, 3] = np.nan, np.inf
    np.testing.assert_array_equal(dense_weights.reference(dz, x), np.outer(dz, x))


def launches(f):
    functions = [FUNCTIONS[n] for n in ("dense_forward", "dense_data")]
    before = [g.launches for g in functions]
    f()
    return [g.launches - n for g, n in zip(functions, before, strict=True)]


@needs_compiler
def test_the_fast_path_runs_forward_and_backward():
    x, w, b = arrays(64, 50, 40, np.float32)

    def step():
        flux.gradient(lambda x, w, b: dense(x, w, b, activation=relu).sum(), x, w, b)

    assert launches(step) == [1, 1]
    with use_kernels(False):
        assert launches(step) == [0, 0]
    x, w, b = arrays(2, 64, 64, np.float32)
    assert x.size * len(w) == FEW
    assert launches(step) == [1, 0]


@pytest.mark.parametrize("shape", [(33, 40, 57), (75, 110, 130)])
def test_gradients_against_torch(shape):
    torch = pytest.importorskip("torch")
    x, w, b = arrays(*shape)
    x = x.reshape(3, -1, shape[1])
    dy = RNG.standard_normal((*x.shape[:2], shape[2]))
    grads = flux.gradient(lambda *a: (dense(*a, activation=gelu) * dy).sum(), x, w, b)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = torch.nn.functional.gelu(torch.nn.functional.linear(*tensors), approximate="tanh")
    (y * torch.tensor(dy)).sum().backward()
    np.testing.assert_allclose(dense(x, w, b, activation=gelu).data, y.detach().numpy(), rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_derivatives_of_both_orders():
    x, w, b = arrays(9, 31, 35)
    assert x.size * len(w) > FEW
    flux.check(lambda *a: dense(*a, activation=tanh), x, w, b)


@needs_compiler
@pytest.mark.parametrize("rows", [3, 40])
def test_what_is_not_finite_stays_where_it_is(rows):
    x, w, b = arrays(rows, 21, 50, np.float32)
    x[1, 2], x[2, 3], w[4] = np.nan, np.inf, 0
    with np.errstate(invalid="ignore"):
        wanted, found = dense_forward.reference(x, w, b, relu)[0], dense_forward(x, w, b, relu)[0]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))
    assert np.isnan(found[1]).all()


@needs_compiler
def test_arrays_that_are_not_contiguous_and_the_bound_on_work_space():
    x, w, b = arrays(64, 50, 40, np.float32)
    wanted = dense_forward.reference(x, w, b, relu)[0]
    for a, c in ((np.asfortranarray(x), w), (x[::-1], w), (x, np.asfortranarray(w))):
        np.testing.assert_allclose(dense_forward(a, c, b, relu)[0], dense_forward.reference(a, c, b, relu)[0], atol=1e-4)
    try:
        flux.set_workspace_limit(num_threads() * 50 * 48 * 4 - 1)
        assert launches(lambda: dense_forward(x, w, b, relu)) == [0, 0]
        np.testing.assert_allclose(dense_forward(x, w, b, relu)[0], wanted, atol=1e-4)
        flux.set_workspace_limit(num_threads() * 50 * 48 * 4)
        assert launches(lambda: dense_forward(x, w, b, relu)) == [1, 0]
    finally:
        flux.set_workspace_limit(None)
