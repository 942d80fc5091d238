"""save and load: the weights of a model, or any named arrays, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Structure, Tensor
from ..backend import is_array, to_device
from ..nn.state_dicts import load_state_dict, state_dict
from .checkpoints import CHECKPOINT
from .formats import FileError, read_arrays, write_arrays


def save(path: str | Path, model: Any) -> None:
    """Save the parameters and buffers of ``model``, or a dict of named arrays, to a .safetensors or .npz file.

    The file is replaced whole or not at all: an interrupted save leaves the old one. Keys are the dotted paths of the
    state dict, as PyTorch names them.
    """
    if isinstance(model, Mapping) and all(is_array(v) or isinstance(v, Tensor) for v in model.values()):
        if wrong := [k for k in model if not isinstance(k, str)]:
            raise TypeError(f"save: the names of arrays are strings, got {wrong[0]!r}")
        arrays = {k: _host(v) for k, v in model.items()}
    elif isinstance(model, Structure | dict | list | tuple):
        arrays = state_dict(model)
    else:
        raise TypeError(f"save(path, model): the model is a {type(model).__name__}; give a model, or a dict of "
                        "named arrays")
    write_arrays(path, arrays)


def load(path: str | Path, model: Any = None, strict: bool = True) -> Any:
    """Load a .safetensors or .npz file into ``model``, in place; returns the model. Without a model: a dict of arrays.

    All keys and shapes are checked first, and a file that does not fit leaves the model as it was (StateError lists
    what is missing, unexpected or misshapen; ``strict=False`` permits missing and unexpected keys). A damaged file
    raises FileError.
    """
    arrays, metadata = read_arrays(path)
    if model is None:
        return arrays
    if CHECKPOINT in metadata:
        raise FileError(f"{path}: a checkpoint of a training run; resume it with train(..., resume=path), or take its "
                        "weights with model.load_state_dict(flux.load_checkpoint(path)['model'])")
    load_state_dict(model, arrays, strict)
    return model


def _host(value: Any) -> np.ndarray:
    return to_device(value.data if isinstance(value, Tensor) else value, "cpu")
