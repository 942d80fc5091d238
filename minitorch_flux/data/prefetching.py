"""A thread that prepares batches ahead of the loop that uses them."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

PATIENCE = 5.0  # seconds that a loop waits, when it is left early, for the batch in work


class _Buffer:
    """What the thread and the loop share. The thread holds this and nothing else, so the loop's end can be seen."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.ready: deque[tuple[Any, BaseException | None]] = deque()
        self.stopped = False
        self.changed = threading.Condition()


class Prefetcher:
    """``get()`` gives ``fetch(i)`` for ``i`` from ``first`` to ``last - 1``, up to ``depth`` of them made in advance.

    An exception in ``fetch`` is raised by the ``get`` of its turn, with the thread's traceback. The thread ends after
    the last item or an exception, and when this object dies or the program ends.
    """

    def __init__(self, fetch: Callable[[int], Any], first: int, last: int, depth: int) -> None:
        self._buffer = _Buffer(depth)
        work = (self._buffer, fetch, first, last)
        thread = threading.Thread(target=_work, args=work, name="flux-prefetch", daemon=True)
        weakref.finalize(self, _stop, self._buffer, thread)
        thread.start()

    def get(self) -> Any:
        """The next item."""
        buffer = self._buffer
        with buffer.changed:
            while not buffer.ready:
                buffer.changed.wait()
            item, error = buffer.ready.popleft()
            buffer.changed.notify_all()
        if error is None:
            return item
        try:
            raise error
        finally:
            del error  # a cycle: its traceback holds this frame


def _work(buffer: _Buffer, fetch: Callable[[int], Any], first: int, last: int) -> None:
    for i in range(first, last):
        with buffer.changed:
            while len(buffer.ready) >= buffer.depth and not buffer.stopped:
                buffer.changed.wait()
            if buffer.stopped:
                return
        item = error = None
        try:
            item = fetch(i)
        except BaseException as e:  # whatever it is, it belongs to the loop
            error = e
        with buffer.changed:
            buffer.ready.append((item, error))
            buffer.changed.notify_all()
        if error is not None:
            return
        del item


def _stop(buffer: _Buffer, thread: threading.Thread) -> None:
    with buffer.changed:
        buffer.stopped = True
        buffer.changed.notify_all()
    if thread is not threading.current_thread():  # the garbage collector may call from anywhere
        thread.join(PATIENCE)
