"""Dense against PyTorch and against its own definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Dense, Tensor, gelu, identity, relu, sigmoid, softmax, tanh, use_kernels
from tests.oracles import check_operation


@given(st.integers(0, 5), st.integers(1, 6), st.integers(1, 6), st.sampled_from([identity, relu, tanh, gelu]),
       st.booleans(), st.lists(st.integers(1, 3), max_size=2))
def test_dense_is_activation_of_product_plus_bias(n, fan_in, fan_out, act, bias, lead):
    layer = Dense(fan_in, fan_out, act, bias=bias)
    rng = np.random.default_rng(n)
    if bias:
        layer.bias.data[:] = rng.standard_normal(fan_out)
    x = rng.standard_normal((*lead, n, fan_in)).astype(np.float32)
    z = x @ layer.weight.data.T + (layer.bias.data if bias else 0)
    y = layer(x)
    assert y.shape == (*lead, n, fan_out)
    np.testing.assert_allclose(y.data, act(z).data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("act", [identity, relu, tanh, sigmoid, gelu])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 5, 3), (0, 3), (2, 0, 3)])
def test_gradients_of_both_orders(act, shape):
    rng = np.random.default_rng(1)
    from minitorch_flux.ops.dense import dense
    from minitorch_flux.ops.nonlinearities import activation_of

    x, w, b = rng.standard_normal(shape), rng.standard_normal((2, 3)), rng.standard_normal(2)
    check_operation(lambda x, w, b: dense(x, w, b, activation=activation_of(act)), x, w, b)
    check_operation(lambda x, w: dense(x, w, None, activation=activation_of(act)), x, w)


def test_against_torch():
    torch = pytest.importorskip("torch")
    layer = Dense(5, 4, relu)
    ref = torch.nn.Linear(5, 4)
    layer.load_state_dict({k: v.detach().numpy() for k, v in ref.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.relu(ref(tx))
    (ty ** 2).sum().backward()
    _, (grads, dx) = flux.withgradient(lambda m, x: (m(x) ** 2).sum(), layer, x)
    np.testing.assert_allclose(layer(x).data, ty.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grads.weight, ref.weight.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grads.bias, ref.bias.grad.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("lead", [(), (4,), (2, 5), (0,)])
@pytest.mark.parametrize("act", [relu, gelu])
def test_no_features_at_all(fan_in, fan_out, lead, act):
    layer = Dense(fan_in, fan_out, act)
    layer.bias.data[:] = 1.5
    x = np.ones((*lead, fan_in), np.float32)
    y, (grads, dx) = flux.withgradient(lambda m, x: ((y := m(x)).sum(), y), layer, x)
    assert y[1].shape == (*lead, fan_out)
    np.testing.assert_allclose(y[1], act(np.full((*lead, fan_out), 1.5, np.float32)).data, rtol=1e-6)
    assert dx.shape == x.shape
    assert grads.weight.shape == (fan_out, fan_in)
    second = flux.gradient(lambda x: (flux.gradient(lambda z: (layer(z) ** 2).sum(), x) ** 2).sum(), x)
    assert second.shape == x.shape


def test_half_precision_is_added_up_in_float32():
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((3, 4000)).astype(np.float16), np.zeros(3, np.float16)
    layer = Dense(weight, bias)
    x = np.ones((5000, 4000), np.float16)
    y, back = flux.vjp(lambda m: m(x), layer)
    np.testing.assert_allclose(y[0], weight.astype(np.float32).sum(1), rtol=1e-3, atol=1e-2)
    grads = back(np.ones((5000, 3), np.float16))
    assert grads.weight.dtype == grads.bias.dtype == y.dtype == np.float16
    assert grads.bias.tolist() == [5000] * 3  # halves alone would stop at 2048
    assert (grads.weight == 5000).all()


@pytest.mark.parametrize("layout", ["steps", "Fortran", "rows", "reversed", "broadcast"])
def test_inputs_of_any_layout(layout):
    wide = np.random.default_rng(0).standard_normal((40, 60)).astype(np.float32)
    x = {"steps": wide[::2, ::3], "Fortran": np.asfortranarray(wide[:20, :20]), "rows": wide[:20, :20],
         "reversed": wide[19::-1, 19::-1], "broadcast": np.broadcast_to(wide[0, :20], (20, 20))}[layout]
    layer = Dense(20, 7, tanh)
    f = lambda m, x: (m(x) ** 2).sum()  # noqa: E731
    value, (grads, dx) = flux.withgradient(f, layer, x)
    wanted, (grads0, dx0) = flux.withgradient(f, layer, np.ascontiguousarray(x))
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    np.testing.assert_allclose(grads.weight, grads0.weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, dx0, rtol=1e-5, atol=1e-6)


def test_signatures():
    rng = np.random.default_rng(0)
    assert Dense((5, 2), relu).weight.shape == (2, 5)
    assert Dense((5, 2)).activation is identity
    assert Dense((5, 2), activation=relu).activation is relu
    assert Dense([5, 2], tanh, bias=False).activation is tanh
    sized = Dense(np.int64(5), np.prod([2, 2]))
    assert (sized.in_, sized.out) == (5, 4)
    assert repr(sized).startswith("Dense(5, 4)")
    assert Dense(5, 2, bias=False).bias is None
    assert Dense(5, 2, bias=np.ones(2)).bias.data.tolist() == [1, 1]
    w = rng.standard_normal((2, 5))
    d = Dense(w, False, tanh)
    assert d.weight.dtype == np.float64
    assert d.bias is None
    assert d.activation is tanh
    w[:] = 0
    assert d.weight.data.any()
    d = Dense(np.ones((2, 3), int), np.arange(2))
    assert d.weight.dtype == d.bias.dtype == np.float32
    const = Dense(2, 3, init=lambda *s: np.full(s, 4.0, np.float32), init_bias=flux.ones)
    assert (const.weight.data == 4).all()
    assert (const.bias.data == 1).all()


def test_the_same_rng_gives_the_same_weights():
    a, b = (Dense(4, 4, rng=flux.Generator(5)).weight.data for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_real_inputs_are_converted_to_the_weights_dtype():
    d = Dense(3, 2)
    for x in (np.ones(3), np.ones(3, int), np.ones(3, np.float16), [1, 2, 3], np.array([True, False, True])):
        assert d(x).dtype == np.float32
    assert Dense(np.ones((2, 3)))(np.ones(3, np.float32)).dtype == np.float64
    with pytest.raises(TypeError, match="complex"):
        d(np.ones(3) * 1j)
    with pytest.raises(TypeError, match=r"Dense\(3, 2\): the input is a str"):
        d("abc")


def test_errors():
    d = Dense(64, 10)
    with pytest.raises(ValueError, match=r"Dense\(64, 10\): the input has 32 features, expected 64 \(input shape \(8, 32\)\)"):
        d(np.zeros((8, 32)))
    with pytest.raises(ValueError, match="the input has no axes, expected 64"):
        d(1.0)
    with pytest.raises(TypeError, match="`out` must be a whole number, got None"):
        Dense(3)
    with pytest.raises(TypeError, match="`in` must be a whole number, got 2.5"):
        Dense(2.5, 3)
    for wrong in (((2, 3), 4), ((2, 3, 4),), ((2, 3), relu, tanh), ((2,),)):
        with pytest.raises(TypeError, match="pair or as two numbers"):
            Dense(*wrong)
    with pytest.raises(TypeError, match=r"Dense\(weight, bias=True, activation=identity\): the activation"):
        Dense(np.ones((2, 3)), relu)
    with pytest.raises(TypeError, match="`out` must be a whole number, got True"):
        Dense(3, True)
    with pytest.raises(TypeError, match="`in` must be a whole number, got -1"):
        Dense(-1, 2)
    with pytest.raises(ValueError, match=r"Dense: init gave an array of shape \(3, 2\), asked for \(2, 3\)"):
        Dense(3, 2, init=lambda *s: np.zeros(s[::-1]))
    with pytest.raises(ValueError, match=r"Dense: init gave an array of shape \(\), asked for \(2,\)"):
        Dense(3, 2, init_bias=lambda n: 0.0)
    with pytest.raises(TypeError, match="activation must be a function, got 'relu'"):
        Dense(2, 3, "relu")
    with pytest.raises(ValueError, match=r"bias has shape \(3,\), expected \(2,\)"):
        Dense(5, 2, bias=np.ones(3))
    with pytest.raises(ValueError, match=r"weight \(out, in\) has 2 axes, got shape \(3,\)"):
        Dense(np.ones(3))


def test_any_function_may_be_the_activation():
    d = Dense(3, 4, softmax)
    np.testing.assert_allclose(d(np.ones((2, 3))).data.sum(-1), 1, rtol=1e-6)
    doubled = Dense(3, 4, lambda x: x * 2)
    np.testing.assert_allclose(doubled(np.ones(3)).data, 2 * (doubled.weight.data.sum(1)), rtol=1e-6)


def test_large_inputs_use_kernels_and_agree_with_the_reference():
    d = Dense(64, 256, relu)
    x = np.random.default_rng(0).standard_normal((1024, 64)).astype(np.float32)
    run = lambda: flux.withgradient(lambda m: (m(x) ** 2).sum(), d)  # noqa: E731
    value, grads = run()
    with use_kernels(False):
        value0, grads0 = run()
    np.testing.assert_allclose(value, value0, rtol=1e-5)
    np.testing.assert_allclose(grads.weight, grads0.weight, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(grads.bias, grads0.bias, rtol=1e-4, atol=1e-3)


def test_a_plain_call_records_nothing():
    assert Dense(2, 2)(np.ones(2)).node is None
    assert isinstance(Dense(2, 2)(np.ones(2)), Tensor)
