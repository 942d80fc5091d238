"""WHCN: Flux's order of axes outside, ours inside, and nothing copied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import GRU, LSTM, RNN, WHCN, Chain, Conv, Dense, Dropout, MaxPool, Parallel, Tensor, flatten, relu


def array(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_images_are_whcn_outside_and_nchw_inside():
    model = Chain(Conv((3, 2), 3, 4, relu), MaxPool((2, 1)), flatten, Dense(4 * 2 * 5, 10))
    x = array(6, 7, 3, 2)  # width 6, height 7
    y = WHCN(model)(x)
    assert y.shape == (10, 2)
    np.testing.assert_array_equal(y.data, model(x.T).data.T)
    np.testing.assert_array_equal(y.data, model(np.ascontiguousarray(np.moveaxis(x, (0, 1, 2, 3), (3, 2, 1, 0)))).data.T)
    one = WHCN(model[:2])(array(6, 7, 3))  # a sample without its batch axis
    assert one.shape == (5, 2, 4)


def test_features_are_in_by_n():
    d = Dense(5, 2)
    x = array(5, 8)
    np.testing.assert_allclose(WHCN(d)(x).data, d.weight.numpy() @ x + d.bias.numpy()[:, None], rtol=1e-5, atol=1e-6)
    assert WHCN(d)(array(5)).shape == (2,)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_sequences_are_in_by_n_by_t(kind):
    m = kind(4, 3)
    x = array(4, 2, 5)
    y = WHCN(m)(x)
    assert y.shape == (3, 2, 5)
    flux.reset(m)
    for t in range(5):
        np.testing.assert_allclose(y.data[:, :, t], m(x[:, :, t].T).data.T, rtol=1e-5, atol=1e-6)


def test_nothing_is_copied():
    seen = []

    def look(x):
        seen.append(x)
        return x

    x = np.asfortranarray(array(4, 3, 2, 5))  # as Julia has it
    y = WHCN(look)(x)
    assert seen[0].shape == (5, 2, 3, 4)
    assert seen[0].data.flags.c_contiguous
    assert np.shares_memory(seen[0].data, x)
    assert np.shares_memory(y.data, x)  # a tensor, as every layer gives
    t = Tensor(x)
    y = WHCN(Chain(look))(t)
    assert np.shares_memory(y.data, x)
    assert seen[1].data.flags.c_contiguous
    y = WHCN(Chain(look))(x)
    assert np.shares_memory(y.data, x)
    assert y.data.flags.f_contiguous


@given(st.lists(st.integers(0, 4), max_size=4), st.booleans(), st.sampled_from(["float32", "float64", "int64", "bool"]))
def test_any_array_comes_back_as_it_was(shape, fortran, dtype):
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    x = np.asfortranarray(x) if fortran else x
    y = WHCN(Chain())(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.data, x)
    inside = WHCN(lambda x: [x.shape])(x)
    assert inside == [x.shape[::-1]]


def test_several_inputs_and_nested_outputs():
    m = WHCN(Parallel(tuple, Dense(3, 2), Dense(4, 2)))
    a, b = array(3, 5), array(4, 5)
    y, z = m(a, b)
    assert y.shape == z.shape == (2, 5)
    np.testing.assert_array_equal(m((a, b))[1].data, z.data)
    out = WHCN(lambda x: {"x": x, "rest": [x, (x, 3, "text", None)]})(array(2, 3, 4))
    assert out["x"].shape == out["rest"][0].shape == out["rest"][1][0].shape == (2, 3, 4)
    assert out["rest"][1][1:] == (3, "text", None)


def test_gradients_against_torch():
    torch = pytest.importorskip("torch")
    conv, dense = Conv((3, 2), 2, 3, relu, stride=(1, 2)), Dense(3 * 3 * 2, 4)
    m = WHCN(Chain(conv, flatten, dense))
    for p in m.parameters():
        p.data = p.data.astype(np.float64)
    x, dy = np.asfortranarray(array(5, 5, 2, 3, dtype=np.float64)), array(4, 3, seed=1, dtype=np.float64)
    value, (grads, dx) = flux.withgradient(lambda m, x: (m(x) * dy).sum(), m, x)
    w, b, v, c = (torch.tensor(p.numpy().copy(), requires_grad=True) for p in m.parameters())
    tx = torch.tensor(x.copy(), requires_grad=True)
    hidden = torch.relu(torch.nn.functional.conv2d(tx.permute(3, 2, 1, 0), w, b, stride=(1, 2)))
    loss = ((hidden.flatten(1) @ v.T + c).T * torch.tensor(dy)).sum()
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-12)
    assert dx.shape == x.shape
    for ours, theirs in [(dx, tx), (grads.model[0].weight, w), (grads.model[0].bias, b), (grads.model[2].weight, v),
                         (grads.model[2].bias, c)]:
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_gradients_of_both_orders():
    flux.check(WHCN(Chain(Dense(3, 2, flux.tanh), Dense(2, 2))), array(3, 4, dtype=np.float64))


def test_what_is_inside_stays_as_it_is():
    inner = Chain(Dense(3, 2), Dropout(0.5))
    m = WHCN(inner)
    assert m.model is inner
    assert list(m.state_dict()) == ["model.0.weight", "model.0.bias"]
    flux.testmode(m, False)
    assert inner[1].active is True
    flux.testmode(m, "auto")
    assert repr(m) == "WHCN(Chain(Dense(3, 2), Dropout(0.5)))  # 8 parameters"
    other = eval(repr(m), {"WHCN": WHCN, "Chain": Chain, "Dense": Dense, "Dropout": Dropout})
    other.load_state_dict(m.state_dict())
    assert repr(other) == repr(m)
    assert flux.outputsize(WHCN(Chain(Conv((3, 3), 1, 8), flatten)), (9, 8, 1, 4)) == (8 * 7 * 6, 4)


def test_errors_say_whose_order_the_axes_are_in():
    with pytest.raises(ValueError, match=r"^WHCN\.Chain\[0\] Dense\(3, 2\): the input has 4 features, expected 3 \(input shape "
                                         r"\(5, 4\)\)\n") as error:
        WHCN(Chain(Dense(3, 2)))(array(4, 5))
    assert error.value.__notes__ == ["inside WHCN(...) the axes are in the reversed order, (N, C, H, W)"]
    with pytest.raises(ValueError, match=r"^WHCN Dense\(3, 2\): the input has 4 features"):
        WHCN(Dense(3, 2))(array(4, 5))
    with pytest.raises(TypeError, match="WHCN: layer 0 is the class Dense, not a layer"):
        WHCN(Dense)
    with pytest.raises(TypeError, match="WHCN: layer 0 is a list"):
        WHCN([Dense(3, 2)])
