"""Logs: the history of a run in a file, one row per epoch, written by rank 0."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..distributed import rank
from ..files.formats import replacing
from .callbacks import Callback
from .train_states import TrainState


class CSVLog(Callback):
    """Keep the history in ``path`` as CSV, one row per epoch; columns that appear later are empty before.

    The file is rewritten after every epoch and always whole. A resumed run has its earlier epochs in it, too.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_train_begin(self, state: TrainState) -> None:
        if state.history:
            self._write(state)

    def on_epoch_end(self, state: TrainState) -> None:
        self._write(state)

    def _write(self, state: TrainState) -> None:
        import csv

        if rank():
            return
        names = list(dict.fromkeys(name for row in state.history for name in row))
        with replacing(self.path, sync=False) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(state.history)


class JSONLog(Callback):
    """Append each epoch's row to ``path`` as one line of JSON; NaN and infinities are written as strings.

    The file begins anew with every run; that of a resumed run has its earlier epochs, too.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_train_begin(self, state: TrainState) -> None:
        if rank():
            return
        with replacing(self.path, sync=False) as temporary:
            temporary.write_text("".join(map(_line, state.history)), encoding="utf-8")

    def on_epoch_end(self, state: TrainState) -> None:
        if rank():
            return
        with self.path.open("a", encoding="utf-8") as f:
            f.write(_line(state.metrics))


def _line(row: dict[str, Any]) -> str:
    plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain) + "\n"
