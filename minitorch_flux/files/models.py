"""save and load: the weights of a model, or any named arrays, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Structure, Tensor
from ..backend import as_array, to_device
from ..nn.state import load_state_dict, state_dict
from .formats import read_arrays, write_arrays


def save(path: str | Path, model: Any) -> None:
    """Save the parameters and buffers of ``model``, or a dict of named arrays, to a .safetensors or .npz file.

    The file is replaced whole or not at all: an interrupted save leaves the old one. Keys are the dotted paths of the
    state dict, as PyTorch names them.
    """
    if isinstance(model, Mapping) and all(not isinstance(v, Structure | Mapping) for v in model.values()):
        arrays = {str(k): _host(v) for k, v in model.items()}
    else:
        arrays = state_dict(model)
    write_arrays(path, arrays)


def load(path: str | Path, model: Any = None, strict: bool = True) -> Any:
    """Load a .safetensors or .npz file into ``model``, in place; returns the model. Without a model: the dict of arrays.

    All keys and shapes are checked first, and a file that does not fit leaves the model as it was (StateError lists what
    is missing, unexpected or misshapen; ``strict=False`` permits missing and unexpected keys). A damaged file raises
    FileError.
    """
    arrays, _ = read_arrays(path)
    if model is None:
        return arrays
    load_state_dict(model, arrays, strict)
    return model


def _host(value: Any) -> np.ndarray:
    return to_device(value.data if isinstance(value, Tensor) else as_array(value), "cpu")
