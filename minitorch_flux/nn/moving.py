"""gpu and cpu: moved copies of arrays, tensors, models, optimiser states, and nested lists, tuples and dicts of them."""

from __future__ import annotations

import copy
from typing import Any

from ..autograd import Tensor
from ..autograd.tree import same_kind
from ..backend import find_cupy, is_array, parse_device, to_device
from ..ops.transfers import move_tensor


def gpu(x: Any, device: str = "cuda:0") -> Any:
    """A copy of ``x`` on a GPU. Raises DeviceError, with what to install, where there is none.

    A model or an optimiser state is always copied; ``.to(device)`` moves one in place. An array or tensor that is there
    already is returned as it is; gradients flow through the move of a tensor. Nested lists, tuples and dicts are walked;
    what two models in them share, their copies share.
    """
    find_cupy()
    return _move(x, device, {})


def cpu(x: Any) -> Any:
    """A copy of ``x`` in the CPU's memory; see ``gpu``."""
    return _move(x, "cpu", {})


def _move(x: Any, device: str, copies: dict[int, Any]) -> Any:
    parse_device(device)
    if isinstance(x, Tensor):
        return move_tensor(x, device)
    if is_array(x):
        return to_device(x, device)
    if isinstance(x, dict):
        return {k: _move(v, device, copies) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return same_kind(x, [_move(v, device, copies) for v in x])
    if hasattr(x, "to") and not isinstance(x, type):
        return copy.deepcopy(x, copies).to(device)
    return x
