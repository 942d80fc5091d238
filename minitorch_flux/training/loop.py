"""train: the training loop."""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import withgradient
from ..backend import Array
from ..capturing import capture as record
from ..distributed import DistributedLoader, Group, check_equal, synchronize
from ..distributed import withgradient as shared_gradient
from ..distributed.gradients import split_value
from ..distributed.synchronising import separate
from ..files import load_checkpoint
from ..optimisers import OptimiserState, setup, update
from .callbacks import Callback
from .train_states import TrainState

UNSCALED = "loss before scaling"


def train(
    loss: Callable[..., Any],
    model: Any,
    data: Iterable[Any],
    opt: Any,
    *,
    epochs: int = 1,
    callbacks: Sequence[Callback] = (),
    resume: str | Path | None = None,
    capture: bool = False,
) -> TrainState:
    """Train ``model``: for every batch of ``data`` one gradient of ``loss`` and one update; returns the final state.

    ``loss(model, *batch)``: the function to minimise, one number; a batch that is a tuple or list is spread over its
    arguments. It may return ``(number, {"accuracy": ...})``: these numbers are averaged beside the loss.
    ``data``: a DataLoader, or any iterable that can be walked once per epoch. ``opt``: what ``setup`` gave, or an
    optimiser such as ``Adam(1e-3)``. ``epochs=1``: how many in all, those before a resumed checkpoint included.
    ``callbacks``: see ``Callback``; they are called in order.
    ``capture``: record the gradient of a batch once and replay it, which gives the same bits without Python's work; see
    ``capture`` for what a loss function must keep to (numbers beside the loss stay tensors: no ``float(...)``).
    ``resume``: a file of the Checkpoint callback: the run goes on from there, step for step as if it had never stopped.
    (Data that is no DataLoader must give the same batches in every epoch for this.)

    With a ``DistributedLoader`` all ranks train together, each on its share of every batch: the model is synchronised first,
    the loss is a mean over the batch, a reason to stop on one rank stops all, and files and lines are written by rank 0.

    With ``LossScale`` in the optimiser's chain the loss is multiplied by its scale for the gradient, and reported as it is.
    Steps that were skipped as gradients were infinite count as steps; ``state.skipped``, also in the epoch's row, counts them.

    The state holds ``history``, one row per epoch with the mean loss (weighted by the batches' lengths), the seconds,
    and what callbacks add. A run ends early when a callback sets ``state.stop``.
    """
    if not callable(loss):
        raise TypeError(f"train(loss, model, data, opt): the loss comes first, got {type(loss).__name__}")
    if hasattr(data, "__next__"):
        raise TypeError("train: the data is an iterator, which can be walked only once; give a DataLoader or a list of "
                        "batches")
    epochs = operator.index(epochs)
    if epochs < 0:
        raise ValueError(f"train: epochs must be at least 0, got {epochs}")
    if not isinstance(opt, OptimiserState):
        opt = setup(opt, model)

    group = data.group if isinstance(data, DistributedLoader) else Group()
    if capture and group.size > 1:
        raise ValueError("train: capture=True replays a step of one process; with several ranks leave it out")

    def gradients(scale: Array | None, *batch: Any) -> tuple[Any, Any]:
        def f(m: Any) -> Any:
            value = loss(m, *batch)
            return value if scale is None else _scaled(value, scale)

        if group.size > 1:
            return shared_gradient(f, model, _length(batch), group)
        return withgradient(f, model)

    find = record(gradients) if capture else gradients
    batches = len(data) if isinstance(data, Sized) else None
    state = TrainState(model, opt, data, epochs, batches, tuple(callbacks))
    if resume is not None:
        state.load_state_dict(load_checkpoint(resume))
    synchronize(model, group)
    start = time.perf_counter() - state.seconds
    try:
        _call(state, "on_train_begin")
        while not state.stop and (state.epoch < epochs or state.batch):
            _epoch(state, find, start, group)
    finally:
        state.seconds = time.perf_counter() - start
        _call(state, "on_train_end")
    return state


def _epoch(state: TrainState, gradients: Callable[..., Any], start: float, group: Group) -> None:
    batches: Iterable[Any] = state.data
    if not state.batch:
        state.epoch += 1
        state.seen, state.sums, state.epoch_seconds = 0, {}, 0.0
        if group.size > 1:  # where the last batch was uneven, ranks have drawn unequally much
            separate(state.model, group)
        _call(state, "on_epoch_begin")
    elif not hasattr(state.data, "load_state_dict"):  # resumed in the middle of an epoch
        batches = itertools.islice(state.data, state.batch, None)
    state.metrics = {}
    epoch_start = time.perf_counter() - state.epoch_seconds
    for batch in batches:
        _step(state, gradients, tuple(batch) if isinstance(batch, tuple | list) else (batch,), group)
        if state.stop:
            return
        now = time.perf_counter()
        state.seconds, state.epoch_seconds = now - start, now - epoch_start
        _call(state, "on_step_end")
        state.stop = group.agreed(state.stop, f"the end of step {state.step}")
        if state.stop:
            return
    if not state.batch:
        raise ValueError(f"train: epoch {state.epoch} had no batches: the data is empty, or ended for good")
    state.metrics = {"epoch": state.epoch, "step": state.step, **state.means, "seconds": round(state.epoch_seconds, 6)}
    if state.opt.scales:
        state.metrics["skipped"] = state.skipped
    state.batch = 0
    state.history.append(state.metrics)
    check_equal(state.model, group)
    _call(state, "on_epoch_end")
    state.stop = group.agreed(state.stop, f"the end of epoch {state.epoch}")


def _step(state: TrainState, gradients: Callable[..., Any], arguments: tuple[Any, ...], group: Group) -> None:
    if not state.opt.scales:
        value, grads = gradients(None, *arguments)
        state.loss, companions = _numbers(value)
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # LossScale looks at what has overflowed
            value, grads = gradients(state.opt.loss_scale_array(state.model), *arguments)
        _, companions = _numbers(value)
        state.loss = companions.pop(UNSCALED)
    _call(state, "on_loss")
    state.stop = group.agreed(state.stop, f"the loss of step {state.step + 1}")
    if state.stop:  # before the update: the weights are still good
        return
    update(state.opt, state.model, grads)
    n = _length(arguments) if group.size == 1 else state.data.length(state.batch)
    state.step += 1
    state.batch += 1
    state.observations += n
    state.seen += n
    for name, number in {"loss": state.loss, **companions}.items():
        state.sums[name] = state.sums.get(name, 0.0) + number * n


def _scaled(value: Any, scale: Array) -> tuple[Any, dict[Any, Any]]:
    """The loss multiplied by ``scale``, and beside it the loss."""
    number, companions = split_value(value, "train: the loss function")
    return number * scale, {**companions, UNSCALED: number}


def _numbers(value: Any) -> tuple[float, dict[str, float]]:
    """The loss, and the numbers that the loss function returns beside it."""
    loss, companions = split_value(value, "train: the loss function")
    return float(loss.item()), {str(k): float(v.item() if hasattr(v, "item") else v) for k, v in companions.items()}


def _length(batch: tuple[Any, ...]) -> int:
    """The number of observations: the length of the first array's first axis."""
    first = batch[0] if batch else None
    if isinstance(first, Mapping):
        first = next(iter(first.values()), None)
    shape = getattr(first, "shape", None)
    return shape[0] if shape else 1


def _call(state: TrainState, event: str) -> None:
    for callback in state.callbacks:
        getattr(callback, event)(state)
