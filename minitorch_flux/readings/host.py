"""The CPU reading: one shared library per kernel file, dtype and set of constants, and the call into it."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.threads import on_num_threads
from .arguments import C_NAMES, fit_arguments, parameter_dtype, type_defines
from .cache import cached, digest, is_cached
from .errors import KernelBuildError
from .source import Constants, KernelText, Signature, compose
from .toolchain import SHARED, Toolchain, toolchain

_STABLE_ABI = (
    "PyTuple_Size",
    "PyTuple_GetItem",
    "PyLong_AsLongLong",
    "PyLong_AsUnsignedLongLong",
    "PyFloat_AsDouble",
    "PyErr_Occurred",
    "PyErr_Clear",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
)


@functools.cache
def _python_pointers() -> list[int]:
    functions = [ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in _STABLE_ABI]
    return [*functions, id(None), id(np.ndarray), object.__basicsize__]


_loading = threading.Lock()


_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}


@contextmanager
def _passive_waiting() -> Iterator[None]:
    """OpenMP threads sleep between launches; spinning for long, they would starve NumPy's BLAS (measured: 8 times slower).

    GCC's look for work some 50 us before they sleep, which waking takes as long as: launches that follow each other closely,
    and threads that wait for each other in a launch, gain 10 %. The runtimes read the variables while they load and never
    again; the user's own settings win and are left as they were.
    """
    with _loading:  # one thread at a time: each must find the user's environment
        if any(name in os.environ for name in _WAITING):
            yield
            return
        os.environ.update(_WAITING)
        try:
            yield
        finally:
            for name in _WAITING:
                os.environ.pop(name, None)


class Library:
    """A loaded library of kernels."""

    def __init__(self, path: Path, bfloat16: int) -> None:
        self.handle = ctypes.PyDLL(str(path))
        table: list[ctypes.c_ssize_t | int] = [*_python_pointers(), bfloat16]
        (ctypes.c_ssize_t * len(table)).in_dll(self.handle, "flux_python")[:] = table
        self.threads = ctypes.c_int.in_dll(self.handle, "flux_threads")
        self.trusted = self._layout_is_known()
        self.path = path

    def _layout_is_known(self) -> bool:
        """Whether call.h reads from arrays what Python knows about them."""
        data, ndim, number, flags = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        probe = self.handle.flux_probe
        probe.argtypes = [ctypes.py_object, *[ctypes.c_void_p] * 4]
        frozen = np.arange(6.0).reshape(2, 3)
        frozen.flags.writeable = False
        for a in (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.int64)[:, ::2], frozen, np.zeros((), np.uint8)):
            if probe(a, *map(ctypes.byref, (data, ndim, number, flags))) != 0:
                return False
            f = a.flags
            known = f.c_contiguous * 0x1 | f.aligned * 0x100 | f.writeable * 0x400
            seen = (data.value, ndim.value, number.value, flags.value & 0x501)
            if seen != (a.ctypes.data, a.ndim, a.dtype.num, known):
                return False
        return True


_lock = threading.Lock()
_libraries: dict[str, Library] = {}
_building: dict[str, threading.Lock] = {}
_threads = 0  # not asked yet


def _set_threads(n: int) -> None:
    """How many threads a launch may use from now on, in every library, whichever Python thread launches."""
    global _threads
    with _lock:
        _threads = n
        for library in _libraries.values():
            library.threads.value = n


def _one_thread_after_fork() -> None:
    # A forked child has the parent's OpenMP pool on paper but not its threads: a parallel launch would hang.
    global _lock, _loading
    _lock, _loading = threading.Lock(), threading.Lock()
    _building.clear()
    _set_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_after_fork)


def _compile(tools: Toolchain, text: str, name: str, folder: Path) -> None:
    code = folder / f"{name}.cpp"
    code.write_text(text, encoding="utf-8")
    command = [*tools.command, *tools.flags, *SHARED, str(code), "-o", str(folder / "kernels.so")]
    # In a session of its own: Ctrl-C is for this process, which may want to finish its step.
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, start_new_session=True)
    if result.returncode:
        raise KernelBuildError(f"{' '.join(tools.command)} refused {name}:\n{result.stderr}")


def build(tools: Toolchain, text: str, name: str) -> Path:
    """The library of this text, from the cache or built now."""
    return cached(_key(tools, text), "kernels.so", lambda folder: _compile(tools, text, name, folder))


def _key(tools: Toolchain, text: str) -> str:
    # Where the checkout lies changes nothing in a library without debug information: one build serves all.
    portable = text if "-g" in tools.flags else re.sub(r'^(#line \d+ ").*/', r"\1", text, flags=re.MULTILINE)
    return digest("library", portable, tools.identity)


def _text(
    tools: Toolchain, source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants
) -> str | None:
    """The text of a library, or None where the compiler has no such type."""
    defines = type_defines(types, C_NAMES)
    if defines is None or ("_Float16" in defines.values() and not tools.half):
        return None
    return compose(source, {"FLUX_CPU": "1", **defines}, constants, header="call.h", after=" CALL({name}, {optional})")


def is_built(source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants) -> bool | None:
    """Whether the library is in the cache; None where this machine cannot have it."""
    tools = toolchain()
    text = None if isinstance(tools, str) else _text(tools, source, types, constants)
    return None if isinstance(tools, str) or text is None else is_cached(_key(tools, text), "kernels.so")


def library_of(source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants) -> Library | None:
    """The loaded library of a kernel file for these types and constants; None where this machine has none."""
    tools = toolchain()
    text = None if isinstance(tools, str) else _text(tools, source, types, constants)
    if isinstance(tools, str) or text is None:
        return None
    key = digest(text, tools.identity)
    with _lock:
        building = _building.setdefault(key, threading.Lock())
    with building:  # two threads that want the same library wait for one build; others go on
        if key not in _libraries:
            bfloat16 = next((dtype.num for dtype in types.values() if dtype.name == "bfloat16"), -1)
            library = _load(tools, text, source.name, bfloat16)
            if not _threads:
                on_num_threads(_set_threads)
            with _lock:
                library.threads.value = _threads
                _libraries[key] = library
        return _libraries[key]


def _load(tools: Toolchain, text: str, name: str, bfloat16: int) -> Library:
    path = build(tools, text, name)
    try:
        with _passive_waiting():
            return Library(path, bfloat16)
    except OSError:  # sound but not loadable, say after an upgrade of the system: build it again, once
        shutil.rmtree(path.parent, ignore_errors=True)
        path = build(tools, text, name)
        with _passive_waiting():
            return Library(path, bfloat16)


def launcher(
    library: Library, signature: Signature, types: Mapping[str, np.dtype[Any]]
) -> Callable[[int, int, tuple[Any, ...]], bool]:
    """The function (rows, width, arguments) -> True that runs one kernel of a library."""
    plain = _plain_launcher(library, signature, types)
    if not library.trusted:
        return plain
    call = library.handle[f"{signature.name}__call"]
    call.argtypes = [ctypes.py_object]

    def launch(rows: int, width: int, args: tuple[Any, ...]) -> bool:
        if call(args):
            return plain(rows, width, args)  # says what is wrong; runs what only the quick check refused
        return True

    return launch


def _plain_launcher(
    library: Library, signature: Signature, types: Mapping[str, np.dtype[Any]]
) -> Callable[[int, int, tuple[Any, ...]], bool]:
    function = ctypes.CDLL(str(library.path))[signature.name]
    dtypes = [parameter_dtype(signature, p, types) for p in signature.parameters]
    function.argtypes = [
        ctypes.c_void_p if p.pointer else np.ctypeslib.as_ctypes_type(dtype)
        for p, dtype in zip(signature.parameters, dtypes, strict=True)
    ]
    function.restype = None

    def launch(rows: int, width: int, args: tuple[Any, ...]) -> bool:
        fitted = fit_arguments(signature, types, args, np.ndarray, "cpu")
        function(*(a.ctypes.data if isinstance(a, np.ndarray) else a if a is None else a.item() for a in fitted))
        return True

    return launch
