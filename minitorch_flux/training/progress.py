"""Progress: one line per epoch with loss, speed and the time left."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from .callbacks import Callback
from .state import TrainState


class Progress(Callback):
    """Show a progress bar while an epoch runs, and leave one line per epoch: the row of the history, the time left.

    The bar is tqdm's (in a terminal or a notebook); ``bar=False``, or a stream that is no terminal, leaves only the lines.
    """

    def __init__(self, stream: TextIO | None = None, bar: bool | None = None) -> None:
        self.stream, self.bar = stream, bar
        self._bar: Any = None
        self._start = 0.0

    def _stream(self) -> TextIO:
        return self.stream if self.stream is not None else sys.stdout

    def on_train_begin(self, state: TrainState) -> None:
        self._start = state.seconds
        self._first = state.step

    def _left(self, state: TrainState) -> float | None:
        """Seconds that the remaining steps will take at the speed so far."""
        done = state.step - self._first
        if not state.batches or not done:
            return None
        steps = state.batches * (state.epochs - state.epoch + 1) - state.batch
        if not state.batch:  # an epoch has just ended
            steps -= state.batches
        return (state.seconds - self._start) / done * max(steps, 0)

    def on_step_end(self, state: TrainState) -> None:
        stream = self._stream()
        if self.bar is False or (self.bar is None and not stream.isatty()):
            return
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=state.batches, initial=state.batch - 1, leave=False, file=stream,
                             desc=f"epoch {state.epoch}/{state.epochs}", unit="batch")
        mean = state.totals["loss"] / max(state.totals["observations"], 1)
        left = self._left(state)
        self._bar.set_postfix_str(f"loss {mean:.4f}" + (f", {left:.0f} s left" if left is not None else ""))
        self._bar.update()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_epoch_end(self, state: TrainState) -> None:
        self._close()
        row = state.metrics
        words = [f"epoch {state.epoch:>{len(str(state.epochs))}}/{state.epochs}"]
        words += [f"{name} {value:.4f}" for name, value in row.items()
                  if isinstance(value, float) and name != "seconds"]
        seconds = row.get("seconds", 0.0)
        if seconds > 0:
            words.append(f"{state.totals['observations'] / seconds:,.0f} samples/s")
        left = self._left(state)
        if left is not None and state.epoch < state.epochs:
            words.append(f"{left:.0f} s left")
        print("  ".join(words), file=self._stream(), flush=True)

    def on_train_end(self, state: TrainState) -> None:
        self._close()
        if state.stop:
            print(f"stopped: {state.stop}", file=self._stream(), flush=True)
