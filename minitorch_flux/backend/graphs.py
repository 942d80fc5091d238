"""CUDA graphs: what a function does on a GPU, recorded once and launched again and again.

Recording is CUDA's *stream capture*: calls that are made on a capturing stream are not run but written down, with the
addresses of their arrays. So the memory must be its own for as long as the graph lives (a private pool), nothing may wait for
the device or copy from the host meanwhile, and kernels must be loaded before. ``rehearse`` runs the function once on the same
stream with the same pool for that. What ``to_device`` is asked for during the capture is copied when it has ended.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class _State(threading.local):
    uploads: list[tuple[Any, np.ndarray]] | None = None


state = _State()
"""``state.uploads``: while this thread captures, the arrays on the device that are to be filled afterwards, and with what."""


def upload_later(x: np.ndarray, cupy: Any) -> Any:
    """An array on the current device that gets the numbers of ``x`` when the capture of this thread has ended."""
    y = cupy.empty(x.shape, x.dtype)
    assert state.uploads is not None
    state.uploads.append((y, x.copy()))
    return y


class Graph:
    """A graph in the making, and then a recorded one.

    ``kept``: arrays that live as long as the graph. Its memory is that of ``pool``.
    """

    def __init__(self, cupy: Any, device: Any) -> None:
        self.cupy, self.device = cupy, device
        self.kept: list[Any] = []
        with device:
            self.pool = cupy.cuda.MemoryPool()
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self._graph: Any = None

    @contextlib.contextmanager
    def _own(self) -> Iterator[None]:
        with self.device, self.cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            yield

    def rehearse(self, function: Callable[[], None]) -> None:
        """Run the function on the graph's stream with its memory, between all that was asked for before and after."""
        self.device.synchronize()
        with self._own():
            function()
            self.stream.synchronize()

    def capture(self, function: Callable[[], None]) -> None:
        """Record what the function does. Whatever it raises comes out, and the stream is an ordinary one again."""
        self.device.synchronize()
        uploads = state.uploads = []
        try:
            with self._own():
                self.stream.begin_capture()
                try:
                    function()
                except BaseException:
                    with contextlib.suppress(Exception):  # a broken capture cannot be ended well, but must be ended
                        self.stream.end_capture()
                    raise
                self._graph = self.stream.end_capture()
        finally:
            state.uploads = None
            for y, x in uploads:  # also where it failed: somebody may have kept them for other steps
                y.set(x)
            self.device.synchronize()
            self.kept += [y for y, _ in uploads]

    def launch(self) -> None:
        """Run what was recorded, on the current stream."""
        self._graph.launch()

    @property
    def nbytes(self) -> int:
        """Bytes of the pool."""
        return int(self.pool.total_bytes())
