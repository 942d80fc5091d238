"""Progress: a bar while the run goes on, and one line per epoch."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from ..distributed import rank
from .callbacks import Callback
from .train_states import TrainState


class Progress(Callback):
    """Show the run: one line per epoch with its row of the history, the speed and the time left, and a bar below.

    The bar is tqdm's, in a terminal or a notebook; ``bar=False``, or a stream that is no terminal, leaves only the
    lines, without control characters. ``stream``: default the standard output. ``unit``: what observations are called.
    Of several ranks, rank 0 shows it.
    """

    def __init__(self, stream: TextIO | None = None, bar: bool | None = None, unit: str = "samples") -> None:
        self.stream, self.bar, self.unit = stream, bar, unit
        self._bar: Any = None
        self._first: tuple[int, float] | None = None

    def on_train_begin(self, state: TrainState) -> None:
        self._first = None
        stream = self._stream()
        if rank() == 0 and (self.bar if self.bar is not None else stream.isatty()):
            from tqdm.auto import tqdm

            total = state.batches * state.epochs if state.batches else None
            self._bar = tqdm(total=total, initial=state.step, file=stream, leave=False, unit="step",
                             bar_format="{desc} |{bar:24}| {percentage:3.0f}%{postfix}" if total else None)

    def on_step_end(self, state: TrainState) -> None:
        if self._first is None:  # the first step, which may have built kernels, says nothing of the others
            self._first = (state.step, state.seconds)
        if self._bar is not None:
            self._bar.set_description_str(f"epoch {state.epoch}/{state.epochs}", refresh=False)
            self._bar.set_postfix_str("  ".join([*_numbers(state.means), *self._pace(state)]), refresh=False)
            self._bar.update()

    def on_epoch_end(self, state: TrainState) -> None:
        words = [f"epoch {state.epoch:>{len(str(state.epochs))}}/{state.epochs}", *_numbers(state.metrics)]
        self._print("  ".join([*words, *self._pace(state)]))

    def on_train_end(self, state: TrainState) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if state.stop:
            self._print(f"stopped: {state.stop}")

    def _stream(self) -> TextIO:
        return self.stream if self.stream is not None else sys.stdout

    def _print(self, line: str) -> None:
        if rank():
            return
        if self._bar is not None:
            self._bar.write(line, file=self._stream())
        else:
            print(line, file=self._stream(), flush=True)

    def _pace(self, state: TrainState) -> list[str]:
        """The speed in this epoch and the time left."""
        words = []
        if state.epoch_seconds > 0:
            words.append(f"{state.seen / state.epoch_seconds:,.0f} {self.unit}/s")
        if state.batches and self._first is not None and state.step > self._first[0]:
            steps = state.batches * state.epochs - state.step
            left = (state.seconds - self._first[1]) / (state.step - self._first[0]) * steps
            if steps > 0:
                words.append(f"{_duration(left)} left")
        return words


def _numbers(row: dict[str, Any]) -> list[str]:
    return [f"{name} {value:.4f}" for name, value in row.items() if isinstance(value, float) and name != "seconds"]


def _duration(seconds: float) -> str:
    """``7 s``, ``3:05``, ``2:00:09``."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60}:{s % 60:02}" if s < 3600 else f"{s // 3600}:{s // 60 % 60:02}:{s % 60:02}"
