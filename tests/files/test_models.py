"""save and load of models and of named arrays."""

import numpy as np
import pytest

from minitorch_flux.autograd import Param, Tensor
from minitorch_flux.backend import Generator
from minitorch_flux.files import FileError, load, load_checkpoint, save, save_checkpoint
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.state_dicts import StateError

both = pytest.mark.parametrize("kind", [".safetensors", ".npz"])


def model(seed=0, width=3):
    rng = Generator(seed)
    return Chain(Dense(2, width, rng=rng), Dense(width, 4, rng=rng))


@both
def test_a_model(kind, tmp_path):
    a, b = model(0), model(1)
    save(tmp_path / f"m{kind}", a)
    assert load(tmp_path / f"m{kind}", b) is b
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_array_equal(x.data, y.data)
    assert set(load(str(tmp_path / f"m{kind}"))) == {"0.weight", "0.bias", "1.weight", "1.bias"}


@both
def test_a_shared_layer_is_saved_once_and_tied_again(kind, tmp_path):
    layer = Dense(2, 2, rng=Generator(0))
    save(tmp_path / f"m{kind}", Chain(layer, layer))
    assert set(load(tmp_path / f"m{kind}")) == {"0.weight", "0.bias"}
    other = Dense(2, 2, rng=Generator(1))
    load(tmp_path / f"m{kind}", Chain(other, other))
    np.testing.assert_array_equal(other.weight.data, layer.weight.data)


@both
def test_named_arrays_and_tensors(kind, tmp_path):
    save(tmp_path / f"a{kind}", {"x": np.arange(3), "y": Tensor(np.ones((2, 0))), "z": Param(np.float32([1]))})
    arrays = load(tmp_path / f"a{kind}")
    np.testing.assert_array_equal(arrays["x"], np.arange(3))
    assert arrays["y"].shape == (2, 0)
    assert arrays["z"].dtype == np.float32
    arrays["x"][0] = 5


def test_a_dict_of_models(tmp_path):
    save(tmp_path / "m.npz", {"encoder": model(), "scale": Param(np.ones(1))})
    layers = {"encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"}
    assert set(load(tmp_path / "m.npz")) == layers | {"scale"}


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    m = model()
    before = m.state_dict()
    save(tmp_path / "wide.npz", model(width=5))
    save(tmp_path / "part.npz", {"0.weight": np.zeros((3, 2)), "else": np.ones(1)})
    with pytest.raises(StateError, match=r"0.weight: shape \(5, 2\), the model has \(3, 2\)"):
        load(tmp_path / "wide.npz", m)
    with pytest.raises(StateError, match="else: unexpected"):
        load(tmp_path / "part.npz", m)
    for name, a in m.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
    load(tmp_path / "part.npz", m, strict=False)
    assert not m[0].weight.data.any()


def test_a_model_of_torch_loads(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    x = np.ones((5, 2), np.float32)
    ours = load(tmp_path / "m.safetensors", model())
    np.testing.assert_allclose(ours(x).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_is_not_mistaken_for_weights(tmp_path):
    m = model()
    save_checkpoint(tmp_path / "c.npz", {"model": m.state_dict()})
    with pytest.raises(FileError, match=r"a checkpoint of a training run; resume it .* or take its weights with"):
        load(tmp_path / "c.npz", m)
    m.load_state_dict(load_checkpoint(tmp_path / "c.npz")["model"])


@pytest.mark.parametrize("wrong", [5, "text", None, np.ones(3)])
def test_what_is_no_model(wrong, tmp_path):
    with pytest.raises(TypeError, match=r"save\(path, model\): the model is a"):
        save(tmp_path / "x.npz", wrong)


def test_names_are_strings(tmp_path):
    with pytest.raises(TypeError, match="the names of arrays are strings, got 1"):
        save(tmp_path / "x.npz", {1: np.ones(1)})
