import copy
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.autograd import Tensor
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import nonlinearities as acts
from minitorch_flux.ops.activation_table import ROWS
from minitorch_flux.ops.nonlinearities import (
    ACTIVATIONS,
    activation_backward,
    activation_of,
    bias_act,
    bias_act_forward,
    bias_backward,
    identity,
    relu,
)
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_against_torch, check_operation, normal

NAMES = [name for name in ACTIVATIONS if name != "identity"]
WITH_PARAMETER = {"leakyrelu": 0.2, "elu": 0.7, "celu": 2.0, "softshrink": 0.8, "hardshrink": 0.9, "trelu": 0.4}

# away from every kink: 0, 0.5, 1, 3, 6 and the parameters above
X = np.array([-7.3, -3.7, -2.2, -1.6, -0.7, -0.3, 0.2, 0.6, 1.4, 2.5, 4.1, 6.6])

INF = np.inf
SELU = 1.0507009873554805 * 1.6732632423543772
# name: f(-inf), f(inf), f'(-inf), f'(inf), f(0), f'(0)
POINTS = {
    "sigmoid": (0, 1, 0, 0, 0.5, 0.25),
    "hardsigmoid": (0, 1, 0, 0, 0.5, 1 / 6),
    "logsigmoid": (-INF, 0, 1, 0, -math.log(2), 0.5),
    "hardtanh": (-1, 1, 0, 0, 0, 1),
    "tanh": (-1, 1, 0, 0, 0, 1),
    "relu": (0, INF, 0, 1, 0, 0),
    "leakyrelu": (-INF, INF, 0.01, 1, 0, 0.01),
    "relu6": (0, 6, 0, 0, 0, 0),
    "elu": (-1, INF, 0, 1, 0, 1),
    "gelu": (0, INF, 0, 1, 0, 0.5),
    "gelu_erf": (0, INF, 0, 1, 0, 0.5),
    "swish": (0, INF, 0, 1, 0, 0.5),
    "hardswish": (0, INF, 0, 1, 0, 0.5),
    "lisht": (INF, INF, -1, 1, 0, 0),
    "selu": (-SELU, INF, 0, 1.0507009873554805, 0, SELU),
    "celu": (-1, INF, 0, 1, 0, 1),
    "softplus": (0, INF, 0, 1, math.log(2), 0.5),
    "softsign": (-1, 1, 0, 0, 0, 1),
    "logcosh": (INF, INF, -1, 1, 0, 0),
    "mish": (0, INF, 0, 1, 0, 0.6),
    "tanhshrink": (-INF, INF, 1, 1, 0, 0),
    "softshrink": (-INF, INF, 1, 1, 0, 0),
    "hardshrink": (-INF, INF, 1, 1, 0, 0),
    "trelu": (0, INF, 0, 1, 0, 0),
}


def torch_function(name):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    return {
        "sigmoid": torch.sigmoid, "hardsigmoid": lambda x: ((x + 3) / 6).clamp(0, 1), "logsigmoid": F.logsigmoid,
        "hardtanh": F.hardtanh,
        "tanh": torch.tanh, "relu": torch.relu, "leakyrelu": F.leaky_relu, "relu6": F.relu6, "elu": F.elu,
        "gelu": lambda x: F.gelu(x, approximate="tanh"), "gelu_erf": F.gelu, "swish": F.silu,
        "hardswish": F.hardswish, "lisht": lambda x: x * torch.tanh(x), "selu": F.selu, "celu": F.celu,
        "softplus": F.softplus, "softsign": F.softsign, "logcosh": lambda x: torch.log(torch.cosh(x)), "mish": F.mish,
        "tanhshrink": F.tanhshrink, "softshrink": F.softshrink, "hardshrink": F.hardshrink,
        "trelu": lambda x, theta=1.0: F.threshold(x, theta, 0),
    }[name]  # fmt: skip


def slope(f, x):
    y, back = flux.vjp(f, np.asarray(x))
    return back(np.ones_like(y))


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_kernels_have_the_same_activations_in_the_same_order():
    kernels = Path(__file__).parents[2] / "kernels"
    names = [row.name for row in ROWS]
    assert re.findall(r"// constants: ACT=(\w+)", (kernels / "nonlinearities.cu").read_text()) == names
    assert re.findall(r"^struct (\w+)", (kernels / "activations.h").read_text(), re.MULTILINE) == names
    assert list(ACTIVATIONS) == names


def test_every_name_is_here():
    wanted = {
        "sigmoid", "hardsigmoid", "logsigmoid", "hardtanh", "relu", "leakyrelu", "relu6", "elu", "gelu", "gelu_erf",
        "swish", "hardswish", "lisht", "selu", "celu", "softplus", "softsign", "logcosh", "mish", "tanhshrink",
        "softshrink", "hardshrink", "trelu", "tanh", "identity",
    }  # fmt: skip
    assert all(getattr(acts, name) is ACTIVATIONS[name] for name in wanted)
    assert acts.σ is acts.sigmoid
    assert wanted == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_one_object(name):
    f = ACTIVATIONS[name]
    assert repr(f) == f.__name__ == name
    assert copy.deepcopy(f) is f
    assert pickle.loads(pickle.dumps(f)) is f
    assert f.__doc__.startswith(f"{name}(x) = ")
    assert activation_of(f) is f
    assert activation_of(lambda x: x) is None


def test_identity_returns_its_argument_itself():
    x, words = np.ones(2), ["not", "numbers"]
    assert identity(x) is x
    assert identity(words) is words
    assert activation_of(identity) is identity
    with pytest.raises(TypeError, match="identity.* one argument, got 2"):
        identity(1, 2)


# -- values and gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_value_and_derivatives(name):
    check_operation(ACTIVATIONS[name], X, dtypes=(np.float16, np.float32))
    check_operation(ACTIVATIONS[name], X[:6].reshape(2, 3), order=3, tolerance=2e-5)
    check_operation(ACTIVATIONS[name], np.zeros((2, 0, 3)))
    check_operation(ACTIVATIONS[name], np.asarray(0.3))


@pytest.mark.parametrize("name", NAMES)
def test_against_torch(name):
    check_against_torch(ACTIVATIONS[name], torch_function(name), X)
    check_against_torch(ACTIVATIONS[name], torch_function(name), 3 * normal(20, 33), tolerance=1e-8)


@pytest.mark.parametrize(("name", "p"), WITH_PARAMETER.items())
def test_with_a_parameter(name, p):
    f = ACTIVATIONS[name]
    check_operation(lambda x: f(x, p), X, dtypes=(np.float16, np.float32))
    check_against_torch(lambda x: f(x, p), lambda x: torch_function(name)(x, p), X)
    np.testing.assert_array_equal(f(X, np.float32(p)).data, f(X, float(np.float32(p))).data)


HIDDEN = [("leakyrelu", -1.0), ("elu", -0.5), ("elu", 0.0), ("celu", -2.0), ("trelu", -1.0), ("hardshrink", 0.0),
          ("softshrink", 0.0)]  # fmt: skip


@pytest.mark.parametrize(("name", "p"), HIDDEN)
def test_a_parameter_that_hides_the_branch_from_the_output(name, p):
    f = ACTIVATIONS[name]
    x = X if name != "celu" else X[3:]
    check_operation(lambda t: f(t, p), x)
    check_against_torch(lambda t: f(t, p), lambda t: torch_function(name)(t, p), x)


@pytest.mark.parametrize("name", WITH_PARAMETER)
def test_a_tensor_as_the_parameter_is_differentiated(name):
    if name in ("softshrink", "hardshrink", "trelu"):
        pytest.skip("a threshold")
    check_operation(ACTIVATIONS[name], X, np.array(0.7))
    check_operation(ACTIVATIONS[name], X.reshape(4, 3), np.array([0.7, 1.2, 0.4]))


def test_wrong_parameters():
    with pytest.raises(TypeError, match=r"relu\(x\) takes no parameter after x, got 0.1"):
        relu(X, 0.1)
    with pytest.raises(TypeError, match=r"elu\(x, parameter\) takes one parameter after x, got 1, 2"):
        acts.elu(X, 1, 2)
    with pytest.raises(ValueError, match="softshrink: the parameter must be at least 0, got -1"):
        acts.softshrink(X, -1)
    with pytest.raises(ValueError, match="celu: the parameter must be other than 0, got 0"):
        acts.celu(X, 0)


# -- the corners -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_limits_zero_and_nan(name, dtype, kernels):
    f, (low, high, dlow, dhigh, zero, dzero) = ACTIVATIONS[name], POINTS[name]
    x = np.tile(np.array([-INF, INF, 0, -0.0, np.nan], dtype), 200)  # enough for every kernel
    near = 2e-3 if dtype == np.float16 else 1e-6
    with use_kernels(kernels):
        y = f(x).data
        dx = slope(f, x)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_allclose(y[:5], [low, high, zero, zero, np.nan], rtol=near, atol=near)
    np.testing.assert_allclose(dx[:4], [dlow, dhigh, dzero, dzero], rtol=near, atol=near)
    np.testing.assert_array_equal(y.reshape(-1, 5), np.broadcast_to(y[:5], (200, 5)))


@pytest.mark.parametrize("name", NAMES)
def test_huge_numbers_do_not_overflow_on_the_way(name):
    f, (low, high, dlow, dhigh, *_) = ACTIVATIONS[name], POINTS[name]
    for dtype, huge in ((np.float32, 3e38), (np.float64, 1.7e308), (np.float16, 6e4)):
        x = np.array([-huge, huge], dtype)
        for kernels in (True, False):
            with use_kernels(kernels):
                y, dx = f(x).data.astype(np.float64), slope(f, x)
            for got, limit in zip(y, (low, high), strict=True):
                assert (abs(got) > 0.009 * huge and np.sign(got) == np.sign(limit)) if np.isinf(limit) \
                    else got == pytest.approx(limit, rel=2e-3, abs=2e-3)
            np.testing.assert_allclose(dx.astype(np.float64), [dlow, dhigh], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "hardshrink", "softshrink", "trelu"])
def test_an_infinite_gradient_stays_out_of_the_dead_half(name):
    f = ACTIVATIONS[name]
    dead = {"relu": -1.0, "relu6": -1.0, "hardtanh": 2.0}.get(name, 0.2)
    x = np.full(600, dead)
    for kernels in (True, False):
        with use_kernels(kernels):
            dx = flux.vjp(f, x)[1](np.full(600, INF))
        assert not dx.any()


@pytest.mark.parametrize("name", NAMES)
def test_second_derivative_far_out_is_finite(name):
    f = ACTIVATIONS[name]
    h = flux.gradient(lambda x: flux.gradient(lambda t: f(t).sum(), x).sum(), np.array([-1e5, 1e5]))
    np.testing.assert_allclose(h, 0, atol=1e-9)


SMOOTH = ["sigmoid", "logsigmoid", "tanh", "gelu", "gelu_erf", "swish", "lisht", "softplus", "softsign", "logcosh", "mish",
          "tanhshrink"]


def second(f, x):
    return flux.gradient(lambda x: slope_of(f, x).sum(), x)


def slope_of(f, x):
    return flux.gradient(lambda t: f(t).sum(), x)


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative_at_zero(name):
    """Formulas with |x| and branches at 0 must not show: the function is smooth there."""
    f, step = ACTIVATIONS[name], 1e-5
    around = slope_of(f, np.array([-step, step]))
    np.testing.assert_allclose(second(f, np.array([0.0, -0.0])), (around[1] - around[0]) / (2 * step), atol=1e-4)
    third = flux.gradient(lambda x: second(f, x).sum(), np.array([0.0, 1e-5]))
    np.testing.assert_allclose(third[0], third[1] if name != "softsign" else 0, atol=1e-3)  # softsign has a kink there


@pytest.mark.parametrize("name", NAMES)
def test_second_derivative_in_float16(name):
    f, x = ACTIVATIONS[name], np.linspace(-20, 20, 41) + 1 / 8
    np.testing.assert_allclose(second(f, x.astype(np.float16)), second(f, x), rtol=2e-2, atol=2e-3)


@given(name=st.sampled_from(NAMES), values=st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_kernel_and_reference_agree_on_any_number(name, values):
    f = ACTIVATIONS[name]
    x = np.array(values * (512 // len(values) + 1), np.float32)
    y, dx = f(x).data, slope(f, x)
    with use_kernels(False):
        np.testing.assert_allclose(f(x).data, y, rtol=3e-6, atol=1e-6)
        np.testing.assert_allclose(slope(f, x), dx, rtol=1e-5, atol=2e-6)


# -- dtypes and arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_integers_and_python_numbers(name):
    f = ACTIVATIONS[name]
    for dtype in (np.int8, np.int64, np.uint8, np.bool_):
        x = np.array([0, 1], dtype) if dtype is np.bool_ else np.array([0, 1, 2, 7], dtype)
        y = f(x)
        if name in ("relu", "relu6", "hardtanh"):
            assert y.dtype.kind in "iu"
        else:
            assert y.dtype == np.float64
        np.testing.assert_allclose(y.data, f(x.astype(np.float64)).data)
    assert isinstance(f(0.5), Tensor)
    assert float(f(0.5)) == pytest.approx(float(f(np.array(0.5))))
    assert f(1).shape == ()


def test_bfloat16_is_kept():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for name in NAMES:
        y = ACTIVATIONS[name](X.astype(bfloat16))
        assert y.dtype == bfloat16
        np.testing.assert_allclose(y.data.astype(np.float64), ACTIVATIONS[name](X).data, rtol=2e-2, atol=2e-2)


# -- with a bias -------------------------------------------------------------------------------------------------------

SHAPES = [((4, 16), 1), ((4, 16), -1), ((40, 16), 1), ((2, 3, 5, 7), 1), ((8, 6, 9, 9), 1), ((3, 5, 70), -2),
          ((600,), 0), ((0, 3, 2), 1), ((2, 3, 0), 1), ((1, 1), 1), ((5, 4, 32), 2), ((5, 40, 32), 0)]  # fmt: skip


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("name", ["identity", "relu", "tanh", "gelu", "leakyrelu", "softplus"])
def test_bias_act(name, shape, axis):
    f = ACTIVATIONS[name]
    z, b = normal(*shape), normal(shape[axis], seed=1)
    z[np.abs(z + acts.along(b, axis, z.ndim)) < 1e-3] += 0.1  # relu's kink

    def oracle(z, b, axis, activation):
        return activation.function(np, z + np.moveaxis(np.moveaxis(z * 0, axis, -1) + b, -1, axis))

    check_operation(bias_act, z, b, axis=axis, activation=f, oracle=oracle, dtypes=(np.float16, np.float32))
    check_operation(lambda z: bias_act(z, None, axis, f), z)


def test_bias_act_takes_relu_by_default():
    assert bias_act(np.array([[-1.0, 2.0]]), np.array([0.5, 0.5])).data.tolist() == [[0, 2.5]]


def test_bias_act_errors():
    with pytest.raises(ValueError, match=r"bias_act: axis 1 of z \(shape \(2, 3\)\) has size 3, so b must have shape "
                                         r"\(3,\), got \(2,\)"):  # fmt: skip
        bias_act(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ValueError, match=r"so b must have shape \(3,\), got \(1,\)"):
        bias_act(np.zeros((400, 3)), np.zeros(1))
    with pytest.raises(TypeError, match="bias_act: the activation must be one of"):
        bias_act(np.zeros((2, 3)), np.zeros(3), 1, np.tanh)
    with pytest.raises(IndexError, match="bias_act: there is no axis 2"):
        bias_act(np.zeros((2, 3)), np.zeros(3), 2)
    with pytest.raises(ValueError, match="broadcast"):
        bias_act_forward(np.zeros((400, 3)), np.zeros(2), 1, relu)  # a kernel would read beyond b


@pytest.mark.parametrize("b", [None, np.linspace(-1, 1, 6)])
def test_bias_act_in_place(b):
    for name in ACTIVATIONS:
        for size in (4, 40):
            z = normal(size, 6)
            wanted = bias_act_forward.reference(z.copy(), b, 1, ACTIVATIONS[name])
            np.testing.assert_allclose(bias_act_forward(z, b, 1, ACTIVATIONS[name], out=z), wanted, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kernels_run_where_they_say(name):
    f = ACTIVATIONS[name]
    z, b = normal(4, 6, 8, 8, dtype=np.float32), normal(6, dtype=np.float32)
    functions = (bias_act_forward, activation_backward, bias_backward)

    def launched(call):
        before = [g.launches for g in functions]
        call()
        return [g.launches - n for g, n in zip(functions, before, strict=True)]

    assert launched(lambda: bias_act_forward(z, b, 1, f)) == [1, 0, 0]
    assert launched(lambda: bias_act_forward(z, None, 1, f)) == [int(f is not identity), 0, 0]
    assert launched(lambda: activation_backward(z, z, f)) == [0, int(f is not identity), 0]
    assert launched(lambda: bias_backward(z, 1)) == [0, 0, 1]
    small = int(f.kernel_from == 1)
    assert launched(lambda: bias_act_forward(z[0, 0], None, 1, f)) == [small, 0, 0]
    assert launched(lambda: activation_backward(z[0, 0], z[0, 0], f)) == [0, small, 0]
    assert launched(lambda: bias_act_forward(z.T, b, 2, f)) == [1, 0, 0], "copied"
    assert launched(lambda: activation_backward(z.T, z.T, f)) == [0, int(f is not identity), 0]
    assert launched(lambda: bias_backward(z.transpose(1, 0, 3, 2), 0)) == [0, 0, 1]
    assert launched(lambda: bias_backward(z[:, :, 0, 0], 1)) == [0, 0, 0], "NumPy's sum over the first axis is as fast"
    assert launched(lambda: relu(np.arange(1000))) == [0, 0, 0], "integers"


def test_an_identity_without_a_bias_copies_nothing():
    z = normal(40, 40)
    assert bias_act_forward(z, None, 1, identity) is z
    assert activation_backward(z, z, identity) is z


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_backward_sums_accurately(dtype):
    dz = normal(64, 5, 37, 41, dtype=dtype) + dtype(1)
    wanted = dz.astype(np.float64).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(bias_backward(dz, 1), wanted, rtol=1e-6 if dtype == np.float32 else 1e-13)
    np.testing.assert_array_equal(bias_backward(dz, 1), bias_backward(dz.copy(), 1))


# -- the GPU's reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [32, 64])
def test_in_the_emulator(lanes):
    z, b, dy = normal(3, 5, 9, 17, dtype=np.float32), normal(5, dtype=np.float32), normal(3, 5, 9, 17, dtype=np.float32)
    with emulated(lanes=lanes, grid=3):
        for name in ("relu", "gelu"):
            f = ACTIVATIONS[name]
            y = bias_act_forward(z, b, 1, f)
            np.testing.assert_allclose(y, bias_act_forward.reference(z, b, 1, f), atol=1e-5)
            dz = activation_backward(dy, z, f)
            np.testing.assert_allclose(dz, activation_backward.reference(dy, z, f), atol=1e-5)
            np.testing.assert_allclose(bias_backward(dz, 1), bias_backward.reference(dz, 1), atol=1e-3)
            last = bias_act_forward(z.reshape(-1, 5), b, 1, f)
            np.testing.assert_allclose(last, bias_act_forward.reference(z.reshape(-1, 5), b, 1, f), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_activation_in_the_emulator(name):
    f, x = ACTIVATIONS[name], np.tile(X.astype(np.float32), 50)
    with emulated():
        y = bias_act_forward(x, None, 0, f)
        np.testing.assert_allclose(y, bias_act_forward.reference(x, None, 0, f), atol=1e-5)
        np.testing.assert_allclose(activation_backward(x, x, f), activation_backward.reference(x, x, f), atol=1e-4)
