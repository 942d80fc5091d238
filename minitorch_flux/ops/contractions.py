"""einsum: sums of products of arrays whose axes have letters.

    z[output] = sum x[...] y[...] ...       over the letters that the output does not have

Diagonals (a letter twice in one operand) and sums over letters of a single operand are taken first; then two operands
at a time are contracted, in the order of ``numpy.einsum_path``. Each step is a differentiable operation of its own, and
every contraction is a matrix product (``contract`` in products.py).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..autograd import Tensor
from .diagonals import diagonal
from .elementwise import as_tensor
from .products import LETTERS, contract
from .reductions import sum as sum_over
from .shapes import reshape, transpose

DOTS = "..."


def einsum(*operands: Any, optimize: Any = True) -> Tensor:
    """Einstein's sum convention, in all of NumPy's forms: ``einsum("bij,jk->bik", x, y)``.

    The letters of each operand's axes, with commas between operands; a letter that comes twice in one operand takes the
    diagonal; ``...`` stands for axes that broadcast. After ``->`` the letters of the result; letters that it lacks are
    added up. Without ``->`` the result has, in alphabetical order, the letters that come once (after ``...``).
    The other form has lists of numbers for letters: ``einsum(x, [0, 1], y, [1, 2], [0, 2])``.

    optimize: the order of three and more operands: True or "greedy", "optimal", False (from left to right), or a path
    of ``numpy.einsum_path``. Raises ValueError, naming the letter and both shapes, when sizes differ.
    """
    terms, output, tensors = _read(operands)
    letters, result, sizes = _expand(terms, output, tuple(x.shape for x in tensors))
    pairs = [_reduced(x, labels, sizes) for x, labels in zip(tensors, letters, strict=True)]
    key = ",".join(labels for _, labels in pairs) + "->" + result
    plan = optimize if isinstance(optimize, str | bool) else tuple(optimize)
    path = _path(key, tuple(x.shape for x, _ in pairs), plan)
    for step in path:
        chosen = [pairs.pop(i) for i in sorted(step, reverse=True)][::-1]
        first = chosen[0]
        for n, second in enumerate(chosen[1:], 2):
            others = result + "".join(labels for _, labels in [*pairs, *chosen[n:]])
            last = not pairs and n == len(chosen)
            first = _two(first, second, others, result if last else None)
        pairs.append(first)
    x, labels = _summed(pairs[0], keep=result)
    return x if labels == result else transpose(x, tuple(labels.index(i) for i in result))


# -- reading -----------------------------------------------------------------------------------------------------------


Labels = tuple[Any, ...]  # letters or numbers, and DOTS


def _read(operands: tuple[Any, ...]) -> tuple[tuple[Labels, ...], Labels | None, list[Tensor]]:
    """The labels of each operand, of the output (None: implicit), and the operands."""
    if not operands:
        raise ValueError('einsum: give the letters and the operands: einsum("ij,jk->ik", x, y)')
    if not isinstance(operands[0], str):
        given, output = (operands[:-1], operands[-1]) if len(operands) % 2 else (operands, None)
        lists = [*given[1::2], *([] if output is None else [output])]
        if not all(isinstance(t, list | tuple) and all(i is Ellipsis or isinstance(i, int) for i in t) for t in lists):
            raise TypeError("einsum: after each operand comes the list of its axes' numbers, and perhaps one for the "
                            "result at the end: einsum(x, [0, 1], y, [1, 2], [0, 2])")
        dotted = tuple(tuple(DOTS if i is Ellipsis else i for i in t) for t in lists)
        return dotted[: len(given) // 2], None if output is None else dotted[-1], [as_tensor(x) for x in given[::2]]
    terms, output = _split(operands[0])
    tensors = [as_tensor(x) for x in operands[1:]]
    if len(terms) != len(tensors):
        raise ValueError(f"einsum: {operands[0]!r} has letters for {len(terms)} operands, got {len(tensors)}")
    return terms, output, tensors


@functools.lru_cache(maxsize=1024)
def _split(text: str) -> tuple[tuple[Labels, ...], Labels | None]:
    """The labels of each operand and of the output (None: implicit) in ``"ij,jk->ik"``."""
    text = text.replace(" ", "")
    left, arrow, right = text.partition("->")
    return tuple(_letters(t, text) for t in left.split(",")), _letters(right, text) if arrow else None


def _letters(term: str, text: str) -> Labels:
    before, dots, after = term.partition(DOTS)
    for c in before + after:
        if not (c.isascii() and c.isalpha()):
            raise ValueError(f"einsum: {c!r} in {text!r} is no letter; write letters, commas, '...' and '->'")
    return (*before, *([DOTS] if dots else []), *after)


@functools.lru_cache(maxsize=1024)
def _expand(
    terms: tuple[Labels, ...], output: Labels | None, shapes: tuple[tuple[int, ...], ...]
) -> tuple[list[str], str, dict[str, int]]:
    """Letters for every axis, those under ``...`` too, letters for the result, and their sizes."""
    widths = []
    for k, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        named = len(term) - term.count(DOTS)
        if term.count(DOTS) > 1 or named > len(shape) or (named < len(shape) and DOTS not in term):
            more = "" if DOTS in term else "; '...' stands for further axes"
            raise ValueError(f"einsum: operand {k} has shape {shape} with {len(shape)} axes, but its letters "
                             f"{_show(term)} name {named}{more}")
        widths.append(len(shape) - named)
    dots = [(DOTS, i) for i in range(max(widths))]
    labels = [_fill(term, dots[len(dots) - width :]) for term, width in zip(terms, widths, strict=True)]
    every = [i for term in labels for i in term]
    if output is None:
        result = dots + sorted(i for i in dict.fromkeys(every) if every.count(i) == 1 and i not in dots)
    else:
        result = _fill(output, dots)
        for i in result:
            if result.count(i) > 1 or i not in every:
                raise ValueError(f"einsum: {i!r} of the result {_show(output)} "
                                 + ("comes twice in it" if i in every else "is no letter of an operand"))
        if dots and DOTS not in output:
            raise ValueError(f"einsum: operands have axes under '...', so the result {_show(output)} needs '...' too; "
                             "to add them up, give them letters")
    names = list(dict.fromkeys(every))
    if len(names) > len(LETTERS):
        raise ValueError(f"einsum: {len(names)} different axes, at most {len(LETTERS)} are possible")
    letter = dict(zip(names, LETTERS, strict=False))
    letters = ["".join(letter[i] for i in term) for term in labels]
    return letters, "".join(letter[i] for i in result), _sizes(letters, shapes)


def _fill(term: Labels, dots: list[Any]) -> list[Any]:
    return [j for i in term for j in (dots if i == DOTS else [i])]


def _show(term: Labels) -> str:
    return repr("".join(term)) if all(isinstance(i, str) for i in term) else str(list(term))


def _sizes(letters: list[str], shapes: tuple[tuple[int, ...], ...]) -> dict[str, int]:
    """The size of each letter; axes of size one broadcast."""
    where: dict[str, tuple[int, int]] = {}  # the operand and the axis that set the size
    for k, (labels, shape) in enumerate(zip(letters, shapes, strict=True)):
        for axis, (label, n) in enumerate(zip(labels, shape, strict=True)):
            j, before = where.get(label, (k, axis))
            m = shapes[j][before]
            if n != m and (1 not in (n, m) or j == k):
                raise ValueError(
                    f"einsum: axis {before} of operand {j} (shape {shapes[j]}) has {m} elements, axis {axis} of "
                    f"operand {k} (shape {shape}) has {n}, but they have the same letter"
                )
            if label not in where or m == 1:
                where[label] = (k, axis)
    return {label: shapes[k][axis] for label, (k, axis) in where.items()}


# -- computing ---------------------------------------------------------------------------------------------------------


def _reduced(x: Tensor, labels: str, sizes: dict[str, int]) -> tuple[Tensor, str]:
    """``x`` without repeated letters (diagonals) and without axes of size one that broadcast."""
    if len(set(labels)) == len(labels) and all(n == sizes[i] for n, i in zip(x.shape, labels, strict=True)):
        return x, labels
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i, j = [k for k, other in enumerate(labels) if other == label][:2]
            x = diagonal(x, 0, i, j)
            labels = "".join(other for k, other in enumerate(labels) if k not in (i, j)) + label
    kept = [k for k, (label, n) in enumerate(zip(labels, x.shape, strict=True)) if n == sizes[label]]
    if len(kept) < x.ndim:
        x = reshape(x, tuple(x.shape[k] for k in kept))
    return x, "".join(labels[k] for k in kept)


def _summed(operand: tuple[Tensor, str], keep: str) -> tuple[Tensor, str]:
    """The operand added up over the letters that are not in ``keep``."""
    x, labels = operand
    gone = tuple(k for k, label in enumerate(labels) if label not in keep)
    return (sum_over(x, gone), "".join(i for i in labels if i in keep)) if gone else (x, labels)


def _two(first: Any, second: Any, others: str, result: str | None) -> tuple[Tensor, str]:
    """The contraction of two operands; ``others`` are the letters that are still needed after it."""
    x, a = _summed(first, keep=others + second[1])
    y, b = _summed(second, keep=others + a)
    if result is None:
        result = "".join(dict.fromkeys(i for i in a + b if i in others))
    return contract(x, y, a=a, b=b, to=result), result


@functools.lru_cache(maxsize=1024)
def _path(key: str, shapes: tuple[tuple[int, ...], ...], optimize: Any) -> tuple[tuple[int, ...], ...]:
    """Which operands to contract in each step."""
    if len(shapes) <= 2:
        return ((0, 1),) if len(shapes) == 2 else ()
    if optimize is False:
        return tuple((0, 1) if k == 0 else (0, len(shapes) - 1 - k) for k in range(len(shapes) - 1))
    dummies = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    plan = list(optimize) if isinstance(optimize, tuple) else optimize
    return tuple(tuple(step) for step in np.einsum_path(key, *dummies, optimize=plan)[0][1:])
