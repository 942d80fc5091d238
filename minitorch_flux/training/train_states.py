"""Where a training run is: what callbacks read, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend import Generator
from ..nn.generators import generators
from ..nn.state_dicts import load_state_dict, state_dict

PARTS = ("model", "optimiser", "generators", "data", "progress", "callbacks")
PROGRESS = ("epoch", "step", "batch", "observations", "seconds", "seen", "sums", "epoch_seconds", "history")


@dataclass
class TrainState:
    """One training run. Callbacks get it at every event and may set ``stop`` to a reason.

    ``epoch`` counts from 1 while an epoch runs (0 before the first), ``step`` counts updates over the whole run,
    ``batch`` those of this epoch, ``batches`` is an epoch's number of them where it is known. ``loss`` is that of
    the last step, ``metrics`` the current epoch's row of the history.
    """

    model: Any
    opt: Any
    data: Any
    epochs: int
    batches: int | None = None
    callbacks: tuple[Any, ...] = ()
    epoch: int = 0
    step: int = 0
    batch: int = 0
    observations: int = 0
    seconds: float = 0.0
    loss: float = float("nan")
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    stop: str = ""
    seen: int = 0  # observations in this epoch so far
    sums: dict[str, float] = field(default_factory=dict)  # over these, of the loss and of its companions
    epoch_seconds: float = 0.0

    @property
    def skipped(self) -> int:
        """How many of the optimiser's steps LossScale has skipped, those before this run included."""
        return self.opt.skipped

    @property
    def means(self) -> dict[str, float]:
        """The mean loss of this epoch so far, and of every number that the loss function returns beside it."""
        return {name: total / self.seen for name, total in self.sums.items()} if self.seen else {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on: weights, optimiser, generators, place in the data, history."""
        return {
            "model": state_dict(self.model),
            "optimiser": self.opt.state_dict(),
            "generators": {path: _get_state(g) for path, g in generators(self.model).items()},
            "data": self.data.state_dict() if hasattr(self.data, "state_dict") else None,
            "progress": {name: getattr(self, name) for name in PROGRESS},
            "callbacks": [{"name": type(c).__name__, "state": c.state_dict()} for c in self.callbacks],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict()`` was taken. Raises ValueError where the run does not fit; it is as it was then."""
        before = self.state_dict()
        try:
            self._check(state)
            self._load(state)
        except Exception as error:
            self._load(before)
            if isinstance(error, ValueError):
                raise
            raise ValueError(f"a damaged state of a training run ({type(error).__name__}: {str(error)[:200]})") from error

    def _check(self, state: Mapping[str, Any]) -> None:
        if missing := [part for part in PARTS if part not in state]:
            raise ValueError(f"not the state of a training run: it has no {', '.join(missing)}")
        theirs, ours = [str(c["name"]) for c in state["callbacks"]], [type(c).__name__ for c in self.callbacks]
        if theirs != ours:
            raise ValueError(f"the checkpoint was saved with the callbacks [{', '.join(theirs)}], this run has "
                             f"[{', '.join(ours)}]")
        if (state["data"] is not None) != hasattr(self.data, "load_state_dict"):
            was, now = ("a DataLoader", "another iterable")[:: 1 if state["data"] is not None else -1]
            raise ValueError(f"the checkpoint was saved with {was} as its data, this run has {now}; the batches after "
                             "it would be others")
        for name in PROGRESS:
            found, kind = state["progress"][name], type(getattr(self, name))
            if type(found) is not kind and not (kind is float and type(found) is int):
                raise ValueError(f"a damaged state of a training run (its {name} is a {type(found).__name__}, expected "
                                 f"{kind.__name__})")
        if state["progress"]["epoch"] > self.epochs:
            raise ValueError(f"the checkpoint is in epoch {state['progress']['epoch']}, this run ends after "
                             f"{self.epochs} (epochs= counts those before the checkpoint, too)")
        ours_now = generators(self.model)
        if set(ours_now) != set(state["generators"]):
            raise ValueError(f"the checkpoint has random generators at {sorted(state['generators'])}, this model at "
                             f"{sorted(ours_now)}")

    def _load(self, state: Mapping[str, Any]) -> None:
        load_state_dict(self.model, state["model"])
        self.opt.load_state_dict(state["optimiser"])
        if state["data"] is not None:
            self.data.load_state_dict(state["data"])
        for path, g in generators(self.model).items():
            _set_state(g, state["generators"][path])
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(saved["state"])
        for name in PROGRESS:
            setattr(self, name, state["progress"][name])


def _get_state(g: Generator | np.random.Generator) -> Any:
    return dict(g.bit_generator.state) if isinstance(g, np.random.Generator) else g.state_dict()


def _set_state(g: Generator | np.random.Generator, state: Any) -> None:
    if isinstance(g, np.random.Generator):
        g.bit_generator.state = state
    else:
        g.load_state_dict(state)
