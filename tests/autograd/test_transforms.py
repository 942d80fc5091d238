"""gradient and its kin: structures, nesting, and what they must not touch."""

from typing import NamedTuple

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.autograd import Param, Tensor
from minitorch_flux.nn.module import Module


class Scale(Module):
    def __init__(self, n):
        self.weight = Param(np.arange(1.0, n + 1))
        self.unused = Param(np.ones(2))
        self.inner = [Param(np.full(n, 2.0))]
        self.name = "scale"

    def __call__(self, x):
        return x * self.weight * self.inner[0]


def test_one_argument_gives_its_gradient_several_a_tuple():
    g = flux.gradient(lambda w: (w * w).sum(), np.array([1.0, 2.0]))
    assert g.tolist() == [2, 4]
    dw, db = flux.gradient(lambda w, b: ((w * 3 + b) ** 2).sum(), np.ones(4), np.zeros(4))
    assert dw.tolist() == [18] * 4
    assert db.tolist() == [6] * 4
    assert type(dw) is np.ndarray


def test_withgradient_gives_the_value_beside():
    value, g = flux.withgradient(lambda w: (w * w).sum(), np.array([1.0, 2.0], np.float32))
    assert value == 5
    assert value.dtype == np.float32
    assert g.dtype == np.float32
    value, g = flux.withgradient(lambda w: ((w * w).sum(), "more", w), np.array([3.0]))
    assert value[0] == 9
    assert value[1] == "more"
    assert type(value[2]) is np.ndarray


class Pair(NamedTuple):
    a: object
    b: object


def test_structures_in_structures_out():
    args = {"a": 2.0, "b": [np.array([3.0]), (np.arange(2), np.array(4.0))], "n": Pair(np.ones(1), 1)}
    g = flux.gradient(lambda d: (d["a"] * d["b"][0] * d["b"][1][1] * d["n"].a * 1.0).sum(), args)
    assert g["a"] == 12
    assert type(g["a"]) is float
    assert g["b"][0] == 8
    assert g["b"][1][0] is None
    assert g["b"][1][1] == 6
    assert isinstance(g["n"], Pair)
    assert g["n"].a == 24
    assert g["n"].b is None


def test_a_models_gradient_has_its_structure():
    m = Scale(2)
    g = flux.gradient(lambda m: m(np.array([1.0, 10.0])).sum(), m)
    assert g.weight.tolist() == [2, 20]
    assert g.inner[0].tolist() == [1, 20]
    assert g.unused is None
    assert g.name is None
    assert "weight=<(2,) float64>" in repr(g)
    with pytest.raises(TypeError, match="without an index"):
        g[0]


def test_the_function_may_close_over_the_model():
    m = Scale(2)
    x = np.array([1.0, 10.0])
    assert flux.gradient(lambda p: m(x).sum() + p.sum() * 0.0, m.weight).tolist() == [2, 20]
    assert flux.gradient(lambda x: m(x).sum(), x).tolist() == [2, 4]
    assert m.weight.grad is None


def test_models_and_arrays_mix():
    m = Scale(2)
    gm, gx = flux.gradient(lambda m, x: m(x).sum(), m, np.ones(2))
    assert gm.weight.tolist() == [2, 2]
    assert gx.tolist() == [2, 4]


def test_a_shared_parameter_has_one_summed_gradient():
    m = Scale(1)
    m.inner = [m.weight]
    g = flux.gradient(lambda m: m(np.array([5.0])).sum(), m)
    assert g.weight == g.inner[0] == 10


def test_gradients_nest_to_the_third_order():
    cube = lambda x: (x * x * x).sum()  # noqa: E731
    first = lambda x: flux.gradient(cube, x).sum()  # noqa: E731
    second = lambda x: flux.gradient(first, x).sum()  # noqa: E731
    x = np.array([2.0, 3.0])
    assert flux.gradient(first, x).tolist() == [12, 18]
    assert flux.gradient(second, x).tolist() == [6, 6]


def test_a_model_inside_another_gradient():
    m = Scale(2)

    def penalty(m):
        g = flux.gradient(lambda m: (m(np.array([1.0, 2.0])) ** 2).sum(), m)
        return (g.weight * g.weight).sum()

    g = flux.gradient(penalty, m)
    # d/dw sum (2 x^2 s^2 w)^2 = 2 (2 x^2 s^2)^2 w
    assert g.weight.tolist() == [2 * (2 * 1 * 4) ** 2 * 1, 2 * (2 * 4 * 4) ** 2 * 2]


def test_what_was_computed_before_is_a_constant_and_its_tape_survives():
    x = flux.tensor(np.array([3.0]), requires_grad=True)
    z = x * x
    assert flux.gradient(lambda w: (w * z).sum(), np.array([2.0])) == 9
    z.backward()
    assert x.grad == 6


def test_a_recorded_argument_gives_recorded_gradients():
    x = flux.tensor(np.array([3.0]), requires_grad=True)
    g = flux.gradient(lambda t: (t * t * t).sum(), x)
    assert isinstance(g, Tensor)
    g.backward()
    assert x.grad == 18
    with flux.no_grad():
        assert type(flux.gradient(lambda t: (t * t).sum(), x)) is np.ndarray


def test_an_argument_without_influence_has_zero_gradient():
    a, b = flux.gradient(lambda a, b: (a * 2.0).sum(), np.ones(2), np.ones(3))
    assert b.tolist() == [0, 0, 0]
    assert flux.gradient(lambda a: 3.0, np.ones(2)).tolist() == [0, 0]


def test_vjp_can_be_pulled_back_more_than_once():
    y, back = flux.vjp(lambda x: x * x, np.array([2.0, 3.0]))
    assert y.tolist() == [4, 9]
    assert back(np.array([1.0, 0])).tolist() == [4, 0]
    assert back(np.array([0, 1.0])).tolist() == [0, 6]
    with pytest.raises(ValueError, match=r"shape \(3,\), the value has \(2,\)"):
        back(np.ones(3))


def test_jacobian_and_hessian():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    jac = flux.jacobian(lambda t: t.sum(axis=0) * 2.0, x)
    assert jac.shape == (2, 2, 2)
    assert jac[0].tolist() == [[2, 0], [2, 0]]
    h = flux.hessian(lambda t: (t * t * t).sum(), x)
    assert h.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(h.reshape(4, 4), np.diag(6 * x.ravel()))
    third = flux.jacobian(lambda t: flux.hessian(lambda u: (u * u * u).sum(), t), np.array([5.0]))
    assert third == 6
    assert flux.jacobian(lambda t: t, np.ones(0)).shape == (0, 0)
    with pytest.raises(TypeError, match=r"jacobian\(f, x\): x must be one"):
        flux.jacobian(lambda m: m, Scale(2))


def test_wrong_calls_say_what_is_expected():
    with pytest.raises(TypeError, match="the function comes first, got ndarray"):
        flux.gradient(np.ones(2), lambda x: x)
    with pytest.raises(TypeError, match="give at least one argument"):
        flux.gradient(lambda: 1.0)
    with pytest.raises(TypeError, match="int holds nothing to differentiate"):
        flux.gradient(lambda n: n, 3)
    with pytest.raises(ValueError, match=r"one number as its value, got shape \(2,\)"):
        flux.gradient(lambda x: x, np.ones(2))


def test_custom_gradient_and_its_second_derivative():
    @flux.custom_gradient
    def weird(x, y, scale=1.0):
        return x * y * scale, lambda dy: (dy * x * 10.0, None)

    x = np.array([2.0])
    dx, dy = flux.gradient(lambda x, y: weird(x, y, scale=3.0).sum(), x, np.array([5.0]))
    assert dx == 20
    assert dy == 0
    assert flux.gradient(lambda x: flux.gradient(lambda z: weird(z, 1.0).sum(), x).sum(), x) == 10
    assert weird(x, x).node is None


def test_custom_gradient_errors():
    @flux.custom_gradient
    def too_many(x):
        return x * 1.0, lambda dy: (dy, dy)

    @flux.custom_gradient
    def bad_shape(x):
        return x * 1.0, lambda dy: np.ones(7)

    @flux.custom_gradient
    def numpy_inside(x):
        return x * 1.0, lambda dy: dy.data * 2.0 if isinstance(dy, Tensor) else dy * 2.0

    x = np.ones(2)
    with pytest.raises(flux.TapeError, match="too_many: backward returned 2 gradients for 1 inputs"):
        flux.gradient(lambda x: too_many(x).sum(), x)
    with pytest.raises(flux.TapeError, match=r"bad_shape: gradient 0 has shape \(7,\), its input \(2,\)"):
        flux.gradient(lambda x: bad_shape(x).sum(), x)
    assert flux.gradient(lambda x: numpy_inside(x).sum(), x).tolist() == [2, 2]
    with pytest.raises(flux.TapeError, match=r"numpy_inside: a second derivative needs a backward written in"):
        flux.gradient(lambda x: flux.gradient(lambda z: numpy_inside(z).sum(), x).sum(), x)
