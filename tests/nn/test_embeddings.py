"""Embedding and EmbeddingBag against PyTorch and nested loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Embedding, EmbeddingBag, use_kernels
from minitorch_flux.nn.initialisers import glorot_uniform
from tests.oracles import normal

LAYERS = [Embedding, EmbeddingBag]


# -- what both have ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_all_ways_to_make_one(kind):
    assert kind(5, 3).weight.shape == kind((5, 3)).weight.shape == (5, 3)
    assert (kind(5, 3).n, kind(5, 3).d) == (5, 3)
    table = normal(4, 2, dtype=np.float64)
    layer = kind(table)
    assert layer.weight.dtype == np.float64
    layer.weight.data[:] = 0
    assert table.any()  # a copy
    assert kind(np.arange(6).reshape(3, 2)).weight.dtype == np.float32
    assert kind(5, 3, init=flux.ones).weight.data.sum() == 15
    a, b = (kind(5, 3, rng=flux.Generator(1)).weight.data for _ in range(2))
    np.testing.assert_array_equal(a, b)
    drawn = kind(200, 50, rng=flux.Generator(2)).weight.data
    assert drawn.dtype == np.float32
    assert abs(drawn.std() - 1) < 0.03  # standard normal
    assert abs(drawn.mean()) < 0.04


@pytest.mark.parametrize("kind", LAYERS)
def test_padding_idx_starts_as_zeros(kind):
    layer = kind(5, 3, padding_idx=-2)
    assert layer.padding_idx == 3
    assert (layer.weight.data.any(axis=1) == [True, True, True, False, True]).all()
    assert kind(np.ones((5, 3)), padding_idx=3).weight.data.all()  # a given table is left as it is
    for wrong in (5, -6):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: padding_idx={wrong} is not one of the 5 rows of the table"):
            kind(5, 3, padding_idx=wrong)
    with pytest.raises(TypeError, match=rf"{kind.__name__}: padding_idx is the number of a row of the table, got 1.5"):
        kind(5, 3, padding_idx=1.5)


@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_arguments(kind):
    name = kind.__name__
    with pytest.raises(TypeError, match=rf"{name}\(n, d\): `n` must be a whole number, got 2.5"):
        kind(2.5, 3)
    with pytest.raises(TypeError, match=rf"{name}\(n, d\): `d` must be a whole number, got None"):
        kind(5)
    with pytest.raises(TypeError, match=rf"{name}: give the sizes as a pair or as two numbers, got \(5, 3\) and 4"):
        kind((5, 3), 4)
    with pytest.raises(TypeError, match=rf"{name}\(weight\): the table has its sizes, give no second one, got 3"):
        kind(np.ones((5, 3)), 3)
    with pytest.raises(ValueError, match=rf"{name}: the weight \(n, d\) has 2 axes, got shape \(5,\)"):
        kind(np.ones(5))
    with pytest.raises(TypeError, match=rf"{name}: `num_embeddings=` is spelled the first argument here"):
        kind(num_embeddings=5, embedding_dim=3)


@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_indices(kind):
    layer, name = kind(5, 3), kind.__name__
    cases = {r"5 at position \(1, 0\)": [[0, 1], [5, 2]], "-1 at position 1": [0, -1], "1000000 at position 1": [2, 10**6]}
    for at, bad in cases.items():
        with pytest.raises(IndexError, match=rf"{name}\(5, 3\): the index {at} is not one of the 5 rows of the table, 0 to 4"):
            layer(np.array(bad))
    for bad in (np.eye(5, dtype=np.float32), np.ones(3, bool)):
        with pytest.raises(TypeError, match=rf"{name}\(5, 3\): the input must be integer indices, got dtype {bad.dtype} "
                           r"\(input shape .*\); of one-hot rows take x.argmax\(-1\)"):
            layer(bad)


@pytest.mark.parametrize("kind", LAYERS)
def test_state_printing_and_dtypes(kind):
    a, b = kind(5, 3, padding_idx=1), kind(5, 3, padding_idx=1)
    assert list(a.state_dict()) == ["weight"]
    b.load_state_dict(a.state_dict())
    i = np.array([[0, 4], [1, 1]])
    np.testing.assert_array_equal(a(i).data, b(i).data)
    text = f"{kind.__name__}(5, 3, init=glorot_uniform, padding_idx=1)"
    assert repr(kind(5, 3, init=glorot_uniform, padding_idx=-4)) == f"{text}  # 15 parameters"
    assert repr(eval(text, vars(flux))) == f"{text}  # 15 parameters"
    for dtype in (np.uint8, np.int16, np.int32, np.uint64):
        np.testing.assert_array_equal(a(i.astype(dtype)).data, a(i).data)
    wide = kind(normal(5, 3).astype(np.float16))
    assert wide(i).dtype == np.float16
    np.testing.assert_array_equal(a(flux.tensor(i)).data, a(i.tolist()).data)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_callers_indices_may_change_before_the_backward_pass(kind):
    layer, i = kind(5, 3), np.array([[0, 1], [2, 2]])
    with flux.record():
        y = layer(i).sum()
    i[:] = 4
    y.backward()
    assert (layer.weight.grad.any(axis=1) == [True, True, True, False, False]).all()


# -- Embedding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (4, 2), (2, 3, 2), (0,), (2, 0)])
@pytest.mark.parametrize("padding_idx", [None, 2])
def test_embedding_is_torchs(shape, padding_idx):
    torch = pytest.importorskip("torch")
    layer = Embedding(6, 3, padding_idx=padding_idx)
    theirs = torch.nn.Embedding(6, 3, padding_idx=padding_idx)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
    i, dy = np.random.default_rng(0).integers(0, 6, shape), normal(*shape, 3, dtype=np.float32)
    y, back = flux.vjp(lambda m: m(i), layer)
    wanted = theirs(torch.tensor(i))
    wanted.backward(torch.tensor(dy))
    np.testing.assert_array_equal(y, wanted.detach().numpy())
    np.testing.assert_allclose(back(dy).weight, theirs.weight.grad.numpy(), rtol=1e-6, atol=1e-6)


def test_embedding_of_any_shape_on_the_first_page():
    assert Embedding(96, 64)(np.zeros((5, 32), int)).shape == (5, 32, 64)
    assert Embedding(3, 0)(np.zeros((2, 2), int)).shape == (2, 2, 0)
    assert Embedding(0, 3)(np.zeros((2, 0), int)).shape == (2, 0, 3)
    assert Embedding(5, 3)([]).shape == (0, 3)


@pytest.mark.parametrize("padding_idx", [None, 1])
def test_second_order_gradients(padding_idx):
    i = np.array([[0, 1, 1], [3, 0, 1]])

    def f(w):
        layer = Embedding(4, 2, padding_idx=padding_idx)
        object.__setattr__(layer, "weight", w)
        return (layer(i) ** 3).sum()

    w = normal(4, 2)
    hessian = flux.hessian(f, w).reshape(8, 8)
    counts = np.array([2, 0 if padding_idx == 1 else 3, 0, 1])
    np.testing.assert_allclose(hessian, np.diag((6 * w * counts[:, None]).ravel()), rtol=1e-12)
    if padding_idx is None:
        flux.check(lambda w: f(w), w)


def test_gradients_repeat_bit_for_bit_for_many_equal_indices():
    i = np.random.default_rng(0).integers(0, 7, 2048)
    layer, dy = Embedding(7, 16), normal(2048, 16, dtype=np.float32)
    grads = [flux.vjp(lambda m: m(i), layer)[1](dy).weight for _ in range(3)]
    for g in grads[1:]:
        np.testing.assert_array_equal(g, grads[0])
    wanted = np.stack([dy[i == k].astype(np.float64).sum(0) for k in range(7)])
    np.testing.assert_allclose(grads[0], wanted, rtol=1e-4, atol=1e-4)
    with use_kernels(False):
        np.testing.assert_allclose(flux.vjp(lambda m: m(i), layer)[1](dy).weight, wanted, rtol=1e-4, atol=1e-4)


def test_outputsize():
    assert flux.outputsize(Embedding(96, 64, padding_idx=0), (32, 10), dtype=int) == (32, 10, 64)
    for mode in ("sum", "mean", "max"):
        assert flux.outputsize(EmbeddingBag(96, 64, mode, padding_idx=0), (32, 10), dtype=int) == (32, 64)


# -- EmbeddingBag ------------------------------------------------------------------------------------------------------


def torch_bag(layer):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.EmbeddingBag(layer.n, layer.d, mode=layer.mode, padding_idx=layer.padding_idx)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
    return torch, theirs


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (3, 7)])
def test_bags_of_one_length_are_torchs(mode, padding_idx, shape):
    layer = EmbeddingBag(6, 3, mode, padding_idx=padding_idx)
    torch, theirs = torch_bag(layer)
    i, dy = np.random.default_rng(1).integers(0, 6, shape), normal(shape[0], 3, dtype=np.float32)
    y, back = flux.vjp(lambda m: m(i), layer)
    wanted = theirs(torch.tensor(i))
    wanted.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back(dy).weight, theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("offsets", [[0, 2, 2, 7], [0, 0, 9], [0], [0, 9, 9]])
def test_offsets_are_torchs(mode, offsets):
    layer = EmbeddingBag(6, 3, mode, padding_idx=4)
    torch, theirs = torch_bag(layer)
    i, dy = np.array([0, 4, 2, 1, 1, 5, 3, 4, 0]), normal(len(offsets), 3, dtype=np.float32)
    y, back = flux.vjp(lambda m: m(i, offsets), layer)
    wanted = theirs(torch.tensor(i), torch.tensor(offsets))
    wanted.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back(dy).weight, theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding_idx", [None, 1])
def test_per_sample_weights_are_torchs(padding_idx):
    layer = EmbeddingBag(6, 3, "sum", padding_idx=padding_idx)
    torch, theirs = torch_bag(layer)
    i = np.random.default_rng(1).integers(0, 6, (5, 4))
    w, dy = normal(5, 4, dtype=np.float32), normal(5, 3, dtype=np.float32)
    y, back = flux.vjp(lambda m, w: m(i, per_sample_weights=w), layer, w)
    tw = torch.tensor(w, requires_grad=True)
    wanted = theirs(torch.tensor(i), per_sample_weights=tw)
    wanted.backward(torch.tensor(dy))
    grads, dw = back(dy)
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grads.weight, theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dw, tw.grad.numpy(), rtol=1e-5, atol=1e-6)


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=4), st.sampled_from(["sum", "mean", "max"]))
def test_a_list_of_bags_of_any_lengths(bags, mode):
    layer = EmbeddingBag(5, 3, mode)
    table, reduced = layer.weight.data, {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
    wanted = [reduced(table[bag], axis=0) if bag else np.zeros(3) for bag in bags]
    y = layer(bags)
    np.testing.assert_allclose(y.data, wanted, rtol=1e-5, atol=1e-6)
    for bag, row in zip(bags, wanted, strict=True):  # flat indices alone are one bag
        np.testing.assert_allclose(layer(np.array(bag, int)).data, row, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer([np.array(bag, int) for bag in bags]).data, y.data)


@given(shape=st.lists(st.integers(0, 3), max_size=4), mode=st.sampled_from(["sum", "mean", "max"]))
def test_indices_of_any_shape_are_bags_along_the_last_axis(shape, mode):
    layer = EmbeddingBag(5, 3, mode)
    x = np.random.default_rng(0).integers(0, 5, shape)
    table, reduced = layer.weight.data, {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
    y = layer(x)
    assert y.shape == (*shape[:-1], 3) == flux.outputsize(layer, tuple(shape), dtype=int)
    for at in np.ndindex(*shape[:-1]):
        bag = np.atleast_1d(x[at])
        np.testing.assert_allclose(y.data[at], reduced(table[bag], axis=0) if bag.size else 0, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer(flux.tensor(x)).data, y.data)
    if mode == "sum":
        w = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        y = layer(x, per_sample_weights=w).data
        wanted = (table[x] * w[..., None]).sum(-2) if shape else table[x] * w
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_check_bags(mode):
    layer = EmbeddingBag(5, 3, mode)
    flux.check(lambda m: m([[0, 1, 1], [], [4, 2]]), layer)
    if mode == "sum":
        weights = normal(2, 3)
        flux.check(lambda m, w: m(np.array([[0, 1, 1], [4, 0, 2]]), per_sample_weights=w), layer, weights)
        ragged = layer([[0, 1], [2]], per_sample_weights=[[1.0, 2.0], [3.0]]).data
        table = layer.weight.data
        np.testing.assert_allclose(ragged, [table[0] + 2 * table[1], 3 * table[2]], rtol=1e-6)
        bags = np.array([[0, 1, 1], [4, 0, 2]])  # lists of one length are as good as an array
        same = layer(bags.tolist(), per_sample_weights=weights).data
        np.testing.assert_array_equal(same, layer(bags, per_sample_weights=weights).data)


def test_empty_bags_and_nothing_at_all():
    for mode in ("sum", "mean", "max"):
        layer = EmbeddingBag(5, 3, mode)
        assert layer(np.zeros((0, 4), int)).shape == (0, 3)
        np.testing.assert_array_equal(layer(np.zeros((2, 0), int)).data, np.zeros((2, 3)))
        np.testing.assert_array_equal(layer([[], []]).data, np.zeros((2, 3)))
        np.testing.assert_array_equal(layer(np.zeros(0, int), [0, 0]).data, np.zeros((2, 3)))
        grad = flux.gradient(lambda m: m([[], []]).sum(), layer)
        np.testing.assert_array_equal(grad.weight, np.zeros((5, 3)))


def test_mode_as_the_second_argument_and_printing():
    assert EmbeddingBag((5, 3), "sum").mode == EmbeddingBag(5, 3, "sum").mode == "sum"
    assert EmbeddingBag(np.ones((5, 3)), "max").mode == "max"
    assert EmbeddingBag(5, 3).mode == "mean"
    assert repr(EmbeddingBag(5, 3, "max")) == "EmbeddingBag(5, 3, 'max')  # 15 parameters"


def test_wrong_bags():
    layer = EmbeddingBag(5, 3, "sum")
    with pytest.raises(ValueError, match="EmbeddingBag: mode must be 'sum', 'mean' or 'max', got 'median'"):
        EmbeddingBag(5, 3, "median")
    with pytest.raises(TypeError, match=r"EmbeddingBag\(5, 3, 'sum'\): the input is a list, expected an array"):
        layer([[[1]], [[1], [2, 3]]])
    with pytest.raises(ValueError, match=r"'sum'\): with offsets the indices are flat, \(M,\), got shape \(2, 2\)"):
        layer(np.zeros((2, 2), int), [0])
    with pytest.raises(ValueError, match="a list of bags says itself where they begin, give no offsets"):
        layer([[1], [2]], [0, 1])
    i = np.arange(4)
    with pytest.raises(ValueError, match=r"offsets must be integers of shape \(N,\), where each bag begins, got dtype float64"):
        layer(i, [0.0, 1.0])
    with pytest.raises(ValueError, match="the first offset must be 0, where the first bag begins, got 1"):
        layer(i, [1, 2])
    with pytest.raises(ValueError, match="the first offset must be 0, where the first bag begins, got none"):
        layer(i, np.zeros(0, int))
    for wrong in ([0, 3, 2], [0, 5]):
        with pytest.raises(ValueError, match=r"offsets must not decrease nor go beyond the 4 indices, got \[0, "):
            layer(i, wrong)
    with pytest.raises(ValueError, match=r"per_sample_weights must have the shape \(4,\) of the indices, one for each, got "
                       r"shape \(3,\)"):
        layer(i, [0, 1], per_sample_weights=np.ones(3))
    with pytest.raises(ValueError, match="per_sample_weights are for mode='sum' only, this one is 'mean'"):
        EmbeddingBag(5, 3)(i, per_sample_weights=np.ones(4))
