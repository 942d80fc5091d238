"""Groups of processes: who takes part, how they add up arrays, and how the whole job ends when one of them fails.

MPI starts the processes (``mpiexec -n 4 python train.py``) and carries arrays in the host's memory; arrays on a GPU are carried
by NCCL, whose first contact goes through MPI. Python objects travel as JSON, so nothing is ever unpickled.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
import sys
import traceback
from types import TracebackType
from typing import Any

import numpy as np

from ..backend import Array, device_of
from ..backend.nccl import NcclGroup
from ..backend.threads import num_threads, set_num_threads
from .waiting import Alarm, wait

LAUNCHERS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
"""What mpiexec and srun leave in the environment of the processes that they start."""
TIMEOUT = "MINITORCH_FLUX_DISTRIBUTED_TIMEOUT"
INSTALL = "pip install 'minitorch-flux[mpi]'"


def wire_dtype(dtype: Any) -> np.dtype:
    """In which numbers are added on their way: MPI does not know 16-bit floats, and their sums would lose digits."""
    return np.dtype(np.float64 if dtype.itemsize > 4 else np.float32)


class DistributedError(RuntimeError):
    """The processes of a job do not fit together, or cannot talk to each other."""


class Group:
    """The processes of a job. ``rank`` is this one's number, from 0, ``size`` how many there are.

    ``comm``: an mpi4py communicator, or None for a process alone. ``timeout``: the seconds after which a rank that is waited
    for ends the job. What exchanges something is collective: all ranks call it, in the same order.
    """

    def __init__(self, comm: Any = None, timeout: float = 600.0, alarm: Alarm | None = None) -> None:
        self.comm, self.timeout = comm, timeout
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        self.unit = 0.0
        """A power of two near the number of observations in the last step, the same on all ranks; 0 before the first one."""
        self.crowded = False
        """Whether the ranks on this machine want more cores than it has."""
        # All but sums goes along a line of its own: ranks that are at different places must not add up each other's numbers.
        self._words: Any = None if comm is None else comm.Dup()
        self._alarm = Alarm(comm) if alarm is None and comm is not None else alarm
        self._nccl: dict[str, NcclGroup] = {}
        self._within: Group | None = None

    def __repr__(self) -> str:
        return f"Group(rank={self.rank}, size={self.size})"

    @property
    def within(self) -> Group:
        """The same ranks on lines of their own, for what layers exchange in the middle of a pass: there the order of transfers
        may differ from that of the gradients' sums, which go on beside."""
        if self.size == 1:
            return self
        if self._within is None:
            self._within = Group(self.comm.Dup(), self.timeout, self._alarm)
            self._within.crowded = self.crowded
        return self._within

    # -- arrays --------------------------------------------------------------------------------------------------------

    def start_sum(self, a: Array) -> Any:
        """Begin to replace the contiguous array ``a`` by the sum over all ranks; ``finish`` waits for what this returns.

        The same ranks give the same bits, in every run and on every rank.
        """
        if self.size == 1:
            return None
        if device_of(a) != "cpu":
            self._device(a).sum(a)
            return None
        from mpi4py import MPI

        return self.comm.Iallreduce(MPI.IN_PLACE, a)

    def poke(self, requests: list[Any]) -> None:
        """Let transfers that were begun go on: MPI moves data only while it is called."""
        if requests and requests[-1] is not None:
            requests[-1].Test()

    def finish(self, requests: list[Any], what: str) -> None:
        """Wait for transfers that were begun; ``what`` says in an error what they were."""
        open_requests = [r for r in requests if r is not None]
        if open_requests:
            wait(self, open_requests, what)

    def sum(self, a: Array, what: str = "a sum") -> Array:
        """Replace the contiguous array ``a`` by the sum over all ranks."""
        self.finish([self.start_sum(a)], what)
        return a

    def broadcast(self, a: Array, root: int = 0, what: str = "a broadcast") -> Array:
        """Replace the contiguous array ``a`` by that of rank ``root``."""
        if self.size == 1:
            return a
        if device_of(a) != "cpu":
            self._device(a).broadcast(a, root)
        else:
            self.finish([self._words.Ibcast(a.reshape(-1).view(np.uint8), root)], what)
        return a

    def barrier(self, what: str = "a barrier") -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            self.finish([self._words.Ibarrier()], what)

    # -- numbers and words ---------------------------------------------------------------------------------------------

    def gather(self, value: Any, what: str = "a gathering") -> list[Any]:
        """Every rank's ``value`` (numbers, strings, None, lists and dicts of them), in the order of the ranks."""
        if self.size == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = text.size
        self._add(lengths, what)
        found = np.empty(int(lengths.sum()), np.uint8)
        self.finish([self._words.Iallgatherv(text, [found, lengths])], what)
        return [json.loads(part.tobytes()) for part in np.split(found, np.cumsum(lengths)[:-1])]

    def _add(self, a: Array, what: str) -> None:
        from mpi4py import MPI

        self.finish([self._words.Iallreduce(MPI.IN_PLACE, a)], what)

    def agreed(self, reason: str, what: str = "an agreement") -> str:
        """The first rank's ``reason`` that is not empty, which all ranks then have; "" where there is none."""
        if self.size == 1:
            return reason
        votes = np.zeros(self.size, np.int64)
        votes[self.rank] = bool(reason)
        self._add(votes, what)
        if not votes.any():
            return ""
        first = int(votes.argmax())
        found = self.gather(reason, what)[first]
        return str(found) if first == self.rank else f"rank {first}: {found}"

    # -- the end -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Wait for all ranks at the end of the program, on a line where nothing else can be mistaken for it."""
        if self._alarm is not None:
            self.finish([self._alarm.comm.Ibarrier()], "the end of the program")

    def ring(self, what: str) -> None:
        """Nobody came to ``what`` in time: find out who is missing, say so, and end the job."""
        assert self._alarm is not None
        self._alarm.ring(what, self.timeout)
        self.abort(70)

    def abort(self, code: int = 1) -> None:
        """End all processes of the job, now."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if self.size > 1:
            self.comm.Abort(code)

    def _device(self, a: Array) -> NcclGroup:
        """The NCCL communicator of the GPU that holds ``a``; made at the first use."""
        device = device_of(a)
        if device not in self._nccl:
            name = np.zeros(128, np.uint8)
            if self.rank == 0:
                name[:] = np.frombuffer(NcclGroup.new_name(), np.uint8)
            self.broadcast(name, what="the name of NCCL's group")
            self._nccl[device] = NcclGroup(name.tobytes(), self.rank, self.size)
        return self._nccl[device]


_group: Group | None = None


def launched() -> bool:
    """Whether ``mpiexec``, or another launcher of MPI, has started this process."""
    return any(name in os.environ for name in LAUNCHERS)


def init(timeout: float | None = None, threads: int | None = None) -> Group:
    """Join the group of all processes of this job; call it once, early, in every one. Later calls give the same group.

    A process that no launcher started is a group of its own, and needs no MPI. ``timeout``: the seconds after which a rank
    that the others wait for ends the job, naming it (default: $MINITORCH_FLUX_DISTRIBUTED_TIMEOUT, else 600). ``threads``: of
    each process on the CPU; by default the machine's cores are shared out among the ranks on it, where $OMP_NUM_THREADS does
    not say.

    From here on an exception that nobody catches ends all processes, not just its own. Raises ImportError without mpi4py, and
    DistributedError where the launcher belongs to another MPI than mpi4py's.
    """
    global _group
    if _group is not None:
        return _group
    if timeout is None:
        timeout = float(os.environ.get(TIMEOUT, 600))
    if not timeout > 0:
        raise ValueError(f"distributed.init: timeout must be above 0 seconds, got {timeout}")
    if not launched():
        _group = Group(timeout=timeout)
        return _group
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(f"this process was started by a launcher of MPI, which needs mpi4py: {INSTALL} ({error})") from None
    world = MPI.COMM_WORLD
    expected = int(os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or world.Get_size())
    if world.Get_size() != expected:
        library = MPI.Get_library_version().splitlines()[0].strip()
        raise DistributedError(f"the launcher started {expected} processes, and mpi4py sees {world.Get_size()}: its MPI is "
                               f"{library}, the launcher belongs to another; use the mpiexec beside this Python "
                               f"({os.path.dirname(sys.executable)})")
    _group = Group(world.Dup(), timeout)
    _take_part(_group, threads, world.Split_type(MPI.COMM_TYPE_SHARED))
    return _group


def _take_part(group: Group, threads: int | None, beside: Any) -> None:
    """Share out the cores, name the processes, and let any failure end them all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is not None or "OMP_NUM_THREADS" not in os.environ:
        set_num_threads(threads or max(1, cores // beside.Get_size()))
    group.crowded = beside.Get_size() * num_threads() > cores
    where = group.gather(f"{platform.node()} pid {os.getpid()}", "distributed.init")
    if group.rank == 0 and group.size > 1:  # mpiexec names a process that is killed by its pid
        ranks = "; ".join(f"{i}: {w}" for i, w in enumerate(where))
        print(f"minitorch_flux.distributed: {group.size} ranks: {ranks}", file=sys.stderr, flush=True)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        last = traceback.format_exception_only(error)[-1].strip()
        print(f"minitorch_flux.distributed: rank {group.rank} of {group.size} has failed, the job ends: {last}",
              file=sys.stderr, flush=True)
        group.abort(1)

    sys.excepthook = hook
    # MPI's own end waits for all ranks, for ever: first make sure, with the time limit, that they are coming.
    atexit.register(group.leave)


def current() -> Group:
    """The group of this job; before ``init`` this process alone."""
    return Group() if _group is None else _group


def rank() -> int:
    """The number of this process, from 0; 0 before ``init``."""
    return current().rank


def size() -> int:
    """The number of processes of this job; 1 before ``init``."""
    return current().size


def abort(code: int = 1) -> None:
    """End all processes of the job; does nothing where this one is alone."""
    current().abort(code)
