"""Data as observations: count them, take some of them, make a batch of single ones.

*Columns* are arrays (or other sequences) of one length, in a tuple, a dict or a list, nested as you like; observation
``i`` is entry ``i`` of every column. A batch has the structure of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module, device_of, is_array

Index = slice | np.ndarray


def columns_of(data: Any, where: str, name: str = "data") -> list[tuple[str, Any]]:
    """The columns of ``data`` with their names (``data[0]``, ``data['x']``), checked.

    A tuple and a dict are columns, and so is a list of nothing but arrays; an array, a Tensor or anything else with
    ``len`` and indexing is one column. TypeError for what cannot be indexed, ValueError for unequal lengths.
    """
    found = _columns(data, where, name)
    if not found:
        raise ValueError(f"{where}: {name} is an empty {type(data).__name__}, expected at least one column")
    (first, column), *others = found
    for other, c in others:
        if len(c) != len(column):
            raise ValueError(
                f"{where}: {first} has {len(column)} observations{_shape(column)} but {other} has {len(c)}{_shape(c)}; "
                "the first axis of every column counts the observations and must be equally long (a list of arrays is "
                "a list of columns: to go through the list's own entries, give an object with __len__ and __getitem__)"
            )
    return found


def _shape(column: Any) -> str:
    return f" (shape {column.shape})" if hasattr(column, "shape") else ""


def _columns(data: Any, where: str, name: str) -> list[tuple[str, Any]]:
    if isinstance(data, Tensor) or is_array(data):
        if not data.ndim:
            raise TypeError(f"{where}: {name} is an array without axes, expected a first axis of observations")
        return [(name, data)]
    if isinstance(data, Mapping):
        return [c for key, d in data.items() for c in _columns(d, where, f"{name}[{key!r}]")]
    if _is_list_of_columns(data):
        return [c for i, d in enumerate(data) for c in _columns(d, where, f"{name}[{i}]")]
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return [(name, data)]
    raise TypeError(
        f"{where}: {name} is a {type(data).__name__}, expected an array, a tuple or dict of arrays, or anything with "
        "len() and indexing; for an iterator pass list(iterator)"
    )


def _is_list_of_columns(data: Any) -> bool:
    if isinstance(data, tuple):
        return True
    return isinstance(data, list) and bool(data) and all(isinstance(d, Tensor) or is_array(d) for d in data)


def map_columns(f: Callable[[Any], Any], data: Any) -> Any:
    """``f`` of every column, in the structure of ``data``."""
    if isinstance(data, Mapping):
        return {key: map_columns(f, d) for key, d in data.items()}
    if _is_list_of_columns(data):
        return rebuild(data, [map_columns(f, d) for d in data])
    return f(data)


def rebuild(like: Any, entries: Sequence[Any]) -> Any:
    """``entries`` in a list, tuple or named tuple as ``like`` is one."""
    return type(like)(*entries) if hasattr(like, "_fields") else type(like)(entries)


def take(data: Any, index: Index) -> Any:
    """The observations at ``index`` as a batch of new arrays: a range of them or an int64 array of positions."""
    return map_columns(lambda column: _take(column, index), data)


def take_one(data: Any, i: int) -> Any:
    """Observation ``i`` alone, in the structure of the data."""
    return map_columns(lambda column: column[i], data)


def _take(column: Any, index: Index) -> Any:
    column = column.data if isinstance(column, Tensor) else column
    if is_array(column):
        if isinstance(index, slice):
            return column[index].copy()
        return column[array_module(column).asarray(index)]
    positions = range(*index.indices(len(column))) if isinstance(index, slice) else index.tolist()
    return stack([column[i] for i in positions])


def stack(items: list[Any]) -> Any:
    """Single observations as a batch: arrays and numbers along a new first axis, tuples and dicts entry by entry.

    Anything else (text, for one) stays a list. ValueError where shapes or lengths differ.
    """
    if not items:
        return items
    first = items[0]
    if isinstance(first, Tensor):
        items = [item.data if isinstance(item, Tensor) else item for item in items]
        first = items[0]
    if is_array(first):
        for i, item in enumerate(items):
            if np.shape(item) != first.shape:
                raise ValueError(f"observation {i} of the batch has shape {np.shape(item)}, the first one "
                                 f"{first.shape}; pad them to one shape, or pass collate= to the DataLoader")
        return array_module(first).stack(items)
    if isinstance(first, (bool, int, float, np.generic)):
        return np.asarray(items)
    if isinstance(first, Mapping):
        for i, item in enumerate(items):
            if set(item) != set(first):
                raise ValueError(f"observation {i} of the batch has the keys {list(item)}, the first one "
                                 f"{list(first)}; pass collate= to the DataLoader")
        return {key: stack([item[key] for item in items]) for key in first}
    if isinstance(first, (tuple, list)):
        for i, item in enumerate(items):
            if len(item) != len(first):
                raise ValueError(f"observation {i} of the batch has {len(item)} entries, the first one {len(first)}; "
                                 "pass collate= to the DataLoader")
        return rebuild(first, [stack(list(entries)) for entries in zip(*items, strict=True)])
    return items


def on_host(data: Any, where: str) -> bool:
    """Whether every array of the data is in the host's memory."""
    arrays = [c.data if isinstance(c, Tensor) else c for _, c in columns_of(data, where)]
    return all(device_of(a) == "cpu" for a in arrays if is_array(a))
