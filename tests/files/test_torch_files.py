"""PyTorch's files, both formats, every dtype: what PyTorch wrote is read as PyTorch reads it, and nothing is ever run."""

import io
import tarfile
import warnings
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import FileError, read_torch
from minitorch_flux.files.torch_storages import PLAIN, TABLES, WIDENED

torch = pytest.importorskip("torch")

FORMATS = {"zip": True, "legacy": False}
formats = pytest.mark.parametrize("new", FORMATS.values(), ids=list(FORMATS))


def saved(value, path, new=True, **keywords):
    torch.save(value, path, _use_new_zipfile_serialization=new, **keywords)
    return path


def as_numpy(t):
    """A tensor as the reader gives it: in the smallest dtype of NumPy that holds it."""
    name = str(t.dtype).removeprefix("torch.")
    t = t.detach()
    if name == "complex32":
        t = torch.view_as_real(t).float()
        return np.ascontiguousarray(t.numpy()).view(np.complex64)[..., 0]
    return (t.float() if name in WIDENED else t).numpy()


def same(a, t):
    wanted = as_numpy(t)
    assert a.dtype == wanted.dtype
    assert a.shape == wanted.shape
    np.testing.assert_array_equal(a, wanted)


def all_codes(name):
    """A (…, 8) tensor of a dtype: every byte for the small ones."""
    raw = (torch.arange(256) % (2 if name == "bool" else 256)).to(torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex32 is experimental
        return raw.view(getattr(torch, name)).reshape(-1, 8)


@formats
@pytest.mark.parametrize("name", [*PLAIN, *WIDENED])
def test_every_dtype(name, new, tmp_path):
    t = all_codes(name)
    values = {"t": t, "column": t.T[1:5:2], "empty": t[:0], "none": t[:0].T, "one": t[0, 3]}
    found = read_torch(saved(values, tmp_path / "x.pt", new))
    assert list(found) == list(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, tensor in values.items():
            same(found[key], tensor)
    assert np.shares_memory(found["t"], found["column"])


def test_every_dtype_of_torch_is_read_or_refused_by_name(tmp_path):
    dtypes = {str(d).removeprefix("torch.") for d in vars(torch).values() if isinstance(d, torch.dtype)}
    refused = {"float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"}
    unsaved = {d for d in dtypes if d.startswith(("int", "uint")) and int(d.strip("uint")) < 8} | {
        "qint8", "quint8", "qint32", "quint4x2", "quint2x4"}  # fmt: skip
    assert dtypes - refused - unsaved == {*PLAIN, *WIDENED}
    for name in refused:
        path = saved(torch.empty(4, dtype=getattr(torch, name)), tmp_path / "x.pt")
        with pytest.raises(FileError, match=f"a tensor has the dtype torch.{name}, which is not read"):
            read_torch(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_tensor(torch.ones(3), 0.5, 0, torch.qint8)
        saved(quantised, tmp_path / "x.pt")
    with pytest.raises(FileError, match=r"its pickle asks for torch\._utils\._rebuild_qtensor, which is refused"):
        read_torch(tmp_path / "x.pt")


def test_the_tables_of_8_bit_floats():
    for name, table in TABLES.items():
        codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
        np.testing.assert_array_equal(table, codes.float().numpy())


@formats
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_value(new, protocol, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    value = {
        "state_dict": model.state_dict(), "epoch": 3, 7: [1, -1, 300, 70_000, 2**40, -(2**70)], "lr": 0.5, "name": "näme 🎈",
        "flags": (True, False, None), "none": [(), [], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16, "device": torch.device("cuda", 1), "cpu": torch.device("cpu"),
        "parameter": torch.nn.Parameter(torch.ones(2)), "long text": "x" * 70_000, "ordered": OrderedDict(b=1, a=2),
    }  # fmt: skip
    found = read_torch(saved(value, tmp_path / "x.pt", new, pickle_protocol=protocol))
    assert list(found["state_dict"]) == list(value["state_dict"])
    for key, t in value.pop("state_dict").items():
        same(found["state_dict"][key], t)
    same(found["parameter"], value.pop("parameter"))
    assert found["dtype"] == "torch.bfloat16"
    assert type(found["dtype"]) is str
    assert (found["device"], found["cpu"], found["size"]) == ("cuda:1", "cpu", (2, 3))
    for key in (k for k in value if k not in ("dtype", "device", "cpu")):
        assert found[key] == value[key]
        assert type(found[key]) is (dict if key == "ordered" else tuple if key == "size" else type(value[key]))


@formats
def test_views_storages_and_expanded_tensors(new, tmp_path):
    base = torch.arange(24.0)
    t = base.reshape(2, 3, 4)
    values = [t, t.permute(2, 0, 1), t[1, :, ::2], base[5:6].expand(3, 2), t[:, None, 0, 0], base[::7], base.unfold(0, 4, 2)]
    found = read_torch(saved(values, tmp_path / "x.pt", new))
    for a, tensor in zip(found, values, strict=True):
        same(a, tensor)
        assert a.strides == tuple(4 * s for s in tensor.stride())
        assert np.shares_memory(a, found[0])
    found[0][0, 0, 0] = 100  # as in PyTorch
    assert found[1][0, 0, 0] == 100


def test_one_storage_under_two_dtypes(tmp_path):
    t = torch.arange(6).to(torch.uint16)
    found = read_torch(saved([t, t.view(torch.float8_e5m2)], tmp_path / "x.pt"))
    same(found[0], t)
    same(found[1], t.view(torch.float8_e5m2))


@formats
def test_parameters_with_attributes_and_tensors_with_attributes(new, tmp_path):
    p, t = torch.nn.Parameter(torch.ones(2)), torch.zeros(3)
    p.note, t.note = "kept by PyTorch", 5
    found = read_torch(saved([p, t], tmp_path / "x.pt", new))
    same(found[0], p)
    same(found[1], t)


names = st.text(max_size=3) | st.integers(0, 9)
small = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda v: st.lists(v, max_size=3) | st.tuples(v, v) | st.dictionaries(names, v, max_size=2),
    max_leaves=8,
)


@given(small, st.sampled_from(list(FORMATS.values())), st.integers(2, 5))
def test_plain_values_come_back(tmp_path_factory, value, new, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.pt"
    assert read_torch(saved(value, path, new, pickle_protocol=protocol)) == value


@given(st.data(), st.sampled_from(list(FORMATS.values())))
def test_any_view_of_a_tensor(tmp_path_factory, data, new):
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = getattr(torch, data.draw(st.sampled_from(["float32", "int8", "bfloat16", "complex64", "bool", "uint16"])))
    t = torch.arange(int(np.prod(shape)) + 5).to(dtype)[5:].reshape(shape)
    for axis, n in enumerate(shape):
        begin = data.draw(st.integers(0, n))
        t = t.narrow(axis, begin, data.draw(st.integers(0, n - begin)))
    t = t.permute(data.draw(st.permutations(range(t.ndim))))
    same(read_torch(saved(t, tmp_path_factory.getbasetemp() / "view.pt", new)), t)


def test_a_file_of_another_byte_order(tmp_path):
    saved([torch.arange(5), torch.ones(2, dtype=torch.bfloat16)], tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as big:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "x/byteorder":
                data = b"big"
            elif entry.filename in ("x/data/0", "x/data/1"):
                data = np.frombuffer(data, "<i8" if entry.filename == "x/data/0" else "<u2").byteswap().tobytes()
            big.writestr(entry.filename, data)
    same(read_torch(tmp_path / "big.pt")[0], torch.arange(5))
    same(read_torch(tmp_path / "big.pt")[1], torch.ones(2, dtype=torch.bfloat16))


def test_names_of_the_file_and_of_its_folder_do_not_matter(tmp_path):
    (tmp_path / "мои модели").mkdir()
    path = saved(torch.ones(2), tmp_path / "мои модели" / "a b.weights")
    same(read_torch(str(path)), torch.ones(2))
    buffer = io.BytesIO()
    torch.save(torch.ones(2), buffer)
    path.write_bytes(buffer.getvalue())
    same(read_torch(path), torch.ones(2))


# -- what is refused ---------------------------------------------------------------------------------------------------


@formats
def test_whole_models_and_other_classes_are_refused_by_name(new, tmp_path):
    import argparse
    from fractions import Fraction

    for value, name in [
        (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        ({"args": argparse.Namespace(lr=1)}, r"argparse\.Namespace"),
        ({"best": np.arange(3)}, r"numpy\S*\._reconstruct"),
        (Fraction(1, 2), r"fractions\.Fraction"),
        (torch.ones(2).to_sparse(), r"torch\._utils\._rebuild_sparse_tensor"),
    ]:
        saved(value, tmp_path / "x.pt", new)
        with pytest.raises(FileError, match=f"its pickle asks for {name}, which is refused: only tensors, .*nothing is run"):
            read_torch(tmp_path / "x.pt")
    saved({1, 2}, tmp_path / "x.pt", new, pickle_protocol=4)
    with pytest.raises(FileError, match="its pickle has the instruction EMPTY_SET, which is refused"):
        read_torch(tmp_path / "x.pt")


class Mine:
    pass


def test_a_model_of_ones_own_gets_a_hint(tmp_path):
    Mine.__module__ = "__main__"
    import __main__

    __main__.Mine = Mine
    try:
        saved(Mine(), tmp_path / "x.pt")
    finally:
        del __main__.Mine
    with pytest.raises(FileError, match=r"asks for __main__\.Mine, .* a whole model, save its state_dict\(\) instead"):
        read_torch(tmp_path / "x.pt")


def test_programs_of_torchscript(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), str(tmp_path / "x.pt"))
    with pytest.raises(FileError, match=r"a program of TorchScript .* save the model's state_dict\(\) instead"):
        read_torch(tmp_path / "x.pt")


def test_conjugate_and_negative_views(tmp_path):
    z = torch.ones(2, dtype=torch.complex64)
    for value in (z.conj(), z.conj().imag):
        saved(value, tmp_path / "x.pt")
        with pytest.raises(FileError, match="a conjugate or negative view; save it after .resolve_conj"):
            read_torch(tmp_path / "x.pt")


def test_other_files(tmp_path):
    path = tmp_path / "x.pt"
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_torch(path)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("pickle"))
    with pytest.raises(FileError, match="the tar format that PyTorch wrote before version 0.2"):
        read_torch(path)
    for content in (b"", b"hello", b"P", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(FileError, match="it begins like no file of torch.save"):
            read_torch(path)
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("a/b.txt", b"")
    with pytest.raises(FileError, match=r"its archive has no data\.pkl"):
        read_torch(path)
    with pytest.raises(FileError, match=r"must be .safetensors or .npz, got '.pt'; flux.load_torch and flux.save_torch are"):
        flux.load(path)


# -- numbers that are made by a call -----------------------------------------------------------------------------------


@formats
def test_complex_numbers_counters_and_numpys_scalars(new, tmp_path):
    scalars = [np.float64(2.5), np.float32(-1.5), np.float16(0.5), np.int64(-(2**40)), np.uint8(200), np.bool_(True),
               np.complex128(1 + 2j), np.dtype(">f4").type(3), np.dtype(">i2").type(-300)]  # fmt: skip
    value = {"complex": [1 + 2j, complex(-0.0, float("inf"))], "counter": Counter("abracadabra"), "scalars": scalars * 2}
    found = read_torch(saved(value, tmp_path / "x.pt", new))
    assert found["complex"] == value["complex"]
    assert found["counter"] == {"a": 5, "b": 2, "r": 2, "c": 1, "d": 1}
    assert found["scalars"] == scalars * 2
    assert [type(n) for n in found["scalars"][:9]] == [float, float, float, int, int, bool, complex, float, int]


def test_numpys_arrays_and_bytes_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"asks for numpy\._core\.multiarray\._reconstruct, which is refused"):
        read_torch(saved(np.arange(3), tmp_path / "x.pt"))
    with pytest.raises(FileError, match="its value has a part bytes, which is no number or text"):
        read_torch(saved(b"ab", tmp_path / "x.pt"))
