"""state and loadmodel: the arrays of a model in its own structure, as Flux has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd import Structure, Tensor
from ..autograd.tree import same_kind
from ..backend import array_module, to_device
from .containers import Container
from .state_dicts import Opened, as_plain, is_saved, load, load_state_dict


def state(model: Any) -> Any:
    """The parameters and buffers of ``model`` as plain arrays in nested dicts, lists and tuples: the model's structure.

    ``state(Chain(Dense(1, 2, tanh), Dense(2, 1, bias=False)))`` is ``{"layers": ({"weight": array, "bias": array},
    {"weight": array, "bias": False})}``: names are the attributes, named layers make a dict, a bias that is left out is
    False, and what has no arrays is ``()``. The arrays are copies, on the CPU; a shared parameter is one array that is
    there twice. ``loadmodel`` takes it back. Raises ValueError where a size is open. Source: Flux's ``state``.
    """
    copies: dict[int, np.ndarray] = {}

    def copy(t: Tensor) -> np.ndarray:
        if id(t) not in copies:
            copies[id(t)] = np.array(to_device(t.data, "cpu"), order="C")
        return copies[id(t)]

    return _mapped(model, copy)


def loadmodel(dst: Any, src: Any) -> Any:
    """Copy all parameters and buffers of ``src`` into the model ``dst``, in place; returns ``dst``.

    ``src``: a model of the same structure, what ``state`` gave, or a flat state dict. Everything is looked at before
    anything is written: StateError lists what is missing, unexpected or of another shape, and nothing has changed then.
    Activations and other settings are not copied and need not be equal. As in Flux, a bias that is left out (False) loads
    as zeros, and a bias of zeros loads into a layer without. Values are converted to the dtype and the device of ``dst``.
    Source: Flux's ``loadmodel!``.
    """
    if not isinstance(dst, Structure | dict | list | tuple):
        raise TypeError(f"loadmodel(dst, src): dst is a model, got {type(dst).__name__}")
    if isinstance(src, Structure):
        src = _mapped(src, lambda t: t.data)
    if not isinstance(src, Mapping | list | tuple):
        raise TypeError(f"loadmodel(dst, src): src is a model, what flux.state gave, or a state dict, got "
                        f"{type(src).__name__}; for a file write flux.load(path, dst)")
    if isinstance(src, Mapping) and any(isinstance(k, str) and "." in k for k in src):
        load_state_dict(dst, src)
    else:
        _Match().load(dst, src)
    return dst


def _mapped(x: Any, leaf: Any, keep_open: bool = False, inside: frozenset[int] = frozenset()) -> Any:
    """The structure of ``x`` with each saved tensor replaced by ``leaf(tensor)`` and what has none by ``()``.

    ``keep_open``: a layer whose size is open stands for itself; it raises ValueError otherwise.
    """
    if isinstance(x, Tensor):
        return leaf(x) if is_saved(x) else ()
    if id(x) in inside:
        return ()
    if isinstance(x, Structure):
        if x._open and keep_open:
            return x
        parts = {name: _mapped(v, leaf, keep_open, inside | {id(x)}) for name, v in x.children()}
        if isinstance(x, Container):
            layers = [parts.pop(name) for name in list(parts)[: len(x)]]
            parts = {"layers": tuple(layers) if x.names is None else dict(zip(x.names, layers, strict=True)), **parts}
        if _is_empty(parts):
            return ()
        found = {name: v for name, v in parts.items() if name == "layers" or not _is_empty(v)}
        absent = {n: False for n, v in vars(x).items() if n.startswith("bias") and (v is None or v is False)}
        return {**found, **absent}
    if isinstance(x, dict):
        return {k: _mapped(v, leaf, keep_open, inside | {id(x)}) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return same_kind(x, [_mapped(v, leaf, keep_open, inside | {id(x)}) for v in x])
    return ()


def _is_empty(x: Any) -> bool:
    """Whether a part of a state holds no arrays."""
    if isinstance(x, Mapping):
        x = list(x.values())
    return x is None or x is False or (isinstance(x, list | tuple) and all(map(_is_empty, x)))


class _Match:
    """Two structures walked side by side: what goes where, and what does not fit."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Tensor, Any]] = []
        self.problems: list[str] = []
        self.opened = Opened()

    def load(self, dst: Any, src: Any) -> None:
        self.walk(_mapped(dst, lambda t: t, keep_open=True), src, "")
        unknown = [f"{path}: missing, nothing tells its size" for path in self.opened.unknown.values()]
        load(self.entries, self.problems + unknown, self.opened)

    def walk(self, dst: Any, src: Any, path: str) -> None:
        if isinstance(dst, Structure):  # a size is open
            arrays = {k: as_plain(v) for k, v in src.items() if v is not False} if isinstance(src, Mapping) else {}
            dst = _mapped(self.opened(path, dst, arrays), lambda t: t)
            if not dst:
                return
        if _is_empty(dst) and _is_empty(src):
            return
        if isinstance(dst, Tensor):
            self.leaf(dst, src, path)
        elif isinstance(dst, Mapping) and isinstance(src, Mapping):
            for k in [*dst, *(k for k in src if k not in dst)]:
                self.walk(dst.get(k, ()), src.get(k, ()), f"{path}.{k}" if path else str(k))
        elif isinstance(dst, list | tuple) and isinstance(src, list | tuple) and src:
            if len(dst) != len(src):
                self.problems.append(f"{path or 'the model'}: {len(src)} parts, the model has {len(dst)}")
            for i, (d, s) in enumerate(zip(dst, src)):
                self.walk(d, s, f"{path}.{i}" if path else str(i))
        elif dst is False and hasattr(src, "shape"):
            if bool((as_plain(src) != 0).any()):
                self.problems.append(f"{path}: is not zero, the model has none")
        else:
            self.problems.append(f"{path or 'the model'}: {_words(src)}, the model has {_words(dst)} there")

    def leaf(self, t: Tensor, src: Any, path: str) -> None:
        if src is False:
            self.entries.append((path, t, array_module(t.data).zeros_like(t.data)))
        elif isinstance(src, Mapping | tuple) or src is None or src is True:
            self.problems.append(f"{path}: {_words(src)}, the model has an array of shape {t.shape} there")
        else:
            self.entries.append((path, t, as_plain(src)))


def _words(x: Any) -> str:
    """What stands in a structure, for an error message."""
    if hasattr(x, "shape"):
        return f"an array of shape {tuple(x.shape)}"
    if isinstance(x, Mapping):
        return f"a dict of {', '.join(map(str, x)) or 'nothing'}"
    return "nothing" if x is None or x is False or x == () else f"{len(x)} parts" if isinstance(x, list | tuple) else repr(x)
