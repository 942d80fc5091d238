"""Losses of each element by itself: regression, counts, margins and pairs.

    mse                        (y_hat - y)^2
    mae                        |y_hat - y|
    msle                       (log(y_hat + eps) - log(y + eps))^2
    huber_loss                 e^2 / 2 where e = |y_hat - y| < delta, else delta (e - delta / 2)
    poisson_loss               y_hat - y log(y_hat)
    hinge_loss                 max(0, 1 - y_hat y)
    squared_hinge_loss         max(0, 1 - y_hat y)^2
    siamese_contrastive_loss   (1 - y) y_hat^2 + y max(0, margin - y_hat)^2

``y_hat`` and ``y`` have the same shape, any; ``y`` is converted to the dtype of ``y_hat``. ``agg`` is "mean" (over all
elements), "sum", "none" or a function; ``weight``, of the same shape too, multiplies the losses, and the mean is then
sum(w l) / sum(w). All are differentiated in both arguments. Wrong shapes raise ValueError.

Source: Flux.jl, ``src/losses/functions.jl``.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, operation
from ..backend import accumulator, array_module
from ..ops.arithmetic import absolute
from ..ops.comparisons import maximum, minimum
from ..ops.elementary import log
from ..ops.special import xlogy
from .arguments import Agg, aggregate_elements, machine_eps, predictions, targets


def _both(name: str, y_hat: Any, y: Any) -> tuple[Tensor, Tensor]:
    y_hat = predictions(name, y_hat)
    return y_hat, targets(name, y, y_hat)


# -- squared error, in one operation -----------------------------------------------------------------------------------


def squared_error_forward(y_hat: Any, y: Any, agg: str = "mean") -> tuple[Any, Any]:
    """``(loss, e)``: the mean or sum of e^2, e = y_hat - y."""
    e = y_hat - y
    flat = e.ravel().astype(accumulator(e.dtype), copy=False)
    total = array_module(e).vdot(flat, flat)
    return _share(total, e.size, agg).astype(e.dtype, copy=False), e


def _share(total: Any, size: int, agg: str) -> Any:
    return total if agg == "sum" else total * (1 / size if size else float("nan"))


def _squared_error_backward(dy: Any, e: Any, needs: Any, agg: str) -> Any:
    d = e * _share(2 * dy, e.size, agg)
    return d if needs[0] else None, -d if needs[1] else None


def _squared_error_rule(dy: Tensor, y_hat: Tensor, y: Tensor, needs: Any, agg: str) -> Any:
    return _squared_error_backward(dy, y_hat - y, needs, agg)


_squared_error = operation(
    "mse", squared_error_forward, backward=_squared_error_backward, rule=_squared_error_rule, residuals=("e",)
)


def mse(y_hat: Any, y: Any, *, agg: Agg = "mean", weight: Any = None) -> Any:
    """Mean squared error: agg((y_hat - y)^2)."""
    y_hat, y = _both("mse", y_hat, y)
    if weight is None and (agg == "mean" or agg == "sum"):
        return _squared_error(y_hat, y, agg=agg)
    e = y_hat - y
    return aggregate_elements("mse", e * e, agg, weight)


# -- the others --------------------------------------------------------------------------------------------------------


def mae(y_hat: Any, y: Any, *, agg: Agg = "mean", weight: Any = None) -> Any:
    """Mean absolute error: agg(|y_hat - y|); the slope at 0 is 0."""
    y_hat, y = _both("mae", y_hat, y)
    return aggregate_elements("mae", absolute(y_hat - y), agg, weight)


def msle(y_hat: Any, y: Any, *, agg: Agg = "mean", weight: Any = None, eps: float | None = None) -> Any:
    """Mean squared logarithmic error: agg((log(y_hat + eps) - log(y + eps))^2); eps defaults to the dtype's."""
    y_hat, y = _both("msle", y_hat, y)
    eps = machine_eps(y_hat, eps)
    e = log(y_hat + eps) - log(y + eps)
    return aggregate_elements("msle", e * e, agg, weight)


def huber_loss(y_hat: Any, y: Any, *, delta: float = 1.0, agg: Agg = "mean", weight: Any = None) -> Any:
    """Huber's loss of e = |y_hat - y|: agg(e^2 / 2 where e < delta, else delta (e - delta / 2)).

    Raises ValueError unless ``delta`` is positive.
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    y_hat, y = _both("huber_loss", y_hat, y)
    e = absolute(y_hat - y)
    near = minimum(e, delta)
    return aggregate_elements("huber_loss", near * (e - near * 0.5), agg, weight)


def poisson_loss(y_hat: Any, y: Any, *, agg: Agg = "mean", weight: Any = None) -> Any:
    """agg(y_hat - y log(y_hat)): the negative log-likelihood of counts ``y`` with means ``y_hat``, less log(y!)."""
    y_hat, y = _both("poisson_loss", y_hat, y)
    return aggregate_elements("poisson_loss", y_hat - xlogy(y, y_hat), agg, weight)


def hinge_loss(y_hat: Any, y: Any, *, agg: Agg = "mean", weight: Any = None) -> Any:
    """agg(max(0, 1 - y_hat y)) for labels ``y`` of 1 and -1."""
    y_hat, y = _both("hinge_loss", y_hat, y)
    return aggregate_elements("hinge_loss", maximum(1 - y_hat * y, 0), agg, weight)


def squared_hinge_loss(y_hat: Any, y: Any, *, agg: Agg = "mean", weight: Any = None) -> Any:
    """agg(max(0, 1 - y_hat y)^2) for labels ``y`` of 1 and -1."""
    y_hat, y = _both("squared_hinge_loss", y_hat, y)
    lack = maximum(1 - y_hat * y, 0)
    return aggregate_elements("squared_hinge_loss", lack * lack, agg, weight)


def siamese_contrastive_loss(y_hat: Any, y: Any, *, margin: float = 1.0, agg: Agg = "mean", weight: Any = None) -> Any:
    """agg((1 - y) y_hat^2 + y max(0, margin - y_hat)^2): distances ``y_hat`` of pairs, ``y`` 0 if alike and 1 if not.

    Raises ValueError for a negative margin. Hadsell, Chopra and LeCun, CVPR 2006.
    """
    if not margin >= 0:
        raise ValueError(f"siamese_contrastive_loss: margin must be at least 0, got {margin}")
    y_hat, y = _both("siamese_contrastive_loss", y_hat, y)
    lack = maximum(margin - y_hat, 0)
    return aggregate_elements("siamese_contrastive_loss", (1 - y) * (y_hat * y_hat) + y * (lack * lack), agg, weight)
