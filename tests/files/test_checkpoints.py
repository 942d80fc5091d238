"""Checkpoints: nested values come back as they were."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minitorch_flux.autograd import Param, Tensor
from minitorch_flux.files import FileError, load_checkpoint, save, save_checkpoint
from minitorch_flux.files.formats import write_arrays

letters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
keys = st.text(letters, max_size=4).filter(lambda k: k != "@")
arrays = hnp.arrays(st.sampled_from(["f4", "f8", "i8", "?"]), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0))
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(letters, max_size=4) | arrays
nested = st.dictionaries(
    keys, st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=8),
    max_size=4,
)


def equal(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))


@pytest.mark.parametrize("kind", [".safetensors", ".npz"])
@given(parts=nested)
def test_round_trip(kind, parts):
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder, "c" + kind), parts)
        assert equal(parts, load_checkpoint(Path(folder, "c" + kind)))


def test_two_arrays_whose_paths_read_the_same(tmp_path):
    parts = {"a.b": np.ones(1), "a": {"b": np.zeros(2), "b'": np.ones(3)}, "a.b'": np.zeros(4)}
    save_checkpoint(tmp_path / "c.npz", parts)
    assert equal(parts, load_checkpoint(tmp_path / "c.npz"))


def test_what_is_converted(tmp_path):
    parts = {"t": Tensor(np.ones(2)), "p": Param(np.ones(2)), "n": np.float32(0.5), "tuple": (1, (2, np.int64(3)))}
    save_checkpoint(tmp_path / "c.npz", parts)
    expected = {"t": np.ones(2), "p": np.ones(2), "n": 0.5, "tuple": [1, [2, 3]]}
    assert equal(load_checkpoint(tmp_path / "c.npz"), expected)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"a": {"b": [object()]}}, r"a\.b\.0 is a object"),
        ({"a": {1: 2}}, r"a checkpoint's keys are strings other than '@', got 1 at a"),
        ({"@": 1}, r"got '@' at the top"),
        ({"a": {1, 2}}, r"a is a set"),
        ({"a": 1j}, r"a is a complex"),
    ],
)
def test_what_it_refuses(parts, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path / "c.npz", parts)
    assert not list(tmp_path.iterdir())


def test_a_file_of_weights_is_no_checkpoint(tmp_path):
    save(tmp_path / "w.npz", {"a": np.ones(1)})
    with pytest.raises(FileError, match=r"not a checkpoint of .*\(a file of weights is loaded with flux.load\)"):
        load_checkpoint(tmp_path / "w.npz")


@pytest.mark.parametrize("damage", [{"x": {"@": "gone"}}, {"x": {"@": 5}}, {"x": {"@": []}}])
def test_an_array_that_is_missing(damage, tmp_path):
    write_arrays(tmp_path / "c.npz", {}, {"checkpoint": damage})
    with pytest.raises(FileError, match="a damaged checkpoint"):
        load_checkpoint(tmp_path / "c.npz")


@pytest.mark.parametrize("damage", [[], "text", None])
def test_a_checkpoint_that_is_no_dict(damage, tmp_path):
    write_arrays(tmp_path / "c.npz", {}, {"checkpoint": damage})
    with pytest.raises(FileError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "c.npz")
