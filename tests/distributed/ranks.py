"""Jobs of several ranks, started as a user would: ``mpiexec -n N python -m tests.distributed.jobs NAME``."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

MPIEXEC = Path(sys.executable).parent / "mpiexec"


def start(n, name, *arguments, environment=None, options=(), before=()):
    """The job as a process; ``options`` of mpiexec, and a command ``before`` it."""
    pytest.importorskip("mpi4py")
    if not MPIEXEC.exists():
        pytest.skip(f"there is no {MPIEXEC}: pip install mpich")
    job = [sys.executable, "-m", "tests.distributed.jobs", name, *arguments]
    command = [str(word) for word in (*before, MPIEXEC, *options, "-n", n, *job)]
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {})
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings,
                            cwd=Path(__file__).parents[2])


def run(n, name, *arguments, environment=None, **keywords):
    """What the ranks returned, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        job = start(n, name, *arguments, environment={"RESULTS": folder} | (environment or {}), **keywords)
        _, err = job.communicate(timeout=120)
        assert job.returncode == 0, err
        return [json.loads(Path(folder, str(rank)).read_text()) for rank in range(n)]


TOGETHER = ("forked", "several", "shards", "plain_training")


@functools.cache
def together():
    """The results of several jobs of three ranks that are started once."""
    found = run(3, ",".join(TOGETHER))
    return {name: [rank[i] for rank in found] for i, name in enumerate(TOGETHER)}


def fails(n, name, *arguments, environment=None):
    """Of a job that has to end by itself: the exit code, what it said, the seconds that it took."""
    begin = time.monotonic()
    job = start(n, name, *arguments, environment=environment)
    out, err = job.communicate(timeout=120)
    assert job.returncode != 0, (out, err)
    return job.returncode, err + out, time.monotonic() - begin


def command(n, words, cwd):
    """A command on several ranks, to its end."""
    pytest.importorskip("mpi4py")
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [str(MPIEXEC), "-n", str(n), *words]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=settings, timeout=120)
