"""The prefetching thread: order, back-pressure, exceptions, and no thread left behind."""

import gc
import subprocess
import sys
import threading
import time
import traceback

import pytest

from minitorch_flux.data import prefetching
from minitorch_flux.data.prefetching import Prefetcher


def workers():
    return [t for t in threading.enumerate() if t.name == "flux-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_left():
    assert workers() == []
    yield
    gc.collect()
    wait_until(lambda: workers() == [])


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("depth", [1, 2, 100])
def test_order(depth):
    items = Prefetcher(lambda i: i * i, 3, 50, depth)
    assert [items.get() for _ in range(3, 50)] == [i * i for i in range(3, 50)]


def test_never_more_than_depth_ahead():
    made = []
    items = Prefetcher(made.append, 0, 100, 3)
    wait_until(lambda: len(made) == 3)
    time.sleep(0.02)
    assert made == [0, 1, 2]
    items.get()
    wait_until(lambda: len(made) == 4)


def test_exception_has_the_threads_traceback():
    def broken(i):
        if i == 2:
            raise KeyError("lost")
        return i

    items = Prefetcher(broken, 0, 9, 2)
    assert [items.get(), items.get()] == [0, 1]
    with pytest.raises(KeyError, match="lost") as caught:
        items.get()
    assert "in broken" in "".join(traceback.format_tb(caught.value.__traceback__))
    wait_until(lambda: workers() == [])


def test_dropping_it_ends_the_thread():
    items = Prefetcher(lambda i: i, 0, 1000, 2)
    items.get()
    assert len(workers()) == 1
    del items
    assert workers() == []  # at once: the finaliser waits for it


def test_a_cycle_ends_the_thread_when_it_is_collected():
    items = Prefetcher(lambda i: i, 0, 1000, 2)
    cycle = [items]
    cycle.append(cycle)
    del items, cycle
    gc.collect()
    wait_until(lambda: workers() == [])


def test_collected_by_its_own_thread():
    """The garbage collector runs in any thread, in the worker's own too: it must not wait for itself."""
    box = {}

    def fetch(i):
        if i == 1:
            gate.wait()
            box.clear()  # the last reference dies here, inside the worker
        return i

    gate = threading.Event()
    box["items"] = Prefetcher(fetch, 0, 1000, 1)
    assert box["items"].get() == 0
    gate.set()
    wait_until(lambda: workers() == [])


def test_a_fetch_that_hangs_does_not_hang_the_loop(monkeypatch):
    monkeypatch.setattr(prefetching, "PATIENCE", 0.01)
    gate = threading.Event()
    items = Prefetcher(lambda i: gate.wait(10), 0, 10, 1)
    del items
    assert len(workers()) == 1
    gate.set()


def test_a_program_ends_with_a_prefetcher_in_use():
    code = """
import time
from minitorch_flux.data.prefetching import Prefetcher
items = Prefetcher(lambda i: i, 0, 1000, 2)
print(items.get())
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "0\n", "")
