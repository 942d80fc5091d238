"""Operations within the bound on work space: the bytes are counted where they are taken, from the pool."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import memory
from minitorch_flux.ops.attention import attention_backward, attention_forward
from minitorch_flux.ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from minitorch_flux.ops.geometry import window
from minitorch_flux.readings import KernelFile

RNG = np.random.default_rng(0)
SLACK = 1 << 15  # bytes of Python's own objects


@pytest.fixture(autouse=True)
def no_bound_afterwards():
    yield
    flux.set_workspace_limit(None)


def counted(f):
    """``(result, bytes)``: what ``f`` takes at the worst moment, of the pool or of NumPy, beside what its results keep."""
    f()  # what is made once is there
    smallest, memory.SMALLEST = memory.SMALLEST, 1 << 62  # NumPy tells tracemalloc of all it allocates
    tracemalloc.start()
    try:
        result = f()
        now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        memory.SMALLEST = smallest
    return result, most - now


def images(n, c, *sizes):
    return RNG.standard_normal((n, c, *sizes)).astype(np.float32)


CASES = {
    "3x3": (window("conv", (3, 3), 1, 1, 1), images(8, 32, 24, 24), images(32, 32, 3, 3)),
    "strided": (window("conv", (3, 3), 2, 1, 1), images(8, 16, 32, 32), images(64, 16, 3, 3)),
    "5x5": (window("conv", (5, 5), 1, 2, 1), images(4, 8, 40, 40), images(16, 8, 5, 5)),
    "small maps": (window("conv", (3, 3), 1, 1, 1), images(64, 24, 7, 7), images(24, 24, 3, 3)),
    "pointwise": (window("conv", (1, 1), 1, 0, 1), images(8, 64, 16, 16), images(32, 64, 1, 1)),
    "three axes": (window("conv", (3, 3, 3), 1, 1, 1), images(4, 4, 8, 16, 16), images(8, 4, 3, 3, 3)),
    "dilated": (window("conv", (3, 3), 1, 2, 2), images(4, 20, 24, 24), images(20, 20, 3, 3)),
}


def passes(case):
    box, x, w = CASES[case]
    box = box.at(x.shape[2:])
    y = conv_forward(x, w, box)
    return {
        "forward": lambda: conv_forward(x, w, box),
        "data": lambda: conv_data_forward(y, w, box, x.shape[2:]),
        "filter": lambda: conv_filter_forward(x, y, box),
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["forward", "data", "filter"])
def test_convolutions_take_no_more_and_give_the_same(case, name):
    f = passes(case)[name]
    wanted, free = counted(f)
    scale = np.abs(wanted).max()
    refused = []
    for limit in (1 << 24, free // 2, free // 4, 1 << 18, 1 << 16):
        flux.set_workspace_limit(limit)
        try:
            y, taken = counted(f)
        except MemoryError:
            refused.append(limit)
            continue
        assert taken <= limit + SLACK, f"{case} {name}: {taken} bytes under a bound of {limit}"
        np.testing.assert_allclose(y, wanted, atol=2e-5 * scale, rtol=1e-3)
    assert free // 2 not in refused or free // 2 < 1 << 19


def test_without_a_bound_nothing_changes_and_the_choice_is_kept():
    f = passes("3x3")["forward"]
    wanted = f()
    flux.set_workspace_limit(1 << 30)
    np.testing.assert_array_equal(f(), wanted)


def test_a_bound_that_no_algorithm_keeps_raises_with_what_is_needed():
    f = passes("5x5")["forward"]
    flux.set_workspace_limit(0)
    with pytest.raises(MemoryError, match=r"conv_forward: one sample takes [\d,]+ bytes .* than the bound of 0"):
        f()
    flux.set_workspace_limit(None)
    f()


@pytest.mark.parametrize("kvheads", [4, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_goes_through_fewer_queries_at_a_time(kvheads, masked, monkeypatch):
    monkeypatch.setattr("minitorch_flux.ops.attention.suits", lambda *given: False)  # blocks alone
    q, k, v, dy = (RNG.standard_normal((4, h, 256, 8)).astype(np.float32) for h in (4, kvheads, kvheads, 4))
    mask = RNG.random((1, 1, 256, 256)) < 0.7 if masked else None

    def forward():
        return attention_forward(q, k, v, mask, masked, 0.5)

    lse = forward()[1]

    def backward():
        return attention_backward(dy, q, k, v, lse, mask, masked, 0.5)

    for run, least in ((forward, 4 * 4 * 256), (backward, 50_000)):
        wanted, free = counted(run)
        assert free > 1 << 20
        for limit in (1 << 20, 300_000, 150_000):
            flux.set_workspace_limit(limit)
            found, taken = counted(run)
            assert taken <= limit + SLACK
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        flux.set_workspace_limit(least)
        with pytest.raises(MemoryError, match=f"attention_{run.__name__}: one sample takes"):
            run()
        flux.set_workspace_limit(None)


SIZES = st.integers(1, 40)


@given(st.integers(1, 3), st.sampled_from([(1, 1), (2, 1), (4, 2)]), SIZES, SIZES, st.integers(0, 20000))
def test_attention_of_any_shape_is_right_or_says_what_it_needs(n, heads, length, width, limit):
    q, k, v = (RNG.standard_normal((n, h, m, 3)).astype(np.float32) for h, m in
               ((heads[0], length), (heads[1], width), (heads[1], width)))

    def run():
        y, grads = flux.withgradient(lambda q, k, v: (flux.dot_product_attention(q, k, v) ** 2).sum(), q, k, v)
        return [y, *grads]

    wanted = run()
    flux.set_workspace_limit(limit)
    try:
        found = run()
    except MemoryError:
        assert limit < 10_000 * heads[0]
    else:
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    finally:
        flux.set_workspace_limit(None)


@pytest.mark.parametrize("kind", [flux.RNN, flux.LSTM, flux.GRU, flux.GRUv3])
def test_recurrent_layers_leave_their_weights_unpacked(kind, monkeypatch):
    flux.seed(0)
    m = kind(64, 160)
    x = RNG.standard_normal((6, 20, 64)).astype(np.float32)

    def run():
        value, grads = flux.withgradient(lambda m: (m(x) ** 2).sum(), m)
        return [value, grads.weight_ih_l0, grads.weight_hh_l0, grads.bias_ih_l0]

    launches = Counter()
    call = KernelFile.__call__

    def launch(self, name, *args, **keywords):
        launches[name] += 1
        return call(self, name, *args, **keywords)

    monkeypatch.setattr(KernelFile, "__call__", launch)
    wanted = run()
    assert launches.pop("pack")
    flux.set_workspace_limit(50_000)
    found = run()
    assert launches
    assert "pack" not in launches
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
