"""The rules that make mutants, on a small text: each place gets what its rule says, comments and idle places nothing."""

import pytest

from tests.readings.mutations import LOOPS, blanked, floats, mutants_in, regions

TEXT = """// first.cu -- ROW_SYNC(); in a comment is no barrier.
#include "flux.h"
#ifdef FLUX_CPU
#define HELP(n) LANES(j, n)
#else
#define PLACE(r) const int at = (r) < rows ? 1 : 0
#endif

struct Two { int a, b; };

template <int K> DEVICE ACC helper(const T* x, ACC v, int n, Two s) {
    ACC total = 0;
    LANES_SUM(total, j, n) total += ACC(x[j]) * v;
    return row_sum(total);
}

KERNEL(first)(const T* __restrict__ x, ACC* __restrict__ y, ACC limit, long long rows, int width, int kh, int kw, int H) {
    ROWS(r, rows, (long long)width * kh) {
        const ACC mean = helper<3>(x, limit, width, {});
        ACC best = limit > 0 ? limit : 0;
        for (int i = 0; i < width; ++i) best = f_max(best, ACC(x[i * H + kh]));
        if (width > 3 && kw >= 2) best += mean;
        const int small = width < H ? width : H;
        LANES(j, small) y[r * width + j] = x[H + j] * w.c[0] + w.c[2] + x[j];
        ROW_SYNC();
        ONE_LANE y[r] = best;
    }
}

KERNEL(second)(T* y, long long n) {
    PLACE(n);
    EACH(i, n) y[i] = T(at);
}
"""


def changes(rule, part=None):
    """(part, what was there, what is there instead) of every mutant of a rule."""
    found = []
    for m in mutants_in("first.cu", TEXT):
        if m.rule == rule and part in (None, m.part):
            found.append((m.part, m.before, m.after))
    return found


def test_regions():
    assert [(r.name, r.kernels) for r in regions("first.cu", TEXT)] == [
        ("first", ("first",)), ("second", ("second",)), ("helper", ("first",)), ("PLACE", ("second",)),
    ]  # fmt: skip


def test_blanks_keep_places():
    code = blanked(TEXT)
    assert len(code) == len(TEXT)
    assert code.count("\n") == TEXT.count("\n")
    assert "comment" not in code
    assert "HELP" not in code
    assert "PLACE" in code


def test_floats():
    body = TEXT[TEXT.index("KERNEL(first)") : TEXT.index("KERNEL(second)")]
    assert floats(body) == {"x", "y", "limit", "mean", "best"}


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("barrier removed", [("first", "ROW_SYNC();", ";")]),
        ("row reduction removed", [("helper", "return row_sum(total);", "return (total);")]),
        ("ONE_LANE removed", [("first", "ONE_LANE y[r] = best;", "y[r] = best;")]),
        ("accumulator narrowed", [
            ("first", "ACC best = limit > 0 ? limit : 0;", "float best = limit > 0 ? limit : 0;"),
            ("helper", "ACC total = 0;", "float total = 0;"),
        ]),
        ("bound removed", [
            ("first", "if (width > 3 && kw >= 2) best += mean;", "if (true && kw >= 2) best += mean;"),
            ("first", "if (width > 3 && kw >= 2) best += mean;", "if (width > 3 && true) best += mean;"),
            ("first", "const int small = width < H ? width : H;", "const int small = true ? width : H;"),
            ("PLACE", "#define PLACE(r) const int at = (r) < rows ? 1 : 0", "#define PLACE(r) const int at = true ? 1 : 0"),
        ]),
        ("gate exchanged", [
            ("first", "LANES(j, small) y[r * width + j] = x[H + j] * w.c[0] + w.c[2] + x[j];",
             "LANES(j, small) y[r * width + j] = x[j] * w.c[0] + w.c[2] + x[j];"),
            ("first", "LANES(j, small) y[r * width + j] = x[H + j] * w.c[0] + w.c[2] + x[j];",
             "LANES(j, small) y[r * width + j] = x[H + j] * w.c[0] + w.c[2] + x[H + j];"),
        ]),
    ],
)  # fmt: skip
def test_rules(rule, wanted):
    assert sorted(changes(rule)) == sorted(wanted)


def test_bounds_are_moved():
    after = [after for _, _, after in changes("bound moved")]
    for wanted in (
        "ROWS(r, (rows) + 1, (long long)width * kh) {", "ROWS(r, (rows) - 1, (long long)width * kh) {",
        "LANES_SUM(total, j, (n) + 1) total += ACC(x[j]) * v;", "EACH(i, (n) - 1) y[i] = T(at);",
        "for (int i = 0; i <= width; ++i) best = f_max(best, ACC(x[i * H + kh]));",
        "if (width >= 3 && kw >= 2) best += mean;", "if (width > 3 && kw > 2) best += mean;",
    ):  # fmt: skip
        assert wanted in after, wanted
    assert not [text for text in after if "limit >=" in text], "a comparison of floating-point numbers is no bound"
    assert not [text for text in after if "width <= H" in text], "of two equal numbers either is the smaller"


REST = """
KERNEL(sums)(const T* x, T* y, int n, int end) {
    EACH(i, n) {
        int k = 0;
        for (; k + 4 <= end; k += 4) y[i] += x[k];
        for (; k < end; ++k) y[i] += x[k];
        for (int m = 0; m + 2 <= n; m += 2) y[m] = 0;
        VECTORS(j, end, 1) vec_store(y + j, Vec{}, end - j);
    }
}
"""


def test_no_bound_is_moved_where_nothing_can_notice():
    moved = [m.after for m in mutants_in("sums.cu", REST) if m.rule == "bound moved"]
    assert moved == [
        "EACH(i, (n) + 1) {", "EACH(i, (n) - 1) {", "for (; k <= end; ++k) y[i] += x[k];",
        "for (int m = 0; m + 2 < n; m += 2) y[m] = 0;", "VECTORS(j, (end) - 1, 1) vec_store(y + j, Vec{}, end - j);",
    ]  # fmt: skip


def test_index_pairs_are_exchanged():
    after = [after for _, _, after in changes("index pair exchanged")]
    for wanted in (
        "for (int i = 0; i < width; ++i) best = f_max(best, ACC(x[kh * H + i]));",
        "for (int i = 0; i < width; ++i) best = f_max(best, ACC(x[i * H + kw]));",
        "LANES(j, small) y[j * width + r] = x[H + j] * w.c[0] + w.c[2] + x[j];",
        "LANES(j, small) y[r * width + j] = x[H + j] * w.c[2] + w.c[2] + x[j];",
        "LANES(j, small) y[r * width + j] = x[H + j] * w.c[0] + w.c[0] + x[j];",
    ):
        assert wanted in after, wanted
    assert not [text for text in after if "width * kw" in text], "how much work a row is decides about speed alone"


def test_keys_are_distinct_and_texts_differ_in_one_place():
    mutants = list(mutants_in("first.cu", TEXT))
    assert len({m.key for m in mutants}) == len(mutants)
    for m in mutants:
        lines = [(a, b) for a, b in zip(TEXT.splitlines(), m.text.splitlines(), strict=True) if a != b]
        assert len(lines) == 1, m.key
        assert TEXT.splitlines()[m.line - 1] == lines[0][0]


def test_the_vocabulary_s_loops_are_all_known():
    from minitorch_flux.readings.source import kernels_folder

    header = (kernels_folder() / "flux.h").read_text()
    for name in ("ROWS", "EACH", "LANES", "LANES_SUM", "LANES_MAX"):
        assert f"#define {name}(" in header
        assert name in LOOPS
