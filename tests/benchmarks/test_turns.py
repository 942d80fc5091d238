"""Validation before timing, turns, ratios; the processes of the sides. No times are looked at."""

import numpy as np
import pytest

from benchmarks import turns
from benchmarks.peers import OURS, PEERS, Peer, Side, sides
from benchmarks.tasks import Setting, Task
from benchmarks.turns import Difference, Plan, difference, measure, ratios
from benchmarks.workers import Team, Worker, WorkerFailed
from benchmarks.workloads import WORKLOADS

TINY = Task(WORKLOADS["tiny"], "train")
QUICK = Plan(rounds=2, blocks=1, seconds=1e-4, answers=2)


class Pretended:
    """A worker whose answers are made up."""

    alive = True

    def __init__(self, side, answers, seconds=1e-3, log=None, fails=False):
        self.side, self.answers, self.seconds, self.log, self.fails = side, answers, seconds, log, fails
        self.about = {"device": "a device"}

    def ask(self, question, *arguments):
        if question == "prepare":
            if self.fails:
                raise WorkerFailed("Traceback ...\nRuntimeError: not today")
            return {"answers": [np.array(self.answers)], "first_s": 1.0, "peak_bytes": 5, "model_bytes": 2}
        return 3

    def turn(self, calls, blocks):
        self.log.append(self.side.name)
        return {"seconds": [self.seconds] * blocks, "touched_bytes": 0.0, "fresh_bytes": 8.0}


class PretendedTeam:
    def __init__(self, *workers):
        self.workers = {w.side.name: w for w in workers}


def team(theirs=(1.0, 2.0), last=(1.0, 2.0), **more):
    log = []
    ours, torch, jax = (Side(OURS), Side(PEERS["torch"]), Side(PEERS["jax"]))
    return log, PretendedTeam(Pretended(ours, [1.0, 2.0], 1e-3, log), Pretended(torch, theirs, 2e-3, log),
                              Pretended(jax, last, 4e-3, log, **more))


def test_the_sides_take_turns_and_ratios_are_told_to_the_first_peer():
    log, three = team()
    row = measure(three, TINY, Plan(rounds=2))
    assert log == ["minitorch_flux", "torch", "jax"] * 2
    assert row["ratio"] == 0.5
    assert row["best"] == "torch"
    assert row["ratios"]["jax"] == {"median": 0.25, "min": 0.25, "max": 0.25}
    assert row["sides"]["minitorch_flux"] == {
        "ms": 1.0, "min_ms": 1.0, "max_ms": 1.0, "turns_ms": [1.0, 1.0], "first_s": 1.0, "touched_bytes": 0.0,
        "fresh_bytes": 8.0, "peak_bytes": 5, "model_bytes": 2, "idle_cpu_s": 0,
    }  # fmt: skip
    assert row["difference"] == 0


def test_a_wrong_model_is_refused_before_anything_is_timed():
    log, three = team(last=(1.0, 2.1))
    with pytest.raises(Difference, match="tiny, train: the sides do not do the same work: losses"):
        measure(three, TINY, Plan())
    assert log == []


def test_a_peer_that_fails_is_left_out_with_a_word():
    log, three = team(fails=True)
    row = measure(three, TINY, Plan(rounds=1))
    assert row["absent"] == {"jax": "RuntimeError: not today"}
    assert log == ["minitorch_flux", "torch"]


@pytest.mark.parametrize(("mode", "ours", "theirs"), [
    ("train", [1.0, 2.0], [1.0, 2.1]), ("train", [float("nan")], [1.0]), ("infer", [1.0, 0.0], [1.0, 0.01]),
    ("gradient", [[1.0]], [1.0]), ("update", [float("inf")], [1.0]),
])  # fmt: skip
def test_answers_that_differ(mode, ours, theirs):
    with pytest.raises(Difference, match="do not do the same work"):
        difference(Task(WORKLOADS["tiny"], mode), [np.array(ours)], [np.array(theirs)])


def test_answers_that_agree():
    assert difference(TINY, [np.array([1.0, 1e-5])], [np.array([1.0, 3e-5])]) < 1e-2
    assert difference(Task(WORKLOADS["tiny"], "infer"), [np.array([100.0, 0.0])], [np.array([100.0, 0.01])]) < 1e-3
    assert difference(Task(WORKLOADS["tiny"], "infer"), [np.zeros((0, 2))], [np.zeros((0, 2))]) == 0


def test_the_better_layout_counts():
    found = {name: {"ms": m, "turns_ms": [m, m]}
             for name, m in {"minitorch_flux": 3.0, "torch": 4.0, "torch channels_last": 2.0, "jax": 1.0}.items()}
    row = ratios(found, ["minitorch_flux", "torch", "torch", "jax"])
    assert row["best"] == "torch channels_last"
    assert row["ratio"] == 1.5
    assert row["ratios"]["torch"]["median"] == 0.75
    assert ratios({k: v for k, v in found.items() if k in ("minitorch_flux", "jax")}, ["jax"])["best"] == "jax"
    assert ratios({"minitorch_flux": found["minitorch_flux"]}, ["torch"]) == {"ratios": {}}


def test_a_worker_answers_and_stays():
    with Team(sides(()), Setting(threads=1)) as alone:
        row = measure(alone, TINY, QUICK)
        assert row["sides"]["minitorch_flux"]["fresh_bytes"] == 0
        assert row["difference"] is None
        assert "ratio" not in row
        worker = alone.workers["minitorch_flux"]
        pid = worker.process.pid
        assert measure(alone, Task(WORKLOADS["tiny"], "infer"), QUICK)["output_shape"] == [4, 2]
        assert worker.process.pid == pid
        assert alone.idle_cpu().keys() == {"minitorch_flux"}
        with pytest.raises(WorkerFailed, match="minitorch_flux failed:(.|\n)*no task is ready"):
            worker.ask("time", 1, 1)
        assert worker.alive
        tops = worker.ask("ceilings", True)
        assert set(tops) == {"flops", "copy", "fresh"}
        worker.process.kill()
        with pytest.raises(WorkerFailed, match="minitorch_flux died"):
            worker.ask("drop")
        assert not worker.alive


def test_a_side_that_cannot_start():
    with pytest.raises(WorkerFailed, match="no_such_framework"):
        Worker(Side(Peer("no_such_framework", "Nobody")), Setting())


def test_plans_have_a_tolerance_for_every_mode():
    from benchmarks.tasks import MODES

    assert set(turns.TOLERANCE) == set(MODES)
