"""ctc_loss: the loss of label sequences whose alignment with the input is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module, as_array
from ..ops.comparisons import where
from ..ops.ctc import ctc
from .arguments import Agg, aggregate, check_agg, predictions

NAME = "ctc_loss"


def ctc_loss(
    y_hat: Any,
    y: Any,
    *,
    input_lengths: Any = None,
    target_lengths: Any = None,
    blank: int | None = None,
    agg: Agg = "mean",
    zero_infinity: bool = False,
    batch_first: bool = False,
) -> Any:
    """Connectionist temporal classification: -log p(y | y_hat), over all alignments of the labels with the steps.

    One sequence: logits ``y_hat`` (T, C), class indices ``y`` (L,), and the loss is a number. A batch: ``y_hat``
    (T, N, C), as recurrent layers give it (``batch_first=True``: (N, T, C)), and ``y`` (N, L) with
    ``target_lengths`` (N,) (default: L), or a list of N sequences. ``input_lengths`` (N,): how many steps of each count
    (default: T). ``agg`` of the N losses; "mean" is the plain mean, PyTorch's divides each by its target length before.

    ``blank`` is the class of no label, by default the last one (Flux; PyTorch's default is 0). A sequence with too few
    steps for its labels has the loss infinity and the gradient NaN; with ``zero_infinity=True`` both are 0.

    Raises ValueError for shapes and lengths that do not fit, TypeError for labels that are not integers, IndexError for
    one that is no class or the blank. Source: Flux's ``ctc_loss``, ops/ctc.py.
    """
    check_agg(NAME, agg)
    x = predictions(NAME, y_hat)
    single = x.ndim == 2
    if x.ndim not in (2, 3):
        batch = "(batch, steps, classes)" if batch_first else "(steps, batch, classes)"
        raise ValueError(f"{NAME}: y_hat must have the shape (steps, classes), or {batch}, got {x.shape}")
    if single:
        x = x.reshape(x.shape[0], 1, x.shape[1])
    elif batch_first:
        x = x.swapaxes(0, 1)
    steps, n, classes = x.shape
    if not classes:
        raise ValueError(f"{NAME}: y_hat of shape {y_hat.shape} has no classes along its last axis")
    blank = classes - 1 if blank is None else blank
    if not 0 <= blank < classes:
        raise ValueError(f"{NAME}: blank={blank} is not one of the {classes} classes, 0 to {classes - 1}")
    labels, lengths = _labels(y, n, target_lengths, single, x.data)
    counts = _lengths("input_lengths", input_lengths, n, steps, x.data)
    _check(labels, lengths, classes, blank)
    losses = ctc(x, labels=_states(labels, lengths, blank), lengths=counts, ends=2 * lengths + 1,
                 miss=0.0 if zero_infinity else np.nan)  # fmt: skip
    if zero_infinity:
        finite = losses.data < np.inf
        losses = where(finite, losses, array_module(finite).zeros((), losses.dtype))
    return losses[0] if single else aggregate(NAME, losses, agg)


def _integers(name: str, value: Any, like: Any) -> Any:
    a = as_array(value.data if isinstance(value, Tensor) else value, like=like)
    if a.size and a.dtype.kind not in "iu":
        raise TypeError(f"{NAME}: {name} must be integers, got dtype {a.dtype}")
    return a.astype(np.int64)


def _lengths(name: str, given: Any, n: int, most: int, like: Any) -> Any:
    """(N,) lengths from 0 to ``most``, by default ``most``."""
    xp = array_module(like)
    if given is None:
        return xp.full(n, most, np.int64)
    a = _integers(name, given, like)
    if a.ndim == 0 and n == 1:
        a = a.reshape(1)
    if a.shape != (n,):
        raise ValueError(f"{NAME}: {name} must have the shape ({n},), one for each sequence, got {a.shape}")
    if ((a < 0) | (a > most)).any():
        raise ValueError(f"{NAME}: {name} must be from 0 to {most}, got {a.tolist()}")
    return a


def _labels(y: Any, n: int, given: Any, single: bool, like: Any) -> tuple[Any, Any]:
    """``(labels (N, L), lengths (N,))``."""
    xp = array_module(like)
    if isinstance(y, list | tuple) and not single and all(np.ndim(s) == 1 or getattr(s, "ndim", 0) == 1 for s in y):
        if len(y) != n:
            raise ValueError(f"{NAME}: y is a list of {len(y)} sequences, y_hat has a batch of {n}")
        if given is not None:
            raise ValueError(f"{NAME}: a list of sequences says itself how long they are, give no target_lengths")
        lengths = [len(s) for s in y]
        flat = [_integers("labels", s, like) for s in y]
        labels = xp.zeros((n, max(lengths, default=0)), np.int64)
        for i, s in enumerate(flat):
            labels[i, : lengths[i]] = s
        return labels, xp.asarray(lengths, np.int64).reshape(n)
    labels = _integers("labels", y, like)
    wanted = "(length,)" if single else f"(batch, length) = ({n}, length), or a list of {n} sequences"
    if labels.ndim != (1 if single else 2) or (not single and labels.shape[0] != n):
        raise ValueError(f"{NAME}: y must have the shape {wanted}, got {labels.shape}")
    labels = labels.reshape(1, labels.size) if single else labels
    return labels, _lengths("target_lengths", given, n, labels.shape[1], like)


def _check(labels: Any, lengths: Any, classes: int, blank: int) -> None:
    xp = array_module(labels)
    used = xp.arange(labels.shape[1]) < lengths[:, None]
    wrong = used & ((labels < 0) | (labels >= classes) | (labels == blank))
    if wrong.any():
        at = tuple(int(i[0]) for i in wrong.nonzero())
        label = int(labels[at])
        what = "the blank" if label == blank else f"not one of the {classes} classes, 0 to {classes - 1}"
        raise IndexError(f"{NAME}: the label {label} at position {at[1]} of sequence {at[0]} is {what}")


def _states(labels: Any, lengths: Any, blank: int) -> Any:
    """The labels with blanks before, between and after them: (N, 2 L + 1); what lies beyond a length is blank."""
    xp, (n, length) = array_module(labels), labels.shape
    states = xp.full((n, 2 * length + 1), blank, np.int64)
    states[:, 1::2] = xp.where(xp.arange(length) < lengths[:, None], labels, blank)
    return states
