"""shapes_only: models whose parameters have a shape and a dtype, but no array."""

import copy
import pickle
import threading
import tracemalloc

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, models
from minitorch_flux.backend.outlines import OutlineError, is_outline, own

MADE = {
    "Dense": (lambda: Dense(3, 4), (2, 3)),
    "given arrays": (lambda: Dense(np.ones((4, 3)), np.zeros(4)), (2, 3)),
    "given bias": (lambda: Dense(3, 4, bias=np.ones(4)), (2, 3)),
    "Conv": (lambda: Conv((3, 3), 2, 6, flux.relu, groups=2), (1, 2, 5, 5)),
    "ConvTranspose": (lambda: flux.ConvTranspose((2, 2), 2, 6), (1, 2, 5, 5)),
    "BatchNorm": (lambda: flux.BatchNorm(2), (2, 2, 5)),
    "GroupNorm": (lambda: flux.GroupNorm(4, 2, track_stats=True), (2, 4, 5)),
    "LayerNorm": (lambda: flux.LayerNorm((2, 3)), (4, 2, 3)),
    "Scale": (lambda: flux.Scale(3), (2, 3)),
    "LayerScale": (lambda: models.layers.LayerScale(3, 0.1), (2, 3)),
    "Bilinear": (lambda: flux.Bilinear(3, 2), (2, 3)),
    "MultiHeadAttention": (lambda: flux.MultiHeadAttention(8, nheads=2), (2, 3, 8)),
    "kdim": (lambda: flux.MultiHeadAttention((8, 4, 8), nheads=2), (2, 3, 8)),
    "LSTM": (lambda: flux.LSTM(3, 4, num_layers=2, bidirectional=True, train_init=True), (5, 2, 3)),
    "GRU": (lambda: flux.GRU(3, 4, hidden_bias=True), (5, 2, 3)),
    "WeightNorm": (lambda: flux.WeightNorm(Dense(3, 4)), (2, 3)),
    "ViPosEmbedding": (lambda: models.layers.ViPosEmbedding(3, 2), (2, 2, 3)),
    "Chain": (lambda: Chain(Dense(3, 4), flux.tanh, Dense(4, 2)), (2, 3)),
}


def arrays(model):
    return [t.data for t in (*model.parameters(), *(b for _, b in model.named_buffers()))]


@pytest.mark.parametrize("name", MADE)
def test_every_kind_of_layer(name):
    make, shape = MADE[name]
    real = make()
    with flux.shapes_only():
        m = make()
    assert all(is_outline(a) for a in arrays(m))
    assert not any(is_outline(a) for a in arrays(real))
    assert [(k, a.shape, a.dtype) for k, a in m.state_dict().items()] == [
        (k, a.shape, a.dtype) for k, a in real.state_dict().items()
    ]
    assert repr(m) == repr(real).replace("  (all zero)", "")
    assert models.num_parameters(m, buffers=True) == models.num_parameters(real, buffers=True)
    assert flux.outputsize(m, shape) == flux.outputsize(real, shape)
    with pytest.raises(OutlineError, match=rf"{type(m).__name__}\W.*shapes, but no numbers.*outside of that, or load weights"):
        m(np.zeros(shape, np.float32))
    m.load_state_dict(real.state_dict())
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(m(x)), np.asarray(real(x)))
    assert not {id(a) for a in arrays(m)} & {id(a) for a in arrays(real)}


def test_nothing_is_allocated_or_drawn():
    before = flux.backend.default_generator().state_dict()
    tracemalloc.start()
    try:
        with flux.shapes_only():
            m = Chain(Dense(100_000, 1_000_000), Dense(1_000_000, 100_000, init=flux.orthogonal))
        assert models.num_parameters(m) == 200_001_100_000
        assert "200_001_100_000 parameters, 745.062 GiB" in repr(m)
        assert flux.outputsize(m, (7, 100_000)) == (7, 100_000)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert flux.backend.default_generator().state_dict() == before


def test_the_error_names_the_path_in_a_model():
    with flux.shapes_only():
        m = Chain(enc=Chain(Dense(3, 4)), dec=Dense(4, 2))
    with pytest.raises(OutlineError, match=r"^Chain\['enc'\]\.Chain\[0\] Dense\(3, 4\): its parameters have shapes, but no"):
        m(np.zeros((1, 3)))
    with pytest.raises(OutlineError, match=r"Dense\(3, 4\): its parameters"):
        flux.gradient(lambda m: m(np.ones((1, 3))).sum(), m)
    with flux.shapes_only(), pytest.raises(OutlineError, match=r"Dense\(3, 4\): its parameters"):
        m(np.zeros((1, 3)))
    with pytest.raises(OutlineError, match=r"Embedding\(5, 3\): its parameters"), flux.shapes_only():
        flux.Embedding(5, 3)([1, 2])


def test_whatever_needs_numbers_says_so(tmp_path):
    with flux.shapes_only():
        m = Chain(Dense(3, 4), Dense(4, 2))
    w = m[0].weight
    for f in (w.numpy, w.sum, w.tolist, lambda: w @ np.ones(3), lambda: np.asarray(w), lambda: w * 2, lambda: w[0],
              lambda: w.T, lambda: w.reshape(12), lambda: float(m[0].bias[0]), lambda: w.data.sum(), lambda: w.data.mean(),
              lambda: w.data * 2, lambda: w.data.T.T @ w.data.reshape(3, 4), lambda: flux.softmax(w)):
        with pytest.raises(OutlineError, match=r"no numbers: the model was made inside flux.shapes_only\(\); build it outside"):
            f()
    with pytest.raises(OutlineError, match="no numbers"):
        flux.save(tmp_path / "m.npz", m)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutlineError, match="nothing to move to 'cuda:0'"):
        flux.backend.to_device(w.data, "cuda:0")
    with pytest.raises(ValueError, match=r"0.weight: has a shape, but no numbers: it is of a model that was made inside"):
        Chain(Dense(3, 4), Dense(4, 2)).load_state_dict(m.state_dict())
    assert repr(w) == "Param(Outline((4, 3), float32))"


def test_copies_dtypes_and_loading_a_part():
    with flux.shapes_only():
        m = Chain(Dense(3, 4, init=flux.zeros(dtype="float64")), Dense(4, 2))
    assert m[0].weight.dtype == np.float64
    wide = flux.f64(m)
    assert wide[1].weight.dtype == np.float64
    assert is_outline(wide[1].weight.data)
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert repr(other) == repr(m)
        assert other[0].weight is not m[0].weight
    assert m.load_state_dict({"0.weight": np.ones((4, 3)), "0.bias": np.ones(4)}, strict=False)["missing"] == [
        "1.weight", "1.bias"]
    assert m[0](np.ones(3)).tolist() == [4.0] * 4
    with pytest.raises(OutlineError, match=r"Chain\[1\] Dense\(4, 2\)"):
        m(np.ones(3))
    with pytest.raises(ValueError, match=r"1.weight: shape \(3, 3\), the model has \(2, 4\)"):
        m.load_state_dict({"1.weight": np.ones((3, 3))}, strict=False)


def test_a_file_makes_it_real(tmp_path):
    real = Dense(3, 4)
    flux.save(tmp_path / "m.npz", real)
    with flux.shapes_only():
        m = Dense(3, 4)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(flux.load(tmp_path / "m.npz", m)(x).numpy(), real(x).numpy())
    flux.train(lambda m, x: m(x).sum(), m, [(x,)], flux.setup(flux.Descent(0.1), m))


def test_it_nests_and_ends_with_the_body_whatever_happens():
    with flux.shapes_only():
        with flux.shapes_only():
            pass
        assert is_outline(Dense(1, 1).weight.data)
        with pytest.raises(ValueError, match="anything"), flux.shapes_only():
            raise ValueError("anything")
        assert is_outline(Dense(1, 1).weight.data)
        with pytest.raises(TypeError, match="an initialiser is a function"):
            Dense(1, 1, init=3)
    assert not is_outline(Dense(1, 1).weight.data)
    assert own.scopes == 0


def test_other_threads_are_not_concerned():
    made, inside, done = [], threading.Event(), threading.Event()

    def other():
        inside.wait(10)
        made.append(Dense(2, 2))
        made.append(made[0](np.ones((1, 2), np.float32)).numpy())
        with flux.shapes_only():
            made.append(Dense(2, 2))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with flux.shapes_only():
        inside.set()
        done.wait(10)
        mine = Dense(2, 2)
    thread.join()
    assert not is_outline(made[0].weight.data)
    assert made[1].shape == (1, 2)
    assert is_outline(made[2].weight.data)
    assert is_outline(mine.weight.data)


def test_parameters_of_ones_own_modules_and_real_models_in_the_body():
    class Shift(flux.Module):
        def __init__(self, n):
            self.by, self.count = flux.Param(np.zeros(n)), flux.Buffer(np.zeros(1))

        def __call__(self, x):
            return x + self.by

    real = Dense(2, 3)
    with flux.shapes_only():
        m = Chain(Shift(2), real)
        assert real(np.ones(2, np.float32)).shape == (3,)
    assert is_outline(m[0].by.data)
    assert is_outline(m[0].count.data)
    assert not is_outline(m[1].weight.data)
    assert flux.outputsize(m, (5, 2)) == (5, 3)
    with pytest.raises(OutlineError, match=r"Chain\[0\] .*a parameter has a shape, but no numbers"):
        m(np.ones(2))


def test_open_sizes_are_filled_where_they_are_filled():
    with flux.shapes_only():
        m = Chain(Dense(None, 3), Dense(3, 2))
        flux.build(m, (1, 4))
        later = Dense(None, 3)
    assert is_outline(m[0].weight.data)
    assert not is_outline(flux.build(later, (1, 4)).weight.data)
