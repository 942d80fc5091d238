"""ctc_loss against PyTorch."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.losses import ctc_loss
from tests.oracles import normal

STEPS, BATCH, CLASSES = 12, 5, 6
TARGETS = np.random.default_rng(3).integers(0, CLASSES - 1, (BATCH, 4))
TARGET_LENGTHS, INPUT_LENGTHS = np.array([4, 3, 0, 2, 4]), np.array([12, 9, 12, 5, 11])


def torch_loss(x, targets, input_lengths, target_lengths, **keywords):
    """``(loss, gradient)`` of PyTorch."""
    torch = pytest.importorskip("torch")
    t = torch.tensor(x, requires_grad=True)
    loss = torch.nn.functional.ctc_loss(t.log_softmax(2), torch.tensor(targets), torch.tensor(input_lengths),
                                        torch.tensor(target_lengths), **keywords)  # fmt: skip
    loss.sum().backward()
    return loss.detach().numpy(), t.grad.numpy()


@pytest.mark.parametrize("agg", ["sum", "none", "mean"])
@pytest.mark.parametrize("blank", [None, 0, 3])
def test_batches_are_torchs(agg, blank):
    x, last = normal(STEPS, BATCH, CLASSES), CLASSES - 1 if blank is None else blank
    y = np.where(last > TARGETS, TARGETS, TARGETS + 1) if blank is not None else TARGETS
    keywords = {"input_lengths": INPUT_LENGTHS, "target_lengths": TARGET_LENGTHS, "blank": blank}
    loss, dx = flux.withgradient(lambda x: (l := ctc_loss(x, y, agg=agg, **keywords)) if agg != "none" else
                                 ((l := ctc_loss(x, y, agg=agg, **keywords)).sum(), l), x)  # fmt: skip
    wanted, dwanted = torch_loss(x, y, INPUT_LENGTHS, TARGET_LENGTHS, blank=last, reduction="none" if agg == "none" else "sum")
    if agg == "none":
        loss = loss[1]
    if agg == "mean":  # the plain mean: PyTorch's divides each loss by its target length before
        wanted, dwanted = wanted / BATCH, dwanted / BATCH
    np.testing.assert_allclose(loss, wanted, rtol=1e-9)
    np.testing.assert_allclose(dx, dwanted, rtol=1e-9, atol=1e-12)


def test_float32_and_batch_first():
    x = normal(STEPS, BATCH, CLASSES, dtype=np.float32)
    loss, dx = flux.withgradient(lambda x: ctc_loss(x, TARGETS, agg="sum"), x)
    assert loss.dtype == dx.dtype == np.float32
    wanted, dwanted = torch_loss(x, TARGETS, [STEPS] * BATCH, [4] * BATCH, blank=CLASSES - 1, reduction="sum")
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(dx, dwanted, atol=1e-5)
    turned = np.ascontiguousarray(x.swapaxes(0, 1))
    other, dturned = flux.withgradient(lambda x: ctc_loss(x, TARGETS, agg="sum", batch_first=True), turned)
    assert other == loss
    np.testing.assert_array_equal(dturned, dx.swapaxes(0, 1))


def test_one_sequence_as_in_flux():
    x, y = normal(STEPS, CLASSES), [0, 1, 1, 4]
    loss = ctc_loss(x, y)
    assert loss.shape == ()
    wanted, _ = torch_loss(x[:, None], [y], [STEPS], [4], blank=CLASSES - 1, reduction="sum")  # the last class is the blank
    np.testing.assert_allclose(loss.data, wanted, rtol=1e-10)
    np.testing.assert_allclose(ctc_loss(x[:9], np.array(y), blank=5).data,
                               ctc_loss(x, np.array([*y, 2]), input_lengths=9, target_lengths=[4]).data)  # fmt: skip
    blank_only = x[:, -1] - np.log(np.exp(x).sum(1))
    np.testing.assert_allclose(ctc_loss(x, []).data, -blank_only.sum())
    uniform = ctc_loss(np.zeros((2, 3)), [0]).data  # paths 0 0, 0 -, - 0 of nine
    np.testing.assert_allclose(uniform, -np.log(3 / 9))


def test_a_list_of_sequences_is_a_padded_batch():
    x = normal(STEPS, BATCH, CLASSES)
    sequences = [list(row[:n]) for row, n in zip(TARGETS, TARGET_LENGTHS, strict=True)]
    np.testing.assert_array_equal(ctc_loss(x, sequences, agg="none").data,
                                  ctc_loss(x, TARGETS, target_lengths=TARGET_LENGTHS, agg="none").data)  # fmt: skip
    np.testing.assert_array_equal(ctc_loss(x, [np.array(s, int) for s in sequences]).data, ctc_loss(x, sequences).data)


def test_what_lies_beyond_a_length_may_be_anything():
    x, y = normal(STEPS, BATCH, CLASSES), TARGETS.copy()
    wanted = ctc_loss(x, y, target_lengths=TARGET_LENGTHS).data
    y[np.arange(4) >= TARGET_LENGTHS[:, None]] = -1
    assert ctc_loss(x, y, target_lengths=flux.tensor(TARGET_LENGTHS)).data == wanted


def test_gradients_of_both_orders():
    keywords = {"input_lengths": [4, 3], "target_lengths": [2, 1]}
    flux.check(lambda x: ctc_loss(x, np.array([[0, 0], [1, 0]]), **keywords), normal(4, 2, 3))
    flux.check(lambda x: ctc_loss(x, [0, 1], blank=2, agg="sum"), normal(3, 3))


@pytest.mark.parametrize("kernels", [True, False])
def test_too_few_steps_for_the_labels(kernels):
    x, y = normal(3, 2, 4), np.array([[1, 1, 0], [1, 2, 0]])  # two equal labels need a blank between them
    with flux.use_kernels(kernels):
        f = lambda x, **kw: (l := ctc_loss(x, y, agg="none", **kw), l)[1].sum()  # noqa: E731
        loss, dx = flux.withgradient(f, x)
        assert loss == np.inf
        assert np.isnan(dx[:, 0]).all()
        assert np.isfinite(dx[:, 1]).all()
        loss, dx = flux.withgradient(lambda x: f(x, zero_infinity=True), x)
    wanted, dwanted = torch_loss(x, y, [3, 3], [3, 3], blank=3, reduction="sum", zero_infinity=True)
    np.testing.assert_allclose(loss, wanted, rtol=1e-9)
    np.testing.assert_allclose(dx, dwanted, rtol=1e-9, atol=1e-12)
    hessian = flux.hessian(lambda x: f(x, zero_infinity=True), x)
    assert np.isfinite(hessian).all()
    assert ctc_loss(np.zeros((0, 3)), [0]).data == np.inf
    assert ctc_loss(np.zeros((0, 3)), []).data == 0


def test_own_aggregates_and_empty_batches():
    x = normal(STEPS, BATCH, CLASSES)
    largest = ctc_loss(x, TARGETS, agg=lambda losses: losses.max())
    assert largest.data == ctc_loss(x, TARGETS, agg="none").data.max()
    assert ctc_loss(np.zeros((4, 0, 3)), np.zeros((0, 2), int), agg="none").shape == (0,)


def test_wrong_inputs():
    x = normal(STEPS, BATCH, CLASSES)
    cases = [
        ((np.zeros(3), [0]), {}, r"y_hat must have the shape \(steps, classes\), or \(steps, batch, classes\), got \(3,\)"),
        ((np.zeros((1, 1, 1, 1)), [0]), {"batch_first": True}, r"or \(batch, steps, classes\), got \(1, 1, 1, 1\)"),
        ((np.zeros((3, 0)), [0]), {}, r"y_hat of shape \(3, 0\) has no classes along its last axis"),
        ((x, TARGETS), {"blank": 6}, "blank=6 is not one of the 6 classes, 0 to 5"),
        ((x, TARGETS[:3]), {}, r"y must have the shape \(batch, length\) = \(5, length\), or a list of 5 sequences, got"),
        ((x[:, 0], TARGETS), {}, r"y must have the shape \(length,\), got \(5, 4\)"),
        ((x, [[0], [1]]), {}, "y is a list of 2 sequences, y_hat has a batch of 5"),
        ((x, [[0]] * 5), {"target_lengths": [1] * 5}, "a list of sequences says itself how long they are, give no target_len"),
        ((x, TARGETS), {"input_lengths": [12, 12]}, r"input_lengths must have the shape \(5,\), one for each sequence, got"),
        ((x, TARGETS), {"input_lengths": [12, 13, 1, 1, 1]}, r"input_lengths must be from 0 to 12, got \[12, 13, 1, 1, 1\]"),
        ((x, TARGETS), {"target_lengths": [-1, 1, 1, 1, 5]}, r"target_lengths must be from 0 to 4, got \[-1, 1, 1, 1, 5\]"),
        ((x, TARGETS), {"agg": "median"}, "agg must be 'mean', 'sum', 'none' or a function, got 'median'"),
    ]
    for arguments, keywords, message in cases:
        with pytest.raises(ValueError, match=f"ctc_loss: .*{message}"):
            ctc_loss(*arguments, **keywords)
    for what, keywords in (("labels", {}), ("input_lengths", {"input_lengths": np.ones(5)})):
        with pytest.raises(TypeError, match=f"ctc_loss: {what} must be integers, got dtype float64"):
            ctc_loss(x, TARGETS * 1.0 if what == "labels" else TARGETS, **keywords)
    for label, what in ((5, "the blank"), (6, "not one of the 6 classes, 0 to 5"), (-1, "not one of the 6 classes")):
        y = TARGETS.copy()
        y[2, 1] = label
        with pytest.raises(IndexError, match=f"ctc_loss: the label {label} at position 1 of sequence 2 is {what}"):
            ctc_loss(x, y)
