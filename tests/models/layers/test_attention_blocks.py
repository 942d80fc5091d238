"""MHAttention against PyTorch's MultiheadAttention and plain NumPy."""

import copy
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Generator
from minitorch_flux.models.layers import MHAttention

from .tools import randn, randomise, same_as_torch, trains


def test_by_nested_loops():
    m = flux.f64(randomise(MHAttention(6, 2, qkv_bias=True)))
    x = randn(2, 4, 6, dtype=np.float64)
    d = m.state_dict()
    z = x @ d["qkv.weight"].T + d["qkv.bias"]
    joined = np.zeros_like(x)
    for n in range(2):
        for h in range(2):
            q, k, v = (z[n, :, 6 * i + 3 * h : 6 * i + 3 * h + 3] for i in range(3))
            for token in range(4):
                s = np.exp(k @ q[token] / np.sqrt(3))
                joined[n, token, 3 * h : 3 * h + 3] = (s / s.sum()) @ v
    np.testing.assert_allclose(m(x).numpy(), joined @ d["proj.weight"].T + d["proj.bias"], rtol=1e-10)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_against_torch(heads, bias):
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.m = torch.nn.MultiheadAttention(8, heads, batch_first=True)
            if not bias:
                self.m.in_proj_bias.requires_grad_(False)

        def forward(self, x):
            if not bias:
                self.m.in_proj_bias.data.zero_()
            return self.m(x, x, x, need_weights=False)[0]

    names = {"qkv.weight": "m.in_proj_weight", "qkv.bias": "m.in_proj_bias", "proj.weight": "m.out_proj.weight",
             "proj.bias": "m.out_proj.bias"}
    ours = MHAttention(8, heads, qkv_bias=bias)
    same_as_torch(ours, Theirs(), randn(3, 5, 8), names={k: v for k, v in names.items() if bias or k != "qkv.bias"})
    assert list(ours.state_dict()) == [k for k in names if bias or k != "qkv.bias"]


def test_dropout_of_weights_and_of_the_output():
    x = randn(4, 5, 8)
    m = MHAttention(8, 2, attn_dropout_prob=0.5, rng=Generator(0))
    np.testing.assert_allclose(m(x).numpy(), MHAttention(8, 2, rng=Generator(0))(x).numpy(), rtol=1e-5)  # test mode: no dropout
    flux.trainmode(m)
    ys = np.stack([m(x).numpy() for _ in range(2)])
    assert not np.array_equal(ys[0], ys[1])
    m = MHAttention(8, 2, proj_dropout_prob=0.5, rng=Generator(0), active=True)
    y = m(x).numpy()
    assert (y == 0).mean() == pytest.approx(0.5, abs=0.15)
    np.testing.assert_allclose(y[y != 0], 2 * flux.testmode(m)(x).numpy()[y != 0], rtol=1e-5)


def test_what_is_dropped_are_weights_of_keys():
    """With values that tell the key each output is a sum over the keys that were kept, at twice their weights."""
    m = MHAttention(4, 1, attn_dropout_prob=0.5, rng=Generator(2), active=True)
    for k, v in (("qkv.weight", np.concatenate([np.zeros((8, 4)), np.eye(4)])), ("proj.weight", np.eye(4)),
                 ("proj.bias", np.zeros(4))):
        m.load_state_dict({**m.state_dict(), k: v.astype(np.float32)})
    y = m(np.eye(4, dtype=np.float32)[None].repeat(200, axis=0)).numpy()
    assert set(np.unique(y.round(5))) == {0, 0.5}  # weights of 1/4, dropped or doubled
    assert (y == 0).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("keywords", [{}, {"qkv_bias": True}, {"attn_dropout_prob": 0.3, "rng": Generator(1)},
                                      {"proj_dropout_prob": 0.3, "rng": Generator(1)}])
def test_gradients_of_first_and_second_order(keywords):
    flux.check(randomise(MHAttention(4, 2, **keywords)), randn(2, 3, 4))
    trains(MHAttention(4, 2, **keywords), randn(2, 3, 4))


def test_printing_copies_shapes_and_generators():
    dropping = MHAttention(16, attn_dropout_prob=0.1, proj_dropout_prob=0.2, active=False)
    for m, wanted in (
        (MHAttention(16), "MHAttention(16)"),
        (MHAttention(16, 4, qkv_bias=True), "MHAttention(16, 4, qkv_bias=True)"),
        (dropping, "MHAttention(16, attn_dropout_prob=0.1, proj_dropout_prob=0.2, active=False)"),
    ):
        assert repr(m).partition("  #")[0] == wanted
        for other in (eval(repr(m)), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
            assert repr(other) == repr(m)
    assert flux.outputsize(MHAttention(16), (2, 5, 16)) == (2, 5, 16)
    assert MHAttention(16)(np.zeros((0, 5, 16))).shape == (0, 5, 16)
    assert MHAttention(16)(np.zeros((2, 1, 16))).shape == (2, 1, 16)
    assert repr(MHAttention(8, rng=Generator(0))).startswith("MHAttention(8)  #")  # nothing more to draw
    assert "rng=Generator(0" in repr(MHAttention(8, proj_dropout_prob=0.1, rng=Generator(0)))
    a, b, c = (MHAttention(8, rng=Generator(n)).qkv.weight.numpy() for n in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert flux.f64(MHAttention(8))(randn(1, 2, 8)).dtype == np.float64


@pytest.mark.parametrize(("make", "x", "error", "message"), [
    (lambda: MHAttention(8, 3), None, ValueError, "MHAttention: planes=8 should be divisible by nheads=3"),
    (lambda: MHAttention(8, 0), None, ValueError, "should be divisible by nheads=0"),
    (lambda: MHAttention(8.5), None, TypeError, "planes must be a whole number, got 8.5"),
    (lambda: MHAttention(8, attn_dropout_prob=2), None, ValueError, "probability p must be between 0 and 1, got 2"),
    (lambda: MHAttention(8, proj_dropout_prob=-1), None, ValueError, "probability p must be between 0 and 1, got -1"),
    (lambda: MHAttention(8, active="x"), None, ValueError, "active must be True"),
    (lambda: MHAttention(8), randn(5, 8), ValueError,
     r"MHAttention\(8\): expected an input \(N, tokens, 8\) \(input shape \(5, 8\)\)"),
    (lambda: MHAttention(8), randn(2, 5, 6), ValueError, r"expected an input \(N, tokens, 8\)"),
    (lambda: MHAttention(8, num_heads=2), None, TypeError, "`num_heads=` is spelled `nheads=` here"),
])  # fmt: skip
def test_errors(make, x, error, message):
    with pytest.raises(error, match=message):
        make()(x)
