"""State dicts: the parameters and buffers of a model as plain arrays under dotted paths, PyTorch's names.

Loading looks at everything before it writes anything: a state dict that does not fit leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..autograd import Buffer, Param, Tensor
from ..autograd.tree import items
from ..backend import as_array, is_array, is_float, is_number, is_outline, to_device

IGNORED = ("num_batches_tracked",)
"""Last parts of keys that PyTorch writes and that mean nothing here."""


class StateError(ValueError):
    """A state dict that does not fit the model: says which keys are missing, unexpected or wrongly shaped."""


def is_saved(x: Any) -> bool:
    """Whether a part of a model belongs into its state dict: a Param, a Buffer, or a leaf that trains.

    Other tensors are values that a layer keeps for itself, such as its last output.
    """
    return isinstance(x, Param | Buffer) or (isinstance(x, Tensor) and x.track == 2 and x.node is None)


def tensors_by_path(model: Any, opened: Callable[[str, Any], Any] | None = None) -> dict[str, Tensor]:
    """Every parameter and buffer by *each* of its paths, the first one first.

    ``opened(path, layer)`` stands for a layer that doesn't know its size yet; without it that raises ValueError.
    """
    found: dict[str, Tensor] = {}
    stack: list[tuple[str, Any, frozenset[int]]] = [("", model, frozenset())]
    while stack:
        path, value, inside = stack.pop()
        if isinstance(value, Tensor):
            if is_saved(value):
                found[path] = value
        elif id(value) not in inside:
            inside = inside | {id(value)}
            part = opened(path, value) if opened and getattr(value, "_open", False) else value
            stack.extend(reversed([(f"{path}.{k}" if path else k, v, inside) for k, v in items(part)]))
    return found


class Opened:
    """Layers whose sizes are open, as the shapes of arrays make them; the model itself is not changed yet."""

    def __init__(self) -> None:
        self.built: dict[int, tuple[Any, Any]] = {}  # a layer and what it would be
        self.unknown: dict[int, str] = {}  # the paths of those for which nothing tells the size
        self.problems: list[str] = []

    def __call__(self, path: str, layer: Any, arrays: Mapping[Any, Any]) -> Any:
        """What ``layer`` would be with ``arrays``, by their names in it; nothing where they do not say."""
        if id(layer) not in self.built:
            try:
                built = layer._for_state({k: a.shape for k, a in arrays.items() if hasattr(a, "shape")})
            except ValueError as error:
                self.problems.append(f"{path}: {error}")
                return ()
            if built is None:
                self.unknown[id(layer)] = path or "the model"
                return ()
            self.unknown.pop(id(layer), None)
            self.built[id(layer)] = layer, built
        return self.built[id(layer)][1]


def state_dict(model: Any) -> dict[str, np.ndarray]:
    """Copies of all parameters and buffers: ``{"0.weight": array, ...}``.

    What is reached by two paths is there once, under the first. Arrays of a GPU model are copied to the CPU. Of a model that
    was made inside ``shapes_only`` they are outlines, with a shape and a dtype.
    """
    seen: set[int] = set()
    state = {}
    for path, t in tensors_by_path(model).items():
        if id(t) not in seen:
            seen.add(id(t))
            state[path] = t.data if is_outline(t.data) else np.array(to_device(t.data, "cpu"), order="C")
    return state


def load_state_dict(model: Any, state: Mapping[str, Any], strict: bool = True) -> dict[str, list[str]]:
    """Copy the arrays of ``state`` into the parameters and buffers of ``model``, in place; all of them or none.

    Values are converted to each parameter's dtype and device. Raises StateError that lists every missing, unexpected
    and wrongly shaped key; ``strict=False`` permits missing and unexpected keys, and returns them as
    ``{"missing": [...], "unexpected": [...]}``. A parameter reached by two paths may be given under either. Tensors of
    PyTorch are taken, too. Sizes left open (``Dense(None, 10)``) are those of the arrays. Parameters without numbers, made
    inside ``shapes_only``, get copies of the arrays for their own.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"load_state_dict takes a dict of arrays by path, got {type(state).__name__}; for a file write "
                        "flux.load(path, model)")
    arrays = {key: as_plain(value) for key, value in state.items()}
    named = {key: a for key, a in arrays.items() if isinstance(key, str)}
    opened = Opened()

    def below(path: str, layer: Any) -> Any:
        start = f"{path}." if path else ""
        return opened(path, layer, {k.removeprefix(start): a for k, a in named.items() if k.startswith(start)})

    targets = tensors_by_path(model, below)
    first_paths: dict[int, str] = {}
    for path, t in targets.items():
        first_paths.setdefault(id(t), path)
    given = {id(targets[key]) for key in state if key in targets}
    missing = [path for i, path in first_paths.items() if i not in given]
    unexpected = [key for key in state if key not in targets and str(key).rpartition(".")[2] not in IGNORED]
    problems = [f"{key}: missing" for key in missing]
    problems += [f"{path}: missing, nothing tells its size" for path in opened.unknown.values()]
    problems += [f"{key}: unexpected" for key in unexpected]
    load([(key, targets[key], a) for key, a in arrays.items() if key in targets], problems if strict else [], opened)
    return {"missing": missing + list(opened.unknown.values()), "unexpected": unexpected}


def load(entries: Iterable[tuple[str, Tensor, Any]], problems: list[str], opened: Opened) -> None:
    """Copy every value into its tensor, all of them or none: StateError lists ``problems`` and what does not fit.

    A value is an array, or the words that say why it is none. A tensor that is there twice must have one value.
    """
    writes: dict[int, tuple[str, Tensor, Any]] = {}
    misfits = list(opened.problems)
    for key, t, a in entries:
        before = writes.get(id(t))
        if problem := a if isinstance(a, str) else _misfit(t, a):
            misfits.append(f"{key}: {problem}")
        elif before is not None and not _equal(before[2], a):
            misfits.append(f"{key}: differs from {before[0]}, but both are one shared parameter of the model")
        else:
            writes[id(t)] = (key, t, a)
    if problems := misfits + problems:
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise StateError("the state dict does not fit the model, nothing was loaded:\n  " + "\n  ".join(problems[:20]) + more)
    owners = {id(_owner(t.data)) for _, t, _ in writes.values()}
    converted = [  # a value that is the model's own memory is copied before anything is written
        (t, to_device(a, t.device).astype(t.dtype, copy=id(_owner(a)) in owners)) for _, t, a in writes.values()
    ]
    for layer, built in opened.built.values():
        layer._adopt(built)
    for t, a in converted:
        if is_outline(t.data):
            t.data = np.array(a, order="C")
        else:
            t.data[...] = a
        t.version += 1


def as_plain(value: Any) -> Any:
    """A value as a plain array, PyTorch's tensors too; where it is none, the words that say so."""
    if isinstance(value, Tensor):
        return value.data
    if is_array(value):
        return value
    try:
        if hasattr(value, "detach") and hasattr(value, "cpu"):  # PyTorch's, by what it can do
            value = value.detach().cpu().resolve_conj().resolve_neg()
            small = str(value.dtype).startswith(("torch.bfloat16", "torch.float8"))
            value = value.float() if small else value  # NumPy has no such dtype
        return as_array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{type(value).__name__} is no array ({error})"


def _misfit(t: Tensor, a: Any) -> str:
    """Why the array ``a`` cannot be loaded into ``t``; nothing where it can."""
    if is_outline(a):
        return "has a shape, but no numbers: it is of a model that was made inside flux.shapes_only()"
    if a.shape != t.shape:
        return f"shape {a.shape}, the model has {t.shape}"
    if not is_number(a.dtype) or a.dtype.kind == "c" or (is_float(a.dtype) and not is_float(t.dtype)):
        return f"dtype {a.dtype}, the model has {t.dtype}"
    if not getattr(t.data.flags, "writeable", True):
        return "the model's own array is read-only; make the parameter of a copy"
    return ""


def _equal(a: Any, b: Any) -> bool:
    a, b = to_device(a, "cpu"), to_device(b, "cpu")
    return bool(((a == b) | ((a != a) & (b != b))).all())  # NaN is NaN


def _owner(a: Any) -> Any:
    """The array whose memory ``a`` is a view of."""
    while is_array(a.base):
        a = a.base
    return a
