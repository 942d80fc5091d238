"""Single layers at the shapes of real networks, forward, and forward with backward; with their share of the ceilings."""

from __future__ import annotations

from collections.abc import Iterator

from ..op_cases import CASES, UPDATES, Case, random_convolutions
from ..peers import OURS
from ..tasks import Task
from . import Options, Row, rows_of


def run(options: Options) -> Iterator[Row]:
    """The rows: a case without error also has its operations, the bytes that it must move, and the rate of each side."""
    cases = [c for c in CASES if c.quick or not options.quick]
    updates = [c for c in UPDATES if c.quick or not options.quick]
    drawn = random_convolutions(options.random)
    for threads in options.threads:
        with options.team(threads, (case.network for case in [*cases, *updates, *drawn])) as team:
            for case in cases:
                modes = ("infer", "gradient") if case.gradient else ("infer",)
                yield from _measured(case, rows_of(team, [Task(case.network, m) for m in modes], options, suite="ops",
                                                   threads=threads, family=case.family))
            for case in updates:
                yield from rows_of(team, [Task(case.network, "update")], options, suite="ops", threads=threads,
                                   family=case.family)
            for case in drawn:
                yield from _measured(case, rows_of(team, [Task(case.network, "infer"), Task(case.network, "gradient")], options,
                                                   suite="random", threads=threads, family=case.family))


def _measured(case: Case, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if "error" not in row and row["mode"] == "infer":
            row |= {"operations": case.operations, "bytes": case.traffic(tuple(row["output_shape"]))}
            row["flops"] = case.operations / (row["sides"][OURS.name]["ms"] / 1e3)
        yield row
