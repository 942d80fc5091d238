"""Ctrl-C in the middle of a training run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from .callbacks import Callback
from .train_states import TrainState


class StopOnSignal(Callback):
    """Let Ctrl-C (and a polite kill) end the run after the step under way; a second one ends it at once.

    Put it before a Checkpoint, which then saves the run where it ends. ``signals``: the signals to catch, SIGINT and
    SIGTERM by default; ``received`` is the one that came, or None. Outside the main thread it does nothing, as signals
    arrive there only.
    """

    def __init__(self, signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self.signals = tuple(signals)
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, state: TrainState) -> None:
        self.received = None
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in self.signals}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for s in self.signals:  # the next one acts as ever
            signal.signal(s, signal.default_int_handler if s == signal.SIGINT else signal.SIG_DFL)
        # Not print: the program may be in the middle of one.
        os.write(2, b"\nstopping after this step; once more stops at once\n")

    def _check(self, state: TrainState) -> None:
        if self.received is not None:
            state.stop = f"interrupted by {self.received.name} in epoch {state.epoch}, after step {state.step}"

    def on_step_end(self, state: TrainState) -> None:
        self._check(state)

    def on_epoch_end(self, state: TrainState) -> None:
        self._check(state)

    def on_train_end(self, state: TrainState) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)
        self._before = {}
