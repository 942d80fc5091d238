"""Moving a tensor between devices, on the tape: the gradient travels back the other way."""

from __future__ import annotations

from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import array_function, device_of, parse_device, to_device


@array_function
def transfer_forward(x: Any, device: str, origin: str) -> Any:
    """``x`` on ``device``; ``origin`` is where its gradient goes back to."""
    return to_device(x, device)


transfer: Operation = operation(
    "transfer", transfer_forward, rule=lambda dy, device, origin: transfer(dy, device=origin, origin=device)
)


def move_tensor(x: Tensor, device: str) -> Tensor:
    """``x`` itself where it lives on ``device`` already, else a copy there through which gradients flow."""
    origin, index = device_of(x.data), parse_device(device)
    device = "cpu" if index is None else f"cuda:{index}"
    return x if device == origin else transfer(x, device=device, origin=origin)
