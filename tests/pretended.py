"""A GPU pretended on the CPU: what the tests of devices run on where there is none (``pytest --pretend-gpu``).

``pretended_gpu()`` puts a module in CuPy's place whose arrays are NumPy's inside, and which is as strict as CuPy: it has no
function that CuPy lacks, its reductions give arrays and not numbers, and NumPy arrays and its own do not mix. So an op that
would send a host array to a GPU function fails here as it would there. Kernels run in their CPU reading.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import types
from typing import Any

import numpy as np

from minitorch_flux.readings import device, host

CONVERTED = {"asarray", "array", "ascontiguousarray"}  # take NumPy arrays: they copy them to the device
UFUNC_METHODS = {"at", "reduce", "accumulate", "reduceat", "outer"}


class Device:
    """A CUDA device."""

    compute_capability = "90"

    def __init__(self, number: int = 0) -> None:
        self.id = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def synchronize(self) -> None:
        """Nothing is on its way here."""


def inside(x: Any) -> Any:
    """The NumPy arrays within device arrays, lists and tuples of them. Raises TypeError for NumPy arrays, as CuPy does."""
    if isinstance(x, ndarray):
        return x.inner
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}: a NumPy array of shape {x.shape} in a function of the device")
    if isinstance(x, list | tuple) and any(isinstance(a, ndarray | np.ndarray | list | tuple) for a in x):
        return type(x)([inside(a) for a in x]) if type(x) in (list, tuple) else type(x)(*map(inside, x))
    return x


def outside(x: Any, source: ndarray | None = None) -> Any:
    """Results as device arrays, numbers too."""
    if isinstance(x, np.ndarray):
        view = source is not None and x.base is not None and np.may_share_memory(x, source.inner)
        return ndarray(x, _whole(source) if view and source is not None else None)
    if isinstance(x, np.generic):
        return ndarray(np.asarray(x))
    if type(x) in (tuple, list):
        return type(x)(outside(a, source) for a in x)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(outside(a, source) for a in x))
    return x


def _whole(x: ndarray) -> ndarray:
    return x if x.base is None else x.base


class ndarray:
    """An array on the device."""

    __slots__ = ("__weakref__", "base", "inner")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100
    device = Device()

    def __init__(self, inner: np.ndarray, base: ndarray | None = None) -> None:
        self.inner, self.base = inner, base

    def get(self) -> np.ndarray:
        return self.inner.copy()

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        if out is not None:
            keywords["out"] = tuple(inside(o) for o in out)
        y = getattr(ufunc, method)(*map(inside, inputs), **{k: inside(v) for k, v in keywords.items()})
        return out[0] if out is not None else outside(y)

    def __array_function__(self, f: Any, kinds: Any, args: Any, keywords: Any) -> Any:
        return getattr(sys.modules["cupy"], f.__name__)(*args, **keywords)

    @property
    def flags(self) -> Any:
        f = self.inner.flags
        return types.SimpleNamespace(c_contiguous=f.c_contiguous, f_contiguous=f.f_contiguous, owndata=f.owndata)

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.inner.ctypes.data, mem=self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def T(self) -> ndarray:
        return ndarray(self.inner.T, _whole(self))

    def __getattr__(self, name: str) -> Any:
        if name in ("ctypes", "__array_interface__", "__array_struct__", "__buffer__", "flat"):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self.inner, name)
        if not callable(value):
            return outside(value, self)
        if name in ("item", "tolist", "tobytes"):
            return value

        def method(*args: Any, **keywords: Any) -> Any:
            out = keywords.get("out")
            y = value(*map(inside, args), **{k: inside(v) for k, v in keywords.items()})
            return out if out is not None else outside(np.asarray(y) if isinstance(y, bool) else y, self)

        return method

    def __getitem__(self, key: Any) -> ndarray:
        return outside(self.inner[_key(key)], self)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self.inner[_key(key)] = value if isinstance(value, np.ndarray) else inside(value)

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.inner)

    def __int__(self) -> int:
        return int(self.inner)

    def __float__(self) -> float:
        return float(self.inner)

    def __index__(self) -> int:
        return self.inner.__index__()

    def __repr__(self) -> str:
        return repr(self.inner)

    def __reduce__(self) -> Any:
        return ndarray, (self.inner,)

    def __copy__(self) -> ndarray:
        return ndarray(self.inner.copy())

    def __deepcopy__(self, memo: Any) -> ndarray:
        return ndarray(self.inner.copy())


def _key(key: Any) -> Any:
    """An index, which may be made of NumPy arrays, too."""
    if isinstance(key, tuple):
        return tuple(map(_key, key))
    return key.inner if isinstance(key, ndarray) else key


def _operator(name: str) -> Any:
    def operate(self: ndarray, *others: Any) -> Any:
        if any(not isinstance(o, ndarray | np.ndarray | np.generic | int | float | complex) for o in others):
            return NotImplemented  # a Tensor: its operators know what to do
        y = getattr(self.inner, name)(*map(inside, others))
        if y is self.inner:
            return self  # in place
        return y if y is NotImplemented else outside(y)

    return operate


OPERATORS = """
add sub mul truediv floordiv mod pow matmul and or xor lshift rshift radd rsub rmul rtruediv rfloordiv rmod rpow
rmatmul rand ror rxor iadd isub imul itruediv ifloordiv imod ipow iand ior ixor lt le gt ge eq ne neg pos abs invert
"""
for _name in OPERATORS.split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))


class _Ufunc:
    """A ufunc of the device."""

    def __init__(self, f: np.ufunc, real: Any) -> None:
        self.f, self.real = f, real

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return _call(self.f, args, keywords)

    def __getattr__(self, name: str) -> Any:
        if name in UFUNC_METHODS and not hasattr(self.real, name):
            raise AttributeError(f"CuPy's {self.f.__name__} has no {name}")
        value = getattr(self.f, name)
        return functools.partial(_called, value) if callable(value) else value


def _called(f: Any, *args: Any, **keywords: Any) -> Any:
    return _call(f, args, keywords)


def _call(f: Any, args: Any, keywords: Any) -> Any:
    out = keywords.get("out")
    y = f(*map(inside, args), **{k: inside(v) for k, v in keywords.items()})
    source = next((a for a in args if isinstance(a, ndarray)), None)
    return out if out is not None else outside(y, source)


class _Module(types.ModuleType):
    """CuPy's namespace, or one of its parts, by NumPy's."""

    def __init__(self, name: str, plain: Any, real: Any) -> None:
        super().__init__(name)
        self._plain, self._real = plain, real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self._real, name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(self._plain, name)
        if isinstance(value, np.ufunc):
            return _Ufunc(value, getattr(self._real, name))
        if isinstance(value, types.ModuleType):
            return _Module(f"{self.__name__}.{name}", value, getattr(self._real, name))
        if not callable(value) or isinstance(value, type):
            return value
        if name in CONVERTED:
            return functools.partial(_converted, value)
        return functools.partial(_called, value)


def _converted(f: Any, x: Any, *args: Any, **keywords: Any) -> Any:
    if isinstance(x, ndarray) and f is not np.array:
        y = f(x.inner, *args, **keywords)
        return x if y is x.inner else outside(y, x)
    return ndarray(f(np.array(x) if isinstance(x, np.ndarray) else inside(x), *args, **keywords))


def _launcher(source: Any, signature: Any, types: Any, constants: Any, like: Any) -> Any:
    """In the place of the GPU reading: the CPU reading, of arrays that are all on the device."""
    library = host.library_of(source, types, constants)
    if library is None or source.gpu:
        return None
    run = host.launcher(library, signature, types)

    def launch(rows: int, width: int, args: tuple[Any, ...]) -> bool:
        return run(rows, width, tuple(inside(a) for a in args))

    return launch


@contextlib.contextmanager
def pretended_gpu() -> Any:
    """A pretended CUDA device, cuda:0, for the block. Needs CuPy, whose names it has."""
    real = importlib.import_module("cupy")
    cupy = _Module("cupy", np, real)
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=real.cuda.runtime.CUDARuntimeError,
                                    getDeviceProperties=lambda i: {"name": b"a pretended GPU"})
    cupy.__dict__.update(
        ndarray=ndarray, __version__=f"{real.__version__}, pretended", __spec__=real.__spec__, asnumpy=lambda x: x.get(),
        cuda=types.SimpleNamespace(runtime=runtime, Device=Device, is_available=lambda: True),
    )
    before, launcher = sys.modules["cupy"], device.launcher
    sys.modules["cupy"], device.launcher = cupy, _launcher
    try:
        yield cupy
    finally:
        sys.modules["cupy"], device.launcher = before, launcher
