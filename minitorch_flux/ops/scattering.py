"""Writing at positions without changing anything: scatter, scatter_add and put_along_axis give a changed copy.

scatter       y = x;  y[i(j)] = v[j]      dx = dy, 0 at i;   dv[j] = dy[i(j)] where v[j] stayed, else 0
scatter_add   y = x;  y[i(j)] += v[j]     dx = dy;           dv[j] = dy[i(j)]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import array_module, as_array, empty, is_float
from .arithmetic import add, broadcast_to, multiply, sum_to
from .axes import normalise_axis
from .indexing import add_up_at, check_beside, read_at
from .positions import Index, index_array, last_of_each


def scatter_forward(x: Any, values: Any, index: Index, winners: Any = None) -> Any:
    """A copy of ``x`` with ``values`` at ``index``; ``winners``: a mask of those that stay where positions repeat."""
    y = empty(x.shape, x.dtype, like=x)
    y[...] = x
    if winners is None:
        y[index.key] = values
        return y
    xp, places = array_module(x), index.places(x.shape, x)
    rows = places.to_front(xp.broadcast_to(values, index.shape(x)))
    target = xp.moveaxis(y[places.basic], places.axes, range(len(places.axes)))
    where = tuple(i.reshape(-1)[winners] for i in places.arrays)
    target[where] = rows.reshape(places.flat.size, *rows.shape[places.ndim :])[winners]
    return y


def _scatter_rule(dy: Tensor, x_shape: Any, values_shape: Any, index: Index, winners: Any, needs: Any) -> Any:
    dx = _scatter(dy, 0.0, index=index) if needs[0] else None
    if not needs[1]:
        return dx, None
    dv = read_at(dy, index)
    if winners is not None:
        places = index.places(x_shape, dy.data)
        mask = winners.reshape(places.arrays[0].shape + (1,) * (dv.ndim - places.start - places.ndim))
        dv = multiply(dv, mask.astype(dv.dtype))
    return dx, sum_to(dv, values_shape)


_scatter = operation("scatter", scatter_forward, rule=_scatter_rule)


def _update(op: str, x: Any, index: Any, values: Any) -> tuple[Tensor, Index, Any, tuple[int, ...]]:
    """The arguments of an update, checked, and the shape of x[index]."""
    x = x if isinstance(x, Tensor) else Tensor(as_array(x))
    values = values if isinstance(values, Tensor) else Tensor(as_array(values, like=x.data))
    plan = index if isinstance(index, Index) else Index.of(op, index, x.data, keep=x.recorded or values.recorded)
    shape = plan.shape(x.data)
    fits = values.ndim <= len(shape)
    if not fits or any(m not in (1, n) for m, n in zip(values.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(
            f"{op}: values of shape {values.shape} do not broadcast to x[index], which has shape {shape} "
            f"(x has shape {x.shape})"
        )
    if (is_float(values.dtype) and not is_float(x.dtype)) or (x.dtype == np.bool_ and values.dtype != np.bool_):
        raise TypeError(
            f"{op}: an array of dtype {x.dtype} cannot hold values of dtype {values.dtype}; convert one of "
            "them with .astype(...)"
        )
    return x, plan, values, shape


def scatter(x: Any, index: Any, values: Any) -> Tensor:
    """A copy of ``x`` in which ``copy[index] = values``: assignment for tensors, which are never changed in place.

    ``index`` is whatever ``x[index]`` accepts, ``values`` broadcasts to the shape of ``x[index]``. Where a position
    comes twice the last value stays, and the gradient goes to it alone. The dtype is that of ``x``.
    Raises IndexError, ValueError or TypeError for an index, a shape or a dtype that does not fit.
    """
    x, plan, values, _ = _update("scatter", x, index, values)
    winners = None
    if not plan.unique:
        places = plan.places(x.shape, x.data)
        winners = last_of_each(places.flat, math.prod(places.sizes))
    return _scatter(x, values, index=plan, winners=winners)


def scatter_add(x: Any, index: Any, values: Any) -> Tensor:
    """A copy of ``x`` with ``values`` added at ``index``; where a position comes twice its values add up.

    ``index`` and ``values`` as in ``scatter``. The sums are formed in a fixed order.
    """
    x, plan, values, shape = _update("scatter_add", x, index, values)
    return add(x, add_up_at(broadcast_to(values.astype(x.dtype), shape), plan, x.shape))


def put_along_axis(x: Any, indices: Any, values: Any, axis: int | None = -1) -> Tensor:
    """A copy of ``x`` with ``values`` at ``indices`` along ``axis``: ``numpy.put_along_axis`` that changes nothing.

    ``indices`` as in ``take_along_axis``, ``values`` broadcasts to the result of that; see ``scatter``.
    """
    x = x if isinstance(x, Tensor) else Tensor(as_array(x))
    if axis is None:
        return put_along_axis(x.reshape(x.size), indices, values, 0).reshape(x.shape)
    axis = normalise_axis("put_along_axis", axis, x.ndim, x.shape)
    i = index_array("put_along_axis", indices, axis, x.data)
    check_beside("put_along_axis", i, axis, x.shape)
    xp = array_module(i)
    grid = [i if k == axis else xp.arange(n).reshape((n,) + (1,) * (x.ndim - k - 1)) for k, n in enumerate(x.shape)]
    return scatter(x, Index(tuple(grid), has_arrays=True, unique=False), values)
