"""The arithmetic of steps on several ranks, its limits, and the command around it. No times are looked at."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import ranks
from benchmarks.rank_model import BUCKET, Cluster, Links, Work, exposed, lateness, parts, predicted, ring, together, tree

INSTANT = Links((8, BUCKET), (0.0, 0.0))


def test_one_rank_and_links_without_latency_leave_the_work():
    work = Work(0.7, 0.8, 0.9, (10.0, 1e9), 0.25)
    assert predicted(work, INSTANT) == pytest.approx(0.9 + 0.25)
    assert predicted(Work(0.7, 0.7, 0.7), Links((8,), (5.0,))) == 0.7, "who waits for nobody pays nothing"
    assert list(parts(work, INSTANT).values()) == pytest.approx([0.7, 0.1, 0.1, 0.25, 0.0])


def test_sums_lie_on_lines_between_the_sizes_measured():
    links = Links((8, 100, 1000), (1.0, 2.0, 11.0))
    assert [links.sum(n) for n in (1, 8, 100, 550, 1000, 2000)] == pytest.approx([1, 1, 2, 6.5, 11, 21])
    assert Links((8, 100), (1.0, 0.5)).sum(1e6) == 0, "noise never makes a sum faster than nothing"
    assert predicted(Work(1.0, 1.0, 1.0, (100, 550)), links) == pytest.approx(1 + 2 + 6.5)


def test_who_computes_at_once():
    two = [[1.0, 4.0, 9.0], [3.0, 2.0]]
    assert together(two, 2) == pytest.approx((3 + 4) / 2), "with cores enough the slowest counts"
    assert lateness(two, 2) == pytest.approx(2)
    assert together([[2.0, 4.0], [3.0], [3.0], [3.0]], 2) == pytest.approx(3), "otherwise they share"
    assert lateness([[2.0, 4.0], [3.0], [3.0], [3.0]], 2) == pytest.approx(3 / 2)
    assert lateness([[1.0, 2.0]], 2) == 0


@given(st.integers(1, 512), st.floats(1, 1e10), st.integers(1, 1000), st.floats(0, 1e-3), st.floats(1e6, 1e12))
def test_limits_of_transfers(n, nbytes, pieces, alpha, beta):
    for f in (ring, tree):
        assert f(1, nbytes, pieces, alpha, beta) == 0, "one rank moves nothing"
        assert f(n, nbytes, pieces, 0.0, math.inf) == 0
        assert f(n, nbytes, pieces, alpha, beta) >= 0
    assert ring(n, nbytes, pieces, 0.0, beta) == pytest.approx(2 * (n - 1) / n * nbytes / beta)
    assert ring(n, nbytes, pieces, alpha, math.inf) == pytest.approx(2 * (n - 1) * pieces * alpha)
    assert ring(n, nbytes, pieces, 0.0, beta) <= 2 * nbytes / beta, "a ring moves every byte less than twice"


@given(st.floats(0, 10), st.integers(1, 100), st.floats(0, 10))
def test_what_the_backward_pass_hides(moved, pieces, backward):
    left = exposed(moved, pieces, backward)
    assert moved / pieces <= left <= moved, "never the last piece, never more than all"
    assert left >= moved - backward
    assert exposed(moved, pieces, 0.0) == moved


@given(st.floats(1e-3, 1), st.floats(1e3, 1e9), st.floats(1e-7, 1e-3), st.floats(1e9, 1e12))
def test_clusters(step, nbytes, latency, bandwidth):
    cluster = Cluster(step, nbytes, (latency, bandwidth), (latency, bandwidth))
    rows = [cluster.row(hosts) for hosts in ranks.HOSTS]
    efficiencies = [row["efficiency"] for row in rows]
    assert all(0 < e <= 1 for e in efficiencies)
    assert efficiencies == sorted(efficiencies, reverse=True), "more hosts never help"
    assert all(row["step_s"] >= step for row in rows)
    free = Cluster(step, nbytes, (0.0, math.inf), (0.0, math.inf))
    assert free.row(64)["efficiency"] == 1
    assert Cluster(step, nbytes, (0.0, math.inf), (0.0, math.inf), gpus=1).moved(1) == 0


def found(n):
    """What a worker prints."""
    alone = {"alone": 0.010, "step": 0.02, "steps": [0.018, 0.02, 0.024], "exchanges": [], "sizes": [8, 1024], "cores": 2}
    if n == 1:
        return alone
    crowded = {"watched": 0.001} if n > 2 else {}
    return alone | crowded | {"plain": 0.012, "ready": 0.013, "late": 0.001, "sums": [1e-4, 2.3e-3], "exchanges": [1024, 8],
                              "at_end": 0.021}  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
    """Nobody measures; what was asked for."""
    asked = []
    monkeypatch.setattr(ranks, "on_ranks", lambda n, name, share, rounds: asked.append((n, name, share, rounds)) or found(n))
    return asked


def test_the_command(measured, tmp_path, capsys):
    path = tmp_path / "ranks.json"
    options = ["--ranks", "1", "2", "4", "--rounds", "2", "--json", str(path), "--plots", str(tmp_path)]
    assert ranks.main(["lenet", "resnet18", *options]) == 0
    shares = [(name, n, share) for n, name, share, _ in measured]
    weak = {name: [(name, n, share) for n in (1, 2, 4)] for name, share in (("lenet", 64), ("resnet18", 4))}
    assert shares == [("lenet", 1, 128), ("lenet", 2, 64), ("lenet", 4, 32), *weak["lenet"],
                      ("resnet18", 1, 8), ("resnet18", 2, 4), ("resnet18", 4, 2), *weak["resnet18"]]  # fmt: skip
    rows = json.loads(path.read_text())["rows"]
    assert [row["predicted_s"] for row in rows[:3]] == pytest.approx([0.010, 0.013 + 2.4e-3, 0.013 + 2.4e-3 + 0.001])
    assert rows[1]["error"] == pytest.approx(15.4 / 20 - 1)
    out = capsys.readouterr().out
    assert "| lenet | 2 x 64 | 20.00 (18.00 to 24.00) | 15.40 | -23% | 10.00 | 2.00 | 1.00 | 0.00 | 2.40 | +1.00 |" in out
    assert "largest 23%; with a core for every rank at most 23%." in out
    assert "Nothing of this was measured: no GPU took part." in out
    assert (tmp_path / "ranks.png").stat().st_size > 10_000


def test_assumptions_are_arguments(measured, capsys):
    assert ranks.main(["mlp", "--ranks", "1", "--gpu-step-ms", "1e6"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("100% |")
    assert ranks.main(["mlp", "--ranks", "1", "--gpu-step-ms", "0.001"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(" 0% |")


@pytest.mark.parametrize(("arguments", "message"), [
    (["nothing"], "there is no workload 'nothing': choose from tiny, mlp, lenet"),
    (["mlp", "--ranks", "0"], "--ranks and --rounds must be at least 1"),
])  # fmt: skip
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        ranks.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_ranks_without_mpi_or_that_fail(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(SystemExit, match=r"there is no /nowhere/mpiexec: pip install 'minitorch-flux\[mpi\]'"):
        ranks.on_ranks(2, "tiny", 2, 1)


def test_a_worker_measures():
    """Two ranks, one round: every parameter is there."""
    pytest.importorskip("mpi4py")
    row = ranks.row_of(ranks.on_ranks(2, "tiny", 2, 1, 0.01), workload="tiny", scaling="strong", ranks=2, share=2)
    assert row["waits"] == 1, "ranks wait for each other once in a step"
    assert row["bytes"] == 4 * (2 * 16 + 16 + 16 * 2 + 2) + 8 * (1 + 1 + 4), "the gradients; count, loss, who has a gradient"
    assert row["step_s"] > 0
    assert all(s > 0 for s in row["sums_s"])
