"""Data parallel training: the same script in several processes, on one machine or many.

Every process (rank) has the whole model and takes its share of every batch; gradients are averaged over all observations, so
that the weights stay equal everywhere and are those of one process on the whole batch, to rounding. MPI (mpi4py) carries
arrays in the host's memory, NCCL (by CuPy) arrays on GPUs.
"""

from .gradients import allreduce, withgradient
from .groups import DistributedError, Group, abort, init, launched, rank, size
from .loaders import DistributedLoader
from .sync_batch_norms import SyncBatchNorm, sync_batch_norms
from .synchronising import check_equal, synchronize

__all__ = [
    "DistributedError",
    "DistributedLoader",
    "Group",
    "SyncBatchNorm",
    "abort",
    "allreduce",
    "check_equal",
    "init",
    "launched",
    "rank",
    "size",
    "sync_batch_norms",
    "synchronize",
    "withgradient",
]
