"""New tensors: from numbers, from nothing, and from another library's memory.

Where no dtype is given Python's floats become float32, this library's default, and its integers int64. ``device`` is
``"cpu"`` (also None) or ``"cuda:N"``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import (
    DEFAULT,
    DeviceError,
    array_module,
    device_of,
    find_cupy,
    is_array,
    parse_device,
    refuse_complex,
    to_device,
)
from ..ops.elementwise import as_tensor
from ..ops.shapes import astype, copy
from ..ops.transfers import move_tensor

CPU, CUDA = 1, 2  # DLPack's numbers of devices; 13 is memory that CUDA manages, which NumPy does not read


def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """The array or tensor ``x`` of another library as a Tensor that shares its memory: whoever writes to one changes both.

    x: anything with ``__dlpack__`` and ``__dlpack_device__`` (PyTorch, JAX, CuPy, NumPy, ...), of real numbers, on the
    CPU or a CUDA device. ``copy=True`` makes a copy, ``copy=False`` raises where one would be needed, None copies only to
    another ``device``. The Tensor is a constant: a tensor that records gradients is refused by the library that it comes
    from (write ``flux.from_dlpack(t.detach())`` for PyTorch).

    Raises TypeError for what is no such array, BufferError for a dtype that DLPack or NumPy has not (bfloat16: pass its
    bits, ``t.view(torch.int16)``, and view them), DeviceError for another kind of device. The other way is
    ``torch.from_dlpack(t)``, ``numpy.from_dlpack(t)`` and ``cupy.from_dlpack(t)``.
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: a {type(x).__name__} has no __dlpack__ and __dlpack_device__; flux.tensor(x) makes a "
                        "tensor of numbers and lists")
    kind = int(x.__dlpack_device__()[0])
    if kind not in (CPU, CUDA):
        raise DeviceError(f"from_dlpack: DLPack's device type {kind} is neither the CPU ({CPU}) nor a CUDA device ({CUDA}); "
                          "move the array there first")
    try:
        a = np.from_dlpack(x) if kind == CPU else find_cupy().from_dlpack(x)
    except RuntimeError as error:  # NumPy's for dtypes that it has not
        if "dtype" not in str(error):
            raise
        raise BufferError(f"from_dlpack: NumPy has no dtype for this {type(x).__name__} of {getattr(x, 'dtype', '?')}; convert "
                          "it first (bfloat16 to float32, say), or pass its bits as integers and view them") from error
    refuse_complex(a.dtype, "from_dlpack")
    if device is not None and parse_device(device) != parse_device(device_of(a)):
        if copy is False:
            raise ValueError(f"from_dlpack: from {device_of(a)} to {device} is a copy, and copy=False forbids one")
        return Tensor(to_device(a, device))
    return Tensor(a.copy() if copy else a)


def asarray(obj: Any, /, *, dtype: Any = None, device: str | None = None, copy: bool | None = None) -> Tensor:
    """``obj``, a tensor, an array, a number or a nested sequence of numbers, as a Tensor.

    A tensor that needs no conversion is returned as it is, and gradients flow through conversions; the memory of arrays is
    shared. ``copy=True`` always copies; ``copy=False`` raises ValueError where a copy is needed.
    """
    if not isinstance(obj, Tensor) and not is_array(obj) and hasattr(obj, "__dlpack__"):
        obj = from_dlpack(obj)
    numbers = isinstance(obj, int | float | list | tuple)
    if numbers and copy is False:
        raise ValueError(f"asarray: a {type(obj).__name__} cannot become a tensor without a copy")
    x = as_tensor(obj)
    if numbers and dtype is None and x.dtype == np.float64:
        dtype = DEFAULT
    y = x if dtype is None or x.dtype == np.dtype(dtype) else astype(x, dtype)
    y = y if device is None else move_tensor(y, device)
    if copy is False and y is not x:
        raise ValueError(f"asarray: {x.dtype} on {x.device} as {y.dtype} on {y.device} is a copy, and copy=False forbids one")
    return _copied(y) if copy and not numbers else y


_copied = copy


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(map(operator.index, shape)) if isinstance(shape, tuple | list) else (operator.index(shape),)


def _new(a: Any, dtype: Any, device: str | None) -> Tensor:
    """``a`` as a Tensor, in ``dtype`` and on ``device`` where they are given."""
    a = a if dtype is None else a.astype(_dtype(dtype), copy=False)
    return Tensor(a if device is None else to_device(a, device))


def _dtype(dtype: Any) -> np.dtype:
    found = np.dtype(DEFAULT if dtype is None else dtype)
    refuse_complex(found, "array_api")
    return found


def _filled(name: str, what: str) -> Callable[..., Tensor]:
    def make(shape: Any, *, dtype: Any = None, device: str | None = None) -> Tensor:
        return _new(getattr(np, name)(_shape(shape), _dtype(dtype)), None, device)

    make.__name__, make.__doc__ = name, f"A tensor of ``shape`` {what}, of float32 where no dtype is given."
    return make


empty = _filled("empty", "with whatever the memory holds")
zeros = _filled("zeros", "of zeros")
ones = _filled("ones", "of ones")


def _fill_dtype(value: Any) -> Any:
    return np.dtype(bool if isinstance(value, bool) else np.int64 if isinstance(value, int) else DEFAULT)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor of ``shape`` whose elements are all ``fill_value``: float32, int64 or bool where no dtype is given."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    return _new(np.full(_shape(shape), value, _fill_dtype(value) if dtype is None else _dtype(dtype)), None, device)


def _like(name: str, what: str) -> Callable[..., Tensor]:
    def make(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
        x = as_tensor(x)
        y = getattr(array_module(x.data), name)(x.data, dtype=x.dtype if dtype is None else _dtype(dtype))
        return _new(y, None, device)

    make.__name__, make.__doc__ = name, f"A tensor {what}, with the shape, dtype and device of ``x`` where none is given."
    return make


empty_like = _like("empty_like", "with whatever the memory holds")
zeros_like = _like("zeros_like", "of zeros")
ones_like = _like("ones_like", "of ones")


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor whose elements are all ``fill_value``, with the shape, dtype and device of ``x`` where none is given."""
    x = as_tensor(x)
    return full(x.shape, fill_value, dtype=x.dtype if dtype is None else dtype, device=device or x.device)


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """The numbers from ``start`` (0 where only one is given) to ``stop``, without it, in steps of ``step``: one axis."""
    if stop is None:
        start, stop = 0, start
    whole = all(isinstance(v, int) for v in (start, stop, step))
    return _new(np.arange(start, stop, step), dtype or (np.int64 if whole else DEFAULT), device)


def linspace(
    start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: str | None = None, endpoint: bool = True
) -> Tensor:
    """``num`` numbers at equal distances from ``start`` to ``stop``, with it unless ``endpoint=False``: one axis."""
    return _new(np.linspace(start, stop, num, endpoint=endpoint), _dtype(dtype), device)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: str | None = None
) -> Tensor:
    """A matrix of zeros with ones on its ``k``-th diagonal (0 the main one, 1 the one above)."""
    return _new(np.eye(n_rows, n_cols, k, _dtype(dtype)), None, device)
