"""check must find every planted error, and nothing in what is right."""

import functools

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.autograd import Buffer, Param, Structure, Tensor, is_recording, operation, record
from minitorch_flux.autograd.checker import CheckError, check
from minitorch_flux.backend import array_function
from minitorch_flux.backend.generator import Generator, default_generator, seed
from minitorch_flux.ops.elementary import exp, log, sin
from minitorch_flux.ops.joining import concatenate, split
from minitorch_flux.ops.nonlinearities import relu
from minitorch_flux.ops.sorting import sort


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


# -- planted errors ----------------------------------------------------------------------------------------------------

wrong_gradient = operation("wrong_gradient", lambda x: x * x, gradient=lambda dy, x: dy * x * 2.001)
wrong_second = operation(
    "wrong_second",
    lambda x: x * x * x,
    backward=lambda dy, x: dy * 3 * x * x,
    rule=lambda dy, x: dy * 3 * x * Tensor(x.data),
)  # the value is right, but one factor has lost its tape
wrong_rule = operation(
    "wrong_rule", lambda x: x * x, backward=lambda dy, x: dy * 2 * x, rule=lambda dy, x: dy * x * 2.1
)
wrong_for_dy = operation(
    "wrong_for_dy", lambda x: x * x, backward=lambda dy, x: dy * 2 * x, rule=lambda dy, x: Tensor(dy.data) * 2 * x
)
no_second = operation("no_second", lambda x: x * x, backward=lambda dy, x: dy * 2 * x)
wrong_shape = operation("wrong_shape", lambda x: x * 2.0, gradient=lambda dy: (dy * 2).sum())


def _one_wrong(dy, x):
    dx = dy * 2 * x
    dx[3, 17] *= 1.01
    return dx


one_element_wrong = operation("one_element_wrong", lambda x: x * x, backward=_one_wrong, rule=lambda dy, x: dy * 2 * x)


@array_function
def planted_forward(x):
    return x * 3


@planted_forward.kernel(accepts="everything")
def _(x):
    y = x * 3
    y[-1] += 1e-3 if x.dtype == np.float32 else 0
    return y


planted = operation("planted", planted_forward, gradient=lambda dy: dy * 3)


@array_function
def planted_backward(dy):
    return dy * 3


@planted_backward.kernel(accepts="everything")
def _(dy):
    return dy * 3.01


planted_in_backward = operation(
    "planted_in_backward", lambda x: x * 3, backward=planted_backward, rule=lambda dy: dy * 3
)


def test_a_wrong_gradient_is_named_with_both_values():
    with pytest.raises(
        CheckError, match=r"the gradient by input 0 at index \(\d, \d\) is .*, but finite differences give"
    ) as e:
        check(wrong_gradient, normal(2, 3))
    assert e.value.name == "input 0"
    assert e.value.got == pytest.approx(1.0005 * e.value.wanted, rel=1e-6)
    assert isinstance(e.value, AssertionError)


def test_one_wrong_element_of_many_is_found():
    with pytest.raises(CheckError) as e:
        check(one_element_wrong, normal(8, 40))
    assert e.value.index == (3, 17)
    assert e.value.got == pytest.approx(1.01 * e.value.wanted, rel=1e-6)


def test_a_wrong_second_derivative():
    check(wrong_second, normal(2, 3), order=1)
    with pytest.raises(CheckError, match=r"the second derivative by input 0 at index .* finite differences give"):
        check(wrong_second, normal(2, 3))
    with pytest.raises(CheckError, match=r"the second derivative by the incoming gradient of output 0 at index"):
        check(wrong_for_dy, normal(2, 3))


def test_a_recorded_backward_pass_that_differs():
    check(wrong_rule, normal(2, 3), order=1)
    with pytest.raises(CheckError, match="an ordinary backward pass and of a recorded one disagree: input 0 at index"):
        check(wrong_rule, normal(2, 3))


def test_an_op_without_a_second_derivative():
    check(no_second, normal(3), order=1)
    with pytest.raises(CheckError, match=r"no_second has no second derivative.*check\(..., order=1\)"):
        check(no_second, normal(3))


def test_a_gradient_of_the_wrong_shape():
    with pytest.raises((CheckError, flux.TapeError, ValueError), match="shape"):
        check(wrong_shape, normal(3))


def test_a_wrong_gradient_by_a_parameter_is_named_by_its_path():
    class Layer(Structure):
        def __init__(self):
            self.weight = Param(normal(3))
            self.parts = [Param(normal(3, seed=1))]

        def __call__(self, x):
            return x * self.weight + wrong_gradient(self.parts[0])

    with pytest.raises(CheckError, match=r"the gradient by parameter parts\.0 at index \(0,\)") as e:
        check(Layer(), normal(2, 3))
    assert e.value.name == "parameter parts.0"
    model = Layer()
    with pytest.raises(CheckError, match=r"by parameter parts\.0 of input 0 at"):
        check(lambda m, x: m(x).sum(), model, normal(2, 3))
    with pytest.raises(CheckError, match=r"by parameter parts\.0 of model at"):
        check(lambda x: model(x).sum(), normal(2, 3))
    with pytest.raises(CheckError, match=r"by parameter parts\.0 of model at"):
        check(lambda: model(np.ones((2, 3))))


def test_a_kernel_that_differs_is_named():
    with pytest.raises(
        CheckError,
        match=r"output 0 with kernels and with references \(the kernel of planted_forward makes the "
        r"difference\) disagree: output 0 at index \(4,\) is",
    ):
        check(planted, np.zeros(5, np.float32) + 0.1)
    check(planted, normal(5, dtype=np.float64))
    with pytest.raises(CheckError, match=r"the gradient by input 0 with kernels .*the kernel of planted_backward"):
        check(planted_in_backward, normal(5))


def test_a_function_that_writes_to_its_input():
    def f(x):
        x.data[0] = 0
        return x * 2

    a = normal(3)
    before = a.copy()
    with pytest.raises(CheckError, match="the function writes to input 0: .* work on a copy"):
        check(f, a)
    np.testing.assert_array_equal(a, before)

    def g(x, i):
        i += 1
        return x[i]

    with pytest.raises(CheckError, match=r"writes to an input of dtype int64 and shape \(2,\)"):
        check(g, normal(3), np.array([0, 1]))


def test_a_function_that_writes_to_a_parameter():
    class Layer(Structure):
        def __init__(self):
            self.weight = Param(normal(3))

        def __call__(self, x):
            self.weight.data *= 0.5
            return x * self.weight

    layer = Layer()
    with pytest.raises(CheckError, match="writes to parameter weight"):
        check(layer, normal(3))
    np.testing.assert_array_equal(layer.weight.data, normal(3))


def test_a_function_that_is_not_deterministic():
    rng = np.random.default_rng(0)
    calls = []

    def f(x):
        calls.append(1)
        return x * float(len(calls))

    with pytest.raises(CheckError, match="not deterministic: output 0 at .* called again with the same inputs"):
        check(f, normal(3))
    check(lambda x: x * rng.standard_normal(3), normal(3))  # a generator that can be set back is none


def test_what_cannot_be_checked():
    with pytest.raises(TypeError, match="check: nothing to differentiate"):
        check(lambda i: i * 2, np.arange(3))
    with pytest.raises(TypeError, match=r"check\(f, \*inputs\): a function or a layer comes first, got ndarray"):
        check(normal(3))
    with pytest.raises(ValueError, match="check: order is 1 or 2, got 3"):
        check(sin, normal(3), order=3)
    with pytest.raises(TypeError, match="the function returns no floating-point array"):
        check(lambda x: x.argmax(), normal(3))
    with pytest.raises(CheckError, match=r"output 0 is inf at \(1,\): choose inputs where the value is finite"):
        check(lambda x: x / np.array([1.0, 0, 1]), np.ones(3))
    with pytest.raises(CheckError, match="output 0 is float32 for float64 inputs"):
        check(lambda x: x.astype(np.float32) * 2, normal(3))
    with pytest.raises(CheckError, match=r"the gradient by input 0 is nan at \(0,\), although the value is finite"):
        check(operation("nan_gradient", lambda x: x * 1, gradient=lambda dy: dy * np.nan), normal(3))


# -- what is right -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_right_gradients_of_any_size_pass(scale):
    x = np.random.default_rng(0).uniform(0.5, 2, (3, 4)) * scale
    check(log, x)
    check(lambda t: t * t * t, x)
    check(lambda t: exp(t / scale), x)
    check(lambda t: (t * 1e-9).sum(), x)


def test_wrong_gradients_of_any_size_do_not():
    for scale in (1e-6, 1e4):
        with pytest.raises(CheckError):
            check(lambda t: wrong_gradient(t) * 1e-9, normal(3) * scale)
        with pytest.raises(CheckError):
            check(wrong_gradient, normal(200) * scale)


def test_a_shifted_input_is_not_drowned():
    check(lambda t: ((t - t.mean()) ** 3).sum(), 1e4 + normal(6, dtype=np.float64))


def test_kinks_are_told_from_errors():
    x = np.array([-1.0, 0.0, 2.0])
    assert "derivatives at kinks" in str(check(abs, x))
    assert "derivatives at kinks: 1," in str(check(relu, x, order=1))
    report = check(lambda t: relu(t).sum(), np.zeros(300))  # a random direction would mix three hundred kinks
    assert "24 of 300 elements" in str(report)
    check(lambda t: relu(t * 1.0).sum(), normal(2000))  # some elements are near a kink
    wrong_abs = operation("wrong_abs", lambda x: np.abs(x), gradient=lambda dy: dy * 1.5)
    with pytest.raises(CheckError):
        check(wrong_abs, x)


def test_functions_of_everything():
    x, y = normal(2, 3), normal(3, dtype=np.float64)
    report = check(lambda d, z: [{"a": d["x"] * z[0]}, (sin(z[1]), 2, None)], {"x": x, "i": np.arange(2)}, (y, 0.5))
    assert [row[1] for row in report.rows] == ["input 0['x']", "input 1[0]", "input 1[1]"]
    check(lambda xs: concatenate(xs), [x, Tensor(x)])
    check(lambda t: split(t, 3, 1), x)
    check(sort, x)
    check(lambda t: t * 2, 1.5)
    check(lambda t, s: t * 2 + len(s), x, "text")
    check(sin, np.zeros((0, 3)))
    check(sin, np.float16([1, 2]))
    check(functools.partial(lambda a, b: a * b, y), y)


def test_the_report():
    text = str(check(sin, normal(2, 3)))
    first, head, row, *notes = text.split("\n")
    assert first == "sin: the gradients agree with finite differences; largest relative errors"
    assert head.split() == ["gradient", "by", "shape", "first", "second", "compared"]
    assert row.split()[:4] == ["input", "0", "(2,", "3)"]
    assert row.endswith("6 elements")
    assert any(n.startswith("kernels against references: ") for n in notes)
    assert "second" not in str(check(sin, normal(2, 3), order=1))
    assert "4 directions" in str(check(sin, normal(40)))
    assert "7 directions" in str(check(sin, normal(40), directions=7, few=1, seed=5))
    assert "40 elements" in str(check(sin, normal(40), few=40))


# -- layers ------------------------------------------------------------------------------------------------------------


class Layer(Structure):
    """Everything that can go wrong: modes, buffers, state, randomness, a tied parameter."""

    active = None

    def __init__(self):
        self.weight = Param(normal(3, 3))
        self.tied = {"same": self.weight}
        self.mean = Buffer(np.zeros(3, np.float32))
        self.count = Buffer(np.zeros((), np.int64))
        self.rng = Generator(3)
        self.state, self.seen, self.table = None, [], np.ones(3, np.float32)

    def __call__(self, x):
        train = is_recording() if self.active is None else self.active
        self.seen.append(train)
        h = (x[..., None, :] * self.weight).sum(-1)
        if train:
            self.mean.data[...] = 0.9 * self.mean.data + 0.1 * h.data.mean(0)
            self.mean.version += 1
            self.count.data[...] += 1
            h = h * self.rng.bernoulli(0.5, h.shape) * default_generator().uniform(h.shape, np.float64)
        y = h if train else h - self.mean
        y = y if self.state is None else y + self.state
        self.state = y.detach()
        return y


def test_a_layer_is_left_as_it_was():
    seed(1)
    layer, x = Layer(), normal(4, 3)
    with record():
        layer(x)
    layer.seen.clear()
    weight, rng, state, vars_before = layer.weight.data, layer.rng.state_dict(), layer.state, dict(vars(layer))
    mean, version, global_rng = layer.mean.data.copy(), layer.mean.version, default_generator().state_dict()
    layer.weight.grad = "kept"
    report = check(layer, x)
    assert [row[:2] for row in report.rows] == [
        (m, n) for m in ("train", "test") for n in ("parameter weight", "input 0")
    ]
    assert layer.weight.data is weight
    assert layer.weight.data.dtype == np.float32
    assert layer.weight.grad == "kept"
    assert layer.state is state
    assert layer.seen == []
    assert vars(layer) == vars_before
    assert (layer.rng.state_dict(), default_generator().state_dict(), layer.mean.version) == (rng, global_rng, version)
    np.testing.assert_array_equal(layer.mean.data, mean)
    assert layer.active is None


def test_a_layer_is_left_as_it_was_after_an_error():
    layer, x = Layer(), normal(4, 3)
    data = layer.weight.data
    with pytest.raises(CheckError):
        check(lambda x: wrong_gradient(layer(x)), x)
    assert layer.weight.data is data
    assert layer.state is None
    assert layer.active is None
    with pytest.raises(ZeroDivisionError):
        check(lambda x: layer(x) / (1 // 0), x)
    assert layer.weight.data is data
    assert layer.mean.data.dtype == np.float32


@pytest.mark.parametrize("wrong_in_train", [True, False])
def test_both_modes_are_checked(wrong_in_train):
    class Modal(Structure):
        active = None

        def __call__(self, x):
            return wrong_gradient(x) if self.active is wrong_in_train else x * x

    with pytest.raises(CheckError, match=f"in {'train' if wrong_in_train else 'test'} mode$"):
        check(Modal(), normal(3))


def test_check_inside_a_recording_scope():
    with record():
        check(sin, normal(3))
        assert is_recording()


def test_methods_are_searched_for_layers():
    class Model:
        def __init__(self):
            self.layer = Layer()

        def loss(self, x, layer=None):
            return (layer(x) ** 2).sum()

    model = Model()
    report = check(functools.partial(model.loss, layer=model.layer), normal(4, 3))
    assert "parameter weight" in str(report)


def test_models_of_lower_precision():
    class Half(Structure):
        def __init__(self):
            self.weight = Param(normal(3, dtype=np.float16))

        def __call__(self, x):
            return sin(x * self.weight)

    layer = Half()
    check(layer, normal(2, 3, dtype=np.float16))
    assert layer.weight.dtype == np.float16


def test_a_loss_of_precision_in_float32_is_found():
    """Right in float64, and without a digit in float32: cancellation."""
    with pytest.raises(CheckError, match="output 0 in float32 and in float64 disagree"):
        check(lambda t: (t + 1e6) - 1e6, normal(3) * 1e-3)
