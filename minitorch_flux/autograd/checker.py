"""check: is a gradient right? The tool with which every op and layer of this library is tested, for anybody's own.

flux.check(flux.losses.mse, y_hat, y)
flux.check(Conv((3, 3), 2, 4, relu), x)
flux.check(lambda m, x: loss(m(x), y), model, x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import FUNCTIONS, DeviceError, find_cupy
from .differences import Differences, Disagreement
from .node import TapeError
from .recording import PLAIN, at_level
from .subject import Arrays, Leaf, Setting, Subject
from .tree import Structure


class CheckError(AssertionError):
    """What ``check`` found. ``name`` and ``index`` say where, ``got`` and ``wanted`` are the two values, if any."""

    def __init__(self, message: str, name: str = "", index: Any = None, got: Any = None, wanted: Any = None) -> None:
        super().__init__(message)
        self.name, self.index, self.got, self.wanted = name, index, got, wanted


class Report:
    """What ``check`` compared: printed, it is a table with the largest relative errors.

    ``rows``: mode, name, shape, errors of the first and second derivatives, how compared. ``notes``: further lines.
    """

    def __init__(self, title: str, order: int) -> None:
        self.title, self.order = title, order
        self.rows: list[tuple[str, ...]] = []
        self.notes: list[str] = []

    def __str__(self) -> str:
        head = ("mode", "gradient by", "shape", "first", "second")[: 3 + self.order] + ("compared",)
        table = [head, *self.rows]
        if not any(row[0] for row in self.rows):  # no layer, no modes
            table = [row[1:] for row in table]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join([self.title, *(f"  {line}" for line in lines), *self.notes])

    __repr__ = __str__


def check(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 2,
    tolerance: float = 1e-6,
    few: int = 24,
    directions: int = 4,
    seed: int = 0,
) -> Report:
    """Check the gradients of a function or a layer at ``inputs``, and its kernels; returns a report to print.

    Gradients by every floating-point input (also inside lists, tuples and dicts) and by every parameter of ``f``, of
    the models among ``inputs`` and of those that the function closes over are held against finite differences:

    * first derivatives, and with ``order=2`` second ones, also by the incoming gradient; every element of arrays of up
      to ``few``, else ``directions`` random directions; they must agree to ``tolerance``, relative to the gradient;
    * the ordinary backward pass against the one that is recorded;
    * in train mode and in test mode where there are layers;
    * kernels against references (``use_kernels(False)``), and the dtypes given against float64;
    * the CPU against the GPU, where there is one.

    It also finds functions that write to their inputs or that give two values for the same input. All derivatives are
    computed in float64: a model in lower precision lends its numbers to float64 copies of its arrays meanwhile.
    Parameters, buffers, modes, recurrent state and random generators are left as they were; random layers see the same
    generator each time. Several values are checked together, through random incoming gradients drawn from ``seed``.
    At a kink (relu at 0) a derivative must lie between the one-sided ones.

    Raises CheckError (an AssertionError) with the parameter or input, the index and both values; TypeError when there
    is nothing to differentiate.
    """
    if not callable(f):
        raise TypeError(f"check(f, *inputs): a function or a layer comes first, got {type(f).__name__}")
    if order not in (1, 2):
        raise ValueError(f"check: order is 1 or 2, got {order}")
    with at_level(PLAIN), np.errstate(all="ignore"):  # what is not finite is reported below
        subject = Subject(f, inputs)
        if not subject.leaves:
            raise TypeError(
                "check: nothing to differentiate: no input is a floating-point array and there are no parameters"
            )
        name = type(f).__name__ if isinstance(f, Structure) else getattr(f, "__name__", type(f).__name__)
        report = Report(f"{name}: the gradients agree with finite differences; largest relative errors", order)
        checker = _Checker(subject, report, tolerance, few, directions, seed)
        try:
            for train in (True, False) if subject.has_modes else (None,):
                checker.check_mode(train)
            checker.compare_devices()
        finally:
            subject.restore()
        return checker.report


class _Checker:
    def __init__(
        self, subject: Subject, report: Report, tolerance: float, few: int, directions: int, seed: int
    ) -> None:
        self.subject, self.report = subject, report
        self.points = [leaf.value for leaf in subject.leaves]
        self.rng = np.random.default_rng(seed)
        self.differences = Differences(tolerance, few, directions, self.rng)
        self.tolerance = tolerance
        self.where = ""

    def check_mode(self, train: bool | None) -> None:
        self.where = "" if train is None else " in train mode" if train else " in test mode"
        setting = Setting(self.subject.device, train=train)
        dys = self._incoming(setting)
        first = self._first(dys, setting)
        self._kernels(dys, first, setting)
        rows = self._first_order(dys, first, setting)
        if self.report.order == 2:
            self._second_order(dys, first, setting, rows)
        mode = {None: "", True: "train", False: "test"}[train]
        for leaf, row in zip(self.subject.leaves, rows, strict=True):
            self.report.rows.append((mode, leaf.name, str(leaf.value.shape), *row))
        kinks, self.differences.kinks = self.differences.kinks, 0
        if kinks:
            self.report.notes.append(f"derivatives at kinks{self.where}: {kinks}, between the one-sided ones")

    # -- the value -----------------------------------------------------------------------------------------------------

    def _incoming(self, setting: Setting) -> Arrays:
        """Random incoming gradients, after the value has been looked at."""
        for name in self.subject.changed_inputs(self.points, setting):
            raise CheckError(
                f"the function writes to {name}{self.where}: its gradient would be that of other numbers; work "
                "on a copy",
                name,
            )
        value = self.subject.value(self.points, setting)
        if not value:
            raise TypeError("check: the function returns no floating-point array, so it has no gradient")
        again = self.subject.value(self.points, setting)
        for i, (y, z) in enumerate(zip(value, again, strict=True)):
            if y.dtype != np.float64:
                raise CheckError(
                    f"output {i} is {y.dtype} for float64 inputs and parameters{self.where}: check works in "
                    "float64, and a cast to fewer digits on the way drowns the differences"
                )
            if not np.isfinite(y).all():
                index = _first_index(~np.isfinite(y))
                raise CheckError(
                    f"output {i} is {y[index]} at {index}{self.where}: choose inputs where the value is finite",
                    f"output {i}",
                    index,
                    float(y[index]),
                )
            if not np.array_equal(y, z):
                index = _first_index(y != z)
                raise CheckError(
                    f"the function is not deterministic{self.where}: output {i} at {index} is {y[index]:.12g} and, "
                    f"called again with the same inputs and state, {z[index]:.12g}; draw random numbers from a "
                    "flux.Generator that the layer holds, or from the default one",
                    f"output {i}",
                    index,
                    float(z[index]),
                    float(y[index]),
                )
        return [self.rng.standard_normal(y.shape) for y in value]

    def _first(self, dys: Arrays, setting: Setting) -> Arrays:
        grads = self.subject.gradient(self.points, dys, setting)
        for leaf, g in zip(self.subject.leaves, grads, strict=True):
            self._finite(leaf, g, "gradient")
        return grads

    def _finite(self, leaf: Leaf, g: np.ndarray, what: str) -> None:
        if g.shape != leaf.value.shape:
            raise CheckError(
                f"the {what} by {leaf.name} has shape {g.shape}, the array has {leaf.value.shape}", leaf.name
            )
        if not np.isfinite(g).all():
            index = _first_index(~np.isfinite(g))
            raise CheckError(
                f"the {what} by {leaf.name} is {g[index]} at {index}{self.where}, although the value is finite",
                leaf.name,
                index,
                float(g[index]),
            )

    # -- differences ---------------------------------------------------------------------------------------------------

    def _first_order(self, dys: Arrays, first: Arrays, setting: Setting) -> list[list[str]]:
        rows = []
        for k, leaf in enumerate(self.subject.leaves):

            def value(x: np.ndarray, k: int = k) -> tuple[float, float]:
                products = [y * dy for y, dy in zip(self.subject.value(self._with(k, x), setting), dys, strict=True)]
                return sum(float(p.sum()) for p in products), sum(float(np.abs(p).sum()) for p in products)

            compared = self._compare(leaf.name, leaf.value, first[k], value, "gradient")
            rows.append([f"{self.differences.worst:.0e}", compared])
        return rows

    def _second_order(self, dys: Arrays, first: Arrays, setting: Setting, rows: list[list[str]]) -> None:
        subject = self.subject
        us = [self.rng.standard_normal(p.shape) for p in self.points]
        try:
            recorded, second = subject.second(self.points, dys, us, setting)
        except TapeError as error:
            raise CheckError(
                f"no second derivative{self.where}: {error}; check(..., order=1) checks first ones only"
            ) from error
        for leaf, g, r in zip(subject.leaves, first, recorded, strict=True):
            self._same(leaf.name, g, r, 1e-8, "the gradient of an ordinary backward pass", "of a recorded one")
        names = [leaf.name for leaf in subject.leaves] + [
            f"the incoming gradient of output {i}" for i in range(len(dys))
        ]
        for k, (name, x, g) in enumerate(zip(names, [*self.points, *dys], second, strict=True)):

            def projected(x: np.ndarray, k: int = k) -> tuple[float, float]:
                n = len(self.points)
                at = self._with(k, x) if k < n else self.points
                incoming = dys if k < n else [x if i == k - n else dy for i, dy in enumerate(dys)]
                products = [g * u for g, u in zip(subject.gradient(at, incoming, setting), us, strict=True)]
                return sum(float(p.sum()) for p in products), sum(float(np.abs(p).sum()) for p in products)

            self._compare(name, x, g, projected, "second derivative")
            if k < len(rows):
                rows[k].insert(1, f"{self.differences.worst:.0e}")

    def _with(self, k: int, x: np.ndarray) -> Arrays:
        return [x if i == k else p for i, p in enumerate(self.points)]

    def _compare(self, name: str, x: np.ndarray, g: np.ndarray, f: Any, what: str) -> str:
        try:
            return self.differences.compare(x, g, f)
        except Disagreement as found:
            at = "in a random direction" if found.index is None else f"at index {found.index}"
            raise CheckError(
                f"the {what} by {name} {at} is {found.gradient:.12g}, but finite differences give "
                f"{found.differences:.12g}{self.where}",
                name,
                found.index,
                found.gradient,
                found.differences,
            ) from None

    # -- kernels, dtypes, devices --------------------------------------------------------------------------------------

    def _kernels(self, dys: Arrays, first: Arrays, setting: Setting) -> None:
        """Kernels against references in float64 and in the dtypes given, and these against float64."""
        before = {name: a.launches for name, a in FUNCTIONS.items()}
        exact = self._both(dys, setting)
        self._against_references(dys, exact, setting, 1e-9)
        lower = [leaf.dtype for leaf in self.subject.leaves if leaf.dtype != np.float64]
        if lower:
            own = setting._replace(exact=False)
            near = float(max(_digits(d) for d in lower)) ** 0.5
            values = self._both(dys, own)
            self._against_references(dys, values, own, near)
            for (name, a), (_, b) in zip(values, exact, strict=True):
                self._same(name, a, b, near, f"{name} in {max(lower, key=_digits)}", "in float64")
        ran = sorted(name for name, a in FUNCTIONS.items() if a.launches > before.get(name, 0))
        note = f"kernels against references: {', '.join(ran) if ran else 'none runs for these shapes'}"
        if note not in self.report.notes:
            self.report.notes.append(note)

    def _both(self, dys: Arrays, setting: Setting) -> list[tuple[str, np.ndarray]]:
        """The values and the gradients, by name."""
        values = self.subject.value(self.points, setting)
        grads = self.subject.gradient(self.points, dys, setting)
        named = [(f"output {i}", y) for i, y in enumerate(values)]
        return named + [(f"the gradient by {leaf.name}", g) for leaf, g in zip(self.subject.leaves, grads, strict=True)]

    def _against_references(
        self, dys: Arrays, values: list[tuple[str, np.ndarray]], setting: Setting, tolerance: float
    ) -> None:
        references = self._both(dys, setting._replace(kernels=False))
        for k, ((name, a), (_, b)) in enumerate(zip(values, references, strict=True)):
            if _difference(a, b) > tolerance:
                culprit = self._culprit(dys, k, b, setting, tolerance)
                self._same(name, a, b, tolerance, f"{name} with kernels", f"with references{culprit}")

    def _culprit(self, dys: Arrays, k: int, wanted: np.ndarray, setting: Setting, tolerance: float) -> str:
        """The kernel without which the difference goes away."""
        for function in list(FUNCTIONS.values()):
            launcher, function.launcher = function.launcher, None
            try:
                if launcher is not None and _difference(self._both(dys, setting)[k][1], wanted) <= tolerance:
                    return f" (the kernel of {function.name} makes the difference)"
            finally:
                function.launcher = launcher
        return ""

    def _same(self, name: str, a: np.ndarray, b: np.ndarray, tolerance: float, this: str, that: str) -> None:
        if a.shape != b.shape:
            raise CheckError(f"{this} has shape {a.shape}, {that} {b.shape}{self.where}", name)
        if _difference(a, b) > tolerance:
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(a - b)), a.shape))
            raise CheckError(
                f"{this} and {that} disagree{self.where}: {name} at index {index} is {a[index]:.9g} and {b[index]:.9g}",
                name,
                index,
                float(a[index]),
                float(b[index]),
            )

    def compare_devices(self) -> None:
        """The CPU against the GPU, where there is one."""
        here = self.subject.device
        try:
            find_cupy()
            other = "cuda:0" if here == "cpu" else "cpu"
            for train in (True, False) if self.subject.has_modes else (None,):
                self.where = "" if train is None else " in train mode" if train else " in test mode"
                setting = Setting(here, exact=False, train=train)
                dys = [self.rng.standard_normal(y.shape) for y in self.subject.value(self.points, setting)]
                near = float(max(_digits(leaf.dtype) for leaf in self.subject.leaves)) ** 0.5
                there = self._both(dys, setting._replace(device=other))
                for (name, a), (_, b) in zip(self._both(dys, setting), there, strict=True):
                    self._same(name, a, b, near, f"{name} on {here}", f"on {other}")
            self.report.notes.append(f"{here} against {other}: the same")
        except DeviceError as error:
            self.report.notes.append(f"CPU against GPU: not compared, {error}")


def _digits(dtype: Any) -> float:
    """The distance from 1 to the next number of a dtype."""
    return float(np.finfo(dtype).eps) if np.dtype(dtype).kind == "f" else 2.0**-7  # bfloat16


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest number; infinite for other shapes."""
    if a.shape != b.shape:
        return np.inf
    if a.size == 0:
        return 0.0
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    largest = float(np.abs(b).max())
    error = float(np.abs(a - b).max())
    return error / largest if largest else error


def _first_index(mask: np.ndarray) -> Any:
    return tuple(int(i) for i in np.argwhere(mask)[0])


__all__ = ["CheckError", "Report", "check"]
