"""The text with a choice for each mutant: what every rule becomes, and that a choice is the mutant itself."""

import re
from dataclasses import replace

import pytest

from tests.oracles import needs_compiler
from tests.readings.mutant_programs import Runner, source_of
from tests.readings.mutant_runs import Job, outcomes
from tests.readings.mutations import mutants_in, mutants_of
from tests.readings.schemata import refused, schema
from tests.readings.test_mutations import TEXT

MUTANTS = dict(enumerate(mutants_in("first.cu", TEXT), 1))


def written(rule):
    """The lines that differ in a schema of the mutants of one rule, with their numbers as #."""
    text, left = schema(TEXT, {k: m for k, m in MUTANTS.items() if m.rule == rule})
    lines = zip(TEXT.splitlines(), text.splitlines(), strict=True)
    numbers = re.compile(r"(?<=FLUX_IS\()\d+|(?<=FLUX_ONE_LANE\()\d+|(?<=flux_row_sum\()\d+")
    return [numbers.sub("#", b).strip() for a, b in lines if a != b], left


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("barrier removed", ["{ if (!FLUX_IS(#)) { ROW_SYNC(); } }"]),
        ("row reduction removed", ["return flux_row_sum(#, total);"]),
        ("ONE_LANE removed", ["FLUX_ONE_LANE(#) y[r] = best;"]),
        ("bound removed", [
            "#define PLACE(r) const int at = (FLUX_IS(#) || (r) < rows) ? 1 : 0",
            "if ((FLUX_IS(#) || width > 3) && (FLUX_IS(#) || kw >= 2)) best += mean;",
            "const int small = (FLUX_IS(#) || width < H) ? width : H;",
        ]),
        ("gate exchanged", [
            "LANES(j, small) y[r * width + j] = (FLUX_IS(#) ? x[j] : x[H + j]) * w.c[0] + w.c[2] + "
            "(FLUX_IS(#) ? x[H + j] : x[j]);",
        ]),
    ],
)  # fmt: skip
def test_choices(rule, wanted):
    assert written(rule) == (wanted, set())


def test_bounds_that_are_moved():
    lines, left = written("bound moved")
    assert not left
    for wanted in (
        "LANES_SUM(total, j, ((n) + FLUX_IS(#)) - FLUX_IS(#)) total",
        "for (int i = 0; (FLUX_IS(#) ? i <= width : i < width); ++i)",
        "if ((FLUX_IS(#) ? width >= 3 : width > 3) && (FLUX_IS(#) ? kw > 2 : kw >= 2)) best",
    ):
        assert any(wanted in re.sub(r"\s+", " ", line.replace("( ", "(")) for line in lines), (wanted, lines)


def test_index_pairs_are_chosen_name_by_name():
    lines, left = written("index pair exchanged")
    assert not left
    assert any("y[(FLUX_IS(#) ? j : r) * width + (FLUX_IS(#) ? r : j)]" in line for line in lines), lines


def test_an_accumulator_s_type_is_no_choice():
    lines, left = written("accumulator narrowed")
    assert lines == []
    assert {MUTANTS[k].rule for k in left} == {"accumulator narrowed"}
    assert len(left) == 2


def test_lines_stay_where_they_are():
    text, _ = schema(TEXT, MUTANTS)
    assert text.count("\n") == TEXT.count("\n")


def test_what_a_compiler_refuses():
    text, _ = schema(TEXT, MUTANTS)
    line = next(i for i, t in enumerate(TEXT.splitlines(), 1) if "small) y[" in t)
    place = [m for m in re.finditer(r"FLUX_IS\((\d+)\)", text.splitlines()[line - 1])][1]
    error = f"/a/first.cu:{line}:{place.end() + 4}: error: 'q' was not declared"
    assert refused(error, "first.cu", text, MUTANTS) == {int(place[1])}
    of_line = {k for k, m in MUTANTS.items() if m.line == line}
    assert refused(f"/a/first.cu:{line}:1: error: something else", "first.cu", text, MUTANTS) == of_line
    assert refused("elsewhere: error", "first.cu", text, MUTANTS) == set(MUTANTS)


@needs_compiler
def test_a_kernel_as_it_is_passes():
    said = {}
    outcomes(Job("emulator", "erf_forward", ()), said.__setitem__)
    assert said == {}


@needs_compiler
def test_a_kernel_that_is_wrong_is_no_mutant_s_fault(monkeypatch):
    """A program that does not compute what it should says so as number 0."""
    plain = Runner.composed

    def wrong(self, source, texts):
        source = plain(self, source, texts)
        return replace(source, text=source.text.replace("f_erf(", "1 + f_erf("))

    monkeypatch.setattr(Runner, "composed", wrong)
    said = {}
    outcomes(Job("emulator", "erf_forward", ()), said.__setitem__)
    assert list(said) == [0]
    assert said[0].startswith("n=33")


@needs_compiler
@pytest.mark.slow
def test_a_choice_is_the_mutant(monkeypatch):
    """A kernel whose mutants are of many rules: chosen, they end as they do when each is built by itself."""
    mutants = tuple(m for m in mutants_of(source_of("softmax_forward").name) if "softmax_forward" in m.kernels)
    chosen, alone = {}, {}
    outcomes(Job("emulator", "softmax_forward", mutants), chosen.__setitem__)
    init = Runner.__init__

    def none_is_a_choice(self, *args):
        init(self, *args)
        self.alone = set(self.mutants)

    monkeypatch.setattr(Runner, "__init__", none_is_a_choice)
    outcomes(Job("emulator", "softmax_forward", mutants), alone.__setitem__)
    assert set(chosen) == set(alone)
    assert len(chosen) > 8
