"""Squeeze and excitation against plain NumPy and PyTorch."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, SkipConnection, hardsigmoid, identity, relu, sigmoid, swish, tanh
from minitorch_flux.models.layers import effective_squeeze_excite, squeeze_excite

from .tools import randn, randomise, same_as_torch, trains


def test_squeeze_excite_by_hand():
    m = randomise(squeeze_excite(16, reduction=2))
    x = randn(3, 16, 4, 5)
    d = m.state_dict()
    s = x.mean(axis=(2, 3))
    h = np.maximum(s @ d["layer.1.weight"][:, :, 0, 0].T + d["layer.1.bias"], 0)
    gate = 1 / (1 + np.exp(-(h @ d["layer.2.weight"][:, :, 0, 0].T + d["layer.2.bias"])))
    np.testing.assert_allclose(m(x).numpy(), x * gate[:, :, None, None], rtol=1e-4, atol=1e-5)


def test_effective_squeeze_excite_by_hand():
    m = randomise(effective_squeeze_excite(6, hardsigmoid))
    x = randn(3, 6, 4, 5)
    d = m.state_dict()
    z = x.mean(axis=(2, 3)) @ d["layer.1.weight"][:, :, 0, 0].T + d["layer.1.bias"]
    np.testing.assert_allclose(m(x).numpy(), x * np.clip(z / 6 + 0.5, 0, 1)[:, :, None, None], rtol=1e-4, atol=1e-5)
    assert isinstance(effective_squeeze_excite(6), SkipConnection)
    assert "Conv((1, 1), 6, 6, sigmoid)" in repr(effective_squeeze_excite(6))
    assert list(d) == ["layer.1.weight", "layer.1.bias"]
    flux.check(randomise(effective_squeeze_excite(3)), randn(2, 3, 2, 3))
    trains(m, x)


@pytest.mark.parametrize(("inplanes", "squeeze", "keywords", "wanted"), [
    (8, None, {}, 8),
    (64, None, {}, 8),  # 4, rounded to a multiple of 8
    (256, None, {}, 16),
    (512, None, {"reduction": 4}, 128),
    (72, None, {"reduction": 4}, 24),
    (100, None, {"reduction": 16, "round_fn": round}, 6),
    (10, None, {"reduction": 2.5, "round_fn": int}, 4),
    (64, 5, {}, 5),
    (64, None, {"round_fn": lambda n: n + 0.9}, 4),
])  # fmt: skip
def test_how_many_planes_are_left(inplanes, squeeze, keywords, wanted):
    m = squeeze_excite(inplanes, squeeze, **keywords)
    assert m.layer[1].weight.shape == (wanted, inplanes, 1, 1)
    assert m.layer[2].weight.shape == (inplanes, wanted, 1, 1)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_against_torch(norm, train):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.f1, self.n1 = nn.Conv2d(12, 8, 1, bias=not norm), nn.BatchNorm2d(8) if norm else nn.Identity()
            self.f2, self.n2 = nn.Conv2d(8, 12, 1, bias=not norm), nn.BatchNorm2d(12) if norm else nn.Identity()

        def forward(self, x):
            s = nn.functional.silu(self.n1(self.f1(x.mean((2, 3), keepdim=True))))
            gate = self.n2(self.f2(s)) / 6 + 0.5  # hardsigmoid, whose derivative PyTorch rounds to float32
            return x * gate.clamp(0, 1)

    ours = squeeze_excite(12, 8, activation=swish, gate_activation=hardsigmoid, norm_layer=BatchNorm if norm else identity)
    same_as_torch(ours, Theirs(), randn(4, 12, 3, 5), train=train)


def test_printing_shapes_gradients_and_generators():
    m = squeeze_excite(16)
    assert repr(m).replace("\n", " ").split("  #")[0].startswith("SkipConnection(")
    assert "Conv((1, 1), 16, 8, relu)" in repr(m)
    assert "Conv((1, 1), 8, 16, sigmoid)" in repr(m)
    assert flux.outputsize(m, (2, 16, 7, 7)) == (2, 16, 7, 7)
    flux.check(randomise(squeeze_excite(4, 2, activation=tanh)), randn(2, 4, 2, 3))
    a, b, c = (squeeze_excite(16, rng=flux.Generator(n)).state_dict() for n in (0, 0, 1))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["layer.1.weight"], c["layer.1.weight"])
    np.testing.assert_array_equal(effective_squeeze_excite(4, rng=flux.Generator(0)).layer[1].weight.numpy(),
                                  effective_squeeze_excite(4, sigmoid, rng=flux.Generator(0)).layer[1].weight.numpy())
    trains(squeeze_excite(16, activation=swish), randn(3, 16, 4, 4))
    assert m.layer[1].activation is relu


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: squeeze_excite(8, reduction=16, round_fn=int), ValueError, "8 planes reduced by 16 leave 0, expected at least 1"),
    (lambda: squeeze_excite(8, reduction=0), ValueError, "reduction must be positive, got 0"),
    (lambda: squeeze_excite(8, 0), ValueError, "squeeze_planes must be at least 1, got 0"),
    (lambda: squeeze_excite(8, 2.5), TypeError, "squeeze_planes must be a whole number, got 2.5"),
    (lambda: squeeze_excite("8"), TypeError, "inplanes must be a whole number, got '8'"),
    (lambda: squeeze_excite(8)(randn(2, 6, 3, 3)), ValueError, r"Conv\(\(1, 1\), 8, 8, relu\): the input has 6 channels"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
