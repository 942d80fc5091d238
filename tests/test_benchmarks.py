"""The benchmark suite: both sides do the same work, its arguments, and the script for GPU machines. No times are looked at."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minitorch_flux as flux
from benchmarks import __main__ as suite
from benchmarks.workloads import WORKLOADS, Setting, Workload, weights
from minitorch_flux.backend.threads import num_threads

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"


@pytest.fixture(autouse=True)
def threads():
    """Sides set the threads of their process, which here is that of all tests."""
    before = num_threads()
    yield
    flux.set_num_threads(before)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(before)


def small(name):
    """A workload with the layers of the real one, few observations and small maps."""
    w = WORKLOADS[name]
    if name in ("resnet18", "invres"):
        w = dataclasses.replace(w, input_shape=(3, 16, 16))  # resnet18 ends in maps of 2 x 2
    return dataclasses.replace(w, batch=4, **({"input_shape": (8,)} if name in ("rnn", "lstm", "gru") else {}))


@pytest.mark.parametrize("name", [w for w in WORKLOADS if w != "resnet18"] + [pytest.param("resnet18", marks=pytest.mark.slow)])
def test_both_sides_do_the_same_work(name):
    pytest.importorskip("torch")
    from benchmarks.flux_side import FluxSide
    from benchmarks.torch_side import TorchSide

    sides = FluxSide(small(name), Setting()), TorchSide(small(name), Setting())
    losses = [[float(side.step()) for _ in range(3)] for side in sides]
    assert suite.difference(name, *losses) < 1e-3


def test_the_networks_whose_accuracy_is_compared_are_the_same():
    torch = pytest.importorskip("torch")
    from benchmarks.accuracy import MODEL, torch_resnet18

    ours = flux.models.get_model(MODEL, inchannels=1, nclasses=10, rng=flux.Generator(0))
    theirs = torch_resnet18(ours, 10)
    x = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(flux.trainmode(ours)(x).numpy(), wanted, atol=1e-3 * np.abs(wanted).max())


def test_a_captured_step_is_the_step():
    from benchmarks.flux_side import FluxSide

    plain, captured = (FluxSide(WORKLOADS["tiny"], Setting(capture=capture)) for capture in (False, True))
    assert [float(plain.step()) for _ in range(5)] == [float(captured.step()) for _ in range(5)]
    assert captured.step.replays == 2
    assert plain.timed(2) > 0
    assert plain.fresh() >= 0


@pytest.mark.parametrize("name", ["tiny", "lstm", "invres", "vit"])
def test_steps_on_a_device(name):
    """Eagerly and as a CUDA graph on a pretended GPU: the losses of the CPU."""
    pytest.importorskip("cupy")
    from benchmarks.flux_side import FluxSide
    from tests.pretended import pretended_gpu

    wanted, before = float(FluxSide(small(name), Setting()).step()), []
    with pretended_gpu():
        for capture in (False, True):
            side = FluxSide(small(name), Setting(device="cuda", capture=capture))
            assert side.device == "a pretended GPU"
            losses = [float(side.step()) for _ in range(4)]
            np.testing.assert_allclose(losses[0], wanted, rtol=1e-4)
            assert side.timed(1) > 0
            assert side.fresh() is None
            if capture:
                assert side.step.replays == 2
                assert losses == before
            before = losses


def test_weights_are_drawn_by_name_and_shape():
    drawn = weights([("0.weight", (3, 4)), ("0.bias", (3,)), ("1.weight", (5,)), ("1.bias", (5,))])
    assert [a.shape for a in drawn] == [(3, 4), (3,), (5,), (5,)]
    assert (drawn[2] == 1).all()
    assert all(abs(a).max() <= 0.5 for a in (drawn[0], drawn[1], drawn[3]))
    assert all(a.dtype == np.float32 for a in drawn)


def test_sides_that_differ_are_not_timed():
    with pytest.raises(SystemExit, match="tiny: the sides do not do the same work"):
        suite.difference("tiny", [1.0, 2.0], [1.0, 2.1])
    with pytest.raises(SystemExit, match="do not do the same work"):
        suite.difference("tiny", [float("nan")], [1.0])
    assert suite.difference("tiny", [1.0, 1e-5], [1.0, 3e-5]) < 1e-2


def test_the_table_names_both_sides(monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    calls = []

    def run_side(side, name, blocks, setting):
        calls.append((side, setting))
        return {"losses": [1.0], "step_s": [1e-3 if side == "flux" else 2e-3], "first_call_s": 1.0, "device": "a device"}

    monkeypatch.setattr(suite, "run_side", run_side)
    assert suite.main(["tiny", "--rounds", "2", "--capture", "--threads", "3", "--json", str(tmp_path / "found.json")]) == 0
    out = capsys.readouterr().out
    assert "| minitorch_flux captured, ms | PyTorch eager, ms |" in out
    assert "**0.50** (0.50 to 0.50)" in out
    assert [side for side, _ in calls] == ["flux", "torch"] * 2
    assert calls[0][1] == Setting(threads=3, capture=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["machine"]["capture"] is True
    assert found["results"][0]["device"] == "a device"
    assert suite.heads(Setting("cuda", graph=True))[1] == "PyTorch as a CUDA graph, ms"


@pytest.mark.parametrize(("arguments", "message"), [
    (["nothing"], "unknown workload 'nothing': choose from tiny, mlp, lenet"),
    (["--tf32"], "--peer-graph and --tf32 are for --device gpu"),
    (["tiny", "--device", "gpu"], "--device gpu: "),
])  # fmt: skip
def test_wrong_arguments(arguments, message, capsys):
    pytest.importorskip("torch")
    if "--device" in arguments:
        from tests import oracles

        if len(oracles.DEVICES) > 1:
            pytest.skip("there is a device")
    with pytest.raises(SystemExit) as stopped:
        suite.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_side_prints_one_line():
    from benchmarks import side

    ran = subprocess.run([sys.executable, "-m", "benchmarks.side", "flux", "tiny", "1", '{"threads": 1}'], cwd=ROOT, text=True,
                         capture_output=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    found = json.loads(ran.stdout)
    assert len(found["losses"]) == 10
    assert set(found) == {"losses", "first_call_s", "step_s", "device", "new_bytes_per_step"}
    assert side.make("flux", WORKLOADS["tiny"], Setting()).step() is not None
    assert isinstance(WORKLOADS["tiny"], Workload)


# -- each kernel's share of what the machine can do --------------------------------------------------------------------


@pytest.mark.slow
def test_every_case_of_the_kernels_runs(tmp_path, capsys):
    from benchmarks import kernels

    assert kernels.main(["--numbers", "4096", "--seconds", "0.001", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert not [row for row in found["rows"] if "error" in row]


def test_some_cases_of_the_kernels_on_a_device(tmp_path, capsys):
    pytest.importorskip("cupy")
    from benchmarks import kernels
    from tests.pretended import pretended_gpu

    with pretended_gpu():
        arguments = ["softmax", "conv_forward, 256", "matmul", "--device", "gpu", "--numbers", "8192", "--seconds", "0.001"]
        assert kernels.main([*arguments, "--dtypes", "float32", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["device"] == "a pretended GPU"
    assert [row["op"] for row in found["rows"]][:2] == ["softmax_forward", "softmax_backward"]
    assert all(row["share"] > 0 and row["kernel"] for row in found["rows"] if "matmul" not in row["op"])


def test_no_case_of_that_name(capsys):
    from benchmarks import kernels

    with pytest.raises(SystemExit):
        kernels.main(["nothing"])
    assert "no case begins with 'nothing'" in capsys.readouterr().err


# -- the script for a machine with a GPU -------------------------------------------------------------------------------


def script(*arguments, **environment):
    return subprocess.run(["bash", str(SCRIPT), *arguments], text=True, capture_output=True, cwd=ROOT,
                          env=os.environ | environment)


def test_a_dry_run_prints_the_commands_and_leaves_nothing(tmp_path):
    ran = script("--dry-run", ON_GPU_RESULTS=str(tmp_path / "results"), ON_GPU_ENVIRONMENT="/opt/environment")
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "results").exists()
    parts = [line[:-1] for line in ran.stdout.splitlines() if line.endswith(":")]
    assert parts == ["install", "tests", "ops", "sanitizer", "examples", "kernels", "training"]
    for command in ("/opt/environment/bin/python -m minitorch_flux train --data digits --epochs 2 --device cuda",
                    "-m benchmarks tiny mlp lenet lstm --device gpu --capture", "--tool racecheck", "examples/names.py"):
        assert command in ran.stdout


def test_one_part():
    ran = script("--dry-run", "kernels")
    assert [line for line in ran.stdout.splitlines() if line.endswith(":")] == ["kernels:"]


@pytest.mark.parametrize(("argument", "message"), [
    ("--wet-run", "on_gpu.sh: unknown option --wet-run (--dry-run, --pretend)"),
    ("kernel", "on_gpu.sh: unknown part kernel: choose from install tests ops"),
])  # fmt: skip
def test_wrong_arguments_of_the_script(argument, message):
    ran = script(argument)
    assert ran.returncode == 2
    assert message in ran.stderr


def test_help():
    ran = script("--help")
    assert ran.returncode == 0
    assert "benchmarks/on_gpu.sh --pretend" in ran.stdout
    assert "set -uo" not in ran.stdout


def test_a_part_that_was_done_is_not_run_again_and_one_that_failed_is(tmp_path):
    """With a Python that answers every command: 0, or 1 for the part ops."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@" >>"' + str(tmp_path) + '/asked"\ncase "$*" in *test_devices*) exit 1;; esac\n')
    python.chmod(0o755)
    results = tmp_path / "results"
    where = {"ON_GPU_RESULTS": str(results), "ON_GPU_ENVIRONMENT": str(tmp_path)}
    ran = script("--pretend", **where)
    assert ran.returncode == 1, ran.stderr
    texts = {p.stem: p.read_text() for p in results.glob("*.txt")}
    assert texts["install"].startswith("done in")
    assert texts["ops"].startswith("failed after")
    assert texts["sanitizer"].startswith("skipped: ")
    assert set(texts) == {"install", "tests", "ops", "sanitizer", "examples", "kernels", "training"}
    asked = (tmp_path / "asked").read_text().count("\n")
    again = script("--pretend", **where)
    assert "tests: done before" in again.stdout
    assert "ops: failed" in again.stdout
    assert (tmp_path / "asked").read_text().count("\n") == asked + 1
    one = script("--pretend", "install", **where)
    assert "install: done in" in one.stdout


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="a GPU is here")
def test_without_a_device_it_says_so(tmp_path):
    ran = script(ON_GPU_RESULTS=str(tmp_path), ON_GPU_ENVIRONMENT=str(tmp_path))
    assert ran.returncode == 0
    assert "training: skipped: nvidia-smi finds no NVIDIA device here" in ran.stdout
