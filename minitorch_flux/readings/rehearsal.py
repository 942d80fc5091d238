"""Building ahead: the kernels that a piece of work needs, found by a rehearsal and compiled side by side.

A first call compiles what it needs, one file after the other. A training run knows beforehand: one step tells all. In
the rehearsal a kernel that is not built declines and is noted; another rehearsal finds what comes after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import KernelBuildError

if TYPE_CHECKING:
    from .host import Library
    from .source import Constants, KernelText, Signature

PATIENCE = 0.3  # seconds: loading what is built takes a tenth of it
MOST = 5  # rehearsals

Types = Mapping[str, np.dtype[Any]]


class Rehearsal:
    """Takes the launches on NumPy arrays: runs the kernels that are ready, notes the others and declines."""

    def __init__(self) -> None:
        self.ready: dict[Any, Library | None] = {}
        self.wanted: dict[Any, tuple[KernelText, Types, Constants]] = {}

    def launch(
        self, source: KernelText, signature: Signature, types: Types, constants: Constants,
        rows: int, width: int, args: tuple[Any, ...],
    ) -> bool:  # fmt: skip
        """Run the kernel if it is built; False where it is not, and the reference runs instead."""
        from .host import launcher

        key = (source.name, *sorted((k, str(v)) for k, v in (*types.items(), *constants.items())))
        if key not in self.ready:
            self.wanted[key] = (source, types, dict(constants))
            return False
        library = self.ready[key]
        return library is not None and launcher(library, signature, types)(rows, width, args)


def build_ahead(work: Callable[[], Any], notice: Callable[[int], Any] = lambda n: None) -> int:
    """Run ``work()`` until every CPU kernel that it asks for is built, side by side, and loaded; returns how many.

    ``notice(n)`` is called when n files take longer than loading would, so they are being compiled. 0 where there is no
    compiler. A file that the compiler refuses is left to its first use, which says so.
    """
    from . import host, kernel
    from .toolchain import toolchain

    if isinstance(toolchain(), str):
        return 0
    rehearsal = Rehearsal()
    for _ in range(MOST):
        with kernel.launching(rehearsal):
            work()
        if not rehearsal.wanted:
            break
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            builds = {key: pool.submit(host.library_of, *what) for key, what in rehearsal.wanted.items()}
            try:
                if wait(builds.values(), PATIENCE).not_done:
                    notice(len(builds))
                    wait(builds.values())
            except BaseException:  # Ctrl-C: what has not begun need not
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for key, build in builds.items():
            rehearsal.ready[key] = None if isinstance(build.exception(), KernelBuildError) else build.result()
        rehearsal.wanted = {}
    return sum(library is not None for library in rehearsal.ready.values())
