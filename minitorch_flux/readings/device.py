"""The GPU reading: NVRTC compiles a kernel file for the device, CuPy loads and launches it.

The code goes through this library's own cache: CuPy's would add -ftz=true, which flushes denormals to zero, and would
not notice a changed header. CuPy's launch checks nothing and sends a bare Python number as 8 bytes, so everything is
checked and cast here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.arrays import array_module
from .arguments import LARGEST_INT, fit_arguments, parameter_dtype
from .cache import cached, digest
from .geometry import geometry
from .live import live_source
from .nvrtc import OPTIONS, compile_cuda, cuda_text, nvrtc_version
from .source import Constants, KernelText, Signature

_NULL = np.uint64(0)
_lock = threading.Lock()


def build(text: str, name: str, architecture: int) -> Path:
    """The compiled code of a CUDA text, from the cache or compiled now."""

    def make(folder: Path) -> None:
        (folder / "kernels.bin").write_bytes(compile_cuda(text, name, architecture).code)

    key = digest("cuda", text, str(architecture), repr(OPTIONS), repr(nvrtc_version()))
    return cached(key, "kernels.bin", make)


class Packer:
    """Arguments of one kernel as CuPy's launch needs them: arrays, and scalars of exactly the declared dtype."""

    def __init__(self, signature: Signature, types: Mapping[str, np.dtype[Any]], array_type: type) -> None:
        self.signature, self.types, self.array_type = signature, types, array_type
        self.wanted = [(p, parameter_dtype(signature, p, types)) for p in signature.parameters]

    def __call__(self, args: tuple[Any, ...], device: Any) -> list[Any]:
        """The packed arguments. Raises what `fit_arguments` raises."""
        packed = []
        if len(args) == len(self.wanted):
            for (p, dtype), a in zip(self.wanted, args, strict=True):
                kind = type(a)
                if kind is self.array_type and p.pointer:
                    if a.dtype != dtype or not a.flags.c_contiguous or a.device != device:
                        break
                    packed.append(a)
                elif not p.pointer and (
                    kind is int and a <= LARGEST_INT and dtype.kind in "iu" or kind is float and dtype.kind == "f"
                ):
                    packed.append(dtype.type(a))
                else:
                    break
            else:
                return packed
        # The careful way: says what is wrong, and takes None, NumPy's scalars and so on.
        fitted = fit_arguments(self.signature, self.types, args, self.array_type, device)
        return [_NULL if a is None else a for a in fitted]


def launcher(
    source: KernelText, signature: Signature, types: Mapping[str, np.dtype[Any]], constants: Constants, like: Any,
    live: bool = False,
) -> Callable[[int, int, tuple[Any, ...]], bool] | None:
    """The function (rows, width, arguments) -> True that runs a kernel on the device of its arrays.

    None where there is no NVRTC or CUDA has no such type. ``live``: of the entry that reads its numbers from memory.
    """
    if live:
        source, signature = live_source(source, signature.name)
    text = cuda_text(source, types, constants)
    if text is None or nvrtc_version() is None:
        return None
    cupy = array_module(like)
    pack = Packer(signature, types, cupy.ndarray)
    functions: dict[int, tuple[Any, int]] = {}  # by device, for they may differ: the kernel and its threads at most

    def load(device: Any) -> tuple[Any, int]:
        with _lock:
            if device.id not in functions:
                path = build(text, source.name, int(device.compute_capability))
                function = cupy.RawModule(path=str(path)).get_function(signature.name)
                functions[device.id] = function, function.max_threads_per_block
        return functions[device.id]

    def launch(rows: int, width: int, args: tuple[Any, ...]) -> bool:
        device = next((a.device for a in args if isinstance(a, cupy.ndarray)), like_device)
        packed = pack(args, device)
        with device:
            function, most = functions.get(device.id) or load(device)
            g = geometry(rows, width, signature.elementwise, most, block)
            function((g.grid,), (g.lanes, g.rows), packed)
        return True

    like_device, block = like.device, source.gpu.block if source.gpu else 0
    return launch
