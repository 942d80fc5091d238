"""Dropout layers: random in train mode, nothing at all in test mode."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..ops.dropouts import alpha_dropout, check_probability, dropout, one_axis
from .inputs import as_real, layer_name
from .module import Module, training


def check_active(layer: str, active: Any) -> bool | None:
    """A layer's mode: True train, False test, None automatic; ValueError for anything else."""
    if active not in (True, False, None):
        raise ValueError(f"{layer}: active must be True (train), False (test) or None (automatic), got {active!r}")
    return active


class Dropout(Module):
    """Dropout(p, *, axis=None, rng=None, active=None)

    For each input, either sets that input to 0 (with probability ``p``) or scales it by 1 / (1 - p). Any shape. This
    reduces overfitting during training; in test mode the layer returns its very input (of an array a tensor of its
    memory).

    ``axis``: the axis or axes along which the choice is made, all others share it: ``axis=0`` drops whole samples,
    ``axis=(0, 1)`` whole channels of images (N, C, H, W), ``axis=()`` all or nothing. ``dims=`` is Flux's word for it and
    means the same, axes of our arrays counted from 0: Flux's dimension k of an array with n axes is axis n - k here.
    ``rng``: a flux.Generator, or NumPy's for arrays on the CPU. ``active``: the mode, None is automatic (``testmode``).

    ``p=0`` returns the input, ``p=1`` gives zeros. Raises ValueError for a ``p`` outside [0, 1] and AxisError where the
    input has no such axis. Source: Flux's ``Dropout``.
    """

    def __init__(
        self, p: float, *, axis: Any = None, dims: Any = None, rng: Any = None, active: bool | None = None
    ) -> None:
        self.p = check_probability("Dropout", p)
        axis = one_axis("Dropout", axis, dims)
        self.axis = tuple(axis) if isinstance(axis, list) else axis
        self.rng, self.active = rng, check_active("Dropout", active)

    @property
    def dims(self) -> Any:
        """Flux's word for ``axis``."""
        return self.axis

    def __call__(self, x: Any) -> Tensor:
        return dropout(as_real(x, self), self.p, axis=self.axis, rng=self.rng, active=training(self), name=layer_name(self))

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        given = {"axis": self.axis, "rng": self.rng, "active": self.active}
        return [self.p], {name: value for name, value in given.items() if value is not None}


class AlphaDropout(Module):
    """AlphaDropout(p, *, rng=None, active=None)

    Dropout for networks of selu: input of mean 0 and variance 1 keeps both. With probability ``p`` an input becomes the
    limit of selu at minus infinity, then all are scaled and shifted. Any shape; in test mode it returns its very input.

    ``p=0`` returns the input, ``p=1`` gives zeros. Raises ValueError for a ``p`` outside [0, 1].
    Sources: Flux's ``AlphaDropout``; Klambauer and others, "Self-normalizing neural networks", NIPS 2017.
    """

    def __init__(self, p: float, *, rng: Any = None, active: bool | None = None) -> None:
        self.p = check_probability("AlphaDropout", p)
        self.rng, self.active = rng, check_active("AlphaDropout", active)

    def __call__(self, x: Any) -> Tensor:
        return alpha_dropout(as_real(x, self), self.p, rng=self.rng, active=training(self), name=layer_name(self))
