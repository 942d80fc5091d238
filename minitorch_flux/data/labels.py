"""Labels and one-hot rows: ``onehot``, ``onehotbatch`` and back, ``onecold``. The class axis is the last one.

All three are about numbers, not gradients: they take arrays and Tensors and return arrays on the same device.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import DEFAULT, Array, array_module, is_array, to_device


def onehot(i: Any, labels: int | Sequence[Any] | Array, dtype: Any = DEFAULT) -> Array:
    """1 at the position of ``i`` among the labels and 0 elsewhere.

    ``i``: one label, or an integer or other array of labels of any shape ``S``. ``labels``: a number of classes ``n``,
    meaning 0 to n - 1, or a sequence of the labels themselves (numbers, text, anything hashable). The result has shape
    ``S + (n,)`` and ``dtype`` (float32 by default). ValueError for a label that is not among them.
    """
    i = i.data if isinstance(i, Tensor) else i
    if isinstance(i, (list, tuple)):
        i = np.asarray(i)
    n = _length(labels, "onehot")
    return _rows(_positions(i, labels, n), n, dtype)


def onehotbatch(xs: Iterable[Any], labels: int | Sequence[Any] | Array, dtype: Any = DEFAULT) -> Array:
    """``onehot`` for each entry of ``xs``: ``(len(xs), n)`` for a sequence, ``S + (n,)`` for an array of shape ``S``.

    Text counts as the sequence of its characters: ``onehotbatch("abba", "ab")`` is 4 by 2.
    """
    if isinstance(xs, Tensor) or is_array(xs):
        if not xs.ndim:  # type: ignore[attr-defined]
            raise ValueError("onehotbatch: xs has no axes; for one label use onehot")
        return onehot(xs, labels, dtype)
    items, n = list(xs), _length(labels, "onehotbatch")
    if hasattr(labels, "__len__"):
        found = np.asarray(_look_up(items, labels, "onehotbatch"), np.int64)
    else:
        found = _indices(np.asarray(items), n, "onehotbatch")
    return _rows(found, n, dtype)


def onecold(x: Any, labels: Sequence[Any] | Array | None = None, axis: int = -1) -> Array:
    """The label of the largest entry along ``axis``: scores, probabilities or one-hot rows to labels.

    Without ``labels`` the position, int64, from 0; with them an array of the labels (a single one is given as it is;
    text is in the host's memory, whatever the device of ``x``). The first of equal entries counts. ValueError where
    ``axis`` has another length than ``labels``, or none.
    """
    x = x.data if isinstance(x, Tensor) else x if is_array(x) else np.asarray(x)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"onecold: axis {axis} does not exist in an array of shape {x.shape}")
    n = x.shape[axis]
    if labels is not None and len(labels) != n:
        raise ValueError(f"onecold: axis {axis} has {n} classes (shape {x.shape}) but there are {len(labels)} labels")
    if not n:
        raise ValueError(f"onecold: axis {axis} has no classes (shape {x.shape})")
    found = array_module(x).argmax(x, axis=axis)
    if labels is None:
        return found
    names: Array = labels if is_array(labels) else _array_of(labels)
    if names.dtype.kind in "biuf":
        return array_module(x).asarray(names)[found]
    return names[to_device(found, "cpu") if is_array(found) else found]


def _positions(i: Any, labels: Any, n: int) -> Array:
    """The positions of ``i`` (a label or an array of labels) among the labels, int64, on the device of ``i``."""
    if not hasattr(labels, "__len__"):
        return _indices(i, n, "onehot")
    if not is_array(i):
        return np.asarray(_look_up([i], labels, "onehot")[0])
    names = labels if is_array(labels) else _array_of(labels)
    if i.dtype.kind in "biuf" and names.dtype.kind in "biuf":
        return _search(i, names)
    return np.asarray(_look_up(i.ravel().tolist(), labels, "onehot"), np.int64).reshape(i.shape)


def _indices(i: Any, n: int, where: str) -> Array:
    xp = array_module(i)
    i = i if is_array(i) else np.asarray(i)
    if i.dtype.kind not in "biu":
        if not i.size and i.dtype.kind == "f":  # an empty list
            return i.astype(np.int64)
        raise TypeError(f"{where}: labels 0 to {n - 1} must be integers, got {i.dtype}; for other labels give the "
                        "sequence of all of them")
    if i.size and not (0 <= (least := int(i.min())) <= (most := int(i.max())) < n):
        raise ValueError(f"{where}: label {least if least < 0 else most} is out of range: {n} classes are 0 to {n - 1}")
    return xp.asarray(i, dtype=np.int64)


def _search(i: Array, names: Array) -> Array:
    """Numbers among numbers, by bisection."""
    xp = array_module(i)
    names = xp.asarray(names)
    _refuse_repeats(names.tolist(), "onehot")
    order = xp.argsort(names)
    found = order[xp.searchsorted(names[order], i).clip(0, len(names) - 1)]
    unknown = i[names[found] != i]
    if unknown.size:
        raise ValueError(f"onehot: {unknown[0].item()!r} is not among the labels {_some(names.tolist())}")
    return found.astype(np.int64, copy=False)


def _look_up(items: list[Any], labels: Any, where: str) -> list[int]:
    labels = list(labels.tolist() if is_array(labels) else labels)
    _refuse_repeats(labels, where)
    index = {label: k for k, label in enumerate(labels)}
    for item in items:
        if item not in index:
            raise ValueError(f"{where}: {item!r} is not among the labels {_some(labels)}")
    return [index[item] for item in items]


def _refuse_repeats(labels: list[Any], where: str) -> None:
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"{where}: the label {twice!r} occurs twice in {_some(labels)}")


def _some(labels: list[Any]) -> str:
    return f"[{', '.join(map(repr, labels[:10]))}{', ...' if len(labels) > 10 else ''}]"


def _array_of(labels: Sequence[Any]) -> np.ndarray:
    """An array of labels; of objects where NumPy would turn one into another (``[1, "a"]``) or make axes."""
    labels = list(labels)
    kinds = {type(label) for label in labels}
    if len(kinds) <= 1 and kinds <= {int, float, bool, str}:
        return np.asarray(labels)
    names = np.empty(len(labels), object)
    names[:] = labels
    return names


def _length(labels: Any, where: str) -> int:
    if hasattr(labels, "__len__"):
        if not len(labels):
            raise ValueError(f"{where}: there are no labels")
        return len(labels)
    try:
        n = operator.index(labels)
    except TypeError:
        n = 0
    if n < 1 or isinstance(labels, bool):
        raise ValueError(f"{where}: labels must be a number of classes of at least 1 or a sequence, got {labels!r}")
    return n


def _rows(found: Array, n: int, dtype: Any) -> Array:
    xp = array_module(found)
    return (found[..., None] == xp.arange(n)).astype(dtype)
