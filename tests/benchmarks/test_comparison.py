"""``--compare``: what is judged by what, and what a file of results is."""

import json

import pytest

from benchmarks.comparison import changes, read, report


def row(name="lenet", ratio=None, ms=1.0, **more):
    found = {"suite": "workloads", "name": name, "mode": "train", "batch": 1, "threads": 1}
    found["sides"] = {"minitorch_flux": {"ms": ms}}
    return found | ({} if ratio is None else {"ratio": ratio}) | more


def results(*rows):
    return {"machine": {}, "rows": list(rows)}


def test_ratios_count_where_there_are_and_times_where_not():
    old = results(row(ratio=1.0, ms=1), row("vit", ms=1.0), row("mlp", ratio=1.0, ms=2.0), row("gone"))
    new = results(row(ratio=1.05, ms=9), row("vit", ms=1.5), row("mlp", ms=2.0), row("new"))
    found = changes(old, new)
    assert [(c.what.split(", ")[1], c.measure, c.factor) for c in found] == [
        ("vit", "time", 1.5), ("lenet", "ratio", 1.05), ("mlp", "time", 1.0)]  # fmt: skip
    text, slower = report(found, 1.1)
    assert slower
    assert text.splitlines() == ["3 rows compared: 1 slower by more than 1.1, 0 faster",
                                 "  slower: workloads, vit, train, 1, 1: time 1 -> 1.5 (x 1.50)"]
    assert not report(found, 1.6)[1]


def test_what_became_faster_is_told_too():
    text, slower = report(changes(results(row(ratio=1.0)), results(row(ratio=0.5))), 1.1)
    assert not slower
    assert "faster: workloads, lenet, train, 1, 1: ratio 1 -> 0.5 (x 0.50)" in text


def test_rows_without_numbers_are_passed_over():
    fit = {"suite": "scaling", "kind": "fit", "sweep": "depth", "sides": {}}
    assert changes(results(row(), fit), results({**row(), "error": "no"}, fit)) == []


def test_peaks_of_memory_and_seconds_of_processes():
    old = results(row(sides={"minitorch_flux": {"peak_bytes": 100}}), row("import", seconds={"minitorch_flux": 1.0}))
    new = results(row(sides={"minitorch_flux": {"peak_bytes": 300}}), row("import", seconds={"minitorch_flux": 2.0}))
    assert [c.factor for c in changes(old, new)] == [3.0, 2.0]


@pytest.mark.parametrize(("text", "message"), [
    ("{", "is no JSON file"), ("[]", "has no results of this suite"), ('{"rows": 3, "machine": {}}', "expected an object with"),
    ('{"results": []}', "has no results"),
])  # fmt: skip
def test_files_that_hold_no_results(text, message, tmp_path):
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_a_file_of_results(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(results(row())))
    assert read(path) == results(row())
