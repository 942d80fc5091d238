"""What the passes through time share: the order of the steps, and the states between them.

Step t takes the state before it to the state after it. T steps have T + 1 states, kept in one array in the order of
time, so that the states before the steps, and those after, are each a view of it; the initial state is the first of
them, or the last when the sequence is walked in reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend import accumulator, array_module, contiguous, device_of, empty, is_float, within_limit
from ..backend.threads import num_threads
from ..readings import KernelFile
from .casts import astype_forward


def in_order(steps: int, reverse: bool) -> Sequence[int]:
    """The steps in the order in which the states depend on each other."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def states_from(first: Any, steps: int, reverse: bool) -> Any:
    """Room for T + 1 states like ``first``, which is copied to its place."""
    states = empty((steps + 1, *first.shape), first.dtype, like=first)
    states[steps if reverse else 0] = first
    return states


def before(states: Any, reverse: bool) -> Any:
    """The states before the steps, in the order of time."""
    return states[1:] if reverse else states[:-1]


def after(states: Any, reverse: bool) -> Any:
    """The states after the steps, in the order of time."""
    return states[:-1] if reverse else states[1:]


def last(states: Any, reverse: bool) -> Any:
    """A copy of the state after the last step."""
    return states[0 if reverse else -1].copy()


def outputs(states: Any, mask: Any, reverse: bool) -> Any:
    """The states after the steps, 0 where ``mask`` (T, N) is False."""
    y = after(states, reverse)
    return y if mask is None else array_module(y).where(mask[..., None], y, 0).astype(y.dtype, copy=False)


def computed(*arrays: Any) -> tuple[Any, ...]:
    """The arrays (or None) in the dtype that they are computed in together: float32 for 16-bit floats."""
    present = [a for a in arrays if a is not None]
    first = present[0].dtype
    if first.kind == "f" and first.itemsize > 2 and all([a.dtype == first for a in present]):
        return arrays
    dtype = array_module(*present).result_type(*present)
    dtype = accumulator(dtype) if is_float(dtype) else dtype
    return tuple([a if a is None else a.astype(dtype, copy=False) for a in arrays])


def kept(dtype: Any, *arrays: Any) -> tuple[Any, ...]:
    """What the tape keeps of arrays (or None) that were computed for outputs of ``dtype``: 16 bits where they have no more."""
    if dtype.itemsize > 2:
        return arrays
    return tuple([a if a is None or a.dtype == dtype else astype_forward(a, dtype) for a in arrays])


def flat(a: Any) -> Any:
    """(T, N, K) as (T N, K)."""
    return a.reshape(a.shape[0] * a.shape[1], a.shape[2])


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    xp = array_module(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


# -- kernels -----------------------------------------------------------------------------------------------------------

recurrences = KernelFile("recurrences.cu")

ACCEPTS = "floats of one dtype, none of the axes empty"
PANEL = 48  # columns of the packed weights that lie side by side, as in the kernels
SHORT = 4  # below so many steps, packing the weights costs more than it saves
MANY = 16  # from so many sequences on, a product step by step is as quick as one for all steps
STEP = 1 << 14  # multiplications of a step that are worth waiting for the other threads
WEIGHTS, BLOCKS = 1 << 20, 128  # a GPU has about so many blocks at a time, each of which reads all the weights


def walks(gx: Any, w: Any) -> bool:
    """Whether the kernels make the products too, all steps in one launch; else BLAS makes them, step by step."""
    steps, batch = gx.shape[:2]
    return packs(gx, w) and steps >= SHORT and (device_of(gx) == "cpu" or w.size * -(-batch // BLOCKS) <= WEIGHTS)


def as_team(x: Any, w: Any) -> bool:
    """Whether a CPU's threads should walk all sequences together: few sequences (measured: 1.7 times as quick with one of 256
    units on two threads, 1.1 times with eight), and in each step more to do than waiting for each other takes.
    """
    batch, threads = x.shape[1], num_threads()
    return device_of(x) == "cpu" and batch <= 4 * threads and w.size * batch >= STEP * threads


def packs(gx: Any, w: Any) -> bool:
    """Whether there may be work space for the packed weights."""
    return within_limit((w.size + PANEL * max(w.shape)) * w.itemsize) or device_of(gx) != "cpu"


def takes_inputs(x: Any, w: Any) -> bool:
    """Whether the kernels should make the input's products as well: enough sequences share the reading of its weights."""
    both = (w.size + w.shape[0] * x.shape[2] + 2 * PANEL * max(*w.shape, x.shape[2])) * w.itemsize
    return x.shape[1] >= MANY and walks(x, w) and device_of(x) == "cpu" and within_limit(both)


def fits(*arrays: Any) -> bool:
    """Whether the kernels take these arrays (or None)."""
    first = arrays[0]
    return first.dtype.kind == "f" and all([a is None or (a.size and a.dtype == first.dtype) for a in arrays])


def only(a: Any, t: int) -> Any:
    """Step ``t`` of an array of steps (or None), as an array of one step."""
    return None if a is None else a[t : t + 1]


def packed(w: Any, turned: bool) -> Any:
    """w (K, n), or (n, K) when ``turned``, as the kernels read it: (panels, K, PANEL). None where there is no kernel.

    A register more, since a part of a team may begin inside a panel and reads whole registers.
    """
    w = contiguous(w)
    k, n = w.shape[::-1] if turned else w.shape
    panels = -(-n // PANEL)
    b = empty((panels * k * PANEL + PANEL,), w.dtype, like=w)
    return b if recurrences("pack", w, panels * k, PANEL, w, b, k, n, turned) else None


def gradient_of_state(d: Any, like: Any) -> Any:
    """A copy of ``d`` in the dtype of ``like``, zeros where it is None: what the walk back starts from."""
    xp = array_module(like)
    return xp.zeros(like.shape, like.dtype) if d is None else xp.array(d, like.dtype, order="C")
