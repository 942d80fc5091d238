"""Headers that say something else than their file: of safetensors, of npy, and of our own checkpoints.

Random bytes seldom get past a checksum or JSON's grammar; here the text is whole and its meaning is wrong.
"""

import contextlib
import copy
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import FileError
from minitorch_flux.files.formats import write_arrays
from minitorch_flux.nn.state_dicts import StateError

NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 8, 16, 24, 32, -1, -8, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64, 1.0, 4.5, 1e308])
TYPES = st.sampled_from(["F32", "BF16", "F16", "F64", "I8", "U64", "BOOL", "F8_E4M3", "F4", "F6_E2M3", "C64", "F33", "", "f32"])
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=3) | st.sampled_from(["0.weight", "a", "@"]),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["@", "a", "b", "version"]), v, max_size=2),
    max_leaves=6,
)


def a_model():
    return flux.Chain(flux.Dense(2, 2), flux.BatchNorm(2))


def read_everything(path):
    """All that may happen is a value or an error of ours, and a refused file leaves the model as it was."""
    model = a_model()
    before = model.state_dict()
    for read in (flux.load, flux.load_checkpoint, lambda p: flux.load(p, model), lambda p: flux.load_torch(model, p)):
        refusal = ""
        try:
            read(path)
        except (FileError, StateError) as error:
            refusal = str(error)
        assert len(refusal) < 2000
        assert not refusal or all((before[k] == a).all() for k, a in model.state_dict().items())
        model.load_state_dict(before)


@given(st.data())
def test_headers_of_safetensors(tmp_path_factory, data):
    """Every entry's type, shape and place in the file, changed one by one, or anything in its stead."""
    arrays = {k: np.asarray(v) for k, v in a_model().state_dict().items()}
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    write_arrays(path, arrays)
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(header)))
        change = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "number", "entry", "name"]))
        entry = header[name]
        if change == "entry" or not isinstance(entry, dict) or name == "__metadata__":
            header[name] = data.draw(JUNK)
        elif change == "name":
            header[data.draw(st.sampled_from(["__metadata__", "", "../up", "/etc/passwd", "0.weight"]))] = entry
        elif change == "number":
            values = entry.get(data.draw(st.sampled_from(["shape", "data_offsets"])))
            if isinstance(values, list) and values:
                values[data.draw(st.integers(0, len(values) - 1))] = data.draw(NUMBERS)
        else:
            entry[change] = data.draw(TYPES if change == "dtype" else st.lists(NUMBERS, max_size=3) | JUNK)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    read_everything(path)


@given(st.data())
def test_headers_of_npy(tmp_path_factory, data):
    values = {"descr": "<f4", "fortran_order": False, "shape": (2, 2)}
    odd = st.sampled_from(["<f8", "|O", ">i2", "<U9", "|V4", "<c8", "", "f", [("a", "<f4")], (2, 2), (2**40,), (-1, 4),
                           (True, 4), (2.0, 2), (), (4,), 7, None, "x" * 300])  # fmt: skip
    values[data.draw(st.sampled_from(sorted(values)))] = data.draw(odd)
    text = repr(values).encode() + b" " * data.draw(st.integers(0, 3)) + b"\n"
    path = tmp_path_factory.getbasetemp() / "header.npz"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("0.weight.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16))
    read_everything(path)


@pytest.mark.parametrize("kind", [".safetensors", ".npz"])
@given(data=st.data())
def test_checkpoints_with_any_content(kind, tmp_path_factory, data):
    """The metadata is JSON, whole and signed by nobody: anything may stand in it."""
    path = tmp_path_factory.getbasetemp() / f"any{kind}"
    metadata = data.draw(st.dictionaries(st.sampled_from(["checkpoint", "other"]), JUNK, max_size=2))
    write_arrays(path, {"a": np.ones(2), "0.weight": np.ones((2, 2), np.float32)}, metadata)
    read_everything(path)


def a_run(path=None):
    """A short training run, saved to ``path``; or its model, and what resumes it."""
    flux.seed(0)
    model = flux.Chain(flux.Dense(2, 2, flux.relu), flux.Dropout(0.5), flux.Dense(2, 2))
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    loader = flux.DataLoader((x, x), batchsize=4, shuffle=True)
    opt = flux.setup(flux.Adam(1e-2), model)

    def go_on(epochs, **keywords):
        return flux.train(lambda m, x, y: flux.losses.mse(m(x), y), model, loader, opt, epochs=epochs, **keywords)

    if path is not None:
        go_on(1, callbacks=[flux.Checkpoint(path)])
    return model, go_on


def places(tree, path=()):
    """Every place in a nested value."""
    if path:
        yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, (*path, key))


@given(data=st.data())
def test_resuming_from_a_checkpoint_with_a_part_exchanged(tmp_path_factory, data):
    """The run goes on or is refused; where it is refused, the model is as it was before."""
    path = tmp_path_factory.getbasetemp() / "run.npz"
    a_run(path)
    parts = flux.load_checkpoint(path)
    place = data.draw(st.sampled_from(list(places(parts))))
    inner = parts = copy.deepcopy(parts)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(JUNK | st.sampled_from([np.ones(3), np.ones((2, 2)), np.full((2, 2), np.nan)]))
    with contextlib.suppress(TypeError):  # of a dict with the key "@"
        flux.save_checkpoint(path, parts)
    model, go_on = a_run()
    before, refusal = model.state_dict(), ""
    try:
        go_on(1, resume=path, callbacks=[flux.Checkpoint(path)])
    except ValueError as error:  # FileError and StateError are such
        refusal = str(error)
    assert len(refusal) < 2000
    for key, a in model.state_dict().items() if refusal else ():
        np.testing.assert_array_equal(a, before[key])
