"""A kernel file as Python sees it: call a kernel by name, and the reading that fits the arrays runs.

What reads, compiles and launches is imported by the first call: importing the library stays quick.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from ..backend.arrays import device_of
from ..backend.outlines import is_outline
from ..backend.outlines import scopes as stand_ins
from ..backend.tracers import is_traced
from ..backend.tracers import state as tracing
from .errors import KernelError

if TYPE_CHECKING:
    from .source import Constants, KernelText, Signature

Launch = Callable[[int, int, tuple[Any, ...]], bool]


class Launcher(Protocol):
    """What takes launches on NumPy arrays instead of the CPU reading: the emulator, a rehearsal.

    One with a true attribute ``gpu`` takes those of texts that only a GPU can run, too.
    """

    def launch(
        self, source: KernelText, signature: Signature, types: Mapping[str, np.dtype[Any]], constants: Constants,
        rows: int, width: int, args: tuple[Any, ...],
    ) -> bool:  # fmt: skip
        """Run the kernel; False to decline."""


L = TypeVar("L", bound=Launcher)
instead: Launcher | None = None
watching: Callable[[str, Any, Callable[[], bool]], bool] | None = None
"""What every launch of an array goes through while somebody measures: ``ran = watching(name, like, launch)``."""


@contextmanager
def launching(launcher: L) -> Iterator[L]:
    """Give every launch on NumPy arrays inside the block to ``launcher``."""
    global instead
    before, instead = instead, launcher
    try:
        yield launcher
    finally:
        instead = before


def _unavailable(rows: int, width: int, args: tuple[Any, ...]) -> bool:
    return False


class KernelFile:
    """The kernels of one .cu file.

    ``KernelFile("pooling.cu")`` reads and compiles nothing; the first call of a kernel builds the file for the dtype,
    the constants and the device of that call (cached on disk), later ones only launch.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = os.fspath(file)
        self._launches: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"KernelFile({self.file!r})"

    @property
    def source(self) -> KernelText:
        """The file's text and what it declares."""
        from .source import kernels_folder, read_kernels

        return read_kernels(kernels_folder() / self.file)

    def __call__(
        self,
        name: str,
        like: Any,
        rows: int,
        width: int,
        *args: Any,
        constants: Constants | None = None,
        **types: Any,
    ) -> bool:
        """Run a kernel where `like` lives; False where this machine has no reading for it.

        T is `like.dtype` and ACC float64 for float64, float32 for shorter floats, 64-bit for integers; `types` gives
        other type names of the file, or overrides these two (``I=index.dtype``). `constants` become `#define`s.
        `rows` and `width` give the launch geometry on a GPU (an elementwise kernel: 1 and n). Arguments are arrays
        like the kernel's pointers (None for OPTIONAL ones) and numbers.

        Raises KernelError for what the file does not have, KernelBuildError with the compiler's message, TypeError,
        ValueError or OverflowError for an argument that does not fit.
        """
        if stand_ins.count:
            if tracing.launches is not None:
                return tracing.launches(self, name, like, rows, width, args, constants, types)
            for a in (like, *args):
                if is_traced(a):
                    return a.recorder.launch(self, name, like, rows, width, args, constants, types)
                if is_outline(a):  # there is nothing to compute
                    return True
        if instead is not None and isinstance(like, np.ndarray):
            source, signature, dtypes = self._declared(name, like, constants or {}, types)
            if not self.runs_on(like):
                return False
            return instead.launch(source, signature, dtypes, constants or {}, rows, width, args)
        launch = self.launch_of(name, like, constants, types)
        if watching is not None:
            return watching(name, like, lambda: launch(rows, width, args))
        return launch(rows, width, args)

    def runs_on(self, like: Any) -> bool:
        """Whether the text can run for the dtype and the device of ``like`` at all: one for GPUs only may not."""
        needs = self.source.gpu
        if needs is None:
            return True
        if is_traced(like):
            like = like.array
        if device_of(like) == "cpu":  # there only in the emulator
            return getattr(instead, "gpu", False) and needs.takes(like.dtype, needs.sm)
        return needs.takes(like.dtype, int(like.device.compute_capability))

    def launch_of(self, name: str, like: Any, constants: Constants | None, types: Mapping[str, Any]) -> Launch:
        """The function that launches a kernel of this build, for arrays of the dtype and device of ``like``."""
        key: Any = (name, like.dtype, type(like))
        if constants:
            key += tuple(constants.items())
        if types:
            key += (None, *types.items())
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._find(name, like, constants or {}, types)
        return launch

    def live_launch_of(self, name: str, like: Any, constants: Constants | None, types: Mapping[str, Any]) -> tuple[Any, Launch]:
        """For arrays on a GPU: how a launch's numbers lie in memory, and what launches the kernel with them (live.py)."""
        key: Any = ("live", name, like.dtype, type(like), *(constants or {}).items(), None, *types.items())
        found: Any = self._launches.get(key)
        if found is None:
            from . import device
            from .live import Numbers

            source, signature, dtypes = self._declared(name, like, constants or {}, types)
            launch = device.launcher(source, signature, dtypes, constants or {}, like, live=True) or _unavailable
            found = self._launches[key] = Numbers(signature, dtypes), launch
        return found

    def _declared(
        self, name: str, like: Any, constants: Constants, types: Mapping[str, Any]
    ) -> tuple[KernelText, Signature, dict[str, np.dtype[Any]]]:
        from .arguments import accumulation_dtype

        source = self.source
        signature = source.signature(name)
        if missing := source.needs[name] - set(constants) - set(types):
            raise KernelError(
                f"{name} of {source.name} needs {', '.join(sorted(missing))}: pass constants={{name: value}}, "
                "or name=dtype for a type"
            )
        dtypes = {key: np.dtype(value) for key, value in types.items()}
        dtypes.setdefault("T", like.dtype)
        dtypes.setdefault("ACC", accumulation_dtype(dtypes["T"]))
        return source, signature, dtypes

    def _find(self, name: str, like: Any, constants: Constants, types: Mapping[str, Any]) -> Launch:
        from . import device, host

        source, signature, dtypes = self._declared(name, like, constants, types)
        if not self.runs_on(like):
            return _unavailable
        if not isinstance(like, np.ndarray):
            return device.launcher(source, signature, dtypes, constants, like) or _unavailable
        library = host.library_of(source, dtypes, constants)
        if library is None:
            return _unavailable
        if not hasattr(library.handle, f"{name}__call"):
            given = ", ".join(f"{k}={v}" for k, v in constants.items()) or "no constants"
            raise KernelError(f"{source.name} has no kernel {name!r} when built with {given}")  # an #if took it away
        return host.launcher(library, signature, dtypes)
