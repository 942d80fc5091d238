"""Checkpoints: nested dicts of arrays, numbers and strings in one file, for exact resuming.

Arrays lie under their dotted path; everything else is JSON in the file's metadata, with ``{"@": path}`` in the place of
each array.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import is_array, to_device
from .formats import FileError, read_arrays, write_arrays

ARRAY = "@"
CHECKPOINT = "checkpoint"  # the metadata's entry that makes a file of arrays a checkpoint


def save_checkpoint(path: str | Path, parts: dict[str, Any]) -> None:
    """Save a nested dict (of dicts, lists, arrays, numbers, strings, None) to a .safetensors or .npz file, atomically.

    Tuples come back as lists, tensors as arrays, NumPy's scalars as Python's.
    """
    arrays: dict[str, np.ndarray] = {}
    metadata = _pack(parts, "", arrays)
    write_arrays(path, arrays, {CHECKPOINT: metadata})


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The nested dict that ``save_checkpoint`` wrote. Raises FileError for anything else."""
    arrays, metadata = read_arrays(path)
    if not isinstance(metadata.get(CHECKPOINT), dict):
        raise FileError(f"{path}: not a checkpoint of minitorch_flux (a file of weights is loaded with flux.load)")
    try:
        return _unpack(metadata[CHECKPOINT], arrays)
    except (KeyError, TypeError, RecursionError) as error:
        raise FileError(f"{path}: a damaged checkpoint (no array {str(error)[:80]})") from None


def _pack(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, Tensor):
        value = value.data
    if is_array(value):
        while path in arrays:  # {"a.b": x, "a": {"b": y}}
            path += "'"
        arrays[path] = to_device(value, "cpu")
        return {ARRAY: path}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == ARRAY:
                raise TypeError(f"a checkpoint's keys are strings other than {ARRAY!r}, got {key!r} at "
                                f"{path or 'the top'}")
        return {k: _pack(v, f"{path}.{k}" if path else k, arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(v, f"{path}.{i}" if path else str(i), arrays) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint holds dicts, lists, arrays, numbers and strings; {path} is a {type(value).__name__}")


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {k: _unpack(v, arrays) for k, v in value.items()}
    if isinstance(value, list):
        return [_unpack(v, arrays) for v in value]
    return value
