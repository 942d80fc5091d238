"""Named arrays in files: what is written comes back, an interrupted save changes nothing, a bad file says so."""

import contextlib
import json
import os
import shutil
import stat
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minitorch_flux.files import FileError, formats
from minitorch_flux.files.formats import read_arrays, replacing, write_arrays

KINDS = (".safetensors", ".npz")
DTYPES = [np.dtype(c).name for c in "?bhiqBHIQefd"]
both = pytest.mark.parametrize("kind", KINDS)


def same(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def arrays_of(dtype):
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12).filter(
    lambda s: s != "__metadata__"
)
some_arrays = st.dictionaries(names, st.sampled_from(DTYPES).flatmap(arrays_of), max_size=5)
some_metadata = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@both
@given(arrays=some_arrays, metadata=some_metadata)
def test_what_is_written_comes_back(kind, arrays, metadata):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x" + kind)
        write_arrays(path, arrays, metadata)
        found, about = read_arrays(path)
        assert [p.name for p in Path(folder).iterdir()] == [path.name]
    assert set(found) == set(arrays)
    assert about == metadata
    for name, a in arrays.items():
        same(found[name], a)
        assert found[name].flags.writeable


@both
@pytest.mark.parametrize("name", ["file", "args", "allow_pickle", "arr_0", "a.npy", "../up", "/root", "a/b", "ключ 🎈"])
def test_any_name_of_an_array(kind, name, tmp_path):
    write_arrays(tmp_path / f"x{kind}", {name: np.arange(3)})
    np.testing.assert_array_equal(read_arrays(tmp_path / f"x{kind}")[0][name], np.arange(3))


@both
def test_layouts_and_byte_orders(kind, tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"t": x.T, "strided": x[:, ::2], "back": x[::-1], "big": x.astype(">f4"), "fortran": np.asfortranarray(x)}
    write_arrays(tmp_path / f"x{kind}", arrays)
    for name, a in read_arrays(tmp_path / f"x{kind}")[0].items():
        np.testing.assert_array_equal(a, arrays[name])
        assert a.dtype == np.float32


@both
def test_a_path_in_any_language(kind, tmp_path):
    folder = tmp_path / "мои модели 🎈"
    folder.mkdir()
    path = folder / f"näme, with 100% spaces{kind}"
    write_arrays(str(path), {"a": np.ones(2)})
    same(read_arrays(str(path))[0]["a"], np.ones(2))
    upper = tmp_path / f"x{kind.upper()}"
    write_arrays(upper, {"a": np.ones(2)})
    same(read_arrays(upper)[0]["a"], np.ones(2))


@both
def test_a_name_as_long_as_the_system_permits(kind, tmp_path):
    path = tmp_path / ("n" * (255 - len(kind)) + kind)
    write_arrays(path, {"a": np.ones(2)})
    same(read_arrays(path)[0]["a"], np.ones(2))


@both
def test_same_arrays_same_bytes(kind, tmp_path):
    for name in ("a", "b"):
        write_arrays(tmp_path / f"{name}{kind}", {"x": np.arange(9.0)}, {"k": 1})
    assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes()


# -- what cannot be written --------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("a", [np.array(["text"]), np.array([None]), np.ones(2, complex), np.array(["2020"], "M8[s]"),
                               np.ones(2, np.longdouble), np.ones(2, "f4,i4")])
def test_refuses_what_is_no_number(kind, a, tmp_path):
    with pytest.raises(TypeError, match=r"the array 'layer.x' has dtype .*bools, integers and floats of 16 to 64 bits"):
        write_arrays(tmp_path / f"x{kind}", {"layer.x": a})
    assert not list(tmp_path.iterdir())


@both
def test_refuses_the_reserved_name(kind, tmp_path):
    with pytest.raises(FileError, match="an array may not be called '__metadata__'"):
        write_arrays(tmp_path / f"x{kind}", {"__metadata__": np.ones(1)})


@pytest.mark.parametrize("name", ["weights", "weights.pt", "weights.npy", ".npz"])
def test_the_ending_decides_the_format(name, tmp_path):
    for act in (lambda p: write_arrays(p, {}), read_arrays):
        with pytest.raises(FileError, match=r"the ending must be .safetensors or .npz, got"):
            act(tmp_path / name)


# -- whole or not at all -----------------------------------------------------------------------------------------------


def crash(*_args, **_keywords):
    raise OSError(28, "No space left on device")


@both
def test_a_failed_write_leaves_the_old_file(kind, tmp_path, monkeypatch):
    path = tmp_path / f"x{kind}"
    write_arrays(path, {"a": np.ones(3)})
    before = path.read_bytes()
    for module, name in ((formats.os, "replace"), (formats.os, "fsync")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, crash)
            with pytest.raises(OSError, match="No space left"):
                write_arrays(path, {"a": np.zeros(3)})
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_a_crash_while_bytes_are_written(tmp_path, monkeypatch):
    writers = {".safetensors": "safetensors.numpy.save_file", ".npz": "minitorch_flux.files.npz.write_npz"}
    for kind, target in writers.items():
        path = tmp_path / f"x{kind}"
        write_arrays(path, {"a": np.ones(3)})
        before = path.read_bytes()

        def half(_a, _b, **_keywords):
            for x in (_a, _b):
                if isinstance(x, Path):
                    x.write_bytes(b"half a file")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(target, half)
            with pytest.raises(KeyboardInterrupt):
                write_arrays(path, {"a": np.zeros(3)})
        assert path.read_bytes() == before
        path.unlink()
    assert not list(tmp_path.iterdir())


def test_a_crash_for_good_leaves_the_old_file_readable(tmp_path):
    """A process that is killed between write and rename: the reader still finds the old file."""
    path = tmp_path / "x.npz"
    write_arrays(path, {"a": np.ones(3)})
    pid = os.fork() if hasattr(os, "fork") else pytest.skip("no fork here")
    if pid == 0:
        try:
            formats.os.replace = lambda *_: os._exit(9)
            write_arrays(path, {"a": np.zeros(3)})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    same(read_arrays(path)[0]["a"], np.ones(3))


def test_replacing_reports_the_first_error_when_the_cleanup_fails_too(tmp_path, monkeypatch):
    def no(*_args, **_keywords):
        raise PermissionError("gone")

    def save():
        with replacing(tmp_path / "x") as temporary:
            monkeypatch.setattr(type(temporary), "unlink", no)
            raise ValueError("the body's")

    with pytest.raises(ValueError, match="the body's"):
        save()


# -- permissions, links, folders ---------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


@posix
@both
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(kind, mask, tmp_path):
    before = os.umask(mask)
    try:
        write_arrays(tmp_path / f"x{kind}", {"a": np.ones(1)})
        assert os.umask(mask) == mask  # it was never changed for other threads to see
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / f"x{kind}").stat().st_mode) == 0o666 & ~mask


@posix
@both
def test_an_existing_file_keeps_its_permissions(kind, tmp_path):
    path = tmp_path / f"x{kind}"
    write_arrays(path, {"a": np.ones(1)})
    path.chmod(0o600)
    write_arrays(path, {"a": np.zeros(1)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
@both
def test_a_symbolic_link_stays_and_its_target_is_replaced(kind, tmp_path):
    far = tmp_path / "far"
    far.mkdir()
    target, link, dangling = far / f"real{kind}", tmp_path / f"link{kind}", tmp_path / f"new{kind}"
    write_arrays(target, {"a": np.ones(1)})
    link.symlink_to(target)
    dangling.symlink_to(Path("far", f"made{kind}"))
    for path in (link, dangling):
        write_arrays(path, {"a": np.zeros(1)})
        assert path.is_symlink()
    same(read_arrays(target)[0]["a"], np.zeros(1))
    same(read_arrays(far / f"made{kind}")[0]["a"], np.zeros(1))
    assert len(list(far.iterdir())) == 2


@both
def test_no_such_folder(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot save .*: the folder .*nowhere does not exist"):
        write_arrays(tmp_path / "nowhere" / f"x{kind}", {})


@both
def test_a_folder_of_that_name(kind, tmp_path):
    (tmp_path / f"x{kind}").mkdir()
    with pytest.raises(IsADirectoryError, match=r"cannot save .*: there is a folder \(or a device\) of this name"):
        write_arrays(tmp_path / f"x{kind}", {})
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_arrays(tmp_path / f"x{kind}")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="cannot save .*: Not a directory"):
        write_arrays(tmp_path / "file" / "x.npz", {})


@posix
def test_a_read_only_folder():
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    try:
        write_arrays(folder / "x.npz", {"a": np.ones(2)})
        read_arrays(folder / "x.npz")  # imports what zipfile needs while Python's own files can be read
        folder.chmod(0o555)
        if root:
            os.seteuid(65534)  # root may write anywhere
        with pytest.raises(PermissionError, match=r"cannot save .*: the folder .* is not writable") as caught:
            write_arrays(folder / "x.npz", {"a": np.zeros(2)})
        assert caught.value.errno == 13
        same(read_arrays(folder / "x.npz")[0]["a"], np.ones(2))
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@posix
def test_a_file_that_may_not_be_read():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    try:
        for kind in KINDS:
            write_arrays(folder / f"x{kind}", {"a": np.ones(2)})
            (folder / f"x{kind}").chmod(0)
            if root:
                os.seteuid(65534)
            try:
                with pytest.raises(PermissionError):
                    read_arrays(folder / f"x{kind}")
            finally:
                if root:
                    os.seteuid(0)
    finally:
        shutil.rmtree(folder)


# -- bad and foreign files ---------------------------------------------------------------------------------------------


@both
def test_no_such_file(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file: .*nothing"):
        read_arrays(tmp_path / f"nothing{kind}")


@both
def test_every_truncation_is_noticed(kind, tmp_path):
    path = tmp_path / f"x{kind}"
    write_arrays(path, {"a": np.arange(5), "b": np.ones((2, 2))}, {"k": "v"})
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(FileError, match="not a whole"):
            read_arrays(path)


@both
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(kind, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x" + kind)
        write_arrays(path, {"a": np.arange(5), "b": np.ones((2, 2))}, {"k": "v"})
        damaged = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged)
        with contextlib.suppress(FileError):  # and nothing else
            read_arrays(path)


@both
@given(garbage=st.binary(max_size=200))
def test_garbage(kind, garbage):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x" + kind)
        path.write_bytes(garbage)
        with pytest.raises(FileError):
            read_arrays(path)


def make_safetensors(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype, shape, first, last):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"x": entry("F32", [10**12], 0, 4 * 10**12)}, b""),
        ({"x": entry("F32", [2**62, 4], 0, 4)}, b"1234"),
        ({"x": entry("F32", [1], 4, 8)}, b"12345678"),
        ({"x": entry("F32", [1], 0, 4), "y": entry("F32", [1], 0, 4)}, b"1234"),
        ({"x": entry("F32", [1], 0, 4)}, b"12345678"),
        ({"x": entry("F32", [1], 0, 4), "__metadata__": {"format": 5}}, b"1234"),
        (b"[" * 100_000, b""),
        (b"\xff\xfe", b""),
    ],
)
def test_malicious_safetensors(header, data, tmp_path):
    with pytest.raises(FileError, match="not a whole safetensors file"):
        read_arrays(make_safetensors(tmp_path / "x.safetensors", header, data))
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(FileError, match="not a whole safetensors file"):
        read_arrays(tmp_path / "x.safetensors")


def test_a_dtype_that_numpy_does_not_have(tmp_path):
    path = make_safetensors(tmp_path / "x.safetensors", {"w": entry("F4", [2], 0, 1)}, b"1")
    with pytest.raises(FileError, match="w has the dtype F4, which NumPy does not have"):
        read_arrays(path)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_8_bit_floats_of_safetensors(name, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name)).reshape(4, 64)
    save_file({"before": torch.ones(3), "w": codes, "empty": codes[:0].clone()}, tmp_path / "x.safetensors")
    arrays, _ = read_arrays(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(arrays["w"], codes.float().numpy())
    assert arrays["w"].dtype == np.float32
    assert arrays["empty"].shape == (0, 64)
    assert arrays["w"].flags.writeable


@both
@pytest.mark.parametrize(
    "header",
    ["{", "[" * 100_000, "[1]", "5", "{}", '{"version": "x", "metadata": {}}', '{"version": 1}',
     '{"version": 1, "metadata": []}', '{"version": null, "metadata": {}}', '{"version": Infinity, "metadata": {}}',
     '{"version": -1e999, "metadata": {}}', '{"version": NaN, "metadata": {}}',
     '{"version": ' + "9" * 5000 + ', "metadata": {}}'],
)
def test_damaged_metadata(kind, header, tmp_path):
    path = tmp_path / f"x{kind}"
    if kind == ".npz":
        np.savez(path, __metadata__=np.frombuffer(header.encode(), np.uint8))
    else:
        make_safetensors(path, {"__metadata__": {"minitorch_flux": header}})
    with pytest.raises(FileError, match="damaged metadata"):
        read_arrays(path)


def test_metadata_that_is_no_text(tmp_path):
    np.savez(tmp_path / "x.npz", __metadata__=np.frombuffer(b"\xff\xfe\x00", np.uint8))
    with pytest.raises(FileError, match="damaged metadata"):
        read_arrays(tmp_path / "x.npz")


@both
def test_a_file_from_the_future(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "VERSION", 2)
    write_arrays(tmp_path / f"x{kind}", {"a": np.ones(1)})
    monkeypatch.setattr(formats, "VERSION", 1)
    with pytest.raises(FileError, match="written in format version 2, this library reads up to 1; update it"):
        read_arrays(tmp_path / f"x{kind}")


def test_safetensors_files_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    theirs = {
        "a": torch.arange(6, dtype=torch.float16).reshape(2, 3),
        "b": torch.tensor(3.0, dtype=torch.float64),
        "c": torch.zeros(0, 4),
        "d": torch.tensor([True, False]),
        "e": torch.tensor([[1.0, -2.5], [float("inf"), 1e-39]], dtype=torch.bfloat16),
    }
    save_file(theirs, tmp_path / "x.safetensors", metadata={"format": "pt"})
    ours, metadata = read_arrays(tmp_path / "x.safetensors")
    assert metadata == {}
    for name in "abcd":
        same(ours[name], theirs[name].numpy())
    same(ours["e"], theirs["e"].float().numpy())
    assert ours["e"].flags.writeable

    write_arrays(tmp_path / "y.safetensors", ours)
    for name, t in load_file(tmp_path / "y.safetensors").items():
        same(t.numpy(), ours[name])


def test_a_foreign_safetensors_header_is_not_ours(tmp_path):
    path = make_safetensors(tmp_path / "x.safetensors", {"__metadata__": {"version": "99", "metadata": "{"}})
    assert read_arrays(path) == ({}, {})
