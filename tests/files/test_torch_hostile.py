"""Hostile and damaged files of PyTorch: an error that says what is wrong, nothing run, no memory taken, the model unchanged."""

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import FileError, load_torch, read_torch, save_torch
from minitorch_flux.files import torch_files, torch_pickles
from minitorch_flux.nn.state_dicts import StateError

torch = pytest.importorskip("torch")

NAME = b"ctorch._utils\n_rebuild_tensor_v2\n"
KIND = b"ctorch\nFloatStorage\n"


def text(s):
    return b"X" + struct.pack("<I", len(s.encode())) + s.encode()


def number(n):
    size = n.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + n.to_bytes(size, "little", signed=True)


def sizes(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key="0", length=4, kind=KIND, more=b""):
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(length) + more + b"tQ"


def tensor(shape, strides, offset=0, length=4, name=NAME, store=None, more=b""):
    store = storage(length=length) if store is None else store
    return name + b"(" + store + number(offset) + sizes(shape) + sizes(strides) + b"\x89}" + more + b"tR"


def archive(path, pickled, records=None, method=zipfile.ZIP_STORED, **others):
    """A file as PyTorch's, with a pickle of our own and one storage of 16 bytes."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as z:
        warnings.simplefilter("ignore", UserWarning)  # two of one name
        z.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        for name, data in (records or [("archive/data/0", bytes(16))]):
            z.writestr(name, data)
        for name, data in others.items():
            z.writestr(f"archive/{name}", data)
    return path


def refused(path, match):
    with pytest.raises(FileError, match=match) as error:
        read_torch(path)
    assert str(error.value).startswith(f"{path}: not a file of PyTorch that can be read (")
    assert len(str(error.value)) < 1000
    return error


# -- pickles with code -------------------------------------------------------------------------------------------------

RAN = []


class Bomb:
    def __reduce__(self):
        return RAN.append, ("ran",)


class System:
    def __reduce__(self):
        return os.system, ("touch /tmp/minitorch_flux_was_here",)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_refused_by_name_and_not_run(new, protocol, tmp_path):
    for value, name in ((System(), "(posix|nt).system"), (Bomb(), r"builtins.getattr|\w+.getattr")):
        torch.save({"a": torch.ones(2), "b": value}, tmp_path / "x.pt", _use_new_zipfile_serialization=new,
                   pickle_protocol=protocol)
        model = flux.Dense(2, 1)
        before = model.state_dict()
        refused(tmp_path / "x.pt", f"its pickle asks for ({name}), which is refused: only tensors, .* and nothing is run")
        with pytest.raises(FileError, match="which is refused"):
            load_torch(model, tmp_path / "x.pt")
        assert all((before[k] == a).all() for k, a in model.state_dict().items())
    assert not RAN
    assert not os.path.exists("/tmp/minitorch_flux_was_here")


@pytest.mark.parametrize(
    "code",
    [b"cos\nsystem\n" + text("true") + b"\x85R", b"cbuiltins\neval\n(" + text("1") + b"tR", b"ctorch.nn\nLinear\n)R",
     b"ctorch\nload\n(" + text("x") + b"tR", b"cminitorch_flux\nload\n)R", text("os") + text("system") + b"\x93",
     b"c__builtin__\nexec\n", b"ccollections\ndefaultdict\n)R", b"ctorch._utils\n__builtins__\n",
     b"ctorch.storage\n_load_from_bytes\n"],
)
def test_names_outside_of_the_table(code, tmp_path):
    refused(archive(tmp_path / "x.pt", code), r"its pickle asks for [\w.]+, which is refused")


def test_only_functions_of_the_table_are_called(tmp_path):
    path = tmp_path / "x.pt"
    for callee in (text("os.system"), KIND, b"ctorch\nfloat32\n", b"]", b"ctorch\nTensor\n", b"N"):
        refused(archive(path, callee + b")R"), r"its pickle calls a \w+, which is refused")
    refused(archive(path, b"ctorch\nSize\n]R"), "its pickle calls a Callee, which is refused")  # no tuple of arguments
    refused(archive(path, b"ctorch\nSize\n)R"), r"gives 0 arguments to torch\.Size")
    refused(archive(path, b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nSize\nctorch\nTensor\n(K\x01tNtR"),
            "a tensor is made by something else than PyTorch's functions")
    refused(archive(path, b"ctorch._tensor\n_rebuild_from_type_v2\n(" + NAME + KIND + b"(K\x01tNtR"), "of an unknown class")


def test_every_other_instruction_is_refused_by_name(tmp_path):
    import pickletools

    refusals = 0
    for op in pickletools.opcodes:
        if ord(op.code) in torch_pickles._STEPS:
            continue
        path = archive(tmp_path / "x.pt", op.code.encode("latin-1") + b"0\n0\n")
        refused(path, f"the instruction {op.name}, which is refused")
        refusals += 1
    assert refusals > 20
    refused(archive(tmp_path / "x.pt", b"\xff"), "it is no pickle: there is no instruction 0xff")


def test_no_module_of_the_readers_can_unpickle():
    import ast
    from pathlib import Path

    for path in Path(torch_files.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {a.name for a in node.names} & {"pickle", "_pickle", "marshal", "shelve", "dill", "torch"}, path
            assert not (isinstance(node, ast.Name) and node.id in ("eval", "exec", "__import__")), path


# -- pickles that do not fit together ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (b"", "takes more from the stack than there is"), (b"(", "takes more from the stack"), (b"0", "instruction POP"),
        (b"K", "gives|ends early"), (b"t", "lacks a mark"), (b"]u", "lacks a mark"),
        (b"}(K\x01u", "a key without a value"), (b"](K\x01K\x02u", "puts parts into a list, expected a dict"),
        (b"}K\x01a", "puts parts into a dict, expected a list"), (b"h\x07", "asks for value 7, which it never kept"),
        (b"j\xff\xff\xff\xff", "asks for value 4294967295"),
        (b"X\xff\xff\xff\xffabc", "ends early: 4,294,967,295 bytes are promised"),
        (b"\x8d" + b"\xff" * 8, "ends early: 18,446,744,073,709,551,615 bytes"), (b"\x80\x09", "protocol 9, expected up to 5"),
        (b"X\x02\x00\x00\x00\xff\xfe", "decode"), (b"c" + b"a" * 1000 + b"\n\n", "a name without an end"),
        (b"K\x01K\x02\x93", "a name that is no text"), (b"K\x05Q", "asks for something that is no storage"),
        (b"NN}b", "puts parts into a NoneType, expected a dict"), (b"\x8a\xff", "ends early"),
    ],
)
def test_broken_pickles(code, match, tmp_path):
    refused(archive(tmp_path / "x.pt", code), match)


@pytest.mark.parametrize("key", [b")", b"N", b"G" + bytes(8), b"]", b"}", number(2**63), b"K\x01\x85"])
def test_keys_of_dicts(key, tmp_path):
    refused(archive(tmp_path / "x.pt", b"}" + key + b"K\x01s"), r"a dict has a \w+ for a key, expected text or an integer")
    pair = b"ccollections\nOrderedDict\n(](" + key + b"K\x01\x86etR"
    refused(archive(tmp_path / "x.pt", pair), r"a dict has a \w+ for a key")


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (KIND, "a part FloatStorage, which is no number or text"), (NAME, "a part torch._utils._rebuild_tensor_v2"),
        (storage(), "a part Storage"), (b"ccollections\nOrderedDict\n(K\x01tR", "an ordered dict is not made of pairs"),
        (b"ctorch\nSize\n(" + text("ab") + b"tR", "a torch.Size is not made of whole numbers"),
        (b"ctorch\ndevice\n(K\x01tR", "a torch.device is not made of a name"),
        (b"ctorch._utils\n_rebuild_parameter\n(K\x01\x89}tR", "a parameter is not made of a tensor"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage() + b"K\x00))\x89}K\x01tR", "has the dtype 1, which is not read"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage() + b"K\x00))\x89}ctorch\nint8\ntR", "do not agree on which"),
        (NAME + b"(K\x01K\x00))\x89}tR", "not made of a storage, an offset, sizes and strides"),
        (tensor([2], [1], more=b"}" + text("conj") + b"\x88s"), "a conjugate or negative view"),
        (b"(" + text("storage") + b"K\x01K\x02K\x03K\x04tQ", "a storage is not made of a class, a key"),
        (b"(" + text("module") + KIND + text("0") + text("cpu") + b"K\x04tQ", "something that is no storage"),
        (storage(more=b"(K\x01t"), "a view of a storage is not made of"),
        (storage(length=-4), "a storage has the length -4"),
        (b"ccollections\nCounter\n(K\x01tR", "a Counter is not made of a dict"),
        (b"cbuiltins\ncomplex\n(" + text("1") + b"tR", "a complex number is not made of two numbers"),
        (b"cnumpy\ndtype\n(" + text("O8") + b"\x89\x88tR", "a numpy.dtype is 'O8', which is no number"),
        (b"cnumpy\ndtype\n(K\x01tR", "a numpy.dtype is '1', which is no number"),
        (b"cnumpy\ndtype\n(" + text("f8") + b"\x89\x88tRK\x01b", "the state of a numpy.dtype has no byte order"),
        (b"cnumpy\ndtype\n(" + text("f8") + b"\x89\x88tR(K\x03" + text("f") + b"tb", "the state of a numpy.dtype"),
        (b"cnumpy\ndtype\n(" + text("f8") + b"\x89\x88tR", "a part numpy.dtype\\('f8'\\), which is no number"),
        (b"c_codecs\nencode\n(" + text("a") + text("rot13") + b"tR", "bytes are not made of a text in latin1"),
        (b"cnumpy.core.multiarray\nscalar\n(K\x01K\x01tR", "a NumPy scalar is not made of a type and bytes"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + text("f8") + b"tRc_codecs\nencode\n(" + text("abc")
         + text("latin1") + b"tRtR", "a NumPy scalar of float64 has 3 bytes"),
    ],
)
def test_what_is_no_tensor(code, match, tmp_path):
    refused(archive(tmp_path / "x.pt", code), match)


# -- absurd shapes and strides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [([5], [1], 0), ([4], [1], 1), ([2, 2], [2, 2], 0), ([2], [10**18], 0), ([10**12], [1], 0), ([2**62, 2**62], [1, 1], 0),
     ([2], [2**62], 0), ([1], [1], 4), ([], [], 4), ([1], [1], 2**62), ([3, 3, 3], [1, 1, 1], 0)],
)
def test_tensors_outside_of_their_storage(shape, strides, offset, tmp_path):
    refused(archive(tmp_path / "x.pt", tensor(shape, strides, offset)), "reaches outside of its storage of 4 numbers")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [([-1], [1], 0), ([1], [-1], 0), ([2], [1], -1), ([2**63], [0], 0), ([1], [2**64], 0), ([2], [1], 2**70)]
)
def test_negative_and_endless_numbers(shape, strides, offset, tmp_path):
    refused(archive(tmp_path / "x.pt", tensor(shape, strides, offset)), "not made of a storage, an offset, sizes and strides")


def test_numbers_of_axes(tmp_path):
    path = tmp_path / "x.pt"
    refused(archive(path, tensor([1], [])), "1 sizes and 0 strides, expected as many of both")
    refused(archive(path, tensor([1] * 65, [0] * 65)), "65 sizes and 65 strides, expected as many of both, up to 64")
    assert read_torch(archive(path, tensor([1] * 64, [0] * 64))).ndim == 64


def test_expanded_tensors_take_no_memory(tmp_path):
    path = archive(tmp_path / "x.pt", tensor([10**6, 10**6], [0, 0]))
    a = read_torch(path)
    assert a.shape == (10**6, 10**6)
    refused(archive(path, tensor([2**62, 2**62], [0, 0])), r"a tensor of shape .* does not fit its storage")
    model = flux.Dense(2, 1)
    with pytest.raises(StateError, match="does not fit"):
        load_torch(model, {"weight": a, "bias": np.zeros(1)})


def test_a_storage_shorter_than_its_promise(tmp_path):
    path = archive(tmp_path / "x.pt", tensor([10], [1], length=10**12))
    refused(path, "the storage '0' has 4 numbers, its tensors expect 1,000,000,000,000")
    odd = tensor([2], [1], store=storage("1"))
    refused(archive(path, odd, [("archive/data/1", b"12345")]), "has 5 bytes, which are no float32 numbers")
    untyped = b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage(length=10**9, kind=b"ctorch.storage\nUntypedStorage\n")
    code = untyped + b"K\x00" + sizes([99]) + sizes([1]) + b"\x89}ctorch\nint32\ntR"
    refused(archive(path, code), "does not fit its storage")
    for key in ("1", "../data/0", "0/../0", "", "/etc/passwd"):
        refused(archive(path, tensor([2], [1], store=storage(key))), "there is no storage")


# -- bombs -------------------------------------------------------------------------------------------------------------


def test_a_bomb_of_references(tmp_path):
    """A list of two lists, each of two lists, ...: small in the file and in memory, endless for whoever walks it."""
    path = tmp_path / "x.pt"
    for new in (b"]", b"}"):
        code = b"]q\x00"
        for i in range(60):
            get = b"h" + bytes([i])
            both = b"](" + get + get + b"e" if new == b"]" else b"}(K\x00" + get + b"K\x01" + get + b"u"
            code += both + b"q" + bytes([i + 1])
        refused(archive(path, code), "more than 10,000,000 parts when each is counted at all its places")
    code = b")q\x00" + b"".join(b"h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    refused(archive(path, code), "more than 10,000,000 parts")


def test_values_that_contain_themselves(tmp_path):
    refused(archive(tmp_path / "x.pt", b"]q\x00h\x00a"), "its value contains itself")
    refused(archive(tmp_path / "x.pt", b"}q\x00(K\x01h\x00u"), "its value contains itself")


def test_deep_nesting(tmp_path):
    path = tmp_path / "x.pt"
    assert read_torch(archive(path, b"]" * 100 + b"a" * 99))
    for code in (b"]" * 200_000 + b"a" * 199_999, b")" + b"\x85" * 200_000, b"(" * 200_000 + b"t" * 200_000):
        refused(archive(path, code), "its value is nested more than 100 deep")
    flat = b"](" + b"]q\x00" + b"".join(b"]h" + bytes([i]) + b"aq" + bytes([i + 1]) for i in range(200)) + b"e"
    refused(archive(path, flat), "its value is nested more than 100 deep")  # though each is met after its part


def test_a_pickle_of_too_many_instructions(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_pickles, "OPERATIONS", 1000)
    refused(archive(tmp_path / "x.pt", b"N" * 1000), "its pickle has more than 1,000 instructions")


def test_long_numbers_and_long_names(tmp_path):
    assert read_torch(archive(tmp_path / "x.pt", number(2**2000))) == 2**2000
    with pytest.raises(FileError) as error:
        read_torch(archive(tmp_path / "x.pt", text("a" * 100_000) + text("b" * 100_000) + b"\x93"))
    assert len(str(error.value)) < 1000
    refused(archive(tmp_path / "x.pt", tensor([2**2000], [1])), "not made of a storage")


def test_memory_is_taken_for_what_a_file_has(tmp_path):
    code = b"](" + b"".join(tensor([10**9], [0]) for _ in range(200)) + tensor([4], [1]) + b"e"
    paths = [archive(tmp_path / "a.pt", code), archive(tmp_path / "b.pt", tensor([10], [1], length=10**12))]
    torch.save(torch.ones(4), tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    raw = (tmp_path / "c.pt").read_bytes()
    at = raw.rindex(struct.pack("<q", 4))
    (tmp_path / "c.pt").write_bytes(raw[:at] + struct.pack("<q", 2**40) + raw[at + 8 :])
    for path in [*paths, tmp_path / "c.pt"]:
        tracemalloc.start()
        with contextlib.suppress(FileError):
            read_torch(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000, path


# -- archives ----------------------------------------------------------------------------------------------------------


def test_compressed_archives_and_zip_bombs(tmp_path):
    path = archive(tmp_path / "x.pt", tensor([4], [1]), [("archive/data/0", bytes(10**7))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    refused(path, "'archive/data.pkl' is compressed; PyTorch writes its records as they are")
    archive(path, tensor([4], [1]))
    raw = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x01\x02", 20), (b"PK\x03\x04", 18)):  # both sizes of the storage, in both headers
        begin = raw.rfind(signature) + at
        raw[begin : begin + 8] = struct.pack("<II", 4_000_000_000, 4_000_000_000)
    path.write_bytes(raw)
    refused(path, "its entries promise more than the file's")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "archive/../../x", "archive\\..\\x", "..", "archive/data/../0"])
def test_paths_that_lead_out(name, tmp_path):
    path = archive(tmp_path / "x.pt", tensor([4], [1]), [("archive/data/0", bytes(16)), (name, b"evil")])
    refused(path, "which leads out of the archive")
    assert list(tmp_path.iterdir()) == [path]


def test_two_records_of_one_name(tmp_path):
    path = archive(tmp_path / "x.pt", tensor([4], [1]), [("archive/data/0", bytes(16))] * 2)
    refused(path, "two entries are called 'archive/data/0'")


def test_byte_orders(tmp_path):
    refused(archive(tmp_path / "x.pt", tensor([4], [1]), byteorder=b"middle" * 20), "its byte order is b'middlemiddle")
    untyped = b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage(length=16, kind=b"ctorch.storage\nUntypedStorage\n")
    code = untyped + b"K\x00" + sizes([2]) + sizes([1]) + b"\x89}ctorch\nint32\ntR"
    refused(archive(tmp_path / "x.pt", code, byteorder=b"big"), "the other byte order and has bytes without a dtype")


def test_a_wrong_checksum(tmp_path):
    path = archive(tmp_path / "x.pt", tensor([4], [1]), [("archive/data/0", b"0123456789abcdef")])
    path.write_bytes(path.read_bytes().replace(b"0123456789abcdef", b"0123456789abcdeF"))
    refused(path, "Bad CRC-32 for file 'archive/data/0'")


# -- legacy files ------------------------------------------------------------------------------------------------------


KEYS = b"](" + text("0") + b"e."
DATA = struct.pack("<q", 4) + bytes(16)


def legacy(path, pickled, keys=KEYS, data=DATA, magic=torch_files.MAGIC, version=1001):
    head = b"".join(b"\x80\x02" + part + b"." for part in (number(magic), number(version), b"}"))
    path.write_bytes(head + b"\x80\x02" + pickled + b".\x80\x02" + keys + data)
    return path


def test_legacy_files(tmp_path):
    path = tmp_path / "x.pt"
    view = b"(" + text("1") + b"K\x01K\x02t"
    assert read_torch(legacy(path, tensor([2], [1], store=storage(length=2, more=view)))).shape == (2,)
    assert read_torch(legacy(path, tensor([4], [1], store=storage(more=b"N")))).shape == (4,)
    for keywords, match in [
        ({"magic": 5}, "a pickle, but none of torch.save"), ({"version": 9}, "its format has version 9, expected 1001"),
        ({"keys": b"}."}, "it has no list of its storages"), ({"keys": b"](" + text("7") + b"e."}, "one that no tensor uses"),
        ({"keys": b"](" + text("0") * 2 + b"e."}, "or one twice"), ({"keys": b"](K\x01e."}, "one that no tensor uses"),
        ({"keys": b"]."}, "there is no storage '0'"), ({"keys": storage() + b"."}, "FloatStorage, which is refused"),
        ({"data": struct.pack("<q", -4)}, "has the length -4"), ({"data": struct.pack("<q", 2**62)}, "ends early"),
        ({"data": struct.pack("<q", 3) + bytes(12)}, "has 3 numbers, its tensors expect 4"), ({"data": b""}, "ends early"),
        ({"keys": b"K\x01Q."}, "a storage where none can be"),
    ]:
        refused(legacy(path, tensor([4], [1]), **keywords), match)
    other = tensor([1], [1], store=storage(kind=b"ctorch\nDoubleStorage\n"))
    refused(legacy(path, b"](" + tensor([4], [1]) + other + b"e"), "one of float32 and one of float64")
    far = b"(" + text("1") + b"K\x03K\x02t"
    refused(legacy(path, tensor([2], [1], store=storage(length=2, more=far))), "has 4 numbers, its tensors expect 5")


def test_a_plain_pickle(tmp_path):
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "x.pt", "a pickle, but none of torch.save")
    (tmp_path / "x.pt").write_bytes(pickle.dumps(System()))
    refused(tmp_path / "x.pt", "posix.system|nt.system")


# -- damage of every kind ----------------------------------------------------------------------------------------------


def a_model():
    return flux.Chain(flux.Dense(3, 2, flux.relu), flux.BatchNorm(2))


def whole_files():
    """Real files of every format that is read, small ones."""
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    for name, new, protocol in (("zip", True, 2), ("legacy", False, 2), ("zip 4", True, 4), ("legacy 4", False, 4)):
        buffer = io.BytesIO()
        torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, buffer, _use_new_zipfile_serialization=new,
                   pickle_protocol=protocol)
        yield name, ".pt", buffer.getvalue()


WHOLE = {name: (ending, raw) for name, ending, raw in whole_files()}


def read_all(path, model, before):
    """Load a file that may be damaged: either it loads, or an error of ours says why not and the model is as it was."""
    try:
        load_torch(model, path, strict=False)
    except (FileError, StateError):
        for key, a in model.state_dict().items():
            np.testing.assert_array_equal(a, before[key])
        return False
    model.load_state_dict(before)
    return True


@pytest.mark.parametrize("name", WHOLE)
def test_truncated_anywhere(name, tmp_path):
    ending, raw = WHOLE[name]
    model = a_model()
    before, path = model.state_dict(), tmp_path / f"x{ending}"
    for n in [*range(0, len(raw) - 1, 37), len(raw) - 1]:
        path.write_bytes(raw[:n])
        assert not read_all(path, model, before)
    path.write_bytes(raw)
    assert read_all(path, model, before)


@given(st.data(), st.sampled_from(sorted(WHOLE)))
def test_mutated_anywhere(tmp_path_factory, data, name):
    """Some bytes of a real file flipped, cut, doubled or overwritten."""
    ending, raw = WHOLE[name]
    mutated = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated)))
        kind = data.draw(st.sampled_from(["flip", "cut", "copy", "number"]))
        if kind == "flip" and at < len(mutated):
            mutated[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del mutated[at : at + data.draw(st.integers(1, 40))]
        elif kind == "copy":
            mutated[at:at] = mutated[at : at + data.draw(st.integers(1, 40))]
        else:
            mutated[at : at + 8] = data.draw(st.sampled_from([2**63 - 1, 2**31, 2**32 - 1, 0, 1])).to_bytes(8, "little")
    path = tmp_path_factory.getbasetemp() / f"mutated{ending}"
    path.write_bytes(mutated)
    model = a_model()
    read_all(path, model, model.state_dict())


@given(st.lists(st.sampled_from([
    b"]", b"}", b")", b"(", b"t", b"e", b"u", b"a", b"s", b"N", b"\x88", b"K\x01", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"R",
    b"b", b"\x85", b"\x86", b"\x94", b"Q", text("a"), NAME, KIND, storage(), tensor([2, 2], [2, 1]), number(2**40),
    b"ccollections\nOrderedDict\n", b"ctorch\nSize\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nint8\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ccollections\nCounter\n", b"cnumpy\ndtype\n", text("f8"), text("latin1"),
    b"c_codecs\nencode\n", b"cnumpy.core.multiarray\nscalar\n", b"cbuiltins\ncomplex\n", b"G" + bytes(8),
]), max_size=30))  # fmt: skip
def test_any_program_of_permitted_instructions(tmp_path_factory, code):
    path = tmp_path_factory.getbasetemp() / "program.pt"
    archive(path, b"".join(code))
    with contextlib.suppress(FileError):
        read_torch(path)


@given(st.binary(max_size=60))
def test_any_bytes_for_a_pickle(tmp_path_factory, code):
    path = tmp_path_factory.getbasetemp() / "bytes.pt"
    for write in (lambda: archive(path, code), lambda: legacy(path, code), lambda: path.write_bytes(b"\x80" + code)):
        write()
        with contextlib.suppress(FileError):
            read_torch(path)


@given(st.data())
def test_mutated_safetensors_npz_and_checkpoints(tmp_path_factory, data):
    """The other two readers under the same mutations."""
    folder = tmp_path_factory.getbasetemp()
    ending = data.draw(st.sampled_from([".safetensors", ".npz"]))
    path = folder / f"other{ending}"
    flux.save_checkpoint(path, {"a": np.arange(6.0), "b": [1, {"c": "text", "d": np.ones((2, 2), np.float16)}]})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path.write_bytes(raw)
    model = a_model()
    before = model.state_dict()
    for read in (flux.load, flux.load_checkpoint, lambda p: flux.load(p, model), lambda p: load_torch(model, p, partial=True)):
        with contextlib.suppress(FileError, StateError):
            read(path)
    assert all((before[k] == a).all() for k, a in model.state_dict().items())


def test_a_refused_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    save_torch({"a": np.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_torch({"a": object()}, path)
    assert path.read_bytes() == before
