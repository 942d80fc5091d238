"""gradient and its kin: structures, nesting, and what they must not touch."""

import copy
import pickle
import weakref
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


def test_values_come_back_in_their_structure_too():
    value, _ = flux.withgradient(lambda w: Pair((w * w).sum(), {"w": w * 2, "n": [w, 1]}), np.array([3.0]))
    assert isinstance(value, Pair)
    assert value.a == 9
    assert type(value.b["w"]) is type(value.b["n"][0]) is np.ndarray
    assert value.b["n"][1] == 1


def test_numbers_are_arguments_too():
    assert flux.gradient(lambda x: x * x, 3.0) == 6
    assert type(flux.gradient(lambda x: x * x, 3.0)) is float
    for kind in (np.float64, np.float32):
        g = flux.gradient(lambda x: x * x, kind(3))
        assert g == 6
        assert type(g) is kind
    assert flux.gradient(lambda a, b: a * a * 2.0, 3.0, 4.0) == (12, 0)
    g = flux.gradient(lambda x: x * x, np.array(3.0))
    assert type(g) is np.ndarray
    assert g.shape == ()


def test_a_models_gradient_has_its_structure():
    m = Scale(2)
    g = flux.gradient(lambda m: m(np.array([1.0, 10.0])).sum(), m)
    assert g.weight.tolist() == [2, 20]
    assert g.inner[0].tolist() == [1, 20]
    assert g["weight"] is g.weight
    assert g.unused is None
    assert g.name is None
    assert len(g) == 3
    assert [part is None for part in g] == [False, True, False]
    assert "weight=<(2,) float64>" in repr(g)
    with pytest.raises(TypeError, match=r"without an index: use their attributes \(weight, unused, inner\)"):
        g[0]
    with pytest.raises(AttributeError, match="the layer of these gradients has no 'wieght'; they have weight, unused"):
        _ = g.wieght
    other = copy.deepcopy(pickle.loads(pickle.dumps(g)))
    assert other.weight.tolist() == [2, 20]
    assert other.name is None


def test_a_model_without_parameters_or_influence_has_no_gradient():
    assert flux.gradient(lambda m: m(np.ones(2)).sum() * 0.0, flux.Chain(flux.relu)) is None
    assert flux.gradient(lambda m: 1.0, Scale(2)) is None
    frozen = flux.freeze(Scale(2))
    assert flux.gradient(lambda m: m(np.ones(2)).sum(), frozen) is None
    flux.thaw(frozen.weight)
    g = flux.gradient(lambda m: m(np.ones(2)).sum(), frozen)
    assert g.weight.tolist() == [2, 2]
    assert g.inner is None


class Remembers(Module):
    """A layer that keeps its last output, and knows its parent."""

    def __init__(self, parent=None):
        self.layer, self.parent = flux.Dense(2, 2), parent

    def __call__(self, x):
        self.last = self.layer(x)
        return self.last.sum()


def test_what_a_layer_keeps_for_itself_is_no_part_of_the_gradient():
    m = Remembers()
    m.parent = m
    for _ in range(2):  # the second time with the value of the first one's tape
        g = flux.gradient(lambda m: m(np.ones((1, 2), np.float32)), m)
        assert g.layer.bias.tolist() == [1, 1]
        assert g.last is None
        assert g.parent is None
    flux.update(flux.setup(flux.Descent(), m), m, g)
    assert list(m.state_dict()) == ["layer.weight", "layer.bias"]


def test_a_layer_reached_twice_has_one_gradient():
    d = flux.Dense(2, 2)
    m = flux.Chain(d, flux.tanh, d)
    g = flux.gradient(lambda m: m(np.ones((1, 2), np.float32)).sum(), m)
    assert g[0] is g[2]


def test_gradients_share_memory_with_nothing():
    a, b, c = np.ones((2, 2)), np.ones((2, 2)), np.ones(4)
    f = lambda a, b, c: (a + b + c.reshape(2, 2)).sum() + a.sum()  # noqa: E731
    grads = flux.gradient(f, a, b, c)
    vjp = flux.vjp(lambda a, b, c: a + b + c.reshape(2, 2), a, b, c)[1](a)
    everything = [a, b, c, *grads, *vjp]
    for i, x in enumerate(everything):
        assert x.flags.writeable
        for y in everything[:i]:
            assert not np.shares_memory(x, y)


def test_the_users_arrays_are_never_written_to():
    m, x = flux.Chain(flux.Dense(3, 3, flux.tanh), flux.Dense(3, 3)), np.ones((4, 3), np.float32)
    for a in (x, *[p.data for p in m.parameters()]):
        a.flags.writeable = False
    flux.gradient(lambda m, x: (m(x) * x).sum(), m, x)
    flux.hessian(lambda x: (m(x) * x).sum(), x[:1])
    m(x)


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
    assert flux.gradient(lambda w: z, np.array([2.0])) == 0
    assert flux.vjp(lambda w: z, np.array([2.0]))[1]() == 0
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


def test_a_vjp_is_itself_differentiable():
    x, v = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    y, back = flux.vjp(lambda x: x**3, x)
    assert flux.gradient(lambda dy: (back(dy) * v).sum(), np.ones(2)).tolist() == [9, 60]  # J v, from outside
    dy = flux.tensor(np.ones(2), requires_grad=True)
    g = back(dy)
    assert isinstance(g, Tensor)
    (g * v).sum().backward()
    assert dy.grad.tolist() == [9, 60]
    with flux.no_grad():
        assert type(back(dy)) is np.ndarray
    hvp = flux.gradient(lambda x: (flux.gradient(lambda t: (t**3).sum(), x) * v).sum(), x)
    assert hvp.tolist() == [18, 60]


def test_the_value_of_a_vjp_cannot_be_written_to():
    y, back = flux.vjp(flux.exp, np.zeros(2))  # exp keeps its output for back()
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 5
    assert back(np.ones(2)).tolist() == [1, 1]


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
    assert flux.jacobian(lambda t: t[:, None] * t, np.ones((2, 0))).shape == (2, 2, 0, 2, 0)
    empty = flux.jacobian(lambda t: flux.hessian(lambda u: (u * u * u).sum(), t), np.ones(0, np.float32))
    assert empty.shape == (0, 0, 0)
    assert empty.dtype == np.float32
    assert flux.hessian(lambda t: (t * 2.0).sum(), x).tolist() == np.zeros((2, 2, 2, 2)).tolist()
    assert flux.hessian(lambda t: t**3, 2.0) == 12
    assert flux.jacobian(lambda t: t * 2.0, x.astype(np.float32)).dtype == np.float32


def test_jacobian_and_hessian_of_a_parameter():
    layer, x = flux.Dense(2, 3), np.array([1.0, 2.0], np.float32)
    jac = flux.jacobian(lambda w: layer(x), layer.weight)
    assert jac.shape == (3, 3, 2)
    np.testing.assert_array_equal(jac, np.eye(3)[:, :, None] * x)
    np.testing.assert_array_equal(flux.hessian(lambda w: (layer(x) ** 2).sum(), layer.weight)[1, :, 1], 2 * np.outer(x, x))
    assert not flux.jacobian(lambda w: layer.bias * 1.0, layer.weight).any()
    assert not flux.hessian(lambda w: layer.bias.sum(), layer.weight).any()


def test_jacobians_in_scopes_are_recorded():
    x = flux.tensor(np.array([1.0, 2.0]), requires_grad=True)
    jac = flux.jacobian(lambda t: t**3, x)
    (jac * np.array([[1.0, 7], [7, 1]])).sum().backward()
    assert x.grad.tolist() == [6, 12]
    m = Scale(2)
    g = flux.gradient(lambda m: (flux.jacobian(lambda x: m(x) ** 2, np.ones(2)) ** 2).sum(), m)
    np.testing.assert_allclose(g.weight, 256 * m.weight.data**3)  # the Jacobian is diag(8 weight^2)


def test_wrong_calls_say_what_is_expected():
    with pytest.raises(TypeError, match="the function comes first, got ndarray"):
        flux.gradient(np.ones(2), lambda x: x)
    with pytest.raises(TypeError, match="give at least one argument"):
        flux.gradient(lambda: 1.0)
    with pytest.raises(TypeError, match="int holds nothing to differentiate"):
        flux.gradient(lambda n: n, 3)
    with pytest.raises(ValueError, match=r"one number as its value, got shape \(2,\)"):
        flux.gradient(lambda x: x, np.ones(2))
    with pytest.raises(TypeError, match=r"one array or number as its value, got NoneType; did it forget to return\?"):
        flux.withgradient(lambda x: None, np.ones(2))
    with pytest.raises(TypeError, match="jacobian needs a function with one array or number as its value, got tuple$"):
        flux.jacobian(lambda x: (x, x), np.ones(2))
    with pytest.raises(TypeError, match="vjp needs a function with one array or number as its value, got list"):
        flux.vjp(lambda x: [x, x], np.ones(2))
    with pytest.raises(TypeError, match="gradient needs a function with one array or number as its value, got tuple"):
        flux.gradient(lambda x: (), np.ones(2))
    for f in (flux.gradient, flux.vjp, flux.jacobian):
        with pytest.raises(TypeError, match=rf"{f.__name__} needs a floating-point value, got dtype int64: no gradient flows"):
            f(lambda x: x.argmax(), np.ones(2))
    with pytest.raises(ValueError, match=r"hessian needs a function with one number as its value, got shape \(2,\)"):
        flux.hessian(lambda x: x, np.ones(2))
    for f in (flux.gradient, flux.withgradient, flux.vjp, flux.jacobian, flux.hessian):
        with pytest.raises(TypeError, match=rf"{f.__name__}: an argument of type ndarray holds nothing to differentiate"):
            f(lambda x: x, np.arange(3))
    for f in (flux.jacobian, flux.hessian):
        with pytest.raises(TypeError, match=rf"{f.__name__}\(f, x\): x must be one floating-point array"):
            f(lambda m: m.weight.sum(), Scale(2))
    with pytest.raises(TypeError, match=r"vjp\(f, \*arguments\): the function comes first, got ndarray"):
        flux.vjp(np.ones(2), np.ones(2))


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


def test_custom_gradients_in_scopes_and_higher_orders():
    @flux.custom_gradient
    def reverse(x):
        return x * 1.0, lambda dy: -dy

    x = np.array([1.0, 2.0])
    assert flux.gradient(lambda x: reverse(x).sum(), x).tolist() == [-1, -1]
    # of second order its gradient is constant: zero, no error
    assert flux.gradient(lambda x: flux.gradient(lambda z: reverse(z).sum(), x).sum(), x).tolist() == [0, 0]
    twice = flux.gradient(lambda x: flux.gradient(lambda z: (reverse(z) ** 2).sum(), x).sum(), x)
    assert twice.tolist() == [2, 2]  # -(dy = 2 reverse(x)), and once more reversed
    w = Param(np.array([3.0]))
    assert reverse(w).node is None
    with flux.record():
        y = reverse(w) * reverse(w)
    y.backward()
    assert w.grad == -6
    with pytest.raises(flux.TapeError, match="used and freed"):
        y.backward()


def test_a_custom_gradient_may_return_what_it_keeps():
    kept = np.array([10.0, 20.0])

    @flux.custom_gradient
    def linear(x):
        return (x * kept).sum(), lambda dy: kept

    g = flux.gradient(linear, np.ones(2))
    assert g.tolist() == [10, 20]
    assert not np.shares_memory(g, kept)
    x = flux.tensor(np.ones(2), requires_grad=True)
    (linear(x) + linear(x)).backward()
    x.grad *= 0
    assert kept.tolist() == [10, 20]


def test_a_custom_gradient_frees_what_it_keeps():
    alive = []

    @flux.custom_gradient
    def double(x):
        big = np.ones(5)
        alive.append(weakref.ref(big))
        return x * 2.0, lambda dy: dy * 2.0 + big * 0.0

    x = flux.tensor(np.ones(5), requires_grad=True)
    y = double(x)
    y.sum().backward()
    assert y.node is not None
    assert alive[0]() is None


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
    with pytest.raises(flux.TapeError, match="numpy_inside: a second derivative needs .* gradient 0 is not a Tensor but"):
        flux.gradient(lambda x: flux.gradient(lambda z: numpy_inside(z).sum(), x).sum(), x)

    for bad, what in ((lambda x: x * 2, "a Tensor"), (lambda x: (x, 1), "a tuple"), (lambda x: (x, x, x), "a tuple of 3")):
        with pytest.raises(TypeError, match=rf"must return a pair \(value, backward\).*it returned {what}$"):
            flux.custom_gradient(bad)(x)


def test_a_scope_that_fails_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError):
        flux.gradient(lambda x: x * (1 // 0), np.ones(2))
    assert not flux.is_recording()
    m = Scale(2)
    assert m(np.ones(2)).node is None


def test_everything_is_in_train_mode_inside_a_transform():
    seen = []
    record = lambda x: (seen.append(flux.is_recording()), (x * 1.0).sum())[1]  # noqa: E731
    for f in (flux.gradient, flux.withgradient, flux.vjp, flux.jacobian, flux.hessian):
        f(record, np.ones(1))
    with flux.no_grad():
        flux.gradient(record, np.ones(1))
    assert all(seen)
    assert not flux.is_recording()


def test_inside_no_grad_the_results_are_plain():
    x = flux.tensor(np.array([3.0]), requires_grad=True)
    w = Param(np.array([2.0]))
    with flux.no_grad():
        for t in (x, w, np.array([3.0])):
            assert type(flux.gradient(lambda t: (t * t).sum(), t)) is np.ndarray
            y, _ = flux.vjp(lambda t: t * t, t)
            assert type(y) is np.ndarray
    assert x.grad is w.grad is None
