"""The recursions of ctc against the sum over all alignments."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux import use_kernels
from minitorch_flux.ops.ctc import ctc, ctc_backward, ctc_forward
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_operation, laid_out, needs_compiler, normal


def states_of(targets, blank):
    """``(labels, ends)`` of a list of label sequences."""
    width = 2 * max(map(len, targets)) + 1
    labels = np.full((len(targets), width), blank)
    for row, target in zip(labels, targets, strict=True):
        row[1 : 2 * len(target) : 2] = target
    return labels, np.array([2 * len(target) + 1 for target in targets])


def collapsed(path, blank):
    return [c for c, _ in itertools.groupby(path) if c != blank]


def brute(x, targets, lengths, blank):
    """-log of the sum of the probabilities of all paths that collapse to the target."""
    lp = x - np.log(np.exp(x).sum(-1, keepdims=True))
    losses = []
    for n, (target, length) in enumerate(zip(targets, lengths, strict=True)):
        paths = itertools.product(range(x.shape[2]), repeat=int(length))
        p = sum(math.exp(sum(lp[t, n, c] for t, c in enumerate(path))) for path in paths if collapsed(path, blank) == target)
        losses.append(-math.log(p) if p else math.inf)
    return np.array(losses)


@st.composite
def cases(draw):
    """``(x, targets, lengths, blank)``; some sequences are too short for their labels."""
    steps, n, classes = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(2, 3))
    blank = draw(st.integers(0, classes - 1))
    label = st.sampled_from([c for c in range(classes) if c != blank])
    targets = [draw(st.lists(label, max_size=3)) for _ in range(n)]
    lengths = np.array([draw(st.integers(1, steps)) for _ in range(n)])
    return normal(steps, n, classes, seed=draw(st.integers(0, 9))), targets, lengths, blank


@given(cases())
def test_the_loss_is_the_sum_over_all_alignments(case):
    x, targets, lengths, blank = case
    labels, ends = states_of(targets, blank)
    wanted = brute(*case)
    for kernels in (True, False):
        with use_kernels(kernels):
            got = ctc(x, labels=labels, lengths=lengths, ends=ends, miss=0.0).data
        np.testing.assert_allclose(got, wanted, rtol=1e-10)


@given(cases())
def test_derivatives_of_both_orders(case):
    x, targets, lengths, blank = case
    labels, ends = states_of(targets, blank)
    possible = np.isfinite(brute(*case))
    if not possible.any():
        return
    keep = possible.nonzero()[0]
    keywords = {"labels": labels[keep], "lengths": lengths[keep], "ends": ends[keep], "miss": 0.0}
    check_operation(ctc, np.ascontiguousarray(x[:, keep]), tolerance=1e-5, **keywords)


def test_derivatives_where_labels_repeat():
    labels, ends = states_of([[0, 0, 1], [1], []], 2)
    keywords = {"labels": labels, "lengths": np.array([6, 4, 5]), "ends": ends, "miss": 0.0}
    check_operation(ctc, normal(6, 3, 4), tolerance=1e-5, dtypes=(np.float32, np.float16), tolerance32=1e-4, **keywords)


@pytest.mark.parametrize("kernels", [True, False])
def test_infinite_losses_have_the_gradient_miss_and_steps_beyond_the_end_none(kernels):
    labels, ends = states_of([[0, 0], [0], [1]], 2)
    lengths, x = np.array([2, 3, 0]), normal(4, 3, 3)
    with use_kernels(kernels):
        lp = np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))
        loss, alpha = ctc_forward(lp, labels, lengths, ends)
        dx = ctc_backward(np.ones(3), lp, labels, lengths, ends, alpha, loss, -5.0)
    assert np.isinf(loss).tolist() == [True, False, True]
    assert (dx[:2, 0] == -5).all()
    assert np.isfinite(dx[:, 1]).all()
    assert dx[:3, 1].all()
    assert not dx[2:, 0].any()
    assert not dx[3:, 1].any()
    assert not dx[:, 2].any()


@pytest.mark.parametrize("kernels", [True, False])
def test_impossible_classes_and_long_sequences(kernels):
    labels, ends = states_of([[0, 1, 0]], 2)
    x = normal(400, 1, 3, dtype=np.float32)
    x[::2, 0, 0] = -np.inf
    with use_kernels(kernels):
        loss = ctc(x, labels=labels, lengths=np.array([400]), ends=ends, miss=0.0).data
        assert np.isfinite(loss).all()
        wide = ctc(x.astype(np.float64), labels=labels, lengths=np.array([400]), ends=ends, miss=0.0).data
    np.testing.assert_allclose(loss, wide, rtol=1e-4)


def test_nothing_at_all():
    labels, ends = states_of([[]], 0)
    loss = ctc(np.zeros((0, 1, 2)), labels=labels, lengths=np.array([0]), ends=ends, miss=0.0)
    assert loss.data.tolist() == [0]
    nobody = {"labels": labels[:0], "lengths": np.zeros(0, int), "ends": ends[:0], "miss": 0.0}
    check_operation(ctc, np.zeros((3, 0, 2)), **nobody)


@needs_compiler
def test_kernels_run():
    labels, ends = states_of([[0, 1], [1]], 2)
    lengths, lp = np.array([4, 3]), np.log(np.full((4, 2, 3), 1 / 3))
    before = ctc_forward.launches, ctc_backward.launches
    loss, alpha = ctc_forward(lp, labels, lengths, ends)
    ctc_backward(loss, lp, labels, lengths, ends, alpha, loss, 0.0)
    assert (ctc_forward.launches, ctc_backward.launches) == (before[0] + 1, before[1] + 1)
    ctc_forward(laid_out(lp, "Fortran-ordered"), labels, lengths, ends)
    ctc_backward(loss, laid_out(lp, "Fortran-ordered"), labels, lengths, ends, alpha, loss, 0.0)
    assert (ctc_forward.launches, ctc_backward.launches) == (before[0] + 1, before[1] + 1)


def both(steps, longest):
    rng = np.random.default_rng(0)
    labels, ends = states_of([list(rng.integers(0, 5, longest)), [0, 0, 1], [], [1, 2]], 5)
    x = rng.standard_normal((steps, 4, 6)).astype(np.float32)
    lp = x - np.log(np.exp(x).sum(-1, keepdims=True))
    lengths, dy = np.array([steps, 5, steps, 1]), rng.standard_normal(4).astype(np.float32)
    loss, alpha = ctc_forward(lp, labels, lengths, ends)
    wanted, slow = ctc_forward.reference(lp, labels, lengths, ends)
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)
    for n, length in enumerate(lengths):
        inside = slow[n, :length] > -60  # far below the largest the kernel's sums of three are no more than that
        np.testing.assert_allclose(alpha[n, :length][inside], slow[n, :length][inside], rtol=1e-3)
    dx = ctc_backward(dy, lp, labels, lengths, ends, alpha, loss, 0.5)
    np.testing.assert_allclose(dx, ctc_backward.reference(dy, lp, labels, lengths, ends, slow, wanted, 0.5), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    with emulated(**options) as count:
        both(24, 17)
    assert count.launches >= 2


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    with emulated(sanitize=sanitize):
        both(7, 4)
