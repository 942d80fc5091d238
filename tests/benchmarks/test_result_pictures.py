"""Tables and pictures of made-up results."""

import json

import pytest

from benchmarks.tables import geometric_mean, tables

SIDES = ("minitorch_flux", "torch", "torch channels_last", "jax")


def side(ms):
    return {"ms": ms, "min_ms": ms, "max_ms": ms, "turns_ms": [ms], "first_s": 1.0, "touched_bytes": 4096.0, "fresh_bytes": 0.0,
            "peak_bytes": int(ms * 1e6), "model_bytes": 10}  # fmt: skip


def row(suite, name, mode, n=4, **more):
    found = {s: side(2.0 + i) for i, s in enumerate(SIDES[:n])}
    ratios = {s: {"median": 0.5 + i, "min": 0.4 + i, "max": 0.6 + i} for i, s in enumerate(SIDES[1:n])}
    return {"suite": suite, "name": name, "what": "what it is", "mode": mode, "batch": 8, "threads": 1, "sides": found,
            "ratios": ratios, "best": "torch", "ratio": 0.5, "difference": 1e-6, "device": "d", **more}  # fmt: skip


def results():
    rows = [row("workloads", name, mode, threads=n) for name in ("lenet", "vit") for mode in ("train", "infer") for n in (1, 2)]
    rows += [row("workloads", "mlp", "train") | {"ratio": 1.7}]
    failed = {"what": "", "batch": 1, "threads": 1, "sides": {}}
    rows += [{"suite": "workloads", "name": "gru", "mode": "train", "error": "a | b\nlast", **failed}]
    for i, (name, family) in enumerate([("conv 3x3", "convolution"), ("relu", "nonlinearities"), ("softmax", "softmaxes")]):
        rows.append(row("ops", name, "infer", family=family, operations=1e6 * 30**i, bytes=1e6, flops=1e9 * 5**i))
        rows.append(row("ops", name, "gradient", family=family))
    rows.append(row("random", "1x3x5x5 to 7, 3x3", "infer"))
    depth = {"sweep": "depth", "axis": "layers"}
    rows += [row("scaling", "deep", "train", size=n, **depth) | {"sides": {s: side(0.1 * n) for s in SIDES}}
             for n in (4, 16, 64)]
    rows.append({"suite": "scaling", "kind": "fit", "power": 1, "threads": 1, "as_expected": True, **depth,
                 "sides": {s: {"time": 1.0, "cliff": 1.01, "memory": 0.9} for s in SIDES}})
    rows += [row("scaling", "vit", "train", sweep="threads, vit", axis="threads", size=n) for n in (1, 2)]
    rows.append(row("overhead", "relu of 4 numbers", "infer", kind="op"))
    rows.append({"suite": "overhead", "kind": "process", "name": "import", "mode": "once", "batch": 0, "threads": 1,
                 "seconds": {"minitorch_flux": 0.1, "torch": 2.0}})
    rows.append(row("memory", "vit", "train"))
    rows.append({"suite": "memory", "name": "gru", "mode": "infer", "error": "died", **failed})
    about = {"processor": "a processor", "cores": 2, "blas": "a BLAS", "compiler": "c++ 12", "versions": {"numpy": "2"}}
    return {"machine": {**about, "date": "2026-01-01", "load": 0.1},
            "ceilings": {"1": {"flops": 1e11, "copy": 1e10, "fresh": 4e9}}, "rows": rows}  # fmt: skip


def test_tables():
    text = tables(results())
    for part in (
        "a processor, 2 cores, a BLAS", "At 1 thread: 100 GFLOP/s in a matrix product, 10.0 GB/s copying, 4.0 GB/s into fresh",
        "## Workloads", "| lenet: what it is, training step, batch 8 | 1 | 2 | 3 | 4 | 5 | **0.50** (0.40 to 0.60) | 1.50",
        "not measured: last", "training step, 1 thread: geometric mean 0.75, median 0.50, worst 1.70 (mlp)", "## Ops",
        "## Convolutions of random shapes", "| depth | n^1 | n^1.00 |", "| vit | 2 | 2 | 3 |",
        "| relu of 4 numbers, inference | 2000", "| import | 0.10 | 2.00 |",
        "| vit, training step, batch 8 | 2.0 | 3.0 | 4.0 | 5.0 | **0.50** |", "gru, inference: not measured: died",
    ):  # fmt: skip
        assert part in text, part
    widths = [line.count(" | ") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) > 0
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2)


def test_every_picture_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.plots import draw

    made = draw(results(), tmp_path / "plots")
    assert [path.name for path in made] == [
        "workloads-ratios.png", "ops-ratios.png", "random-ratios.png", "overhead.png", "memory.png", "scaling.png",
        "scaling-threads.png", "roofline-1-thread.png"]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in made)
    assert draw(results() | {"rows": []}, tmp_path) == []


def test_pictures_from_files(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from benchmarks.plots.__main__ import main

    found = results()
    found["rows"] = [r for r in found["rows"] if r["suite"] in ("overhead", "memory")]
    for i, rows in enumerate((found["rows"][:2], found["rows"][1:])):
        (tmp_path / f"{i}.json").write_text(json.dumps(found | {"rows": rows}))
    main([str(tmp_path / "0.json"), str(tmp_path / "1.json"), str(tmp_path / "out")])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["memory.png", "overhead.png"]
    with pytest.raises(SystemExit):
        main([str(tmp_path / "no.json"), str(tmp_path / "out")])
    assert "no.json" in capsys.readouterr().err
