"""Where an array lives: NumPy (CPU) or CuPy (GPU), and how it moves.

CuPy is imported only when somebody asks for a GPU: nobody can hold a CuPy array before that, so until then
every question here is answered by one comparison.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np

from . import graphs, outlines, tracers
from .dtypes import is_number

Array = Any  # numpy.ndarray or cupy.ndarray

INSTALL_CUPY = "pip install 'minitorch-flux[gpu]'"


PLAIN_DTYPES = frozenset(np.dtype(code) for code in "?bBhHiIlLqQefdg")
"""Real numbers in this machine's byte order: what kernels and ops take as it is."""


_ON_CPU = (np.ndarray, outlines.Outline, tracers.Tracer)


class DeviceError(RuntimeError):
    """A device that is not there, or arrays that live on different devices."""


def _loaded_cupy() -> ModuleType | None:
    """CuPy if somebody has imported it in this process (and not while another thread is still at it)."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and hasattr(cupy, "ndarray") else None


def array_module(*arrays: Any) -> ModuleType:
    """The namespace for these arrays: ``cupy`` if one of them lives on a GPU, else ``numpy``."""
    if outlines.scopes.count:
        for a in arrays:
            if type(a) is outlines.Outline:
                return outlines.outlines  # type: ignore[return-value]
            if type(a) is tracers.Tracer:
                return a.recorder.namespace
    if "cupy" in sys.modules and (cupy := _loaded_cupy()) is not None:
        for a in arrays:
            if isinstance(a, cupy.ndarray):
                return cupy
    if outlines.scopes.count and tracers.state.recorder is not None and tracers.state.recorder.kind is np.ndarray:
        return tracers.traced  # type: ignore[return-value]
    return np


def is_array(x: Any) -> bool:
    """True for a NumPy or CuPy array, or the outline of one (not for a Tensor, a number or a list)."""
    if isinstance(x, np.ndarray) or type(x) is outlines.Outline:
        return True
    if type(x) is tracers.Tracer:
        return not x.scalar
    cupy = _loaded_cupy()
    return cupy is not None and isinstance(x, cupy.ndarray)


def device_of(x: Array) -> str:
    """``"cpu"`` or ``"cuda:0"``, ``"cuda:1"``, ... for an array."""
    if type(x) is tracers.Tracer:
        x = x.array
    return "cpu" if isinstance(x, _ON_CPU) else f"cuda:{x.device.id}"


def address_of(x: Array) -> int:
    """The address of the first element of an array, on its own device; 0 of an outline."""
    if type(x) is outlines.Outline:
        outlines._check_open()
        return 0
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def as_array(x: Any, like: Array | None = None) -> Array:
    """``x`` as an array on the device of ``like`` (default: the CPU); an array is returned as it is.

    Only numbers and sequences of them are converted: an array on the wrong device is never copied silently. Of an
    array in a foreign byte order a native copy is returned, of NumPy's subclasses the plain array. Raises TypeError for
    anything else than numbers, and for masked arrays.
    """
    if type(x) is np.ndarray and x.dtype in PLAIN_DTYPES:
        return x
    if is_array(x):
        return _plain_array(x)
    a = array_module(x).asarray(x)
    if a.dtype.kind not in "fiubc":
        raise TypeError(f"cannot make an array of {type(x).__name__}: {x!r:.80}")
    xp = array_module(like)
    return a if xp is np else xp.asarray(a)


def _plain_array(x: Array) -> Array:
    if not is_number(x.dtype):
        raise TypeError(f"an array of dtype {x.dtype} (shape {x.shape}) does not hold numbers: convert it first, "
                        "with .astype(float) where it holds Python's")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"a masked array (shape {x.shape}) would lose its mask: fill the gaps first, with .filled(value)")
    if isinstance(x, np.ndarray):
        x = np.asarray(x)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def is_view(y: Array, x: Array) -> bool:
    """Whether ``y``, which was made from ``x``, is its memory (else a copy)."""
    if type(y) is tracers.Tracer:
        y, x = y.array, getattr(x, "array", x)
    base = y.base
    return y is x or (base is not None and (base is x or base is x.base))


def read_only(x: Array) -> Array:
    """A view of ``x`` that cannot be written to; a CuPy array, which knows no such thing, is returned as it is."""
    if type(x) is tracers.Tracer and tracers.state.recorder is not x.recorder:  # another thread's
        x = x.array
    if isinstance(x, np.ndarray):
        x = x.view()
        x.flags.writeable = False
    return x


def same_device(name: str, arrays: tuple[Any, ...]) -> None:
    """Raise DeviceError, naming both arguments, when arrays live on different devices."""
    first = None
    for i, a in enumerate(arrays):
        if not is_array(a) or type(a) in (outlines.Outline, tracers.Tracer):
            continue
        if first is None:
            first = (i, a)
        elif device_of(a) != device_of(first[1]):
            j, b = first
            raise DeviceError(
                f"{name}: argument {j} (shape {b.shape}) is on {device_of(b)} but argument {i} "
                f"(shape {a.shape}) is on {device_of(a)}; move one with flux.gpu(...) or flux.cpu(...)"
            )


def find_cupy() -> ModuleType:
    """CuPy with a usable device, or a DeviceError that says what is missing and how to get it."""
    if importlib.util.find_spec("cupy") is None:
        raise DeviceError(f"no GPU support: CuPy is not installed; install it with: {INSTALL_CUPY}")
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"CuPy {cupy.__version__} is installed but finds no usable CUDA device ({error}); "
            "check the NVIDIA driver with nvidia-smi, or stay on the CPU"
        ) from None
    if count == 0:
        raise DeviceError(f"CuPy {cupy.__version__} is installed but this machine has no CUDA device")
    from . import precision

    if precision.tf32_allowed():
        precision.tell_cupy(cupy)
    return cupy


def parse_device(device: str) -> int | None:
    """``"cpu"`` -> None, ``"cuda"`` -> 0, ``"cuda:1"`` (or ``"gpu:1"``) -> 1."""
    kind, _, number = str(device).partition(":")
    if kind == "cpu" and not number:
        return None
    if kind in ("cuda", "gpu") and (number.isdigit() or not (number or ":" in str(device))):
        return int(number or 0)
    raise DeviceError(f"unknown device {device!r}: use 'cpu', 'cuda' or 'cuda:N'")


def to_device(x: Array, device: str) -> Array:
    """The array on ``device``: itself when it already lives there, a copy otherwise."""
    index = parse_device(device)
    if type(x) is tracers.Tracer and device_of(x) != ("cpu" if index is None else f"cuda:{index}"):
        tracers.refuse_capture(f"a copy from {device_of(x)} to {device}", "move arrays outside and pass them")
    if index is None:
        return x if isinstance(x, _ON_CPU) else x.get()
    if type(x) is outlines.Outline:
        raise outlines.OutlineError(f"a model that was made inside flux.shapes_only() has nothing to move to {device!r}; "
                                    f"{outlines.MAKE_REAL}")
    cupy = find_cupy()
    count = cupy.cuda.runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device {device!r}: this machine has {count} CUDA device(s), numbered from 0")
    if not isinstance(x, np.ndarray) and x.device.id == index:
        return x
    with cupy.cuda.Device(index):
        if graphs.state.uploads is not None and isinstance(x, np.ndarray):
            return graphs.upload_later(x, cupy)
        return cupy.asarray(x)
