import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import losses
from tests.oracles import apart, check_against_torch, check_operation, normal, uniform

Y_HAT, Y = uniform(3, 4, low=0.3, high=2), uniform(3, 4, low=0.3, high=2, seed=5)

ELEMENTS = {  # the loss of each element, in NumPy
    "mse": lambda p, y: (p - y) ** 2,
    "mae": lambda p, y: np.abs(p - y),
    "msle": lambda p, y: (np.log(p) - np.log(y)) ** 2,
    "huber_loss": lambda p, y: np.where(np.abs(p - y) < 1, (p - y) ** 2 / 2, np.abs(p - y) - 0.5),
    "poisson_loss": lambda p, y: p - y * np.log(p),
    "hinge_loss": lambda p, y: np.maximum(0, 1 - p * y),
    "squared_hinge_loss": lambda p, y: np.maximum(0, 1 - p * y) ** 2,
    "siamese_contrastive_loss": lambda p, y: (1 - y) * p**2 + y * np.maximum(0, 1 - p) ** 2,
}
LOSSES = {name: getattr(losses, name) for name in ELEMENTS}


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize(("agg", "put"), [("mean", np.mean), ("sum", np.sum), ("none", np.array)])
def test_value_and_derivatives_in_both_arguments(name, agg, put):
    def oracle(p, y, agg):
        return np.asarray(put(ELEMENTS[name](p, y)))

    dtypes = (np.float32,) if name == "msle" else (np.float16, np.float32)
    near = {"tolerance": 1e-5, "tolerance32": 1e-4}
    check_operation(LOSSES[name], Y_HAT, Y, agg=agg, oracle=oracle, dtypes=dtypes, wide=True, **near)
    check_operation(LOSSES[name], Y_HAT[0, 0], Y[0, 0])


@pytest.mark.parametrize("name", ELEMENTS)
def test_weights_and_functions(name):
    w, each = uniform(3, 4, seed=9), ELEMENTS[name](Y_HAT, Y)
    for agg, wanted in (("mean", (w * each).sum() / w.sum()), ("sum", (w * each).sum()), ("none", w * each)):
        np.testing.assert_allclose(LOSSES[name](Y_HAT, Y, agg=agg, weight=w).data, wanted, rtol=1e-12)
    got = LOSSES[name](Y_HAT, Y, agg=lambda l: l.max(axis=1), weight=w)
    np.testing.assert_allclose(got.data, (w * each).max(axis=1), rtol=1e-12)
    check_operation(lambda p, y, w: LOSSES[name](p, y, weight=w), Y_HAT, Y, w, tolerance=1e-5)


def test_numbers_of_flux_s_documentation():
    y = [1, 2, 3]
    assert float(losses.mae([1.1, 1.9, 3.1], y)) == pytest.approx(0.1)
    assert float(losses.mse([1.1, 1.9, 3.1], y)) == pytest.approx(0.01)
    assert float(losses.msle(np.array([1.1, 2.2, 3.3], "f"), y)) == pytest.approx(0.009084041, rel=1e-4)
    assert float(losses.msle(np.array([0.9, 1.8, 2.7], "f"), y)) == pytest.approx(0.011100831, rel=1e-4)
    assert float(losses.poisson_loss([0.4, 0.5, 0.6], [0.1, 0.2, 0.3])) == pytest.approx(0.6278353988097339)
    assert float(losses.poisson_loss([1, 3, 3], y)) == pytest.approx(0.5023128522198171)
    assert float(losses.hinge_loss(np.arange(1.0, 5), np.arange(1.0, 5) / 2)) == pytest.approx(0.125)
    assert float(losses.squared_hinge_loss(np.arange(1.0, 5), np.arange(1.0, 5) / 2)) == pytest.approx(0.0625)
    assert float(losses.squared_hinge_loss([0.1, 0.3, 1, 1.5], [1, -1, 1, 1])) == pytest.approx(0.625)
    pairs, alike = [[0.4, 0.2], [0.5, 0.5], [0.1, 0.3]], [[1, 0], [0, 0], [0, 1]]
    assert float(losses.siamese_contrastive_loss(pairs, alike)) == pytest.approx(0.2333333333333333)
    assert float(losses.siamese_contrastive_loss(pairs, alike, margin=0.5)) == pytest.approx(0.1)
    assert float(losses.siamese_contrastive_loss(pairs, alike, margin=1.5)) == pytest.approx(0.5333333333333333)
    assert float(losses.siamese_contrastive_loss([0.5, 1.5, 2.5], y)) == pytest.approx(-4.833333333333333)


def test_against_torch():
    F = pytest.importorskip("torch").nn.functional
    x, y = 2 * normal(5, 7), normal(5, 7, seed=1)
    check_against_torch(losses.mse, F.mse_loss, x, y)
    check_against_torch(losses.mae, F.l1_loss, x, y)
    for delta in (0.3, 1.0, 2.5):
        check_against_torch(losses.huber_loss, lambda x, y, d=delta: F.huber_loss(x, y, delta=d), x, y, delta=delta)
    counts = uniform(5, 7, low=0.1, high=4)
    means = uniform(5, 7, low=0.1, high=2)
    poisson = lambda p, y: F.poisson_nll_loss(p, y, log_input=False, eps=0)  # noqa: E731
    check_against_torch(losses.poisson_loss, poisson, means, counts)


def test_kinks():
    assert flux.gradient(lambda p: losses.mae(p, [1.0], agg="sum"), np.array([1.0])).tolist() == [0]
    assert flux.gradient(lambda p: losses.hinge_loss(p, [1.0], agg="sum"), np.array([2.0])).tolist() == [0]
    near = flux.gradient(lambda p: losses.huber_loss(p, np.zeros(3), agg="sum"), np.array([1 - 1e-9, 1, 1 + 1e-9]))
    np.testing.assert_allclose(near, 1, atol=1e-8)
    assert flux.gradient(lambda p: losses.poisson_loss(p, [0.0], agg="sum"), np.array([0.0])).tolist() == [1]


def test_extreme_values():
    p = np.array([np.inf, -np.inf, 1e38, np.nan], np.float32)
    y = np.zeros(4, np.float32)
    np.testing.assert_allclose(losses.huber_loss(p, y, agg="none").data, [np.inf, np.inf, 1e38, np.nan], rtol=1e-6)
    dp = flux.vjp(lambda p: losses.huber_loss(p, y, agg="none"), p)[1](np.ones(4, np.float32))
    np.testing.assert_allclose(dp[:3], [1, -1, 1])
    assert np.isfinite(losses.msle(np.zeros(2), np.zeros(2)).item())
    assert np.isfinite(float(losses.msle(np.zeros(2, "f"), np.ones(2, "f"))))


def test_float16_is_computed_in_float32():
    e = np.full(4000, 300.0, np.float16)
    assert float(losses.mse(e, np.zeros_like(e))) == pytest.approx(90000)  # beyond float16
    assert losses.mse(e, np.zeros_like(e)).dtype == np.float32
    assert flux.gradient(losses.mse, e, np.zeros(4000))[0].dtype == np.float16


def test_targets_are_converted_to_the_prediction_s_dtype():
    for y in (np.ones(3, int), np.ones(3, bool), np.ones(3), [1, 1, 1]):
        for name, loss in LOSSES.items():
            assert loss(np.ones(3, np.float32), y).dtype == np.float32, name
    assert losses.mse([1, 2], [2, 2]).dtype == np.float64, "integers only"
    dp, dy = flux.gradient(losses.mse, np.ones(3, np.float32), np.zeros(3))
    assert (dp.dtype, dy.dtype) == (np.float32, np.float64)


def test_no_elements():
    for name, loss in LOSSES.items():
        empty = np.zeros((0, 2))
        assert np.isnan(float(loss(empty, empty))), name
        assert float(loss(empty, empty, agg="sum")) == 0
        assert loss(empty, empty, agg="none").shape == (0, 2)


def test_mse_is_one_operation():
    p = flux.tensor(Y_HAT, requires_grad=True)
    assert losses.mse(p, Y).node.parents[0] is p


# -- errors ------------------------------------------------------------------------------------------------------------

ONE_BY_ONE = [*LOSSES, "logitbinarycrossentropy", "binarycrossentropy", "binary_focal_loss"]
MISMATCHES = [((4,), (4, 1)), ((4, 1), (4,)), ((4, 2), (4, 1)), ((2, 3), (3,)), ((3,), ()), ((2,), (3,))]


@pytest.mark.parametrize("name", [*ONE_BY_ONE, "dice_coeff_loss", "tversky_loss"])
@pytest.mark.parametrize("shapes", MISMATCHES)
def test_sizes_that_would_broadcast_are_an_error_naming_both_shapes(name, shapes):
    p, y = np.ones(shapes[0]), np.ones(shapes[1])
    with pytest.raises(ValueError) as error:
        getattr(losses, name)(p, y)
    for part in (name, f"y_hat has shape {shapes[0]}", f"y has shape {shapes[1]}", "nothing broadcasts"):
        assert part in str(error.value)
    if p.size == y.size:
        assert f"give {'y' if y.ndim < p.ndim else 'y_hat'}.reshape(4, 1)" in str(error.value)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_wrong_agg_and_weights(name):
    loss = getattr(losses, name)
    with pytest.raises(ValueError, match=f"{name}: agg must be 'mean', 'sum', 'none' or a function, got 'average'"):
        loss(Y_HAT / 3, Y / 3, agg="average")
    with pytest.raises(ValueError, match=rf"{name}: weight must have the shape \(3, 4\) of y_hat.* got shape \(4,\)"):
        loss(Y_HAT / 3, Y / 3, weight=np.ones(4))


def test_wrong_numbers():
    with pytest.raises(ValueError, match="huber_loss: delta must be positive, got 0"):
        losses.huber_loss(Y_HAT, Y, delta=0)
    with pytest.raises(ValueError, match="siamese_contrastive_loss: margin must be at least 0, got -1"):
        losses.siamese_contrastive_loss(Y_HAT, Y, margin=-1)
    with pytest.raises(TypeError, match="mse: complex numbers are not supported"):
        losses.mse(Y_HAT, Y * 1j)
    with pytest.raises(TypeError, match="mae: complex numbers are not supported"):
        losses.mae(Y_HAT * 1j, Y)


def test_large_arrays():
    p, y = apart(300, 200), apart(300, 200, seed=1)
    assert float(losses.mse(p, y)) == pytest.approx(((p - y) ** 2).mean())
    np.testing.assert_allclose(flux.gradient(losses.mse, p, y)[1], -2 * (p - y) / p.size, rtol=1e-12)
