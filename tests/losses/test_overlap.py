import numpy as np
import pytest

from minitorch_flux import losses
from tests.oracles import check_operation, uniform

Y, Y_HAT = np.array([1.0, 0.5, 0.3, 2.4]), np.array([0, 1.4, 0.5, 1.2])


def dice(p, y, smooth=1.0):
    return np.asarray(1 - (2 * (p * y).sum() + smooth) / ((p**2).sum() + (y**2).sum() + smooth))


def tversky(p, y, beta=0.7):
    both, wrong, missed = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
    return np.asarray(1 - (both + 1) / (both + (1 - beta) * wrong + beta * missed + 1))


def test_numbers_of_flux_s_documentation():
    assert float(losses.dice_coeff_loss(Y_HAT, Y)) == pytest.approx(0.28)
    assert float(losses.dice_coeff_loss(Y, Y)) == pytest.approx(0, abs=1e-15)
    assert float(losses.dice_coeff_loss([1.1, 2.1, 3.1], [1, 2, 3])) == pytest.approx(0.000992391663909964)
    assert float(losses.tversky_loss(Y_HAT, Y)) == pytest.approx(0.028747433264887046)
    assert float(losses.tversky_loss(Y_HAT, Y, beta=0.8)) == pytest.approx(0.050200803212851364)
    assert float(losses.tversky_loss(Y, Y)) == pytest.approx(-0.5576923076923075)


def test_tversky_charges_a_missed_element_more_than_a_wrong_one():
    y = np.array([0, 1, 0, 1, 1, 1])
    wrong, missed = np.array([1, 1, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 1, 0])
    assert float(losses.tversky_loss(missed, y)) > float(losses.tversky_loss(wrong, y))
    assert float(losses.tversky_loss(missed, y, beta=0.2)) < float(losses.tversky_loss(wrong, y, beta=0.2))


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (), (0, 3), (1, 1)])
def test_value_and_derivatives(shape):
    p, y = uniform(*shape), uniform(*shape, seed=1)
    check_operation(losses.dice_coeff_loss, p, y, oracle=dice)
    check_operation(losses.dice_coeff_loss, p, y, oracle=dice, smooth=0.1)
    check_operation(losses.tversky_loss, p, y, oracle=tversky)
    check_operation(losses.tversky_loss, p, y, oracle=tversky, beta=0.2)


def test_dtype_and_integer_masks():
    p, y = uniform(4).astype(np.float32), np.array([0, 1, 1, 0])
    for loss in (losses.dice_coeff_loss, losses.tversky_loss):
        assert loss(p, y).dtype == np.float32
        assert float(loss(p, y)) == float(loss(p, y.astype(bool)))


def test_wrong_beta():
    with pytest.raises(ValueError, match="tversky_loss: beta must be between 0 and 1, got 1.5"):
        losses.tversky_loss(Y_HAT, Y, beta=1.5)
