"""A bound on work space: memory that an operation takes beside its inputs and outputs, and gives back when it is done.

Operations whose work space grows with their arrays (columns and tiles of convolutions, scores of attention, packed weights)
compute in smaller parts, or by a leaner algorithm, where the bound asks for it. What one takes is found by running its
launcher on outlines, so that no formula has to be kept in step with the code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from .outlines import Account, Ledger, outline_of, own, scopes

_limit: int | None = None


def workspace_limit() -> int | None:
    """The bound in bytes that ``set_workspace_limit`` has set; None where there is none."""
    return _limit


def set_workspace_limit(nbytes: int | None) -> None:
    """Let no operation on the CPU take more than ``nbytes`` of work space, in every thread; None, the default: no bound.

    Work space is what convolutions, attention and recurrent layers take beside inputs, outputs and what the gradient needs:
    columns, tiles, scores and packed weights, some megabytes, more for large images. Under a bound they go through a batch, or
    through queries, in smaller parts, or choose a leaner algorithm; results agree up to rounding. Where even one sample takes
    more, MemoryError says how much that is. Not bounded are copies of inputs that are not contiguous, the gates of a sequence,
    NumPy's references (``use_kernels(False)``), and GPUs, where CuPy's pool has a limit of its own.

    Raises TypeError where ``nbytes`` is no whole number, ValueError where it is negative.
    """
    global _limit
    if nbytes is not None:
        try:
            nbytes = operator.index(nbytes)
        except TypeError:
            raise TypeError(f"set_workspace_limit takes a number of bytes or None, got {nbytes!r}") from None
        if nbytes < 0:
            raise ValueError(f"set_workspace_limit: a number of bytes is at least 0, got {nbytes}")
    _limit = nbytes


def within_limit(nbytes: int) -> bool:
    """Whether so much work space may be taken."""
    return _limit is None or nbytes <= _limit


def workspace_of(function: Callable[..., Any], *arguments: Any) -> int:
    """The most bytes that ``function(*arguments)`` takes at a time beside its result, an array; arrays may be outlines."""
    ledger = Ledger()
    before, own.account = own.account, None
    try:
        with scopes:
            given = [outline_of(a) if hasattr(a, "shape") else a for a in arguments]
            own.account = Account("work space", ledger)
            result = function(*given)
            return ledger.peak - getattr(result, "nbytes", 0)
    finally:
        own.account = before


def too_small(name: str, least: int) -> MemoryError:
    """What is raised where the bound is too small: ``least`` bytes are needed."""
    return MemoryError(f"{name}: one sample takes {least:,} bytes of work space, more than the bound of {_limit:,}; raise it "
                       "with flux.set_workspace_limit(bytes), or take it away with flux.set_workspace_limit(None)")
