"""The mutation run: of small bugs made by rule in every kernel, the samples must notice all but a few that have a reason.

A few mutants each time, always the same ones; with --slow all of them, which takes half an hour of two cores the first time
and goes on where it was stopped. `python -m tests.readings.mutants` is the same run with its progress.
"""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from minitorch_flux.readings.inventory import kernel_texts
from tests.oracles import needs_compiler
from tests.readings.mutants import all_mutants, run_all

SURVIVORS = Path(__file__).with_name("survivors.txt")
RULES = (
    "barrier removed", "row reduction removed", "ONE_LANE removed", "bound moved", "bound removed", "index pair exchanged",
    "gate exchanged", "accumulator narrowed",
)  # fmt: skip


def survivors():
    """{what survives: why}, in the order of the table."""
    found, reason, fresh = {}, "", True
    for line in SURVIVORS.read_text().splitlines():
        if line.startswith("#"):
            reason, fresh = (f"{reason} " * (not fresh) + line[1:].strip()).strip() if not fresh else line[1:].strip(), False
        elif line.strip():
            assert line not in found, f"listed twice: {line}"
            found[line], fresh = reason, True
        else:
            reason, fresh = "", True
    return found


def test_every_survivor_has_a_reason():
    listed = survivors()
    assert [key for key, reason in listed.items() if len(reason) < 20] == []
    files = {text.name for text in kernel_texts()} | {"flux.h", "vectors.h"}
    assert {key.split(" ")[0] for key in listed} <= files
    assert {rule for key in listed for rule in RULES if f": {rule}" in key} <= set(RULES)


@pytest.fixture(scope="module")
def every():
    return all_mutants()


def test_every_file_and_rule_has_mutants(every):
    assert {m.rule for m in every} == set(RULES)
    missing = {text.name for text in kernel_texts()} - {m.file for m in every}
    assert not missing, f"no mutants of {missing}: have their kernels samples?"


def test_few_survive(every):
    """At least 95 % are killed, if the table is right; --slow looks."""
    assert len(survivors()) <= 0.05 * len(every)


def _some(every):
    """One or two of each rule, among kernels that are quickly built: always the same ones."""
    listed = survivors()
    cheap = {text.name for text in kernel_texts() if not text.declared and "vec_" not in text.text} | {"recurrences.cu"}
    for rule in RULES:
        some = [m for m in every if m.rule == rule and m.file in cheap and m.key not in listed and len(m.kernels) == 1]
        if rule != "gate exchanged":
            some = [m for m in some if m.file != "recurrences.cu"]
        if rule == "row reduction removed":  # rows are in registers, which take longer to build
            some = [m for m in every if m.rule == rule and m.file == "softmaxes.cu" and m.key not in listed]
        yield from sorted(some, key=lambda m: hashlib.sha256(m.key.encode()).digest())[: 2 if "narrowed" in rule else 1]


@needs_compiler
def test_some_mutants_are_killed(every):
    some = list(_some(every))
    assert {m.rule for m in some} == set(RULES)
    outcomes = dict(run_all(some, remembers=False))
    assert [m.key for m, outcome in outcomes.items() if outcome == "survives"] == []
    assert {m.rule for m, outcome in outcomes.items() if outcome != "does not build"} == set(RULES)


@needs_compiler
@pytest.mark.slow
def test_all_mutants(every):
    counts, alive = Counter(), []
    for mutant, outcome in run_all(every):
        counts[outcome] += 1
        if outcome == "survives":
            alive.append(mutant.key)
    total = sum(counts.values()) - counts["does not build"]
    listed = survivors()
    assert sorted(set(alive) - set(listed)) == [], "survive and are not in survivors.txt"
    gone = {m.key for m in every}
    assert sorted(key for key in listed if key not in alive) == [], (
        "in survivors.txt, but killed, or no mutants any more: " + ", ".join(sorted(set(listed) - gone))
    )
    assert len(alive) <= 0.05 * total, counts
