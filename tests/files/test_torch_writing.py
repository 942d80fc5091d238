"""save_torch: PyTorch reads what was written, with weights_only and mapped into memory; a failed save spoils nothing."""

import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minitorch_flux as flux
from minitorch_flux import load_torch, read_torch, save_torch
from minitorch_flux.files import torch_writing
from minitorch_flux.files.torch_storages import PLAIN

torch = pytest.importorskip("torch")


def loaded(path, **keywords):
    return torch.load(path, weights_only=True, **keywords)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", [*PLAIN, "bfloat16"])
def test_every_dtype(name, mmap, tmp_path):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    a = np.arange(24).reshape(2, 3, 4).astype(dtype)
    arrays = {"a": a, "column": a.T[1::2, ::-1], "scalar": a[0, 0, 1], "zero": a[:0], "array": np.array(a[1, 1, 1]),
              "big": a.astype(np.dtype(dtype).newbyteorder(">")) if name != "bfloat16" else a}
    save_torch(arrays, tmp_path / "x.pt")
    found = loaded(tmp_path / "x.pt", mmap=mmap)
    assert list(found) == list(arrays)
    for key, b in arrays.items():
        if key == "scalar":
            assert found[key] == b.item()  # a NumPy scalar is a number
            continue
        t = found[key]
        assert str(t.dtype) == f"torch.{name}"
        assert t.shape == b.shape
        assert t.is_contiguous()
        if name == "bfloat16":
            t, b = t.float(), b.astype(np.float32)
        np.testing.assert_array_equal(t.numpy(), b)


def test_nested_values(tmp_path):
    m = flux.Dense(2, 3)
    value = {"model": m, "numbers": [1, -1, 2**31, -(2**31), 2**40, -(2**100), 0.5, float("inf")], 7: ("x", None, True, False),
             "parts": [m, m.weight], "empty": [{}, [], ()], "text": "näme 🎈"}
    save_torch(value, tmp_path / "x.pt")
    for read in (loaded, read_torch):
        found = read(tmp_path / "x.pt")
        for key in ("numbers", 7, "empty", "text"):
            assert found[key] == value[key]
        for part in (found["model"], found["parts"][0]):
            np.testing.assert_array_equal(part["weight"], m.weight.data)
        np.testing.assert_array_equal(found["parts"][1], m.weight.data)
    found["model"]["weight"][0, 0] = 5
    assert found["parts"][1][0, 0] == 5  # one parameter, one storage


names = st.text(max_size=3) | st.integers(0, 9)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda v: st.lists(v, max_size=3) | st.tuples(v, v) | st.dictionaries(names, v, max_size=2),
    max_leaves=8,
)


@given(plain, st.dictionaries(st.text(max_size=4), hnp.arrays(st.sampled_from("?bhilfdFD"), hnp.array_shapes(
    min_dims=0, max_dims=3, min_side=0, max_side=3), elements={"allow_nan": False, "allow_subnormal": False}), max_size=3))
def test_what_is_written_comes_back_in_pytorch_and_here(tmp_path_factory, value, arrays):
    path = tmp_path_factory.getbasetemp() / "written.pt"
    save_torch({"value": value, "arrays": arrays}, path)
    theirs, ours = loaded(path), read_torch(path)
    assert theirs["value"] == ours["value"] == value
    for name, a in arrays.items():
        for b in (ours["arrays"][name], theirs["arrays"][name].numpy()):
            assert (b.dtype, b.shape) == (a.dtype, a.shape)
            np.testing.assert_array_equal(b, a)


def test_models_go_to_pytorch_and_give_the_same(tmp_path):
    ours = flux.Chain(flux.Conv((3, 3), 2, 4, pad=1), flux.BatchNorm(4, flux.relu), flux.GlobalMeanPool(), flux.flatten)
    x = np.random.default_rng(0).standard_normal((3, 2, 5, 5)).astype("float32")
    flux.gradient(lambda m: m(x).sum(), ours)  # moves the running statistics
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.BatchNorm2d(4))
    save_torch(ours, tmp_path / "m.pt")
    theirs.load_state_dict(loaded(tmp_path / "m.pt"))  # strict
    wanted = torch.relu(theirs.eval()(torch.tensor(x))).mean((2, 3)).detach().numpy()
    np.testing.assert_allclose(ours(x).numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_shared_parameters_have_all_their_names(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Linear(3, 3)
            self.b = self.a

    a = flux.Dense(3, 3)
    save_torch({"a": a, "b": a}["a"], tmp_path / "one.pt")
    model = flux.Parallel(flux.add, a=a, b=a)
    save_torch(model, tmp_path / "m.pt")
    found = loaded(tmp_path / "m.pt")
    assert found["a.weight"].data_ptr() == found["b.weight"].data_ptr()
    Tied().load_state_dict(found)


def test_records_are_aligned_and_the_same_arrays_give_the_same_bytes(tmp_path):
    arrays = {f"{i}": np.arange(i, dtype="float32") for i in range(20)}
    for name in ("a", "b"):
        save_torch(arrays, tmp_path / f"{name}.pt")
    raw = (tmp_path / "a.pt").read_bytes()
    assert raw == (tmp_path / "b.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as z:
        assert z.testzip() is None
        for entry in z.infolist():
            at = entry.header_offset
            assert (at + 30 + sum(np.frombuffer(raw, "<u2", 2, at + 26).tolist())) % 64 == 0  # the header, a name, an extra


def test_large_records_have_64_bit_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_writing.zipfile, "ZIP64_LIMIT", 1000)
    a = np.arange(1000.0)
    save_torch({"a": a, "b": a[:3]}, tmp_path / "x.pt")
    monkeypatch.undo()
    for read in (loaded, read_torch, lambda p: loaded(p, mmap=True)):
        np.testing.assert_array_equal(read(tmp_path / "x.pt")["a"], a)
        np.testing.assert_array_equal(read(tmp_path / "x.pt")["b"], a[:3])


def test_what_cannot_be_written(tmp_path):
    path = tmp_path / "x.pt"
    itself = []
    itself.append(itself)
    for value, error, match in [
        ({"a": {"b": object()}}, TypeError, r"holds models, dicts, .*; a\.b is a object"),
        (b"x", TypeError, "the value is a bytes"), ({"a": {(1, 2): 3}}, TypeError, r"got \(1, 2\) at a"),
        ({"a": np.array(["x"])}, TypeError, "the array a has dtype <U1, which PyTorch does not have"),
        (np.ones(2, np.longdouble), TypeError, "the array itself has dtype"),
        ({1.5: 2}, TypeError, "keys are strings and integers, got 1.5 at the top"), (itself, ValueError, "contains itself"),
        ({"n": 2**3000}, TypeError, "the number at n has more than 2000 bits"),
    ]:
        with pytest.raises(error, match=match):
            save_torch(value, path)
    for ending in (".safetensors", ".npz"):
        with pytest.raises(ValueError, match=r"is called like another kind of file; use flux\.save"):
            save_torch(flux.Dense(1, 1), tmp_path / f"x{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left on device")])
def test_an_interrupted_save_leaves_the_old_file_whole(at, error, tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    save_torch({"a": np.ones(3)}, path)
    old = path.read_bytes()

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, at, fail)
        with pytest.raises(error if isinstance(error, type) else type(error)):
            save_torch({"a": np.zeros(3)}, path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["x.pt"]


def test_to_pytorch_and_back(tmp_path):
    m = flux.Chain(flux.LSTM(3, 4, hidden_bias=True), flux.Dense(4, 2))
    save_torch(m, tmp_path / "m.pt")
    other = flux.Chain(flux.LSTM(3, 4, hidden_bias=True), flux.Dense(4, 2))
    report = load_torch(other, tmp_path / "m.pt")
    assert report.how == "names"
    for key, a in m.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], a)
