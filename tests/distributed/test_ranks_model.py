"""The model of a step's time that benchmarks/ranks.py compares with measurements."""

import pytest

from benchmarks.ranks import LARGE, main, predicted, transfer


def test_a_ring_moves_two_n_minus_one_parts():
    assert transfer(1, 1e9, 10, 1.0, 1.0) == 0
    assert transfer(4, 1000, 2, 0.5, 100) == pytest.approx(2 * 3 * (2 * 0.5 + 1000 / 4 / 100))


def test_the_prediction_gives_back_what_it_was_fitted_to():
    """A sum of 4 MiB takes what was measured for one, beside the step and the agreements."""
    small, large = 1e-4, 5e-3
    assert predicted(3, 0.0, 8, LARGE, small, large) == pytest.approx(large + 3 * small)
    assert predicted(1, 0.7, 1, 1e9, small, large) == 0.7
    assert predicted(4, 1.0, 2, 4, small, large) > 2.0, "four ranks on two cores take twice the time"


def test_the_extrapolation_hides_what_it_can(capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.ranks.measure", lambda *_: [])
    assert main(["mlp", "--gpu-step-ms", "1e6"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("100% |")
    assert main(["mlp", "--gpu-step-ms", "0.001"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(" 0% |")
