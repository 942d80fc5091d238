"""einops on tensors: its functions, which take tensors from the import of this module on.

    from minitorch_flux.einops import rearrange, reduce, repeat
    rearrange(x, "n (c r) h w -> n c (h r) w", r=2)       # x a Tensor: gradients flow through

The functions are einops' own (``einops.rearrange`` itself knows tensors too once this module is imported).
``einops.array_api`` needs no import: it goes by ``x.__array_namespace__()``.

Needs ``pip install einops``.
"""

from __future__ import annotations

from typing import Any

try:
    from einops import einsum, pack, parse_shape, rearrange, reduce, repeat, unpack
    from einops._backends import AbstractBackend
except ImportError as error:
    raise ImportError(f"minitorch_flux.einops needs einops ({error}): pip install einops") from error

from . import array_api as xp
from .autograd import Tensor
from .backend import is_float
from .ops.contractions import einsum as contract

__all__ = ["einsum", "pack", "parse_shape", "rearrange", "reduce", "repeat", "unpack"]


class TensorBackend(AbstractBackend):
    """What einops asks of an array library, for Tensors. einops finds it among the subclasses of its base."""

    framework_name = "minitorch_flux"

    def is_appropriate_type(self, tensor: Any) -> bool:
        """Whether einops may hand ``tensor`` to the methods below."""
        return isinstance(tensor, Tensor)

    def from_numpy(self, x: Any) -> Tensor:
        """An array as a tensor."""
        return Tensor(x)

    def to_numpy(self, x: Tensor) -> Any:
        """A tensor as an array."""
        return x.numpy()

    def arange(self, start: int, stop: int) -> Tensor:
        """The integers from ``start`` to ``stop - 1``."""
        return xp.arange(start, stop)

    def stack_on_zeroth_dimension(self, tensors: list[Tensor]) -> Tensor:
        """The tensors along a new first axis."""
        return xp.stack(tensors)

    def add_axis(self, x: Tensor, new_position: int) -> Tensor:
        """``x`` with a new axis of length 1."""
        return xp.expand_dims(x, new_position)

    def tile(self, x: Tensor, repeats: tuple[int, ...]) -> Tensor:
        """``x`` repeated along its axes."""
        return xp.tile(x, repeats)

    def concat(self, tensors: list[Tensor], axis: int) -> Tensor:
        """The tensors one after the other along ``axis``."""
        return xp.concat(tensors, axis)

    def is_float_type(self, x: Tensor) -> bool:
        """Whether a mean of ``x`` is of its dtype."""
        return is_float(x.dtype)

    def einsum(self, pattern: str, *x: Tensor) -> Tensor:
        """The contraction that ``pattern`` names, as in ``flux.einsum``."""
        return contract(pattern, *x)
