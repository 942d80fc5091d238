"""Embedding and EmbeddingBag: a table of vectors that is read by numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Param, Tensor, is_outlining
from ..backend import array_module, as_array, is_array, is_unseen
from ..ops.elementwise import as_tensor
from ..ops.embedding import bag_max, bag_sum, embedding, mean_weights
from .initialisers import normal_init
from .inputs import as_real, check_numbers, drawn, layer_name, weights_from, whole
from .module import Module


class _Table(Module):
    """What the layers with a table share: the table, and reading indices for it."""

    weight: Param

    def _make(self, n: Any, d: Any, init: Callable[..., Any], padding_idx: Any, rng: Any) -> None:
        name = type(self).__name__
        given = is_array(n) or isinstance(n, Tensor)
        if given:
            if d is not None:
                raise TypeError(f"{name}(weight): the table has its sizes, give no second one, got {d!r}")
            weight = weights_from(n, 2, name, "weight (n, d)")
        else:
            if isinstance(n, tuple | list):
                if len(n) != 2 or d is not None:
                    raise TypeError(f"{name}: give the sizes as a pair or as two numbers, got {n!r} and {d!r}")
                n, d = n
            shape = whole(n, f"{name}(n, d): `n`"), whole(d, f"{name}(n, d): `d`")
            weight = drawn(init, shape, rng, name)
        if padding_idx is not None:
            rows = weight.shape[0]
            if isinstance(padding_idx, bool) or not isinstance(padding_idx, int | np.integer):
                raise TypeError(f"{name}: padding_idx is the number of a row of the table, got {padding_idx!r}")
            if not -rows <= padding_idx < rows:
                raise ValueError(f"{name}: padding_idx={padding_idx} is not one of the {rows} rows of the table")
            padding_idx = int(padding_idx) % rows
            if not given:
                weight = weight.copy()
                weight[padding_idx] = 0
        self.init, self.padding_idx = init, padding_idx
        self.weight = Param(weight)

    @property
    def n(self) -> int:
        """The number of rows of the table."""
        return self.weight.shape[0]

    @property
    def d(self) -> int:
        """The length of each vector."""
        return self.weight.shape[1]

    def _indices(self, x: Any) -> Any:
        """``x`` as a new int64 array, every number in 0..n-1."""
        check_numbers(self.weight, self)
        i = as_real(x, self, like=self.weight.data).data
        xp = array_module(i)
        if i.size == 0 and not (is_array(x) or isinstance(x, Tensor)):  # an empty list has no integers in it
            i = i.astype(xp.int64)
        if i.dtype.kind not in "iu":
            raise TypeError(f"{layer_name(self)}: the input must be integer indices, got dtype {i.dtype} (input shape "
                            f"{i.shape}); of one-hot rows take x.argmax(-1), whole numbers convert with .astype(int)")
        n = self.weight.data.shape[0]
        if i.size and not is_outlining() and not is_unseen(i) and not (i.min().item() >= 0 and i.max().item() < n):
            wrong = (i < 0) | (i >= n)
            at = tuple(int(k[0]) for k in wrong.nonzero()) if i.ndim else ()
            place = f" at position {at if len(at) > 1 else at[0]}" if at else ""
            raise IndexError(f"{layer_name(self)}: the index {int(i[at])}{place} is not one of the {n} rows of the "
                             f"table, 0 to {n - 1} (input shape {i.shape})")
        return i.astype(xp.int64)  # a copy: the tape keeps it, and the caller may write to the original


class Embedding(_Table):
    """Embedding(n, d, *, init=normal_init, padding_idx=None, rng=None)

    A table of ``n`` vectors of length ``d``: integer indices of any shape, 0 to n - 1, give ``x.shape + (d,)``.

    ``weight`` (n, d) is drawn by ``init``, standard normal by default. ``Embedding((n, d))`` and
    ``Embedding(weight_array)`` work too. ``padding_idx``: the row of this number starts as zeros (a given array is left
    as it is) and gets no gradient; negative ones count from the end. Its gradient is a sum in a fixed order.

    Raises TypeError for indices that are not integers, IndexError for one that is negative or not below ``n``.
    Source: Flux's ``Embedding`` and PyTorch's, whose ``padding_idx`` it has.
    """

    def __init__(
        self,
        n: Any,
        d: Any = None,
        *,
        init: Callable[..., Any] = normal_init,
        padding_idx: int | None = None,
        rng: Any = None,
    ) -> None:
        self._make(n, d, init, padding_idx, rng)

    def __call__(self, x: Any) -> Tensor:
        return embedding(self.weight, self._indices(x), padding_idx=self.padding_idx)


class EmbeddingBag(_Table):
    """EmbeddingBag(n, d, mode="mean", *, init=normal_init, padding_idx=None, rng=None)

    The sum, the mean or the maximum of the vectors of each bag of indices, without forming the vectors one by one.

    ``x`` (N, L) holds N bags of L indices and gives (N, d), and any shape (..., L) gives (..., d): flat indices (L,) are
    one bag, a number is a bag of one. A list of lists holds bags of any lengths; flat indices (M,) with ``offsets`` (N,),
    where each bag begins, are PyTorch's form.
    ``mode``: "sum", "mean" or "max". An empty bag gives zeros. ``per_sample_weights``, of the shape of ``x``, multiply
    the vectors of a sum and are differentiated. Indices equal to ``padding_idx`` count for nothing: they are not in the
    bag. The table is that of ``Embedding``, and so are its arguments and errors; ValueError for shapes, offsets or a mode
    that do not fit.

    Sources: Flux's ``EmbeddingBag`` and PyTorch's, with whose results it agrees.
    """

    def __init__(
        self,
        n: Any,
        d: Any = None,
        mode: str = "mean",
        *,
        init: Callable[..., Any] = normal_init,
        padding_idx: int | None = None,
        rng: Any = None,
    ) -> None:
        if isinstance(d, str):  # EmbeddingBag((n, d), "sum"), EmbeddingBag(weight, "sum")
            d, mode = None, d
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"EmbeddingBag: mode must be 'sum', 'mean' or 'max', got {mode!r}")
        self.mode = mode
        self._make(n, d, init, padding_idx, rng)

    def __call__(self, x: Any, offsets: Any = None, *, per_sample_weights: Any = None) -> Tensor:
        flat, start, shape, bags = self._read(x, offsets)
        weights = None if per_sample_weights is None else self._weights(per_sample_weights, shape)
        if self.padding_idx is not None and not is_outlining():
            flat, start, weights = self._without_padding(flat, start, weights)
        if self.mode == "max":
            y = bag_max(self.weight, index=flat, start=start)
        else:
            weights = mean_weights(start, self.weight.dtype) if self.mode == "mean" else weights
            y = bag_sum(self.weight, weights, index=flat, start=start)
        return y if len(bags) == 1 else y.reshape(*bags, self.d)

    def _read(self, x: Any, offsets: Any) -> tuple[Any, Any, tuple[int, ...], tuple[int, ...]]:
        """The indices (M,), where each bag begins (and the last one ends), the shape for weights, and that of the bags."""
        if _is_ragged(x):
            if offsets is not None:
                raise ValueError(f"{layer_name(self)}: a list of bags says itself where they begin, give no offsets")
            flat, lengths = self._indices([i for bag in x for i in bag]), [len(bag) for bag in x]
            if flat.ndim == 1:
                shape = (len(x), lengths[0]) if len(set(lengths)) == 1 else flat.shape
                return flat, self._starts(np.cumsum([0, *lengths])), shape, (len(x),)
        flat = self._indices(x)
        shape = flat.shape
        if offsets is not None:
            if len(shape) != 1:
                raise ValueError(f"{layer_name(self)}: with offsets the indices are flat, (M,), got shape {shape}")
            start = self._offsets(offsets, flat)
            return flat, start, shape, (start.size - 1,)
        bags, length = shape[:-1], shape[-1] if shape else 1
        n = math.prod(bags)
        return flat.reshape(n * length), self._starts(np.arange(n + 1) * length), shape, bags

    def _offsets(self, offsets: Any, flat: Any) -> Any:
        start, size = as_array(offsets.data if isinstance(offsets, Tensor) else offsets, like=flat), flat.size
        if start.ndim != 1 or (start.dtype.kind not in "iu" and start.size):
            raise ValueError(f"{layer_name(self)}: offsets must be integers of shape (N,), where each bag begins, got dtype "
                             f"{start.dtype} and shape {start.shape}")
        xp = array_module(start)
        start = xp.concatenate([start.astype(np.int64), xp.full(1, size, np.int64)])
        if start[0].item() != 0:
            raise ValueError(f"{layer_name(self)}: the first offset must be 0, where the first bag begins, got "
                             f"{'none' if start.size == 1 else int(start[0])}")
        if (start[1:] < start[:-1]).any():
            raise ValueError(f"{layer_name(self)}: offsets must not decrease nor go beyond the {size} indices, got "
                             f"{start[:-1].tolist()}")
        return start

    def _starts(self, start: Any) -> Any:
        return array_module(self.weight.data).asarray(start, np.int64)

    def _weights(self, weights: Any, shape: tuple[int, ...]) -> Tensor:
        if self.mode != "sum":
            raise ValueError(f"{layer_name(self)}: per_sample_weights are for mode='sum' only, this one is {self.mode!r}")
        if _is_ragged(weights):
            weights = [w for bag in weights for w in bag]
        t = as_tensor(weights)
        if t.shape != shape and t.shape != (int(np.prod(shape)),):
            raise ValueError(f"{layer_name(self)}: per_sample_weights must have the shape {shape} of the indices, one for "
                             f"each, got shape {t.shape}")
        t = t.reshape(t.size)
        return t if t.dtype == self.weight.dtype else t.astype(self.weight.dtype)

    def _without_padding(self, flat: Any, start: Any, weights: Any) -> tuple[Any, Any, Any]:
        xp = array_module(flat)
        real = flat != self.padding_idx
        before = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(real)])
        return flat[real], before[start], None if weights is None else weights[real]


def _is_ragged(x: Any) -> bool:
    """Whether ``x`` is a list of bags, each a sequence or array of its own."""
    return isinstance(x, list | tuple) and bool(x) and all(isinstance(b, list | tuple) or getattr(b, "ndim", 0) == 1 for b in x)
