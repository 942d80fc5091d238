"""Where a training run is: what callbacks read, and what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..backend.generator import Generator, default_generator
from ..nn.module import walk


@dataclass
class TrainState:
    """One training run. Callbacks get it at every event and may set ``stop`` to a reason.

    ``epoch`` counts from 1 while an epoch runs (0 before the first), ``step`` counts updates over the whole run, ``batch``
    the batches of this epoch. ``loss`` is the last step's value, ``metrics`` the current epoch's row of the history.
    """

    model: Any
    opt: Any
    data: Any
    epochs: int
    epoch: int = 0
    step: int = 0
    batch: int = 0
    batches: int | None = None
    observations: int = 0
    loss: float = float("nan")
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    stop: str = ""
    seconds: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)  # sums over the epoch so far
    callbacks: tuple[Any, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on: weights, optimiser, generators, place in the data, history."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.opt.state_dict(),
            "generators": {path: g.state_dict() for path, g in _generators(self.model).items()},
            "data": self.data.state_dict() if hasattr(self.data, "state_dict") else None,
            "progress": {
                "epoch": self.epoch,
                "step": self.step,
                "batch": self.batch,
                "observations": self.observations,
                "seconds": self.seconds,
                "totals": dict(self.totals),
                "history": list(self.history),
            },
            "callbacks": [c.state_dict() for c in self.callbacks],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict()`` was taken. Raises before anything has changed where the model does not fit."""
        if len(state["callbacks"]) != len(self.callbacks):
            raise ValueError(
                f"the checkpoint was saved with {len(state['callbacks'])} callbacks, this run has {len(self.callbacks)}"
            )
        if (state["data"] is not None) != hasattr(self.data, "load_state_dict"):
            raise ValueError("the checkpoint and this run do not use the same kind of data: both must be a DataLoader "
                             "(or have state_dict and load_state_dict) to resume in the middle of the stream")
        generators = _generators(self.model)
        if set(generators) != set(state["generators"]):
            raise ValueError(f"the checkpoint has random generators at {sorted(state['generators'])}, the model at "
                             f"{sorted(generators)}")
        before = self.model.state_dict()
        self.model.load_state_dict(state["model"])
        try:
            self.opt.load_state_dict(state["optimiser"])
        except Exception:
            self.model.load_state_dict(before)
            raise
        if state["data"] is not None:
            self.data.load_state_dict(state["data"])
        for path, g in generators.items():
            g.load_state_dict(state["generators"][path])
        for name, value in state["progress"].items():
            setattr(self, name, value)
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(saved)


def _generators(model: Any) -> dict[str, Generator]:
    """The default generator and every one that a layer of the model keeps, each once."""
    found = {"default": default_generator()}
    for path, module in walk(model):
        for name, value in vars(module).items():
            if isinstance(value, Generator) and all(value is not g for g in found.values()):
                found[f"{path}.{name}" if path else name] = value
    return found
