"""Cells: where values live from one step to the next beside the parameters: recurrent states and ``.grad``.

A cell is an input and an output of the step that nobody passes: a replay begins by reading it and ends by setting it.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..nn.recurrence import Recur


class StateCell:
    """The state that a recurrent layer has left."""

    def __init__(self, layer: Recur) -> None:
        self.layer = layer

    def get(self) -> Any:
        """The state, alone in a tuple, a constant as for whatever comes next; None before the first step."""
        return self.layer._remembered()

    def set(self, value: Any) -> None:
        """The state from now on: a constant of no recording scope."""
        self.layer._memory.left, self.layer._memory.scope = value, None


class GradCell:
    """The gradient that ``backward`` has left at a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def get(self) -> Any:
        """The gradient, or None."""
        return self.tensor.grad

    def set(self, value: Any) -> None:
        """The gradient from now on."""
        self.tensor.grad = value


Cell = StateCell | GradCell
