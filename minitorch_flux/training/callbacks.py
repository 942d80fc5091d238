"""Callbacks: what happens around the steps of a training run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..distributed import rank
from ..files import save_checkpoint
from ..nn.state_dicts import load_state_dict, state_dict
from ..optimisers import adjust
from ..schedules import Plateau
from .train_states import TrainState


class Callback:
    """The base of callbacks: override what you need. Every method gets the run's ``TrainState``.

    ``on_loss`` runs between the gradient and the update: setting ``state.stop`` there leaves the weights untouched.
    ``state_dict`` / ``load_state_dict`` make a callback part of checkpoints.
    """

    def on_train_begin(self, state: TrainState) -> None:
        """Before the first step; after a checkpoint was loaded, if the run resumes one."""

    def on_epoch_begin(self, state: TrainState) -> None:
        """Before an epoch's first batch (not when a checkpoint resumes in its middle)."""

    def on_loss(self, state: TrainState) -> None:
        """After the gradient, before the update."""

    def on_step_end(self, state: TrainState) -> None:
        """After an update."""

    def on_epoch_end(self, state: TrainState) -> None:
        """After an epoch; ``state.metrics`` is its row and may be added to."""

    def on_train_end(self, state: TrainState) -> None:
        """After the last step, also when the run ends by an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""


class Evaluate(Callback):
    """After every epoch, add ``function(model)``, a dict of numbers, to the epoch's row under ``prefix + name``."""

    def __init__(self, function: Callable[[Any], dict[str, Any]], prefix: str = "") -> None:
        if not callable(function):
            raise TypeError(f"Evaluate: expected a function of the model, got {type(function).__name__}; for data write "
                            "Evaluate(lambda m: flux.evaluate(m, data))")
        self.function, self.prefix = function, prefix

    def on_epoch_end(self, state: TrainState) -> None:
        found = self.function(state.model)
        state.metrics |= {self.prefix + k: v.item() if hasattr(v, "item") else v for k, v in found.items()}


class EarlyStopping(Callback):
    """Stop when ``metric`` has not improved by more than ``min_delta`` for ``patience`` epochs.

    ``mode``: ``"min"`` or ``"max"``. ``restore_best``: put the weights of the best epoch back at the end. NaN is never
    an improvement.
    """

    def __init__(self, metric: str = "loss", patience: int = 5, *, mode: str = "min", min_delta: float = 0.0,
                 restore_best: bool = False) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"EarlyStopping: mode is 'min' or 'max', got {mode!r}")
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1 epoch, got {patience}")
        self.metric, self.patience, self.mode = metric, patience, mode
        self.min_delta, self.restore_best = min_delta, restore_best
        self.best: float | None = None
        self.waited = 0
        self.weights: dict[str, Any] | None = None

    def on_epoch_end(self, state: TrainState) -> None:
        value = _metric(state, self.metric, "EarlyStopping")
        if self.best is None:
            better = not math.isnan(value)
        else:
            better = (self.best - value if self.mode == "min" else value - self.best) > self.min_delta
        if better:
            self.best, self.waited = value, 0
            if self.restore_best:
                self.weights = state_dict(state.model)
            return
        self.waited += 1
        if self.waited >= self.patience:
            best = "none" if self.best is None else f"{self.best:.6g}"
            state.stop = f"no better {self.metric} than {best} for {self.waited} epochs"

    def on_train_end(self, state: TrainState) -> None:
        if self.weights is not None:
            load_state_dict(state.model, self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited, self.weights = state["best"], state["waited"], state["weights"]


class Checkpoint(Callback):
    """Save the whole run to ``path`` every ``epochs`` epochs, ``steps`` steps or ``seconds`` seconds, and when it ends.

    Each of the three may be None; ``Checkpoint(path)`` saves after every epoch. A run that ends early by a callback is
    saved where it ends (by an error: not). The file (.safetensors or .npz) is replaced whole or not at all;
    ``train(..., resume=path)`` goes on from it exactly. Put it last, so that it saves what the others have done.
    ``extra``: numbers and strings to keep beside it, say the run's settings; ``load_checkpoint(path)["extra"]``.
    """

    def __init__(self, path: str | Path, epochs: int | None = 1, steps: int | None = None,
                 seconds: float | None = None, extra: dict[str, Any] | None = None) -> None:
        self.path, self.epochs, self.steps, self.seconds, self.extra = Path(path), epochs, steps, seconds, extra
        for name in ("epochs", "steps", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Checkpoint: {name} must be above 0, or None for never, got {value}")
        self._saved = 0.0

    def on_train_begin(self, state: TrainState) -> None:
        self._saved = time.monotonic()

    def on_step_end(self, state: TrainState) -> None:
        due = self.steps is not None and state.step % self.steps == 0
        due |= self.seconds is not None and time.monotonic() - self._saved >= self.seconds
        if due or state.stop:
            self.save(state)

    def on_epoch_end(self, state: TrainState) -> None:
        due = self.epochs is not None and state.epoch % self.epochs == 0
        if due or state.epoch == state.epochs or state.stop:
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Save now, on rank 0."""
        if rank():
            return
        extra = {} if self.extra is None else {"extra": self.extra}
        save_checkpoint(self.path, state.state_dict() | extra)
        self._saved = time.monotonic()


class Schedule(Callback):
    """Set the learning rate by ``schedule(count)``, counted from 0: before every step, or ``every="epoch"``.

    ``name``: the setting to adjust (default: the learning rate ``eta``). ``metric``: for ``Plateau``, which goes by a
    number of the epoch's row instead, after every epoch: ``Schedule(Plateau(0.1), metric="loss")``.
    """

    def __init__(self, schedule: Callable[[Any], float], every: str = "step", name: str = "eta",
                 metric: str | None = None) -> None:
        if every not in ("step", "epoch"):
            raise ValueError(f"Schedule: every is 'step' or 'epoch', got {every!r}")
        if (metric is None) == isinstance(schedule, Plateau):
            raise ValueError("Schedule: Plateau, and no other schedule, needs metric=, the name of a number in the "
                             "epoch's row such as 'loss'")
        self.schedule, self.every, self.name, self.metric = schedule, every, name, metric

    def on_train_begin(self, state: TrainState) -> None:
        if isinstance(self.schedule, Plateau):
            self._set(state, self.schedule.rate)

    def on_epoch_begin(self, state: TrainState) -> None:
        if self.metric is None and self.every == "epoch":
            self._set(state, self.schedule(state.epoch - 1))

    def on_loss(self, state: TrainState) -> None:
        if self.metric is None and self.every == "step":
            self._set(state, self.schedule(state.step))

    def on_epoch_end(self, state: TrainState) -> None:
        if self.metric is not None:
            self._set(state, self.schedule(_metric(state, self.metric, "Schedule")))

    def _set(self, state: TrainState, value: float) -> None:
        adjust(state.opt, **{self.name: float(value)})

    def state_dict(self) -> dict[str, Any]:
        return self.schedule.state_dict() if isinstance(self.schedule, Plateau) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.schedule, Plateau):
            self.schedule.load_state_dict(state)


class StopOnNonFinite(Callback):
    """Stop before the update when the loss is NaN or infinite: the weights stay those of the step before.

    It also stops after an epoch whose row holds such a number; put it after the callbacks that add to the row.
    """

    def on_loss(self, state: TrainState) -> None:
        if not math.isfinite(state.loss):
            state.stop = f"the loss is {state.loss} at epoch {state.epoch}, step {state.step + 1}"

    def on_epoch_end(self, state: TrainState) -> None:
        bad = [name for name, v in state.metrics.items() if isinstance(v, float) and not math.isfinite(v)]
        if bad:
            state.stop = f"{bad[0]} is {state.metrics[bad[0]]} after epoch {state.epoch}"


def _metric(state: TrainState, name: str, who: str) -> float:
    if name not in state.metrics:
        raise KeyError(f"{who}: this epoch's row has no {name!r}; it has {', '.join(state.metrics)}. Put the callback "
                       "that adds it (Evaluate) before this one")
    return float(state.metrics[name])
