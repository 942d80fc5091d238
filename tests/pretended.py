"""A GPU pretended on the CPU: what the tests of devices run on where there is none (``pytest --pretend-gpu``).

``pretended_gpu()`` puts a module in CuPy's place whose arrays are NumPy's inside, and which is as strict as CuPy: it has no
function that CuPy lacks, its reductions give arrays and not numbers, and NumPy arrays and its own do not mix. So an op that
would send a host array to a GPU function fails here as it would there. Kernels run in their CPU reading.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import runpy
import sys
import types
from typing import Any

import numpy as np

from minitorch_flux.backend import cublas
from minitorch_flux.readings import device, host
from minitorch_flux.readings.live import Numbers
from tests import pretended_graphs as graphs

CONVERTED = {"asarray", "array", "ascontiguousarray"}  # take NumPy arrays: they copy them to the device
IN_PLACE = {"fill", "sort", "partition", "put", "copyto", "place", "putmask", "fill_diagonal", "put_along_axis"}
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
        graphs.forbid("synchronize")


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
        if base is None:
            graphs.allocated(self)

    def get(self) -> np.ndarray:
        graphs.forbid("a copy to the host")
        return self.inner.copy()

    def set(self, x: np.ndarray, stream: Any = None) -> None:
        graphs.forbid("a copy from the host")
        if not isinstance(x, np.ndarray) or (x.dtype, x.shape) != (self.inner.dtype, self.inner.shape):
            raise TypeError(f"cannot set {self.inner.dtype} {self.inner.shape}")
        self.inner[...] = x

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        if out is not None:
            keywords["out"] = out[0]
        return _call(getattr(ufunc, method), inputs, keywords)

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
            graphs.forbid(f".{name}()")
            return value

        def method(*args: Any, **keywords: Any) -> Any:
            out = keywords.get("out")
            given, named = [inside(a) for a in args], {k: inside(v) for k, v in keywords.items()}
            if name in IN_PLACE or out is not None:
                graphs.run(lambda: value(*given, **named))
                return out
            y = graphs.fresh(lambda: value(*given, **named), self.inner)
            return outside(np.asarray(y) if isinstance(y, bool) else y, self)

        return method

    def __getitem__(self, key: Any) -> ndarray:
        k = _key(key)
        if any(getattr(i, "dtype", None) == np.bool_ for i in (k if isinstance(k, tuple) else (k,))):
            graphs.forbid("an index of truth values")
        elif any(isinstance(i, np.ndarray) for i in (key if isinstance(key, tuple) else (key,))):
            graphs.forbid("an index from the host")
        return outside(graphs.fresh(lambda: self.inner[k], self.inner), self)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        k, given = _key(key), value if isinstance(value, np.ndarray) else inside(value)
        graphs.run(lambda: operator.setitem(self.inner, k, given))

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        graphs.forbid("bool()")
        return bool(self.inner)

    def __int__(self) -> int:
        graphs.forbid("int()")
        return int(self.inner)

    def __float__(self) -> float:
        graphs.forbid("float()")
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
        given = [inside(o) for o in others]
        if name.startswith("__i") and name != "__invert__":
            graphs.run(lambda: getattr(self.inner, name)(*given))
            return self
        if name in ("__matmul__", "__rmatmul__"):
            return _call(np.matmul, (self, *others) if name == "__matmul__" else (*others, self), {})
        y = graphs.fresh(lambda: getattr(self.inner, name)(*given), self.inner)
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
    name, out = getattr(f, "__name__", ""), keywords.get("out")
    if name in ("dot", "tensordot", "einsum", "inner", "vdot") or (f is np.matmul and _large(args)):
        graphs.forbid("cuBLAS", NotImplementedError)
    if name in ("nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress") or (name == "where" and len(args) == 1):
        graphs.forbid(name)
    if name in ("concatenate", "stack") and len(args[0]) > 8:
        graphs.forbid("a table of addresses")
    if f is np.matmul and not _large(args):
        f = _small_product
    given, named = [inside(a) for a in args], {k: inside(v) for k, v in keywords.items()}
    if out is not None or name in IN_PLACE or name == "at":
        graphs.run(lambda: f(*given, **named))
        return out
    source = next((a for a in args if isinstance(a, ndarray)), None)
    if name.startswith("empty"):
        return outside(graphs.poisoned(f(*given, **named)))
    return outside(graphs.fresh(lambda: f(*given, **named), None if source is None else source.inner), source)


def _large(args: Any) -> bool:
    """Whether a product is one that CuPy asks cuBLAS for: not that of a row and a column."""
    a, b = args[:2]
    return not (a.ndim <= 2 and b.ndim <= 2 and a.size == a.shape[-1] and b.size == b.shape[0])


def _small_product(a: Any, b: Any, out: Any = None) -> Any:
    y = (a.ravel() * b.ravel()).sum()
    shape = a.shape[:-1] + b.shape[1:]
    if out is None:
        return np.asarray(y).reshape(shape)
    out[...] = y
    return out


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
    if isinstance(x, ndarray):
        y = graphs.fresh(lambda: f(x.inner, *args, **keywords), x.inner)
        return x if y is x.inner else outside(y, x)
    graphs.forbid("a copy from the host")
    return ndarray(f(np.array(x) if isinstance(x, np.ndarray) else inside(x), *args, **keywords))


def _launcher(source: Any, signature: Any, types: Any, constants: Any, like: Any, live: bool = False) -> Any:
    """In the place of the GPU reading: the CPU reading, of arrays that are all on the device."""
    library = host.library_of(source, types, constants)
    if library is None or source.gpu:
        return None
    run = host.launcher(library, signature, types)
    numbers = Numbers(signature, types) if live else None

    def launch(rows: int, width: int, args: tuple[Any, ...]) -> bool:
        given = [inside(a) for a in args]
        if numbers is None:
            graphs.run(lambda: run(rows, width, tuple(given)))
            return True

        def read_and_run() -> None:
            every = dict(zip(numbers.arrays, given[:-1], strict=True))
            found = numbers.place(given[-1])
            every |= {i: v[0].item() for i, v in zip(numbers.scalars, found, strict=True)}
            run(rows, width, tuple(every[i] for i in range(len(every))))

        graphs.run(read_and_run)
        return True

    return launch


@contextlib.contextmanager
def pretended_gpu() -> Any:
    """A pretended CUDA device, cuda:0, for the block. Needs CuPy, whose names it has."""
    real = importlib.import_module("cupy")
    cupy = _Module("cupy", np, real)
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=real.cuda.runtime.CUDARuntimeError,
                                    getDeviceProperties=lambda i: {"name": b"a pretended GPU"})
    compute = types.SimpleNamespace(COMPUTE_TYPE_TF32=7, COMPUTE_TYPE_DEFAULT=1, set_compute_type=lambda dtype, kind: None)
    cupy.__dict__.update(
        _core=types.SimpleNamespace(_routines_linalg=compute), ndarray=ndarray, asnumpy=lambda x: x.get(),
        __version__=f"{real.__version__}, pretended", __spec__=real.__spec__,
        cuda=types.SimpleNamespace(
            runtime=runtime, Device=Device, is_available=lambda: True, Stream=graphs.Stream, Event=graphs.Event,
            MemoryPool=graphs.MemoryPool, using_allocator=graphs.using_allocator, get_elapsed_time=graphs.get_elapsed_time,
            get_current_stream=lambda: graphs.state.stream, device=types.SimpleNamespace(get_cublas_handle=lambda: 1),
        ),
    )
    before, launcher, library = sys.modules["cupy"], device.launcher, cublas.library
    sys.modules["cupy"], device.launcher, cublas.library = cupy, _launcher, graphs.Cublas
    try:
        yield cupy
    finally:
        sys.modules["cupy"], device.launcher, cublas.library = before, launcher, library


def main(arguments: list[str]) -> None:
    """Run a program, a file or ``-m module``, on a pretended GPU."""
    with pretended_gpu():
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    from tests.pretended import main as run  # the module that the tests know, not this copy of it

    run(sys.argv[1:])
