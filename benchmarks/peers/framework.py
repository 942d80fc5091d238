"""What a side has to provide: tasks made ready to run, and a clock."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..clocks import on_host
from ..tasks import Setting, Task


@dataclass
class Ready:
    """A task in one framework. ``call()`` does it once. ``answers(n)`` does it, n times where it trains, and returns what
    the sides must agree upon: losses, outputs, gradients or parameters."""

    call: Callable[[], Any]
    answers: Callable[[int], list[np.ndarray]]


class Framework:
    """A side in its process."""

    version: str

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @property
    def device(self) -> str:
        """What the device calls itself."""
        return platform.processor() or platform.machine()

    def ready(self, task: Task) -> Ready:
        """The task, ready to run. Raises ``Absent`` where this framework has no equivalent."""
        raise NotImplementedError

    def timed(self, call: Callable[[], Any], n: int) -> float:
        """Seconds of ``n`` calls, on a GPU between two device events."""
        return on_host(call, n)

    def fresh(self) -> int | None:
        """Bytes of memory that its pool ever newly allocated; None where it does not say."""
        return None

    def release(self) -> None:
        """Let go of what is kept for later."""
        gc.collect()
