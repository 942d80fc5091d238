"""One number of threads for BLAS and kernels."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from minitorch_flux.backend import threads
from minitorch_flux.backend.threads import blas_threads, num_threads, on_num_threads, set_num_threads

SAMPLE = Path(__file__).parent.parent / "readings" / "sample.cu"


@pytest.fixture(autouse=True)
def restored():
    before = num_threads()
    yield
    set_num_threads(before)


def test_set_and_get():
    for n in (1, 2, 3):
        set_num_threads(n)
        assert num_threads() == n
        assert blas_threads() in (n, None)


def test_numpy_s_blas_is_ruled_here():
    """NumPy's wheels have OpenBLAS; where this fails, its symbols have new names."""
    config = np.show_config(mode="dicts")
    if "openblas" not in config["Build Dependencies"]["blas"]["name"]:
        pytest.skip("another BLAS")
    assert blas_threads() is not None


def test_kernels_are_ruled():
    from minitorch_flux.readings import KernelFile, host

    x = np.ones(3, "f4")
    if not KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x.copy(), 3):
        pytest.skip("no compiler")
    for n in (2, 1, 3):
        set_num_threads(n)
        assert {library.threads.value for library in host._libraries.values()} == {n}


@pytest.mark.parametrize("n", [0, -1])
def test_too_few(n):
    with pytest.raises(ValueError, match=f"set_num_threads: the number of threads must be at least 1, got {n}"):
        set_num_threads(n)


@pytest.mark.parametrize("n", [1.5, "2", None])
def test_not_a_number(n):
    with pytest.raises(TypeError):
        set_num_threads(n)


def test_listeners_hear_now_and_later():
    heard = []
    set_num_threads(2)
    on_num_threads(heard.append)
    try:
        set_num_threads(3)
        assert heard == [2, 3]
    finally:
        threads._listeners.remove(heard.append)


def test_a_blas_without_such_functions(monkeypatch):
    monkeypatch.setattr(threads, "_blas", lambda: None)
    monkeypatch.setattr(threads, "_number", None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert blas_threads() is None
    assert 1 <= num_threads() <= os.cpu_count()
    set_num_threads(1)
    assert num_threads() == 1


@pytest.mark.parametrize(("value", "wanted"), [("3", 3), ("3,2", 3), (" 2 ", 2)])
def test_the_environment_rules_at_the_start(monkeypatch, value, wanted):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads._at_start() == wanted


@pytest.mark.parametrize("value", ["", "0", "-2", "many"])
def test_a_senseless_environment_is_passed_over(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads._at_start() == (blas_threads() or os.cpu_count())


def test_at_the_start_of_a_process():
    program = """
        import sys
        import numpy as np
        from minitorch_flux.backend.threads import blas_threads, num_threads
        from minitorch_flux.readings import KernelFile, host

        x = np.ones(3, np.float32)
        KernelFile(sys.argv[1])("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
        kernels = {library.threads.value for library in host._libraries.values()}
        print(num_threads(), blas_threads() in (1, None), kernels <= {1})
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", textwrap.dedent(program), str(SAMPLE)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "1 True True", result.stderr


def test_one_blas_thread_nests_and_gives_the_number_back():
    from minitorch_flux.backend.threads import blas_threads, one_blas_thread

    before = blas_threads()
    if before is None:
        pytest.skip("this NumPy's BLAS does not say how many threads it uses")
    with one_blas_thread:
        assert blas_threads() == 1
        with one_blas_thread:
            assert blas_threads() == 1
        assert blas_threads() == 1
    assert blas_threads() == before
    with pytest.raises(KeyError), one_blas_thread:
        raise KeyError
    assert blas_threads() == before


def test_set_num_threads_while_a_small_product_runs():
    from minitorch_flux.backend.threads import blas_threads, num_threads, one_blas_thread, set_num_threads

    n = num_threads()
    if blas_threads() is None:
        pytest.skip("this NumPy's BLAS does not say how many threads it uses")
    try:
        with one_blas_thread:
            set_num_threads(2)
            assert blas_threads() == 1
        assert blas_threads() == 2
    finally:
        set_num_threads(n)


def test_blas_sleeps_and_wakes():
    """The threads that were stopped start again, as many as before, with the products right and the environment clean."""
    program = """
        import os
        import numpy as np
        from minitorch_flux.backend import threads

        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((2, 300, 300))
        wanted = np.einsum("ij,jk->ik", a, b)
        same = np.allclose(a @ b, wanted)
        before = threads.blas_threads()
        again = threads._let_blas_sleep()
        print(same, np.allclose(a @ b, wanted), threads.blas_threads() == before, os.environ.get(threads.TIMEOUT), again)
    """
    possible = threads._library() is not None and hasattr(threads._library()[0], "blas_thread_shutdown_")
    for setting, left, done in ((None, "None", possible), ("26", "26", False)):
        environment = os.environ | {"PYTHONPATH": os.getcwd()} | ({threads.TIMEOUT: setting} if setting else {})
        command = [sys.executable, "-c", textwrap.dedent(program)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.stdout.split() == ["True", "True", "True", left, str(done)], result.stderr


def test_a_blas_that_cannot_be_told_to_sleep(monkeypatch):
    monkeypatch.delenv(threads.TIMEOUT, raising=False)
    for library in (None, (object(), "set", "get")):
        monkeypatch.setattr(threads, "_library", lambda library=library: library)
        assert not threads._let_blas_sleep()
        assert threads.TIMEOUT not in os.environ
