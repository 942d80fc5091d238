"""WHCN: a model for arrays in Flux's order of axes."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.tree import same_kind
from ..backend import is_array
from ..ops.shapes import transpose
from .containers import add_path, as_tensor, check_layer
from .module import Module


class WHCN(Module):
    """WHCN(model)

    ``model`` for data in Flux's order of axes: every input has its axes reversed, every output has them reversed back.

    Images (W, H, C, N) become (N, C, H, W), features (in, N) become (N, in), sequences (in, N, T) become (T, N, in). No
    array is copied: an array of Julia's, Fortran-ordered, and its reversal in row-major order are the same bytes. Arrays
    and tensors inside tuples, lists and dicts are reversed, too; anything else passes through. Kernel sizes, strides and
    pads of the model stay in array order, (h, w); its weights are as they were, at the path ``model``; a class axis that
    was the last one, for the model, is the first of the output.
    """

    def __init__(self, model: Any) -> None:
        check_layer("WHCN", model, 0)
        self.model = model

    def __call__(self, *inputs: Any) -> Any:
        reversed_inputs = [_reversed(x) for x in inputs]
        try:
            y = self.model(*reversed_inputs)
        except Exception as error:
            add_path(error, self, None, self.model)
            error.add_note("inside WHCN(...) the axes are in the reversed order, (N, C, H, W)")
            raise
        return _reversed(y)


def _reversed(x: Any) -> Any:
    """Tensors of views of all arrays in ``x``, with their axes in the reversed order."""
    if isinstance(x, Tensor):
        return transpose(x)
    if is_array(x):
        return as_tensor(x.T)
    if isinstance(x, dict):
        return {k: _reversed(v) for k, v in x.items()}
    return same_kind(x, [_reversed(v) for v in x]) if isinstance(x, list | tuple) else x
