"""predict and evaluate: a model on data, in batches, in test mode, with nothing recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd import Tensor, no_grad
from ..backend import Array, array_module, is_array
from ..data import DataLoader
from ..nn.module import walk
from .loop import _length
from .metrics import accuracy


@contextmanager
def _testing(model: Any) -> Iterator[None]:
    """Test mode, for layers that were put into train mode too, and nothing recorded; afterwards all is as before."""
    training = [m for _, m in walk(model) if m.active]
    for m in training:
        m.active = False
    try:
        with no_grad():
            yield
    finally:
        for m in training:
            m.active = True


def predict(model: Callable[[Any], Any], x: Any, batchsize: int = 256) -> Array:
    """``model(x)`` as an array, computed ``batchsize`` observations at a time; ``x``: an array (N, ...) or Tensor."""
    with _testing(model):
        outputs = [model(batch) for batch in DataLoader(x, batchsize)]
    arrays = [y.data if isinstance(y, Tensor) else y for y in outputs]
    if not arrays:
        raise ValueError("predict: there are no observations")
    return array_module(*arrays).concatenate(arrays)


def evaluate(
    model: Callable[[Any], Any], data: Any, batchsize: int = 256, **functions: Callable[..., Any]
) -> dict[str, float]:
    """The mean over all observations of each function of ``(y_hat, y)``: ``{"accuracy": 0.86, "loss": 0.41}``.

    ``data``: a pair ``(x, y)`` of arrays, taken ``batchsize`` at a time, or batches ``(x, y)``, from a DataLoader for
    instance. ``functions``: by keyword, each a mean over its batch, as losses are by default:
    ``evaluate(model, (x, y), accuracy=flux.accuracy, loss=flux.losses.logitcrossentropy)``. Default: the accuracy.
    With a DistributedLoader (or data with a ``group``) every rank takes its share, and all get the mean over everything.
    """
    functions = functions or {"accuracy": accuracy}
    if isinstance(data, tuple) and len(data) == 2 and all(is_array(a) or isinstance(a, Tensor) for a in data):
        data = DataLoader(data, batchsize)
    sums = dict.fromkeys(functions, 0.0)
    seen = 0
    group = getattr(data, "group", None)
    with _testing(model):
        for x, y in _pairs(data):
            if not (n := _length((x,))):  # this rank's share of a short batch
                continue
            y_hat = model(x)
            seen += n
            for name, f in functions.items():
                value = f(y_hat, y)
                sums[name] += n * float(value.item() if hasattr(value, "item") else value)
    if group is not None:
        everything = group.sum(np.array([seen, *sums.values()], np.float64), "an evaluation")
        seen, sums = int(everything[0]), dict(zip(sums, everything[1:].tolist(), strict=True))
    if not seen:
        raise ValueError("evaluate: there are no observations")
    return {name: total / seen for name, total in sums.items()}


def _pairs(data: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(f"evaluate: every batch is a pair (x, y), got {type(batch).__name__}")
        yield batch[0], batch[1]
