import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.crossentropies import (
    check_labels,
    fused_logitcrossentropy,
    logitcrossentropy_backward,
    logitcrossentropy_forward,
)
from minitorch_flux.ops.softmaxes import TILE
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_operation, laid_out, normal, uniform

CASES = [((4, 2), 1), ((9, 70), 1), ((5,), 0), ((6, 4), 0), ((2, 5, 3, 4), 1), ((3, 1), 1), ((2, 3, TILE + 5), 1)]
AGGS = ["none", "sum", "mean"]


def targets(kind, shape, axis):
    rng = np.random.default_rng(len(shape))
    if kind == "indices":
        return rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
    t = rng.uniform(size=shape)
    return t / t.sum(axis=axis, keepdims=True)


def by_loops(x, target, weight, axis, label_smoothing=0.0, agg="mean"):
    """The definition, one observation at a time."""
    x, classes = np.moveaxis(x, axis, -1), x.shape[axis]
    w = [1.0] * classes if weight is None else weight.tolist()
    losses, total = np.zeros(x.shape[:-1]), 0.0
    soft = target.ndim == x.ndim
    target = np.moveaxis(target, axis, -1) if soft else target
    for i in np.ndindex(losses.shape):
        norm = math.log(sum(math.exp(v) for v in x[i]))
        for c in range(classes):
            t = target[i][c] if soft else float(target[i] == c)
            q = (1 - label_smoothing) * t + label_smoothing / classes
            losses[i] -= w[c] * q * (x[i][c] - norm)
            total += w[c] * t
    if agg == "none":
        return losses
    return np.asarray(losses.sum() / (1 if agg == "sum" else losses.size if weight is None else total))


@pytest.mark.parametrize("agg", AGGS)
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_value_and_derivatives(shape, axis, kind, agg):
    x, t = normal(*shape), targets(kind, shape, axis)
    small = x.size < 1000
    for weight, smoothing in ((None, 0.0), (None, 0.1), (uniform(shape[axis], low=0.5, high=2), 0.2)):
        check_operation(
            lambda x, w=weight, a=smoothing: fused_logitcrossentropy(x, t, w, axis=axis, label_smoothing=a, agg=agg),
            x,
            oracle=lambda x, w=weight, a=smoothing: by_loops(x, t, w, axis, a, agg),
            order=2 if small else 1,
            dtypes=(np.float16, np.float32),
            wide=True,
        )


@pytest.mark.parametrize("agg", AGGS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((7, 5), 1), ((2, 4, 3, 5), 1)])
def test_against_torch(shape, axis, weighted, smoothing, agg):
    torch = pytest.importorskip("torch")
    x, y = normal(*shape), targets("indices", shape, axis)
    w = uniform(shape[axis], low=0.5, high=2) if weighted else None
    tx = torch.tensor(x, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        tx, torch.tensor(y), None if w is None else torch.tensor(w), reduction=agg, label_smoothing=smoothing
    )
    loss.sum().backward()
    for kernels in (True, False):
        with use_kernels(kernels):
            got, slope = logitcrossentropy_forward(x, y, w, axis, smoothing, agg)
        np.testing.assert_allclose(got, loss.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(slope, tx.grad.numpy(), atol=1e-12)


@given(
    n=st.integers(1, 6), classes=st.integers(1, 40), kind=st.sampled_from(["indices", "probabilities"]),
    smoothing=st.floats(0, 1), weighted=st.booleans(), agg=st.sampled_from(AGGS), scale=st.sampled_from([1, 30]),
)  # fmt: skip
def test_kernel_reference_and_loops_agree(n, classes, kind, smoothing, weighted, agg, scale):
    x, t = scale * normal(n, classes), targets(kind, (n, classes), 1)
    w = uniform(classes, low=0.1, high=2) if weighted else None
    loss, slope = logitcrossentropy_forward(x, t, w, 1, smoothing, agg)
    with use_kernels(False):
        loss2, slope2 = logitcrossentropy_forward(x, t, w, 1, smoothing, agg)
    np.testing.assert_allclose(loss, loss2, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(slope, slope2, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(loss, by_loops(x, t, w, 1, smoothing, agg), rtol=1e-10, atol=1e-10)


def test_indices_equal_one_hot_rows():
    y = np.array([0, 2, 1, 2])
    x, w = normal(4, 3), np.array([1.0, 3.0, 0.5])
    for agg in AGGS:
        a = logitcrossentropy_forward(x, y, w, 1, 0.1, agg)
        b = logitcrossentropy_forward(x, np.eye(3)[y], w, 1, 0.1, agg)
        for u, v in zip(a, b, strict=True):
            np.testing.assert_allclose(u, v, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_any_integers_are_class_indices(dtype):
    x = normal(4, 3)
    wanted, _ = logitcrossentropy_forward(x, np.array([2, 0, 1, 1]), None, 1)
    assert logitcrossentropy_forward(x, np.array([2, 0, 1, 1], dtype), None, 1)[0] == wanted


# -- extreme logits ----------------------------------------------------------------------------------------------------

INF = np.inf
EXTREME = [  # logits, label, loss, gradient
    ([0, INF], 1, 0, [0, 0]),
    ([0, INF], 0, INF, [-1, 1]),
    ([-INF, 0], 1, 0, [0, 0]),
    ([-INF, 0], 0, INF, [-1, 1]),
    ([INF, INF], 0, math.log(2), [-0.5, 0.5]),
    ([-INF, -INF], 0, math.log(2), [-0.5, 0.5]),
    ([1e38, -1e38], 0, 0, [0, 0]),
    ([3e38, -3e38], 1, INF, [1, -1]),
    ([1000, 0], 1, 1000, [1, -1]),
    ([np.nan, 0], 1, np.nan, [np.nan, np.nan]),
]


@pytest.mark.parametrize("axis", [1, 0])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(("x", "label", "loss", "slope"), EXTREME)
def test_extreme_logits(x, label, loss, slope, kernels, soft, axis):
    x, slope = np.array([x, [1, 2]], np.float32), np.array([slope], np.float32)
    y = np.array([label, 0])
    t = np.eye(2)[y] if soft else y
    if axis == 0:
        x, t = np.ascontiguousarray(x.T), np.ascontiguousarray(t.T)
    with use_kernels(kernels):
        got, g = logitcrossentropy_forward(x, t, None, axis, 0.0, "none")
    np.testing.assert_allclose(got[0], loss, rtol=1e-6)
    np.testing.assert_allclose((g if axis else g.T)[:1], slope, rtol=1e-6)


def test_smoothing_an_impossible_class_costs_everything():
    for kernels in (True, False):
        with use_kernels(kernels):
            assert logitcrossentropy_forward(np.array([[0.0, -INF]]), np.array([0]), None, 1, 0.1)[0] == INF


# -- wrong labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("weight", [None, np.ones(3)])
@pytest.mark.parametrize("agg", AGGS)
@pytest.mark.parametrize("label", [3, -1, 10**12])
def test_an_index_that_is_no_class_is_named(label, agg, weight, kernels):
    y = np.array([0, 1, label, 2])
    with use_kernels(kernels), pytest.raises(
        IndexError, match=rf"the class index {label} at position 2 is not one of the 3 classes, 0 to 2"
    ):
        logitcrossentropy_forward(normal(4, 3), y, weight, 1, 0.0, agg)


def test_its_position_in_an_image_is_named():
    y = np.zeros((2, 4, 5), int)
    y[1, 2, 3] = 7
    for kernels in (True, False):
        with use_kernels(kernels), pytest.raises(IndexError, match=r"class index 7 at position \(1, 2, 3\)"):
            logitcrossentropy_forward(normal(2, 3, 4, 5), y, None, 1)
    with pytest.raises(IndexError, match="focal: the class index 5 at position 0"):
        check_labels(np.array([5]), 2, "focal")


# -- how it runs -------------------------------------------------------------------------------------------------------


def test_one_operation_and_one_launch():
    x, y = flux.tensor(normal(4, 2, dtype=np.float32), requires_grad=True), np.array([0, 1, 1, 0])
    before = logitcrossentropy_forward.launches
    loss = fused_logitcrossentropy(x, y, None, axis=1)
    assert logitcrossentropy_forward.launches == before + 1
    assert loss.node.op is fused_logitcrossentropy
    assert loss.node.parents[0] is x
    loss.backward()
    assert logitcrossentropy_forward.launches == before + 1, "the gradient was formed already"


def test_the_kernel_declines_what_it_does_not_serve():
    f = logitcrossentropy_forward
    before = f.launches
    f(normal(0, 3), np.zeros(0, int), None, 1, 0.0, "sum")
    assert f.launches == before
    f(laid_out(normal(4, 3), "Fortran-ordered"), np.zeros(4, int), None, 1)
    assert f.launches == before + 1, "copied"
    before += 1
    for axis, y in ((0, np.zeros(3, int)), (1, np.zeros(4, int)), (1, normal(4, 3))):
        f(normal(4, 3), y, None, axis)
    assert f.launches == before + 3


def test_no_observation():
    for kernels in (True, False):
        with use_kernels(kernels):
            assert np.isnan(logitcrossentropy_forward(np.zeros((0, 3)), np.zeros(0, int), None, 1)[0])
            assert logitcrossentropy_forward(np.zeros((0, 3)), np.zeros(0, int), None, 1, 0.0, "sum")[0] == 0


def test_the_sum_is_the_same_bits_again():
    x, y = normal(1000, 37, dtype=np.float32), targets("indices", (1000, 37), 1)
    assert logitcrossentropy_forward(x, y, None, 1)[0] == logitcrossentropy_forward(x.copy(), y, None, 1)[0]


def test_backward_scales():
    slope = normal(2, 3, 4)
    np.testing.assert_array_equal(logitcrossentropy_backward(np.array(2.0), slope, slope.dtype, 1, "mean")[0], 2 * slope)
    dy = normal(2, 4)
    np.testing.assert_array_equal(logitcrossentropy_backward(dy, slope, slope.dtype, 1, "none")[0], dy[:, None] * slope)


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True},
                                     pytest.param({"sanitize": "address"}, marks=pytest.mark.slow),
                                     pytest.param({"sanitize": "thread"}, marks=pytest.mark.slow)])  # fmt: skip
def test_in_the_emulator(options):
    for shape, axis in (((5, 70), 1), ((2, 3, 41), 1)):
        x = normal(*shape, dtype=np.float32)
        w = uniform(shape[axis], low=0.5, high=2).astype(np.float32)
        for kind in ("indices", "probabilities"):
            t = targets(kind, shape, axis)
            for weight, smoothing in ((None, 0.0), (w, 0.1)):
                with emulated(**options) as count:
                    loss, slope = logitcrossentropy_forward(x, t, weight, axis, smoothing)
                wanted, slope2 = logitcrossentropy_forward.reference(x, t, weight, axis, smoothing)
                np.testing.assert_allclose(loss, wanted, rtol=1e-5)
                np.testing.assert_allclose(slope, slope2, atol=1e-6)
                assert count.launches == 1
