"""NCCL's calls, on a pretended GPU: what is passed on, and what is said where it cannot be. No transfer takes place here."""

import importlib.util
import types

import numpy as np
import pytest

from minitorch_flux.backend import DeviceError, nccl, to_device
from minitorch_flux.distributed.groups import Group

pytest.importorskip("cupy")
pretended = pytest.importorskip("tests.pretended")


class Library:
    """NCCL for one rank that adds what two others have: its own numbers again."""

    available = True
    NCCL_SUM = "sum"

    def __init__(self, arrays):
        self.arrays, self.calls = arrays, []
        for name in ("FLOAT16", "FLOAT32", "FLOAT64", "INT32", "INT64", "UINT8", "INT8"):
            setattr(self, f"NCCL_{name}", name.lower())
        self.get_unique_id = lambda: tuple(range(-64, 64))
        self.NcclCommunicator = self.communicator

    def communicator(self, size, name, rank):
        self.calls.append(("group", size, name, rank))
        return types.SimpleNamespace(allReduce=self.sum, bcast=self.broadcast)

    def sum(self, source, target, count, kind, operation, stream):
        assert source == target, "in place"
        self.calls.append(("sum", count, kind, operation))
        next(a for a in self.arrays if a.data.ptr == source)[...] *= 3

    def broadcast(self, array, nbytes, kind, root, stream):
        self.calls.append(("broadcast", nbytes, kind, root))


@pytest.fixture
def gpu():
    with pretended.pretended_gpu() as cupy:
        yield cupy


def test_sums_and_broadcasts_go_to_nccl(gpu, monkeypatch):
    a = to_device(np.arange(4, dtype=np.float32), "cuda:0")
    b = to_device(np.arange(3, dtype=np.float64), "cuda:0")
    library = Library([a, b])
    monkeypatch.setattr(nccl, "_nccl", lambda: library)
    group = Group()
    group.size = 3
    monkeypatch.setattr(group, "broadcast", lambda x, **_: x, raising=True)  # the name goes by MPI
    assert group.start_sum(a) is None
    group.start_sum(b)
    assert to_device(a, "cpu").tolist() == [0, 3, 6, 9]
    assert library.calls == [("group", 3, tuple(range(-64, 64)), 0), ("sum", 4, "float32", "sum"), ("sum", 3, "float64", "sum")]
    Group.broadcast(group, a, 2)
    assert library.calls[-1] == ("broadcast", 16, "int8", 2)


def test_what_nccl_does_not_add(gpu, monkeypatch):
    monkeypatch.setattr(nccl, "_nccl", lambda: Library([]))
    ranks = nccl.NcclGroup(bytes(128), 0, 2)
    with pytest.raises(DeviceError, match=r"NCCL does not add arrays of bool \(cuda:0\); it adds float16, float32"):
        ranks.sum(to_device(np.ones(2, bool), "cuda:0"))


def test_without_the_library():
    if importlib.util.find_spec("nvidia.nccl") is not None:
        pytest.skip("NCCL is here")
    with pytest.raises(DeviceError, match=r"by NCCL, which CuPy does not find: pip install 'nvidia-nccl-cu13"):
        nccl.NcclGroup.new_name()
