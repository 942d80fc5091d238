"""train: the training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..autograd import withgradient
from ..files import load_checkpoint
from ..optimisers import OptimiserState, setup, update
from .callbacks import Callback
from .state import TrainState


def train(
    loss: Callable[..., Any],
    model: Any,
    data: Iterable[Any],
    opt: Any,
    *,
    epochs: int = 1,
    callbacks: Sequence[Callback] = (),
    resume: str | Path | None = None,
) -> TrainState:
    """Train ``model``: for every batch of ``data`` one gradient of ``loss`` and one update; returns the final state.

    ``loss(model, *batch)``: the function to minimise, one number; a batch that is a tuple or list is spread over its
    arguments. ``data``: a DataLoader, or any iterable that can be walked once per epoch. ``opt``: what ``setup`` gave, or
    an optimiser such as ``Adam(1e-3)``. ``epochs``: how many in all, those before a resumed checkpoint included.
    ``callbacks``: see ``Callback``; they are called in order. ``resume``: a file of the Checkpoint callback: the run goes on
    from there, step for step as if it had never stopped.

    The state holds ``history``, one row per epoch with the mean loss (weighted by batch length), the seconds, and what
    callbacks add. A run ends early when a callback sets ``state.stop``.
    """
    if not callable(loss):
        raise TypeError(f"train(loss, model, data, opt): the loss comes first, got {type(loss).__name__}")
    if iter(data) is data:
        raise TypeError("train: the data is an iterator, which can be walked only once; give a DataLoader or a list of batches")
    if not isinstance(opt, OptimiserState):
        opt = setup(opt, model)
    batches = len(data) if hasattr(data, "__len__") else None
    state = TrainState(model, opt, data, epochs, batches=batches, callbacks=tuple(callbacks))
    if resume is not None:
        state.load_state_dict(load_checkpoint(resume))
    start = time.perf_counter() - state.seconds
    _call(state, "on_train_begin")
    try:
        while not state.stop and (state.epoch < epochs or state.batch):
            _epoch(state, loss, start)
    finally:
        state.seconds = time.perf_counter() - start
        _call(state, "on_train_end")
    return state


def _epoch(state: TrainState, loss: Callable[..., Any], start: float) -> None:
    if not state.batch:  # not in the middle of a resumed epoch
        state.epoch += 1
        state.totals = {"loss": 0.0, "observations": 0.0}
        state.metrics = {}
        _call(state, "on_epoch_begin")
    epoch_start = time.perf_counter() - state.totals.get("seconds", 0.0)
    for batch in state.data:
        arguments = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        value, grads = withgradient(lambda m, a=arguments: loss(m, *a), state.model)
        state.loss = float(value[0] if isinstance(value, tuple) else value)
        _call(state, "on_loss")
        if state.stop:  # before the update: the weights are still good
            return
        update(state.opt, state.model, grads)
        n = _length(arguments)
        state.step += 1
        state.batch += 1
        state.observations += n
        state.totals["loss"] += state.loss * n
        state.totals["observations"] += n
        now = time.perf_counter()
        state.seconds, state.totals["seconds"] = now - start, now - epoch_start
        _call(state, "on_step_end")
        if state.stop:
            return
    seen = state.totals["observations"]
    state.metrics |= {
        "epoch": state.epoch,
        "step": state.step,
        "loss": state.totals["loss"] / seen if seen else float("nan"),
        "seconds": round(state.totals.get("seconds", 0.0), 6),
    }
    state.batch = 0
    state.history.append(state.metrics)
    _call(state, "on_epoch_end")


def _length(batch: tuple[Any, ...]) -> int:
    shape = getattr(batch[0], "shape", None) if batch else None
    return shape[0] if shape else 1


def _call(state: TrainState, event: str) -> None:
    for callback in state.callbacks:
        getattr(callback, event)(state)
