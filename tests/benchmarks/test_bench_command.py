"""The command: its arguments, its suites in a shrunken form, its files. No times are looked at."""

import dataclasses
import json

import pytest

from benchmarks import command
from benchmarks.op_cases import CASES, UPDATES, conv, layer
from benchmarks.peers import PEERS
from benchmarks.suites import ops, overhead, scaling
from minitorch_flux.cli import main as flux_main

NOBODY = ["--quick", "--peers", "none", "--rounds", "1", "--blocks", "1", "--seconds", "0.0001", "--threads", "1"]


@pytest.fixture
def shrunken(monkeypatch):
    """Suites of few and small rows."""
    monkeypatch.setattr(command, "QUICK", dataclasses.replace(command.QUICK, seconds=1e-4, answers=2))
    cases = [conv("a net", 1, 3, 4, 8, 3),
             layer("relu", "", "nonlinearities", ("function", "relu"), (2, 8)),
             layer("argmax", "", "extremes", ("function", "argmax"), (2, 8), gradient=False)]
    monkeypatch.setattr(ops, "CASES", [dataclasses.replace(case, quick=True) for case in cases])
    monkeypatch.setattr(ops, "UPDATES", UPDATES[1:])
    monkeypatch.setattr(scaling, "SWEEPS", [dataclasses.replace(scaling.SWEEPS[2], sizes=(1, 2, 4))])
    monkeypatch.setattr(scaling, "_threads", lambda options: iter(()))
    monkeypatch.setattr(overhead, "SMALL", overhead.SMALL[:1])
    monkeypatch.setattr(overhead, "_processes", lambda o: iter([overhead._row("import", o, {"minitorch_flux": 0.1})]))


@pytest.mark.usefixtures("shrunken")
def test_suites_without_a_peer(tmp_path, capsys):
    path = tmp_path / "found.json"
    names = ["tiny", "ops", "scaling", "overhead", "memory"]
    files = ["--json", str(path), "--markdown", str(tmp_path / "found.md")]
    assert command.main([*names, *NOBODY, "--random", "0", "--batch", "own,2", *files]) == 0
    out = capsys.readouterr().out
    assert "no peer takes part: ours is timed alone" in out
    found = json.loads(path.read_text())
    assert {row["suite"] for row in found["rows"]} == {"workloads", "ops", "scaling", "overhead", "memory"}
    assert [(r["mode"], r["batch"]) for r in found["rows"] if r["suite"] == "workloads"] == [
        ("train", 4), ("train", 2), ("infer", 4), ("infer", 2)]  # fmt: skip
    assert all("error" not in row for row in found["rows"])
    assert found["machine"]["processor"]
    assert set(found["ceilings"]["1"]) == {"flops", "copy", "fresh"}
    assert found["setting"]["threads"] == [1]
    flops = {row["name"]: row["flops"] for row in found["rows"] if "flops" in row}
    assert set(flops) == {"conv 3x3, 3-4, 8x8", "relu", "argmax"}
    fit = next(row for row in found["rows"] if row.get("kind") == "fit")
    assert fit["sides"]["minitorch_flux"].keys() >= {"time", "cliff"}
    assert "## Memory" in (tmp_path / "found.md").read_text()
    # nothing is slower than itself; everything is slower than in a tenth of the time
    assert command.report_of(path, found, 1.1) == 0
    for row in found["rows"]:
        for side in row.get("sides", {}).values():
            side["ms"] = 10 * side.get("ms", 1)
    assert command.report_of(path, found, 1.1) == 1
    assert "slower: workloads, tiny, train" in capsys.readouterr().out


def test_compare_fails_where_something_became_slower(monkeypatch, tmp_path, capsys):
    """A doctored file: everything took a millionth, or a million times, of what it takes now."""
    path = tmp_path / "old.json"
    asked = ["tiny", *NOBODY, "--batch", "own"]
    assert command.main([*asked, "--json", str(path)]) == 0
    text = path.read_text()
    monkeypatch.setattr(command, "measured", lambda *_: json.loads(text))
    for factor, more, code in ((1e-6, [], 1), (1e6, [], 0), (1e-6, ["--threshold", "1e12"], 0)):
        old = json.loads(text)
        for row in old["rows"]:
            row["sides"]["minitorch_flux"]["ms"] *= factor
        path.write_text(json.dumps(old))
        assert command.main([*asked, "--compare", str(path), *more]) == code
        assert f"2 rows compared: {2 * code} slower" in capsys.readouterr().out


@pytest.mark.usefixtures("shrunken")
@pytest.mark.parametrize("name", ["tiny", pytest.param("lenet", marks=pytest.mark.slow)])
def test_beside_pytorch(name, tmp_path, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "found.json"
    given = [name, "--batch", "1", "--modes", "infer", "--quick", "--threads", "1", "--peers", "torch"]
    assert command.main([*given, "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert list(row["sides"]) == ["minitorch_flux", "torch", "torch channels_last"][: 2 + (name == "lenet")]
    assert row["best"].startswith("torch")
    assert row["difference"] < 1e-3
    assert f"| **{row['ratio']:.2f}**" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (["nothing"], "there is no suite or workload 'nothing': choose from workloads, ops, scaling, overhead, memory, tiny, mlp"),
    (["--tf32"], "--peer-graph and --tf32 are for --device gpu"),
    (["tiny", "--peers", "theano"], "there is no peer 'theano': choose from torch, jax, or none"),
    (["tiny", "--modes", "sleep"], "--modes: expected train, infer or both, got 'sleep'"),
    (["tiny", "--threads", "0"], "expected whole numbers of at least 1, such as 1,2, got '0'"),
    (["tiny", "--batch", "x"], "expected numbers of at least 1 and own, such as own,1, got 'x'"),
    (["tiny", "--threshold", "0"], "expected a number above 0, got '0'"),
    (["tiny", "--rounds", "0"], "argument --rounds: expected a whole number of at least 1, got '0'"),
    (["tiny", "--random", "-1"], "--random must be at least 0, got -1"),
    (["tiny", "--compare", "no.json"], "no.json"),
    (["tiny", "--device", "gpu"], "--device gpu: "),
])  # fmt: skip
def test_wrong_arguments(arguments, message, capsys):
    if "--device" in arguments:
        from tests import oracles

        if len(oracles.DEVICES) > 1:
            pytest.skip("there is a device")
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_suites_of_the_cpu_alone(monkeypatch, capsys):
    monkeypatch.setattr(command, "_missing_device", lambda peers: None)
    with pytest.raises(SystemExit):
        command.main(["memory", "--device", "gpu"])
    assert "memory is measured on the CPU alone: on a GPU there are workloads and ops" in capsys.readouterr().err


def test_an_installed_program_has_it_too(capsys):
    for arguments in (["bench", "--help"], ["bench", "nothing"]):
        with pytest.raises(SystemExit) as stopped:
            flux_main(arguments)
        assert stopped.value.code == (0 if "--help" in arguments else 2)
    said = capsys.readouterr()
    assert "usage: minitorch-flux bench" in said.out
    assert "minitorch-flux bench: error: there is no suite or workload 'nothing'" in said.err


def test_a_peer_that_is_not_installed(monkeypatch, capsys):
    nobody = dataclasses.replace(PEERS["torch"], name="no_such_framework", title="Nobody")
    monkeypatch.setitem(PEERS, "torch", nobody)
    suites, options = command.chosen(command.parser("p"), command.parser("p").parse_args(["tiny", "--peers", "torch"]))
    assert suites == ["workloads"]
    assert options.peers == ()
    assert options.names == ("tiny",)
    assert "Nobody is not installed, so it is not measured: pip install no_such_framework" in capsys.readouterr().out


def test_no_name_means_every_suite():
    suites, options = command.chosen(command.parser("p"), command.parser("p").parse_args(["--quick", "--peers", "none"]))
    assert suites == list(command.SUITES)
    assert options.quick
    assert options.batches == ("own",)
    assert sum(case.quick for case in CASES) > 5


def test_growth_is_fitted_to_the_larger_sizes():
    assert scaling.exponent([1, 2, 4, 8, 16], [5.0, 5.0, 4.0, 8.0, 16.0]) == pytest.approx(1)
    assert scaling.cliff([1, 2, 4], [1.0, 2.0, 12.0], 1) == 3
    rows = [{"size": n, "sides": {"minitorch_flux": {"ms": float(n * n), "peak_bytes": n}}} for n in (1, 2, 4)]
    fit = scaling.fit(scaling.SWEEPS[0], rows, 1)
    assert not fit["as_expected"]
    assert fit["sides"]["minitorch_flux"]["time"] == pytest.approx(2)
    assert scaling.fit(scaling.SWEEPS[0], rows[:2], 1)["sides"] == {}


def test_import_is_timed_in_a_process():
    assert overhead.import_seconds("json") > 0


def test_shapes_drawn_at_random_are_cases_of_the_suite():
    assert [c.family for c in ops.random_convolutions(2)] == ["convolution"] * 2
