"""npz: exchangeable with NumPy's, and no file makes us unpickle or allocate what it cannot hold."""

import io
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest

from minitorch_flux.files import FileError, npz, read_torch
from minitorch_flux.files.formats import read_arrays
from minitorch_flux.files.npz import read_npz, write_npz


def test_numpy_reads_ours(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.float32(2), "c": np.zeros((0, 3))}
    write_npz(tmp_path / "x.npz", {k: np.asarray(v) for k, v in arrays.items()})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as theirs:
        for name, a in arrays.items():
            np.testing.assert_array_equal(theirs[name], a)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_we_read_numpys(save, tmp_path):
    arrays = {"a": np.asfortranarray(np.arange(6).reshape(2, 3)), "b": np.array(2.5), "c": np.ones(3, ">i2"),
              "d": np.zeros((1000, 1000)), "e": np.zeros((0, 3)), "text": np.array(["x", "yz"])}
    save(tmp_path / "x.npz", **arrays)
    ours = read_npz(tmp_path / "x.npz")
    assert set(ours) == set(arrays)
    for name, a in arrays.items():
        np.testing.assert_array_equal(ours[name], a)
        assert ours[name].dtype == a.dtype.newbyteorder("=")
        ours[name][...] = a  # writable


def npy(header, data=b"", version=(1, 0)):
    text = header if isinstance(header, bytes) else repr(header).encode()
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text + data


def archive(path, entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as z:
        for name, data in entries:
            z.writestr(name, data)
    return path


def header(shape, descr="<f4", fortran_order=False):
    return {"descr": descr, "fortran_order": fortran_order, "shape": shape}


class Bomb:
    def __reduce__(self):
        return print, ("unpickled!",)


def test_pickles_are_refused_and_not_run(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", a=np.array([Bomb()], object))
    with pytest.raises(FileError, match=r"a.npy holds pickled Python objects, which are never loaded"):
        read_arrays(tmp_path / "x.npz")
    for descr in ("|O", [("f", "|O")]):
        archive(tmp_path / "y.npz", [("a.npy", npy(header((1,), descr), pickle.dumps(Bomb())))])
        with pytest.raises(FileError, match="pickled"):
            read_arrays(tmp_path / "y.npz")
    (tmp_path / "z.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileError, match="not a whole npz file"):
        read_arrays(tmp_path / "z.npz")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "shape", [(10**12,), (10**15, 10**15), (2**62, 2), (3,), (1,), (-1, -2), (-2,), (10**30, 0, 1), (True, 2), (1, True, 2)]
)
def test_a_header_that_promises_what_is_not_there(shape, tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(header(shape), b"12345678"))])
    with pytest.raises(FileError, match="not a whole npz file of plain arrays"):
        read_arrays(path)


@pytest.mark.parametrize("shape", [(10**30, 0), (2**63, 0), (False,), (0, 2**62, 2**62)])
def test_a_shape_of_nothing_that_no_array_has(shape, tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(header(shape)))])
    with pytest.raises(FileError, match="not a whole npz file of plain arrays"):
        read_arrays(path)


@pytest.mark.parametrize("long", ["name", "shape", "descr"])
def test_errors_stay_short(long, tmp_path):
    """Found by fuzzing: the error of a damaged archive quoted half of the file."""
    text = header((1,) * 3000 if long == "shape" else (2,), [("x" * 8000, "<f4")] if long == "descr" else "<f4")
    path = archive(tmp_path / "x.npz", [("n" * 30_000 if long == "name" else "a", npy(text, b"123456789"))])
    with pytest.raises(FileError) as error:
        read_arrays(path)
    assert len(str(error.value)) < 1000
    raw = bytearray(archive(path, [("a.npy", bytes(9000))]).read_bytes())
    raw[26:28] = struct.pack("<H", 9000)  # the length of the name in the local header
    path.write_bytes(raw)
    with pytest.raises(FileError, match="File name in directory 'a.npy' and header") as error:
        read_arrays(path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [b"", b"(" * 9000, b"{'descr': '<f4'}", b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (2,)}", b"'" * 50,
     b"__import__('os').abort()", b"\xff\xfe", b"{'descr': '<f4', 'fortran_order': False, 'shape': (2.5,)}",
     b"{'descr': '<f4', 'fortran_order': 7, 'shape': (2,)}", b"[" * 20_000],
)
def test_nonsense_in_a_header(text, tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(text, b"12345678"))])
    with pytest.raises(FileError, match="a.npy"):
        read_arrays(path)


def test_versions_of_npy(tmp_path):
    good = archive(tmp_path / "x.npz", [("a.npy", npy(header((2,)), np.ones(2, "<f4").tobytes(), (2, 0)))])
    np.testing.assert_array_equal(read_arrays(good)[0]["a"], np.ones(2))
    for version in ((3, 0), (9, 9)):
        path = archive(tmp_path / "y.npz", [("a.npy", npy(header((2,)), b"12345678", version))])
        with pytest.raises(FileError, match="npy"):
            read_arrays(path)


def test_a_bomb_that_keeps_its_promise(tmp_path, monkeypatch):
    """Half a million zeros in a few hundred bytes; real arrays are denser, and small ones may be as empty as they like."""
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(500_000, np.uint8))
    assert not read_npz(tmp_path / "x.npz")["a"].any()
    monkeypatch.setattr(npz, "LARGE", 400_000)
    with pytest.raises(FileError, match=r"its entries expand to 500,128 bytes, more than 100 times the file's .* np\.savez"):
        read_arrays(tmp_path / "x.npz")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(header((250,)), bytes(1000)))], zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    raw[at : at + 4] = (4_000_000_000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(FileError, match=r"promises 4,000,000,000 bytes in .* compressed ones"):
        read_arrays(path)
    raw[at - 4 : at] = (4_000_000_000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(FileError, match="its entries promise more than the file's"):
        read_arrays(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(method, tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(header((2,)), b"12345678"))], method)
    with pytest.raises(FileError, match=r"a.npy is compressed by another method than deflate"):
        read_arrays(path)


def test_two_arrays_of_one_name(tmp_path):
    one = npy(header((2,)), b"12345678")
    for second in ("a.npy", "a"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            path = archive(tmp_path / "x.npz", [("a.npy", one), (second, one)])
        with pytest.raises(FileError, match="two entries are called 'a'"):
            read_arrays(path)


def test_an_entry_that_is_no_array(tmp_path):
    path = archive(tmp_path / "x.npz", [("readme.txt", b"hello")])
    with pytest.raises(FileError, match=r"readme.txt"):
        read_arrays(path)


def test_an_encrypted_entry(tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(header((2,)), b"12345678"))])
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(FileError, match="encrypted"):
        read_arrays(path)


def test_a_wrong_checksum(tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(header((2,)), b"12345678"))])
    path.write_bytes(path.read_bytes().replace(b"12345678", b"12345679"))
    with pytest.raises(FileError, match="CRC"):
        read_arrays(path)


def test_damaged_deflate(tmp_path):
    path = archive(tmp_path / "x.npz", [("a.npy", npy(header((250,)), bytes(1000)))], zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    raw[40:50] = b"\xff" * 10
    path.write_bytes(raw)
    with pytest.raises(FileError):
        read_arrays(path)


def test_not_a_zip(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())  # an .npy file under another name
    with pytest.raises(FileError, match="not a zip file"):
        read_arrays(tmp_path / "x.npz")


def test_an_archive_that_points_to_before_its_beginning(tmp_path):
    """Found by fuzzing: the entries would lie at a negative place, and the system refuses to go there."""
    for ending, name in ((".npz", "a.npy"), (".pt", "archive/data.pkl")):
        path = archive(tmp_path / f"x{ending}", [(name, npy(header((2,)), b"12345678"))])
        raw = bytearray(path.read_bytes())
        at = raw.find(b"PK\x05\x06") + 16  # where the central directory is said to be
        raw[at : at + 4] = (int.from_bytes(raw[at : at + 4], "little") + 9).to_bytes(4, "little")
        path.write_bytes(raw)
        with pytest.raises(FileError, match=r"points to before its beginning|Bad|Overlapped|zip"):
            read_arrays(path) if ending == ".npz" else read_torch(path)
