"""Kernels whose numbers lie in the device's memory: what a recorded launch needs that is to run with other numbers each time.

A CUDA graph keeps the arguments of its launches. So of ``KERNEL(name)(T* x, float rate)`` a second entry is made, of the same
text, which reads the numbers at every launch::

    static __device__ void name_now(T* x, float rate) { ... }                // the kernel's own text
    KERNEL(name_live)(T* x, const uint64_t* flux_numbers) { name_now(x, *(const float*)(flux_numbers + 0)); }

Every number has 8 bytes, in the order of the parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .arguments import parameter_dtype
from .source import KernelText, Parameter, Signature

NUMBERS = Parameter("flux_numbers", "uint64_t", pointer=True, const=True)


def live_source(source: KernelText, name: str) -> tuple[KernelText, Signature]:
    """The kernel file with that entry, called ``{name}_live``, in the place of the kernel's own; and the entry's signature.

    Its parameters are the kernel's arrays, then ``flux_numbers``.
    """
    own = source.signature(name)
    arrays = tuple(p for p in own.parameters if p.pointer)
    scalars = [p for p in own.parameters if not p.pointer]
    given = [p.name if p.pointer else f"*(const {p.ctype}*)({NUMBERS.name} + {scalars.index(p)})" for p in own.parameters]
    parameters = ", ".join(f"{'OPTIONAL ' * p.optional}{p}" for p in (*arrays, NUMBERS))
    entry = f"KERNEL({name}_live)({parameters}) {{ {name}_now({', '.join(given)}); }}"
    head = f"KERNEL({name})"
    body = f"static __device__ void {name}_now"
    text = f"{source.text[: own.start]}{body}{source.text[own.start + len(head) :]}\n{entry}\n"
    moved = len(body) - len(head)
    kernels = {
        k: dataclasses.replace(s, start=s.start + moved * (s.start > own.start), end=s.end + moved * (s.start > own.start))
        for k, s in source.kernels.items() if k != name
    }  # fmt: skip
    start = len(text) - len(entry) - 1
    live = Signature(f"{name}_live", (*arrays, NUMBERS), start, start + len(entry), own.elementwise)
    return dataclasses.replace(source, text=text, kernels={**kernels, live.name: live}), live


class Numbers:
    """The numbers of one kernel's launch in host memory: ``write(args)`` casts them as the launch itself would."""

    def __init__(self, signature: Signature, types: Mapping[str, np.dtype[Any]]) -> None:
        self.scalars = [i for i, p in enumerate(signature.parameters) if not p.pointer]
        self.arrays = [i for i, p in enumerate(signature.parameters) if p.pointer]
        self.dtypes = [parameter_dtype(signature, signature.parameters[i], types) for i in self.scalars]
        self.size = len(self.scalars)

    def place(self, memory: np.ndarray) -> list[np.ndarray]:
        """A view of one element for each number in ``memory``, uint64."""
        return [memory[i : i + 1].view(dtype)[:1] for i, dtype in enumerate(self.dtypes)]

    def write(self, views: Sequence[np.ndarray], args: Sequence[Any]) -> None:
        """Write the numbers among a launch's arguments."""
        for view, i in zip(views, self.scalars, strict=True):
            view[0] = args[i]
