"""The pool: memory is handed out again only after its last reference has died, and a steady step needs no new one."""

import copy
import ctypes
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import contiguous, empty, empty_like, free_memory, is_whole, memory, memory_stats

BIG = (300, 301)
"""A shape whose arrays come from the pool."""


@pytest.fixture(autouse=True)
def clean():
    gc.collect()
    free_memory()
    yield
    gc.collect()
    free_memory()


@pytest.fixture
def alone():
    """A pool without a segment, whatever else lives in this process."""
    others, memory._pool.segments = memory._pool.segments, []
    yield
    gc.collect()
    free_memory()
    memory._pool.segments = others + memory._pool.segments


def filled(value, shape=BIG, dtype=np.float32):
    a = empty(shape, dtype)
    a.fill(value)
    return a


@given(st.lists(st.integers(0, 24), max_size=4), st.sampled_from("?bhiqefd"))
def test_empty_is_an_ordinary_array_of_any_shape_and_dtype(shape, dtype):
    for sizes in (shape, [*shape, 997]):
        a = empty(tuple(sizes), dtype)
        assert type(a) is np.ndarray
        assert a.shape == tuple(sizes)
        assert a.dtype == np.dtype(dtype)
        assert a.flags.c_contiguous
        assert a.flags.writeable
        assert is_whole(a)
        a.fill(1)
        assert (a == 1).all()
        if a.nbytes >= memory.SMALLEST:
            assert a.ctypes.data % memory.PAGE == 0


def test_small_arrays_are_numpys_own():
    used = memory_stats()["used"]
    a = empty(100, np.float32)
    assert a.flags.owndata
    assert memory_stats()["used"] == used
    assert empty(5, object).tolist() == [None] * 5  # of references the pool must not make arrays
    assert empty_like(np.asfortranarray(np.ones((3, 2), np.float16))).flags.c_contiguous


def test_memory_is_handed_out_again_at_the_lowest_address():
    a, b = filled(1), filled(2)
    first, second = a.ctypes.data, b.ctypes.data
    before = memory_stats()
    del b, a
    c, d = empty(BIG, np.float32), empty(BIG, np.float32)
    assert (c.ctypes.data, d.ctypes.data) == (first, second)
    after = memory_stats()
    assert after["reused_blocks"] == before["reused_blocks"] + 2
    assert after["fresh_bytes"] == before["fresh_bytes"]


def test_the_counters_count():
    start = memory_stats()
    a = empty(BIG, np.float32)
    size = memory_stats()["used"] - start["used"]
    assert a.nbytes <= size < a.nbytes + memory.PAGE
    assert memory_stats()["fresh_blocks"] == start["fresh_blocks"] + 1
    del a
    assert memory_stats()["held"] == size
    assert memory_stats()["used"] == start["used"]
    assert free_memory() == size
    assert memory_stats()["held"] == 0


def test_free_blocks_join_and_serve_every_size():
    parts = [filled(k) for k in range(6)]
    before = memory_stats()
    for k in (1, 3, 2, 4):  # alone, alone, between two, beside one
        parts[k] = None
    whole = empty((BIG[0] * 4, BIG[1]), np.float32)
    whole.fill(7)
    after = memory_stats()
    assert after["fresh_bytes"] == before["fresh_bytes"]
    assert after["held"] < 4 * memory.PAGE
    assert (parts[0] == 0).all()
    assert (parts[5] == 5).all()


class Ledger:
    """What a segment should say, page by page: None in use, else whether it was touched."""

    def __init__(self, segment):
        self.pages = [False] * (segment.size // memory.PAGE)

    def free_blocks(self):
        starts = [i for i, p in enumerate(self.pages) if p is not None and (i == 0 or self.pages[i - 1] is None)]
        ends = [i + 1 for i, p in enumerate(self.pages) if p is not None and (self.pages + [None])[i + 1] is None]
        return [(a * memory.PAGE, b * memory.PAGE) for a, b in zip(starts, ends, strict=True)]


@given(st.lists(st.one_of(st.integers(1, 9), st.integers(-20, 0)), max_size=60))
def test_a_segment_against_a_ledger_of_its_pages(steps):
    """Positive: take so many pages; negative: give one of the blocks back; 0: let the free pages go."""
    page, segment = memory.PAGE, memory._Segment(24 * memory.PAGE)
    ledger, blocks, held = Ledger(segment), [], 0
    for step in steps:
        if step > 0:
            places = [a for a, b in ledger.free_blocks() if b - a >= step * page]
            found = segment.take(step * page)
            if not places:
                assert found is None
                continue
            start, fresh = found
            assert start == places[0]
            mine = slice(start // page, start // page + step)
            assert fresh == page * ledger.pages[mine].count(False)
            held -= step * page - fresh
            ledger.pages[mine] = [None] * step
            segment.memory[start : start + step * page] = bytes([len(blocks) % 255 + 1]) * (step * page)
            blocks.append((start, step, len(blocks) % 255 + 1))
        elif step and blocks:
            start, pages, value = blocks.pop(step % len(blocks))
            assert segment.memory[start : start + pages * page] == bytes([value]) * (pages * page)
            held += segment.give(start, pages * page)
            ledger.pages[start // page : start // page + pages] = [True] * pages
        elif not step:
            held -= segment.release()
            assert held == 0
            ledger.pages = [p and None if p is None else False for p in ledger.pages]
        blocks_now = list(zip(segment.starts, segment.ends, strict=True))
        assert blocks_now == ledger.free_blocks()
        for (a, b), touched in zip(blocks_now, segment.touched, strict=True):  # pages given back on the way are untouched
            assert a <= touched <= b
            ledger.pages[a // page : b // page] = [True] * ((touched - a) // page) + [False] * ((b - touched) // page)
        assert held == page * ledger.pages.count(True)
    assert segment.free == (not blocks)


KEEPERS = {
    "a slice": lambda a: a[1:, ::2],
    "an element as an array": lambda a: a[3, 4, ...],
    "the transpose": lambda a: a.T,
    "a reshape": lambda a: a.reshape(-1),
    "another dtype": lambda a: a.view(np.int32),
    "broadcast_to": lambda a: np.broadcast_to(a, (3, *BIG)),
    "a view of a view of a view": lambda a: a[1:].T[::-1].reshape(7, 43, -1)[2],
    "a subclass": lambda a: a.view(np.recarray),
    "a memoryview": memoryview,
    "frombuffer": lambda a: np.frombuffer(a, np.uint8),
    "an iterator": lambda a: a.flat,
    "ctypes": lambda a: a.ctypes,
    "DLPack": np.from_dlpack,
    "an array interface": lambda a: np.asarray(type("Interface", (), {"__array_interface__": a.__array_interface__, "a": a})()),
    "a Tensor": flux.Tensor,
    "its numpy()": lambda a: flux.Tensor(a).numpy(),
    "a Parameter's numpy()": lambda a: flux.Param(a).numpy(),
    "detach()": lambda a: (flux.tensor(a, requires_grad=True) * 1.0).detach(),
    "a slice of a Tensor": lambda a: flux.Tensor(a)[1:],
    "Tensor.T": lambda a: flux.Tensor(a).T,
    "a part of a split": lambda a: flux.split(flux.Tensor(a), 2)[1],
    "a row while iterating": lambda a: next(iter(flux.Tensor(a))),
    "the tape": lambda a: (flux.tensor(1.0, requires_grad=True) * a).sum(),
    "as_strided": lambda a: np.lib.stride_tricks.as_strided(a[5:], (2,), (8,)),
    "torch": lambda a: pytest.importorskip("torch").from_numpy(a),
}


@pytest.mark.parametrize("keeper", KEEPERS)
def test_whatever_still_sees_the_memory_keeps_it(keeper):
    kept = KEEPERS[keeper](filled(1.5))
    gc.collect()
    others = [filled(-7) for _ in range(4)]  # would overwrite it
    if keeper == "the tape":
        leaf = kept.node.parents[0].parents[0]
        kept.backward()
        assert leaf.grad == 1.5 * BIG[0] * BIG[1]
    elif keeper == "ctypes":
        assert ctypes.cast(kept.data, ctypes.POINTER(ctypes.c_float))[7] == 1.5
    elif keeper == "an iterator":
        assert set(kept) == {1.5}
    else:
        kept = kept.data if isinstance(kept, flux.Tensor) else np.asarray(kept)
        values = np.ascontiguousarray(kept).view(np.uint8).reshape(-1).view(np.float32)
        assert (values == 1.5).all()
    assert all((a == -7).all() for a in others)


def test_the_memory_comes_back_when_the_last_view_dies():
    a = filled(1)
    start = memory_stats()["used"]
    views = [a[i:] for i in range(10)]
    alive = weakref.ref(a)
    del a
    assert alive() is not None
    assert memory_stats()["used"] == start
    views.pop()
    assert memory_stats()["used"] == start
    views.clear()
    assert memory_stats()["used"] < start


def test_memory_in_a_reference_cycle_comes_back_by_the_collector():
    start = memory_stats()["used"]
    cycle = [filled(1)]
    cycle.append(cycle)
    del cycle
    assert memory_stats()["used"] > start
    gc.collect()
    assert memory_stats()["used"] == start


def test_copies_have_memory_of_their_own():
    a = filled(3)
    others = [a.copy(), copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a)), np.array(a), a.astype(np.float64)]
    a.fill(0)
    for b in others:
        assert (b == 3).all()
        assert not np.shares_memory(a, b)


def test_is_whole_tells_views_from_arrays():
    small, large = np.ones(3), filled(1)
    for a in (small, large):
        assert is_whole(a)
        for view in (a[1:], a[...], a.T, a.reshape(-1), a.view()):
            assert not is_whole(view)


def test_pieces_are_let_go_where_they_are_more_than_what_is_in_use(alone, monkeypatch):
    monkeypatch.setattr(memory, "KEPT", 1 << 20)
    old = [filled(k) for k in range(20)]
    kept = old[1::7]
    del old
    held = memory_stats()["held"]
    assert held > 1 << 20
    a = empty((8 * BIG[0], BIG[1]), np.float32)  # fits nowhere between them
    assert memory_stats()["held"] == 0
    a.fill(1)
    del a
    b = empty((9 * BIG[0], BIG[1]), np.float32)
    assert b.size
    assert [x[3, 4] for x in kept] == [1, 8, 15]
    del kept
    many = [filled(1) for _ in range(18)]  # the pages come back
    assert all((x == 1).all() for x in many)
    del many
    gc.collect()
    stats = memory_stats()
    assert free_memory() == stats["held"] > 0


def test_more_than_a_segment(alone, monkeypatch):
    monkeypatch.setattr(memory, "SEGMENT", 1 << 20)
    parts = [filled(k) for k in range(6)]  # two in each segment
    large = filled(9, (3 << 18,))
    assert len(memory._pool.segments) >= 4
    assert [p[0, 0] for p in parts] == list(range(6))
    del parts
    assert free_memory() > 0
    assert (large == 9).all()


def test_where_addresses_are_scarce_a_segment_is_no_larger_than_needed(alone, monkeypatch):
    real = memory._reserve

    def scarce(size):
        if size > 1 << 20:
            raise MemoryError
        return real(size)

    monkeypatch.setattr(memory, "_reserve", scarce)
    a, b = filled(1), filled(2)
    assert len(memory._pool.segments) == 2
    assert (a == 1).all()
    assert (b == 2).all()


def test_systems_that_cannot_take_pages_back(alone, monkeypatch):
    monkeypatch.delattr(memory.mmap, "MADV_DONTNEED")
    monkeypatch.setattr(memory, "SEGMENT", 1 << 20)
    parts = [filled(k) for k in range(4)]
    del parts[2:], parts[0]
    held = memory_stats()["held"]
    released = free_memory()  # a segment in which something lives stays
    assert 0 < released < held
    assert memory_stats()["held"] == held - released
    assert (parts[0] == 1).all()


def test_when_memory_runs_out_the_free_one_is_given_back_first(alone, monkeypatch):
    monkeypatch.setattr(memory, "SEGMENT", 1 << 16)
    kept = filled(1)
    del kept
    held = memory_stats()["held"]
    assert held > 0
    real, calls = memory._reserve, []

    def scarce(size):
        calls.append((size, memory._pool.held))
        if memory._pool.held or size == memory.SEGMENT:
            raise MemoryError
        return real(size)

    monkeypatch.setattr(memory, "_reserve", scarce)
    monkeypatch.setattr(memory, "SEGMENT", 1 << 20)
    a = empty((500, 501), np.float32)
    size = -(-a.nbytes // memory.PAGE) * memory.PAGE
    assert calls == [(1 << 20, held), (size, held), (size, 0)]
    monkeypatch.setattr(memory, "_reserve", lambda size: (_ for _ in ()).throw(MemoryError))
    before = memory_stats()
    with pytest.raises(MemoryError, match=r"no memory for an array of [\d,]+ bytes: [\d,]+ bytes are in use.*smaller batch"):
        empty((500, 600), np.float32)
    assert memory_stats() == before
    assert a.size


def test_threads_never_share_a_block():
    errors = []

    def work(k):
        rng = np.random.default_rng(k)
        kept = []
        for i in range(400):
            value = k * 1000 + i
            kept.append((filled(value, (int(rng.integers(130, 200)), 130)), value))
            if len(kept) > 5:
                a, wanted = kept.pop(int(rng.integers(len(kept))))
                if not (a == wanted).all():
                    errors.append((k, i))
        errors.extend(k for a, wanted in kept if not (a == wanted).all())

    used = memory_stats()["used"]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    assert not errors
    assert memory_stats()["used"] == used  # the counters are exact, whatever came between


def test_a_finaliser_may_ask_for_memory_while_memory_is_asked_for(alone, monkeypatch):
    class Greedy:
        def __del__(self):
            seen.append(filled(1).sum())
            seen.append((memory_stats()["used"] > 0, free_memory()))

    real, seen = memory._reserve, []

    def collecting(size):  # as when the garbage collector runs inside the pool
        if not seen:
            seen.append(None)
            Greedy()
        return real(size)

    monkeypatch.setattr(memory, "_reserve", collecting)
    a = filled(2)
    assert (a == 2).all()
    assert seen[1:] == [BIG[0] * BIG[1], (False, 0)]  # it got memory of NumPy's own, and let nothing go


# -- training ----------------------------------------------------------------------------------------------------------


def lenet_like():
    flux.seed(3)
    return flux.Chain(
        flux.Conv((3, 3), 1, 8, flux.relu, pad=1), flux.MaxPool((2, 2)), flux.Conv((3, 3), 8, 8, flux.gelu, pad=1),
        flux.flatten, flux.Dense(8 * 14 * 14, 64, flux.tanh), flux.Dense(64, 10),
    )


def train(steps, keep):
    """Training steps in which everything that can be held is held, as copies of the bits and as the arrays themselves."""
    model = lenet_like()
    opt = flux.setup(flux.Adam(1e-3), model)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 1, 28, 28)).astype(np.float32), np.arange(32) % 10
    held, copies = [], []
    for step in range(steps):
        batch = np.roll(x, step, axis=0)

        def loss(m, batch=batch):
            outputs = flux.activations(m, batch)
            return flux.losses.logitcrossentropy(outputs[-1], np.roll(y, step)), outputs  # noqa: B023

        (value, outputs), (grads, dx) = flux.withgradient(lambda m, b: loss(m, b), model, batch)
        gradients = [dx, *(g for part in grads if part is not None for g in (part.weight, part.bias))]
        flux.update(opt, model, grads)
        if keep:
            everything = [np.asarray(value), *outputs, *gradients, outputs[0][3].T, outputs[2].reshape(-1)[::7]]
            held.append(everything)
            copies.append([a.copy() for a in everything])
    return held, copies, model.state_dict()


def test_no_buffer_is_used_again_while_its_last_reference_lives(monkeypatch):
    """Every output and gradient of 50 steps, bit for bit as with a new allocation for each array."""
    held, copies, weights = train(50, keep=True)
    monkeypatch.setattr(memory, "SMALLEST", 1 << 60)  # the pool is out of play
    fresh = memory_stats()["fresh_blocks"]
    others, _, others_weights = train(50, keep=True)
    assert memory_stats()["fresh_blocks"] == fresh
    for step, (a, b, c) in enumerate(zip(held, copies, others, strict=True)):
        for i, (now, then, other) in enumerate(zip(a, b, c, strict=True)):
            np.testing.assert_array_equal(now, then, err_msg=f"step {step}, array {i} was written to after it was made")
            np.testing.assert_array_equal(now, other, err_msg=f"step {step}, array {i} differs from one made without the pool")
    for key, w in weights.items():
        np.testing.assert_array_equal(w, others_weights[key])


def test_a_steady_training_step_allocates_no_new_memory():
    model = lenet_like()
    opt = flux.setup(flux.Adam(1e-3), model)
    x, y = np.ones((32, 1, 28, 28), np.float32), np.arange(32) % 10

    def step():
        _, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), model)
        flux.update(opt, model, grads)

    for _ in range(3):
        step()
    before = memory_stats()
    for _ in range(10):
        step()
    after = memory_stats()
    assert after["fresh_bytes"] == before["fresh_bytes"]
    assert after["reused_blocks"] > before["reused_blocks"]
    assert after["used"] == before["used"]  # and leaves none behind


def test_threads_that_train_side_by_side_get_the_bits_of_one_after_the_other():
    def work(k):
        g = flux.Generator(k)
        model = flux.Chain(flux.Conv((3, 3), 1, 8, flux.relu, rng=g), flux.flatten, flux.Dense(8 * 14 * 14, 10, rng=g))
        opt = flux.setup(flux.Adam(1e-3), model)
        x, y = np.random.default_rng(k).standard_normal((32, 1, 16, 16)).astype(np.float32), np.arange(32) % 10
        for _ in range(8):
            flux.update(opt, model, flux.gradient(lambda m: flux.losses.logitcrossentropy(m(x), y), model))
        results[k].append(model.state_dict())

    results = [[] for _ in range(3)]
    before = flux.num_threads()
    flux.set_num_threads(1)
    try:
        for k in range(3):
            work(k)
        threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        flux.set_num_threads(before)
    for one, other in results:
        for key, a in one.items():
            np.testing.assert_array_equal(a, other[key])


# -- the end of the process --------------------------------------------------------------------------------------------


def run_python(code):
    root = os.path.dirname(os.path.dirname(flux.__file__))
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=root,
        env=os.environ | {"PYTHONPATH": root},
    )


def test_the_pool_ends_with_the_process_in_silence():
    done = run_python("""
        import numpy as np, sys, threading
        import minitorch_flux as flux
        from minitorch_flux.backend import empty
        alive = [empty((200, 200), np.float32) for _ in range(5)]
        sys.modules["keeps_one"] = alive[0]
        cycle = [empty((300, 300), np.float32)]; cycle.append(cycle); del cycle
        class Late:
            a = empty((300, 300), np.float32)
            def __del__(self): self.a.fill(1)
        late = Late(); late.me = late
        model = flux.Dense(300, 300)
        value, grads = flux.withgradient(lambda m: (m(np.ones((300, 300), np.float32)) ** 2).sum(), model)
        view = empty((200, 200), np.float32)[3:].T
        print("done")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_pool_of_its_own():
    done = run_python("""
        import numpy as np, os, sys, threading
        from minitorch_flux.backend import empty, memory, memory_stats
        a = empty((200, 200), np.float32); a.fill(1)
        memory._pool.lock.acquire()          # another thread of the parent is inside the pool,
        memory._pool.busy = True             # in the middle of its work
        got = []
        def child():
            global a
            b = empty((200, 200), np.float32); b.fill(2)
            good = (a == 1).all() and b.sum() == 80000 and b.base is not None
            at = a.ctypes.data; a = None
            c = empty((200, 200), np.float32)  # what the child lets go it may have again
            return good and c.ctypes.data == at
        def fork():
            pid = os.fork()
            if pid == 0:
                code = 2
                try:
                    code = 0 if child() else 1
                finally:
                    os._exit(code)
            got.append(os.waitpid(pid, 0)[1])
        import warnings
        warnings.simplefilter("ignore")      # newer Pythons warn of forks beside threads
        thread = threading.Thread(target=fork); thread.start(); thread.join(20)
        memory._pool.lock.release()
        print(got, (a == 1).all())
    """)
    assert done.stdout == "[0] True\n", done.stderr


def test_contiguous():
    a = np.arange(6.0).reshape(2, 3)
    assert contiguous(a) is a
    assert contiguous(None) is None
    for view in (a.T, a[:, ::2], a[::-1]):
        copy = contiguous(view)
        assert copy.flags.c_contiguous
        assert not np.shares_memory(copy, a)
        np.testing.assert_array_equal(copy, view)
