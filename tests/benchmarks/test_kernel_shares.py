"""Each kernel's share of what the machine can do: the command, small. No times are looked at."""

import json

import pytest


def test_every_function_with_a_kernel_has_a_case():
    from benchmarks.kernels import CASES
    from minitorch_flux.backend import FUNCTIONS

    cases = {name.partition(",")[0] for name in CASES}
    ours = {name: f for name, f in FUNCTIONS.items() if f.reference.__module__.startswith("minitorch_flux.")}
    assert {name for name, f in ours.items() if f.launcher is not None} <= cases


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
