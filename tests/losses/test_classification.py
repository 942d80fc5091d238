import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import losses
from minitorch_flux.ops.softmaxes import softmax
from tests.oracles import check_against_torch, check_operation, normal, uniform

INF = np.inf


def distribution(*shape, axis=-1, seed=0):
    p = uniform(*shape, low=0.1, high=1, seed=seed)
    return p / p.sum(axis=axis, keepdims=True)


# the terms of each class, and of each element, in NumPy
CLASSES = {
    "logitcrossentropy": lambda x, t: -t * (x - np.log(np.exp(x).sum(-1, keepdims=True))),
    "crossentropy": lambda p, t: -t * np.log(p),
    "kldivergence": lambda p, t: t * np.log(t) - t * np.log(p),
    "focal_loss": lambda p, t: -t * (1 - p) ** 2 * np.log(p),
}
ELEMENTS = {
    "logitbinarycrossentropy": lambda x, y: (1 - y) * x + np.log(1 + np.exp(-x)),
    "binarycrossentropy": lambda p, y: -y * np.log(p) - (1 - y) * np.log(1 - p),
    "binary_focal_loss": lambda p, y: -((1 - (q := y * p + (1 - y) * (1 - p))) ** 2) * np.log(q),
}
P, T = distribution(5, 4), distribution(5, 4, seed=1)
LABELS = np.array([3, 0, 1, 1, 2])
AGGS = [("mean", np.mean), ("sum", np.sum), ("none", np.array)]


# -- several classes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("agg", "put"), AGGS)
@pytest.mark.parametrize("name", CLASSES)
def test_classes_value_and_derivatives_in_both_arguments(name, agg, put):
    check_operation(
        getattr(losses, name), P, T, agg=agg, tolerance=1e-5,
        oracle=lambda p, t, agg: np.asarray(put(CLASSES[name](p, t).sum(-1))),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["logitcrossentropy", "crossentropy", "focal_loss"])
def test_class_indices_equal_one_hot_rows(name):
    loss, w = getattr(losses, name), np.array([1.0, 2.0, 0.5, 3.0])
    for y in (LABELS, LABELS.astype(np.uint8), LABELS.tolist(), flux.tensor(LABELS)):
        for options in ({}, {"agg": "none"}, {"weight": w}, {"weight": w, "agg": "sum"}):
            for hot in (np.eye(4)[LABELS], np.eye(4, dtype=bool)[LABELS], np.eye(4, dtype=int)[LABELS]):
                np.testing.assert_allclose(loss(P, y, **options).data, loss(P, hot, **options).data, rtol=1e-13)
    check_operation(lambda p: loss(p, LABELS), P)


@pytest.mark.parametrize("name", CLASSES)
def test_class_weights(name):
    loss, w = getattr(losses, name), np.array([1.0, 2.0, 0.5, 3.0])
    each, total = (w * CLASSES[name](P, T)).sum(-1), (w * T).sum()
    for agg, wanted in (("mean", each.sum() / total), ("sum", each.sum()), ("none", each)):
        np.testing.assert_allclose(loss(P, T, agg=agg, weight=w).data, wanted, rtol=1e-10)
    np.testing.assert_allclose(loss(P, T, agg=lambda l: l.max(), weight=w).data, each.max(), rtol=1e-10)
    check_operation(lambda p, t, w: loss(p, t, weight=w), P, T, w, tolerance=1e-5)


@pytest.mark.parametrize("axis", [1, -3, 0, 3])
@pytest.mark.parametrize("name", CLASSES)
def test_the_class_axis_of_images(name, axis):
    loss = getattr(losses, name)
    p, t = distribution(2, 3, 4, 5, axis=axis), distribution(2, 3, 4, 5, axis=axis, seed=1)
    last = loss(np.moveaxis(p, axis, -1), np.moveaxis(t, axis, -1), agg="none")
    np.testing.assert_allclose(loss(p, t, axis=axis, agg="none").data, last.data, rtol=1e-12)
    np.testing.assert_allclose(loss(p, t, axis=axis).data, last.data.mean(), rtol=1e-12)
    labels = t.argmax(axis=axis)
    assert loss(p, labels, axis=axis, agg="none").shape == labels.shape


def test_against_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x, labels = normal(6, 5), np.array([4, 0, 2, 2, 1, 3])
    w = uniform(5, low=0.5, high=2)
    for agg in ("mean", "sum", "none"):
        for weight in (None, w):
            tw = None if weight is None else torch.tensor(weight)
            for a in (0.0, 0.2):
                check_against_torch(
                    lambda x, agg=agg, weight=weight, a=a: losses.logitcrossentropy(
                        x, labels, agg=agg, weight=weight, label_smoothing=a),
                    lambda x, agg=agg, tw=tw, a=a: F.cross_entropy(
                        x, torch.tensor(labels), tw, reduction=agg, label_smoothing=a),
                    x,
                )  # fmt: skip
            check_against_torch(
                lambda p, agg=agg, weight=weight: losses.crossentropy(p, labels, agg=agg, weight=weight, eps=0),
                lambda p, agg=agg, tw=tw: F.nll_loss(torch.log(p), torch.tensor(labels), tw, reduction=agg),
                distribution(6, 5),
            )
    check_against_torch(losses.logitcrossentropy, F.cross_entropy, P, T)
    check_against_torch(
        lambda p, t: losses.kldivergence(p, t, eps=0),
        lambda p, t: F.kl_div(torch.log(p), t, reduction="batchmean"), P, T,
    )  # fmt: skip
    images = normal(2, 3, 4, 5)
    marks = np.random.default_rng(0).integers(0, 3, (2, 4, 5))
    check_against_torch(
        lambda x: losses.logitcrossentropy(x, marks, axis=1), lambda x: F.cross_entropy(x, torch.tensor(marks)), images
    )


@pytest.mark.parametrize("name", ["logitcrossentropy", "crossentropy"])
def test_label_smoothing_equals_smoothed_targets(name):
    loss = getattr(losses, name)
    for y in (LABELS, T):
        hot = np.eye(4)[LABELS] if y is LABELS else T
        wanted = loss(P, losses.label_smoothing(hot, 0.3))
        np.testing.assert_allclose(loss(P, y, label_smoothing=0.3).data, wanted.data, rtol=1e-13)
    check_operation(lambda p, t: loss(p, t, label_smoothing=0.3), P, T)


def test_logitcrossentropy_is_one_operation_that_records_its_target_too():
    x = flux.tensor(P, requires_grad=True)
    assert losses.logitcrossentropy(x, LABELS).node.parents[0] is x
    assert losses.logitcrossentropy(x, T).node.parents[0] is x
    dt = flux.gradient(lambda t: losses.logitcrossentropy(P, t, agg="sum"), T)
    np.testing.assert_allclose(dt, -np.log(softmax(P).data), rtol=1e-12)
    w = np.arange(1.0, 5)
    same = losses.logitcrossentropy(P, T, weight=flux.tensor(w))
    assert losses.logitcrossentropy(P, T, weight=w).item() == same.item()
    assert np.abs(flux.gradient(lambda w: losses.logitcrossentropy(P, T, weight=w), w)).max() > 0


@pytest.mark.parametrize("name", CLASSES)
def test_gamma_zero_and_certainty(name):
    if name == "focal_loss":
        np.testing.assert_allclose(losses.focal_loss(P, T, gamma=0).data, losses.crossentropy(P, T).data)
        with pytest.raises(ValueError, match="focal_loss: gamma must be at least 0, got -1"):
            losses.focal_loss(P, T, gamma=-1)
    hot = np.eye(3)[[0, 2]]
    for eps in (None, 0):
        keywords = {} if name == "logitcrossentropy" else {"eps": eps}
        p = np.log(np.where(hot == 1, 1, 1e-300)) if name == "logitcrossentropy" else hot
        value, dp = flux.withgradient(lambda p: getattr(losses, name)(p, hot, **keywords), p)  # noqa: B023
        assert float(value) == pytest.approx(0, abs=1e-15)
        assert np.isfinite(dp).all()


def test_log_of_zero_is_kept_finite_by_eps():
    p, y = np.array([[1.0, 0.0]], np.float32), [1]
    assert float(losses.crossentropy(p, y)) == pytest.approx(-math.log(np.finfo(np.float32).eps), rel=1e-6)
    assert float(losses.crossentropy(p, y, eps=1e-3)) == pytest.approx(-math.log(1e-3), rel=1e-6)
    assert np.isfinite(flux.gradient(lambda p: losses.crossentropy(p, y), p)).all()
    assert float(losses.binarycrossentropy(p, [[0, 1]])) < 16
    with np.errstate(divide="ignore"):
        assert float(losses.crossentropy(p, y, eps=0)) == INF


def test_masked_logits():
    x = np.array([[0.0, -INF, 1.0]])
    for target in ([2], [[0.0, 0.0, 1.0]]):
        value, dx = flux.withgradient(lambda x, t=target: losses.logitcrossentropy(x, t), x)
        assert float(value) == pytest.approx(math.log(1 + math.exp(-1)))
        assert dx[0, 1] == 0
    t = flux.tensor(np.array([[0.0, 0.0, 1.0]]), requires_grad=True)
    assert float(losses.logitcrossentropy(x, t)) == pytest.approx(math.log(1 + math.exp(-1)))


def test_numbers_of_flux_s_documentation():
    y, p = np.array([0, 1, 2, 1, 0]), softmax(np.arange(-7, 8.0).reshape(5, 3))
    assert float(losses.crossentropy(p, y)) == pytest.approx(1.6076053, rel=1e-6)
    assert float(losses.crossentropy(p, y, label_smoothing=0.15)) == pytest.approx(1.5776052, rel=1e-6)
    assert float(losses.focal_loss(p, y)) == pytest.approx(1.1277571935622628, rel=1e-6)
    assert float(losses.focal_loss([[0.4, 0.5, 0.1], [0.2, 0.5, 0.3]], [0, 2])) == pytest.approx(0.45990566879720157)
    assert float(losses.kldivergence([[4.0, 5, 6]], [[1.0, 2, 3]])) / 3 == pytest.approx(-1.7661057888493457)
    assert float(losses.kldivergence(np.full((2, 2), 0.5), np.eye(2))) == pytest.approx(math.log(2))
    x = np.array([[-9.0, -8, -7], [-6, -5, -4], [-3, -2, -1], [0, 0, 1], [2, 3, 4], [5, 6, 7], [8, 9, 7.5]])
    assert float(losses.logitcrossentropy(x, [0, 1, 2, 0, 1, 0, 0])) == pytest.approx(1.5791205, rel=1e-6)
    binary, hot = [[0.268941, 0.5, 0.268941], [0.731059, 0.5, 0.731059]], [[0, 1, 0], [1, 0, 1]]
    assert float(losses.binary_focal_loss(binary, hot)) == pytest.approx(0.0728675615927385)
    assert float(losses.binary_focal_loss([[0.6, 0.3], [0.4, 0.7]], np.eye(2))) == pytest.approx(0.05691642237852222)
    assert float(losses.binarycrossentropy(binary[1], hot[1])) == pytest.approx(0.43989, rel=1e-5)
    assert float(losses.logitbinarycrossentropy([2, -1, math.pi], [1, 0, 1])) == pytest.approx(0.160832, rel=1e-6)


# -- two classes -------------------------------------------------------------------------------------------------------

Q, Y = uniform(3, 4, low=0.1, high=0.9), uniform(3, 4, low=0.1, high=0.9, seed=2)


@pytest.mark.parametrize(("agg", "put"), AGGS)
@pytest.mark.parametrize("name", ELEMENTS)
def test_binary_value_and_derivatives_in_both_arguments(name, agg, put):
    f = getattr(losses, name)
    x = 3 * normal(3, 4) if name.startswith("logit") else Q
    check_operation(f, x, Y, agg=agg, oracle=lambda p, y, agg: np.asarray(put(ELEMENTS[name](p, y))), tolerance=1e-5)
    check_operation(f, x[0, 0], Y[0, 0])


@pytest.mark.parametrize("name", ELEMENTS)
def test_binary_weights(name):
    f, w = getattr(losses, name), uniform(3, 4, seed=7)
    each = ELEMENTS[name](Q, Y)
    for agg, wanted in (("mean", (w * each).sum() / w.sum()), ("sum", (w * each).sum()), ("none", w * each)):
        np.testing.assert_allclose(f(Q, Y, agg=agg, weight=w).data, wanted, rtol=1e-10)
    check_operation(lambda p, w: f(p, Y, weight=w), Q, w, tolerance=1e-5)


def test_binary_against_torch():
    F = pytest.importorskip("torch").nn.functional
    x = 3 * normal(3, 4)
    for agg in ("mean", "sum", "none"):
        check_against_torch(
            lambda x, y, agg=agg: losses.logitbinarycrossentropy(x, y, agg=agg),
            lambda x, y, agg=agg: F.binary_cross_entropy_with_logits(x, y, reduction=agg), x, Y,
        )  # fmt: skip
        check_against_torch(
            lambda p, agg=agg: losses.binarycrossentropy(p, Y, agg=agg, eps=0),
            lambda p, agg=agg: F.binary_cross_entropy(p, _torch(Y), reduction=agg), Q,
        )  # fmt: skip
    np.testing.assert_allclose(losses.binary_focal_loss(Q, Y, gamma=0).data,
                               -np.log(Y * Q + (1 - Y) * (1 - Q)).mean(), rtol=1e-12)


def _torch(a):
    return pytest.importorskip("torch").tensor(a)


@pytest.mark.parametrize(("x", "y", "loss", "slope"), [
    (INF, 1, 0, 0), (INF, 0, INF, 1), (-INF, 0, 0, 0), (-INF, 1, INF, -1), (1e30, 1, 0, 0), (-1e30, 1, 1e30, -1),
    (0, 0.5, math.log(2), 0), (np.nan, 0, np.nan, np.nan),
])  # fmt: skip
def test_infinite_binary_logits(x, y, loss, slope):
    x = np.array([x], np.float32)
    value, dx = flux.withgradient(lambda x: losses.logitbinarycrossentropy(x, [y], agg="sum"), x)
    np.testing.assert_allclose([value, dx[0]], [loss, slope], rtol=1e-6)


def test_binary_label_smoothing():
    for loss in (losses.binarycrossentropy, losses.logitbinarycrossentropy):
        wanted = loss(Q, losses.label_smoothing(Y, 0.2, axis=None))
        np.testing.assert_allclose(loss(Q, Y, label_smoothing=0.2).data, wanted.data, rtol=1e-13)


# -- label smoothing ---------------------------------------------------------------------------------------------------


def test_label_smoothing():
    y = np.eye(3)[[0, 1, 2, 1, 0]]
    np.testing.assert_allclose(losses.label_smoothing(y, 0.15).data, np.where(y == 1, 0.9, 0.05))
    np.testing.assert_allclose(losses.label_smoothing(y.T, 0.15, axis=0).data, np.where(y == 1, 0.9, 0.05).T)
    np.testing.assert_allclose(losses.label_smoothing([0, 1], 0.2, axis=None).data, [0.1, 0.9])
    check_operation(losses.label_smoothing, T, alpha=0.3)
    assert losses.label_smoothing(y.astype(np.float32), 0.1).dtype == np.float32
    for alpha in (0, 1, 1.2, -0.1):
        with pytest.raises(ValueError, match=f"label_smoothing: alpha must be between 0 and 1, got {alpha}"):
            losses.label_smoothing(y, alpha)


@pytest.mark.parametrize("name", ["logitcrossentropy", "crossentropy", "binarycrossentropy", "logitbinarycrossentropy"])
def test_wrong_label_smoothing(name):
    with pytest.raises(ValueError, match=f"{name}: label_smoothing must be between 0 and 1, got 1.5"):
        getattr(losses, name)(P, T, label_smoothing=1.5)


# -- shapes and dtypes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("shape", [(4,), (5, 1), (5, 3), (1, 4), (5, 4, 1), (), (3,)])
def test_targets_that_fit_neither_way_are_an_error_with_all_shapes(name, shape):
    y = np.ones(shape, int)
    with pytest.raises(ValueError) as error:
        getattr(losses, name)(P, y)
    assert str(error.value) == (
        f"{name}: y_hat of shape (5, 4) has 4 classes along axis 1, so y must be class indices of shape (5,) or "
        f"probabilities of shape (5, 4), got shape {shape}"
    )


@pytest.mark.parametrize("name", CLASSES)
def test_class_indices_must_be_integers_and_classes(name):
    loss = getattr(losses, name)
    with pytest.raises(TypeError) as error:
        loss(P, LABELS.astype(float))
    assert str(error.value) == (
        f"{name}: y has the shape (5,) of class indices, which must be integers, but its dtype is float64; give "
        "y.astype(int), or probabilities of shape (5, 4)"
    )
    with pytest.raises(TypeError, match="its dtype is bool"):
        loss(P, LABELS > 1)
    with pytest.raises(IndexError, match=f"{name}: the class index 4 at position 1 is not one of the 4 classes"):
        loss(P, LABELS + [0, 4, 0, 0, 0])
    with pytest.raises(IndexError, match="the class index -1 at position 4"):
        loss(P, LABELS - [0, 0, 0, 0, 3])


@pytest.mark.parametrize("name", CLASSES)
def test_other_wrong_arguments(name):
    loss = getattr(losses, name)
    with pytest.raises(ValueError, match=rf"{name}: weight must have one number for each of the 4 classes .* \(5,\)"):
        loss(P, T, weight=np.ones(5))
    with pytest.raises(ValueError, match=f"{name}: agg must be 'mean', 'sum', 'none' or a function, got 'total'"):
        loss(P, T, agg="total")
    with pytest.raises(ValueError, match=f"{name}: there is no axis 2 in an array of shape"):
        loss(P, T, axis=2)
    with pytest.raises(ValueError, match=rf"{name}: y_hat of shape \(5, 0\) has no classes along axis 1"):
        loss(P[:, :0], T[:, :0])
    with pytest.raises(ValueError, match=rf"{name}: there is no axis -1 in an array of shape \(\)"):
        loss(1.0, 0)


def test_float_dtypes_are_kept_and_16_bits_are_computed_in_float32():
    for dtype in (np.float16, np.float32, np.float64):
        for name in [*CLASSES, *ELEMENTS]:
            y, p = (T, P) if name in CLASSES else (Y, Q)
            value, dp = flux.withgradient(lambda p, n=name, y=y: getattr(losses, n)(p, y), p.astype(dtype))
            assert dp.dtype == dtype
            assert value.dtype == (np.float32 if dtype == np.float16 else dtype)
            if dtype == np.float16:
                wide, exact = flux.withgradient(lambda p, n=name, y=y: getattr(losses, n)(p, y), p.astype(dtype).astype("f"))
                np.testing.assert_allclose(value, wide, rtol=1e-6)
                np.testing.assert_allclose(dp, exact, rtol=1e-3, atol=1e-7)
    assert losses.logitcrossentropy([[1, 2]], [0]).dtype == np.float64


def test_one_observation_and_none():
    assert float(losses.logitcrossentropy(P[0], 3)) == pytest.approx(float(losses.logitcrossentropy(P[:1], [3])))
    for name in CLASSES:
        assert np.isnan(float(getattr(losses, name)(P[:0], T[:0])))
        assert float(getattr(losses, name)(P[:0], T[:0], agg="sum")) == 0
        assert getattr(losses, name)(P[:0], LABELS[:0], agg="none").shape == (0,)


def test_inputs_are_not_changed():
    p, t = P.copy(), T.copy()
    for name in CLASSES:
        flux.gradient(getattr(losses, name), p, t)
    np.testing.assert_array_equal(p, P)
    np.testing.assert_array_equal(t, T)


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), data=st.data())
def test_any_shape_and_axis(shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    p, t = distribution(*shape, axis=axis), distribution(*shape, axis=axis, seed=1)
    for name, terms in CLASSES.items():
        wanted = terms(np.moveaxis(p, axis, -1), np.moveaxis(t, axis, -1)).sum(-1)
        got = getattr(losses, name)(p, t, axis=axis, agg="none")
        np.testing.assert_allclose(got.data, wanted, rtol=1e-7, atol=1e-12)
