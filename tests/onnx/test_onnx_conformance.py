"""ONNX's single-node suite: every case of the generator passes, or is refused for a reason that is written down.

conformance.txt is the table, and docs/onnx-conformance.md the page that is made of it: for each operator how many cases pass
(one node, and the same as a graph of ONNX's own definition), and how many are not compared and why. A case that is refused
must be refused with UnsupportedOperator.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_cases import as_array, assert_same, module_cases, module_names, outputs_of

from minitorch_flux.onnx import UnsupportedOperator, load

TABLE = Path(__file__).with_name("conformance.txt")
RANDOM = "random numbers of another generator"
REASONS = {
    "classical machine learning": ("ArrayFeatureExtractor", "Binarizer", "LabelEncoder", "TreeEnsemble", "TfIdfVectorizer"),
    "quantised arithmetic": (
        "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
        "QuantizeLinear",
    ),
    "sequences and optional values": (
        "Identity", "If", "Loop", "OptionalGetElement", "OptionalHasElement", "SequenceInsert", "SequenceMap",
        "SplitToSequence",
    ),
    "strings": ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "Equal"),
    "types of less than 8 bits, 8-bit floats and strings": ("Cast", "CastLike"),
    RANDOM: ("Bernoulli", "Dropout"),
}  # fmt: skip
REASON = {op: reason for reason, ops in REASONS.items() for op in ops}


def rows() -> dict[str, list[str]]:
    """The lines of the table by module."""
    found: dict[str, list[str]] = {}
    for line in TABLE.read_text().splitlines():
        if not line.startswith("#"):
            found.setdefault(line.split()[0], []).append(line)
    return found


def operator_of(case: Any) -> str:
    """The operator that a case is about; of a definition written out, the one that it defines."""
    nodes = case.model.graph.node
    name = case.name.partition("_expanded")[0]
    return EXPANDED.get(name) or nodes[0].op_type


EXPANDED: dict[str, str] = {}
"""The operator of each case that is also written out."""


def is_random(case: Any) -> bool:
    return "bernoulli" in case.name or case.name.startswith("test_training_dropout") and "zero_ratio" not in case.name


def check(case: Any) -> str:
    """``""`` where a case passes, else why it is not compared."""
    if is_random(case):
        for inputs, wanted in case.data_sets:
            for got, w in zip(outputs_of(case.model, map(as_array, inputs)), wanted, strict=True):
                assert got.shape == w.shape
                assert got.dtype == w.dtype
        return RANDOM
    try:
        net = load(case.model)
    except UnsupportedOperator:
        return REASON[operator_of(case)]
    for inputs, wanted in case.data_sets:
        got = outputs_of(net, map(as_array, inputs))
        for y, w in zip(got, map(as_array, wanted), strict=True):
            # the suite's own transforms are rounded to float32, of which the zeros among large numbers tell
            rounding = 1e-7 * float(np.abs(w).max()) if "dft" in case.name else 0.0
            assert_same(y, w, case.rtol, max(case.atol, rounding))
    return ""


def lines_of(module: str) -> list[str]:
    """The lines of the table for a module, as its cases come out."""
    passed, written_out, refused = Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    failures = []
    for case in module_cases(module):
        expanded = "_expanded" in case.name
        if not expanded:
            EXPANDED[case.name] = case.model.graph.node[0].op_type
        op = operator_of(case)
        try:
            reason = check(case)
        except Exception as error:
            failures.append(f"{case.name}: {type(error).__name__}: {error}")
            continue
        if reason:
            refused[op, reason] += 1
        else:
            (written_out if expanded else passed)[op] += 1
    assert not failures, "\n".join(failures)
    ops = sorted({*passed, *written_out, *(op for op, _ in refused)})
    return [
        f"{module:<36}{op:<28}{passed[op]:>6}{written_out[op]:>6}"
        + "".join(f"{n:>6} {reason}" for (o, reason), n in sorted(refused.items()) if o == op)
        for op in ops
    ]


@pytest.mark.parametrize("module", list(rows()))
def test_every_case_of_the_suite_passes_or_is_refused_for_a_reason(module):
    assert lines_of(module) == rows()[module]


def test_the_table_has_every_module_of_the_suite():
    assert set(rows()) == module_names()


def page() -> str:
    """The page for the documentation: the table by operator, passes and refusals counted apart."""
    counts: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for lines in rows().values():
        for line in lines:
            _, op, one, written_out, *rest = line.split(None, 4)
            counts.setdefault(op, Counter()).update({"one": int(one), "written out": int(written_out)})
            if rest:
                n, reason = rest[0].split(None, 1)
                counts[op]["refused"] += int(n)
                reasons.setdefault(reason, Counter())[op] += int(n)
    total = sum(counts.values(), Counter())
    random = sum(reasons.pop(RANDOM, Counter()).values())
    head = f"""# ONNX conformance

The cases of ONNX's own suite, `onnx.backend.test.case.node` of the package onnx {SUITE}, read by `flux.onnx.load` and
run: {total["one"]} cases of one node pass, and {total["written out"]} of the same written out in ONNX's own definitions.
Beside them {total["refused"] - random} are refused by `UnsupportedOperator`, all for one of these reasons:

| reason | cases | operators |
| --- | ---: | --- |
"""
    for reason, ops in sorted(reasons.items()):
        head += f"| {reason} | {sum(ops.values())} | {', '.join(sorted(ops))} |\n"
    head += f"""
{random} cases of random numbers give the right shapes and dtypes, of which alone the suite can tell: the numbers are another
generator's.

| operator | one node | written out | refused or random |
| --- | ---: | ---: | ---: |
"""
    body = "".join(
        f"| {op} | {c['one'] or ''} | {c['written out'] or ''} | {c['refused'] or ''} |\n" for op, c in sorted(counts.items())
    )
    return head + body + "\nMade by `python tests/onnx/test_onnx_conformance.py`, and compared with the suite by the tests.\n"


SUITE = "1.23"
PAGE = Path(__file__).parents[2] / "docs" / "onnx-conformance.md"


def test_the_page_is_current():
    assert PAGE.read_text() == page()


def write() -> None:
    """Write the table and the page anew (`python tests/onnx/test_onnx_conformance.py`), to be read before it is committed."""
    head = f"# {'module':<34}{'operator':<28}{'one node':>6}{'written out':>12}{'not compared, and why':>26}\n"
    lines = [line for module in sorted(module_names()) for line in lines_of(module)]
    TABLE.write_text(head + "\n".join(lines) + "\n")
    PAGE.write_text(page())


if __name__ == "__main__":
    write()
