"""Data parallel training against one process: gradients, runs, shards, resuming, and what happens when a rank fails."""

import collections
import functools
import json
import re
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import distributed
from minitorch_flux.distributed import waiting
from minitorch_flux.distributed.groups import Group

from . import jobs, ranks

TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.mark.parametrize(("n", "batches"), [(2, (8, 5)), (3, (7, 1)), (4, (6, 3))])
def test_gradients_are_those_of_one_process_on_the_whole_batch(n, batches):
    """Uneven shares and empty ones, batch normalisation, a layer that is used twice; by buckets and by allreduce."""
    for batch, found in zip(batches, zip(*ranks.run(n, "gradients", *batches), strict=True), strict=True):
        x, y = jobs.data(batch)
        m, plain = jobs.model(), jobs.model(norm=False)
        f = functools.partial(jobs.loss, x=x, y=y)
        value, grads = flux.withgradient(f, m)
        for result in found:
            assert result == found[0], "all ranks have the same bits"
        np.testing.assert_allclose(result["value"], value, **TOLERANCE)
        for a, b in zip(result["grads"], jobs.leaves(grads), strict=True):
            np.testing.assert_allclose(a, b, **TOLERANCE)
        np.testing.assert_allclose(result["running"], m[1].running_var.data, **TOLERANCE)
        assert (result["allreduce"] is None) == (batch < n)
        if batch >= n:
            for a, b in zip(result["allreduce"], jobs.leaves(flux.gradient(f, plain)), strict=True):
                np.testing.assert_allclose(a, b, **TOLERANCE)
        counts = [len(part) for part in np.array_split(np.arange(batch), n)]
        np.testing.assert_allclose(result["beside"]["count"], sum(c * c for c in counts) / batch)


def test_ranks_that_go_different_ways():
    """Each parameter has a gradient on some ranks only, in its own dtype; inner gradients are nobody else's concern."""
    found = ranks.together()["forked"]
    m = jobs.Forked()
    x = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    parts = [flux.gradient(functools.partial(lambda m, r: m.loss(x[2 * r : 2 * r + 2], r), r=r), m) for r in range(3)]
    for result in found:
        assert result == found[0]
        assert result["frozen"] is result["unused"] is None
        for name in ("first", "left", "right"):
            own = [getattr(g, name) for g in parts]
            expected = sum(g.weight.astype(np.float64) / 3 for g in own if g is not None)
            dtype, numbers = result[name]
            assert dtype == str(getattr(m, name).weight.dtype)
            np.testing.assert_allclose(numbers, expected, rtol=2e-3 if name == "first" else 1e-5, atol=1e-5)


def test_a_run_is_that_of_one_process():
    found = ranks.together()["plain_training"]
    m = jobs.model()
    loader = flux.DataLoader(jobs.data(23), 6, shuffle=True, rng=flux.Generator(3))
    state = flux.train(jobs.scored, m, loader, flux.Adam(1e-2), epochs=2)
    score = flux.evaluate(m, jobs.data(23), loss=flux.losses.logitcrossentropy)["loss"]
    history = [[row["loss"], row["accuracy"]] for row in state.history]
    for result in found:
        assert result["numbers"].keys() == jobs.numbers(m).keys()
        for path, a in jobs.numbers(m).items():
            np.testing.assert_allclose(result["numbers"][path], a, rtol=1e-6, atol=1e-9, err_msg=path)
        np.testing.assert_allclose(result["history"], history, rtol=1e-7)
        np.testing.assert_allclose(result["score"], score, rtol=1e-7)


def test_runs_repeat_bit_by_bit_and_resume_on_any_number_of_ranks(tmp_path):
    whole, again, first = (tmp_path / name for name in ("whole", "again", "first"))
    for folder in (whole, again, first):
        folder.mkdir()
    a, b = ranks.run(3, "training", whole, 3), ranks.run(3, "training", again, 3)
    assert [r["digest"] for r in a] == [r["digest"] for r in b] == [a[0]["digest"]] * 3
    assert len({r["key"] for r in a}) == 3, "every rank draws noise of its own"
    assert [r["observations"] for r in a] == [3 * 23] * 3
    ranks.run(3, "training", first, 2)
    checkpoint = str(first / "run.safetensors")
    resumed = ranks.run(3, "training", first, 3, checkpoint)
    assert [r["digest"] for r in resumed] == [a[0]["digest"]] * 3, "as if it had never stopped"
    assert (first / "log.csv").read_text().count("\n") == 4
    for n in (1, 2):
        other = ranks.run(n, "training", first, 4, checkpoint)
        assert len(other[0]["history"]) == 4
        assert len({r["digest"] for r in other}) == 1


def test_shards_are_disjoint_complete_and_reshuffled():
    found = ranks.together()["shards"]
    assert {r["length"] for r in found} == {4}
    epochs = []
    for e in range(2):
        batches = [sum((r["batches"][e][i] for r in found), []) for i in range(4)]
        assert [len(b) for b in batches] == [5, 5, 5, 2]
        assert sorted(sum(batches, [])) == list(range(17))
        epochs.append(batches)
    assert epochs[0] != epochs[1]
    assert found[1]["repr"].endswith("4 batches, rank 1 of 3")
    flux.seed(11)  # one process has the same batches
    alone = distributed.DistributedLoader(np.arange(17), 5, shuffle=True)
    assert [[b.tolist() for b in alone] for _ in range(2)] == epochs


def test_sums_broadcasts_words_and_agreements():
    for rank, result in enumerate(ranks.run(4, "arrays")):
        assert result[0] == [6.0, 10.0, 14.0, 18.0]
        assert result[1] == [3.0, 4.0, 5.0, 6.0]
        assert result[2] == [{"rank": r, "word": "ä" * r} for r in range(4)]
        assert result[3] == ("enough" if rank == 1 else "rank 1: enough")
        assert result[4:] == ["", [rank, 4, True, True]]


def test_gradient_accumulation_and_a_second_group():
    found = ranks.together()["several"]
    m = jobs.model(norm=False)
    opt = flux.setup(flux.OptimiserChain(flux.AccumGrad(2), flux.Adam(1e-2)), m)
    for n in (8, 5, 7, 2):
        flux.update(opt, m, flux.gradient(functools.partial(lambda m, b: jobs.loss(m, *b), b=jobs.data(n)), m))
    for rank, result in enumerate(found):
        for path, a in jobs.numbers(m).items():
            np.testing.assert_allclose(result["numbers"][path], a, rtol=1e-9, atol=1e-12, err_msg=path)
        size, value, grads = result["half"]
        assert size == (1 if rank == 1 else 2)
        expected, expected_grads = flux.withgradient(functools.partial(lambda m, b: jobs.loss(m, *b), b=jobs.data(6, size)), m)
        np.testing.assert_allclose(value, expected, **TOLERANCE)
        for a, b in zip(grads, jobs.leaves(expected_grads), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_one_rank_stops_all():
    for rank, (step, reason) in enumerate(ranks.run(3, "stops", "")):
        assert step == 3
        assert reason == ("" if rank == 1 else "rank 1: ") + "rank 1 has had enough"


@pytest.mark.parametrize(("what", "message"), [
    ("shape", r"the ranks differ in the model: rank 0 has weight \(2, 3\) float32, rank 1 has weight \(3, 3\)"),
    ("version", r"the ranks differ in the version of minitorch_flux: rank 0 has \S+, rank 1 has 0.0.1"),
    ("length", r"DistributedLoader: the ranks have data of different lengths, \[4, 5\]"),
    ("drift", r"the ranks differ in the numbers of the model: rank 0 has weight [0-9a-f]{16}, rank 1 has weight"),
])  # fmt: skip
def test_ranks_that_do_not_fit_are_refused(what, message):
    _, said, _ = ranks.fails(2, "differing", what)
    assert re.search(message, said), said
    assert "has failed, the job ends: " in said


def test_an_exception_ends_the_job_and_names_the_rank(tmp_path):
    _, said, seconds = ranks.fails(3, "failing", "raise", tmp_path)
    assert "rank 1 of 3 has failed, the job ends: FloatingPointError: the numbers have run out" in said
    assert seconds < 30
    assert flux.load_checkpoint(tmp_path / "run.safetensors")["progress"]["epoch"] == 1, "the last checkpoint is whole"
    resumed = ranks.run(2, "training", tmp_path, 2, tmp_path / "run.safetensors")
    assert len(resumed[0]["history"]) == 2


def test_a_killed_rank_ends_the_job(tmp_path):
    code, said, seconds = ranks.fails(3, "failing", "kill", tmp_path, environment={"PIDS": str(tmp_path / "pid")})
    assert code == 9
    pid = (tmp_path / "pid").read_text()
    assert re.search(rf"3 ranks: .*1: \S+ pid {pid}\b", said), "the table of ranks leads from the pid to the rank"
    named = re.search(r"PID (\d+) RUNNING AT", said)[1]  # on a busy machine perhaps one that mpiexec has ended itself
    assert named == pid or re.search(rf"pid {named}\b", said)
    assert seconds < 30
    assert flux.load_checkpoint(tmp_path / "run.safetensors")["progress"]["epoch"] == 1


@pytest.mark.parametrize("how", ["hang", "leave"])
def test_a_rank_that_does_not_come_ends_the_job_in_time(how, tmp_path):
    _, said, seconds = ranks.fails(3, "failing", how, tmp_path, environment={"MINITORCH_FLUX_DISTRIBUTED_TIMEOUT": "2"})
    if how == "hang":
        assert "rank 1 of 3 did not come within 2 s, the job ends; waiting: rank 0 at" in said, said
    else:
        assert "the ranks wait for each other at different places since 2 s, the job ends" in said, said
        assert "rank 1 at the end of the program" in said
    assert seconds < 40


def test_a_rank_with_fewer_batches_is_told_where_it_is():
    """It compares weights while the others add gradients: neither may take the other's numbers for its own."""
    _, said, _ = ranks.fails(2, "uneven", "shorter", environment={"MINITORCH_FLUX_DISTRIBUTED_TIMEOUT": "1"})
    assert ("the ranks wait for each other at different places since 1 s, the job ends; waiting: rank 0 at the sum of the "
            "gradients; rank 1 at the numbers of the model") in said, said


@pytest.mark.slow
def test_nobody_has_an_observation():
    _, said, _ = ranks.fails(2, "uneven", "empty")
    assert "ValueError: distributed.withgradient: no rank has any observation" in said


@pytest.mark.slow
def test_an_interrupt_ends_the_job(tmp_path):
    _, said, _ = ranks.fails(2, "failing", "interrupt", tmp_path)
    assert "rank 1 of 2 has failed, the job ends: KeyboardInterrupt" in said


class Alike(Group):
    """One of several ranks that all say the same."""

    def __init__(self, rank, size):
        super().__init__()
        self.rank, self.size = rank, size

    def gather(self, value, what=""):
        return [value] * self.size


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 7), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_shares_are_the_batches_of_one_process(nobs, batch, ranks_, shuffle, partial, seed):
    if not partial and batch > nobs:
        return
    data = np.arange(nobs)
    loaders = [distributed.DistributedLoader(data, batch, shuffle, partial, flux.Generator(seed), group=Alike(r, ranks_))
               for r in range(ranks_)]
    whole = flux.DataLoader(data, batch, shuffle, partial, rng=flux.Generator(seed))
    for _ in range(2):
        parts = [list(loader) for loader in loaders]
        for i, b in enumerate(whole):
            shares = [p[i] for p in parts]
            np.testing.assert_array_equal(np.concatenate(shares), b)
            sizes = [len(s) for s in shares]
            assert max(sizes) - min(sizes) <= 1
            assert sizes == sorted(sizes, reverse=True)
            assert loaders[0].length(i) == len(b)
    state = loaders[0].state_dict()
    again = distributed.DistributedLoader(data, batch, shuffle, partial, flux.Generator(0), group=Alike(0, ranks_ + 1))
    again.load_state_dict(state)  # a state of any number of ranks
    assert again.epoch == loaders[0].epoch


# -- one process -----------------------------------------------------------------------------------------------------------


def test_a_process_alone_needs_no_launcher():
    group = distributed.init()
    assert (group.rank, group.size, distributed.rank(), distributed.size()) == (0, 1, 0, 1)
    assert not distributed.launched()
    assert repr(group) == "Group(rank=0, size=1)"
    m = jobs.model()
    assert distributed.synchronize(m) is m
    distributed.check_equal(m)
    x, y = jobs.data(4)
    value, grads = distributed.withgradient(lambda m: jobs.loss(m, x, y), m, 4)
    expected, others = flux.withgradient(lambda m: jobs.loss(m, x, y), jobs.model())
    assert value == expected
    for a, b in zip(jobs.leaves(grads), jobs.leaves(others), strict=True):
        np.testing.assert_array_equal(a, b)
    group.barrier()
    assert group.gather("x") == ["x"]
    distributed.abort(0)  # nobody else is there


def test_allreduce_keeps_the_structure():
    pair = collections.namedtuple("pair", "w b")(np.ones(3), None)
    assert distributed.allreduce(pair).w.tolist() == [1, 1, 1]
    nested = {"a": [np.ones(2), None], "b": (np.float32(1) * np.ones(1, np.float32), flux.tensor([2.0]))}
    result = distributed.allreduce(nested, 3)
    assert result["a"][1] is None
    assert isinstance(result["b"], tuple)
    assert result["b"][0].dtype == np.float32
    np.testing.assert_array_equal(result["a"][0], [1, 1])


def test_wrong_arguments():
    m = jobs.model()
    with pytest.raises(ValueError, match="no observations"):
        distributed.withgradient(lambda m: 0.0, m, 0)
    with pytest.raises(ValueError, match="the counts of all ranks are 0"):
        distributed.allreduce(np.ones(2), 0)
    with pytest.raises(TypeError, match="the gradients hold a str"):
        distributed.allreduce({"a": "b"})
    with pytest.raises(TypeError, match="rng must be a flux.Generator"):
        distributed.DistributedLoader(np.zeros(4), 2, rng=np.random.default_rng(0))

    three = Alike(0, 3)
    with pytest.raises(ValueError, match="a batch of 2 leaves some of the 3 ranks without an observation"):
        distributed.DistributedLoader(["a", "b", "c", "d", "e"], 3, group=three)
    loader = distributed.DistributedLoader(np.zeros(9), 3, group=three)
    with pytest.raises(ValueError, match="capture=True replays a step of one process"):
        flux.train(jobs.loss, m, loader, flux.Adam(), capture=True)


def test_a_gradient_after_its_sum_is_refused():
    """Nothing is known that makes a tape grow on its way back; were it so, the sum would be wrong without a word."""
    m = flux.Dense(2, 2)
    reduction = distributed.gradients._Reduction(Group(), distributed.gradients._buckets(m))
    reduction.expected[id(m.weight)] = 1
    reduction.arrived(m.weight, np.ones((2, 2), np.float32))
    with pytest.raises(RuntimeError, match=r"a gradient of shape \(2, 2\) came after its sum over the ranks had begun"):
        reduction.arrived(m.weight, np.ones((2, 2), np.float32))


@pytest.mark.parametrize("crowded", [False, True])
def test_waiting_leaves_the_core_to_others(crowded, monkeypatch):
    """At once where ranks share cores, after a while where each has one; the timeout names what was waited for."""
    now, naps, rung = [0.0], [], []

    def sleep(seconds):
        naps.append((now[0], seconds))
        now[0] += max(seconds, 0.01)

    def tested(requests):
        now[0] += 1e-5
        return bool(rung)

    mpi = types.SimpleNamespace(Request=types.SimpleNamespace(Testall=tested))
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=mpi))
    monkeypatch.setattr(waiting, "time", types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    waiting.wait(types.SimpleNamespace(crowded=crowded, timeout=3.0, ring=rung.append), ["a request"], "a sum")
    assert rung == ["a sum"]
    assert 3 < now[0] < 3.1
    start = naps[0][0]
    assert start < 0.005 if crowded else waiting.SPIN <= start < waiting.SPIN + 0.001
    assert all(seconds == (waiting.NAP if at < 1 else waiting.REST) for at, seconds in naps if abs(at - 1) > 0.02)


def test_a_launcher_without_mpi4py_says_what_to_install(monkeypatch):
    monkeypatch.setattr(distributed.groups, "_group", None)
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"pip install 'minitorch-flux\[mpi\]'"):
        distributed.init()
    with pytest.raises(ValueError, match="timeout must be above 0"):
        distributed.init(timeout=0)


def test_sync_batch_norms_alone_are_batch_norms():
    m, n = jobs.model(), distributed.sync_batch_norms(jobs.model())
    assert type(n[1]) is distributed.SyncBatchNorm
    assert repr(n[1]) == repr(m[1]).replace("BatchNorm", "SyncBatchNorm")
    x, _ = jobs.data(4)
    with flux.record():
        np.testing.assert_array_equal(m(x).data, n(x).data)
    json.dumps(jobs.numbers(n))


def test_the_train_command_on_two_ranks(tmp_path):
    train = [sys.executable, "-m", "minitorch_flux", "train", "--data", "digits", "--epochs", "1", "--out", "run"]
    found = ranks.command(2, train, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert re.search(r"cpu, 2 ranks, each with 1 thread, ", found.stdout)
    assert found.stdout.count("test accuracy") == 1, "rank 0 alone speaks"
    assert (tmp_path / "run" / "weights.safetensors").exists()
    wrong = ranks.command(2, train, cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.count("the folder already holds a run") == 1
