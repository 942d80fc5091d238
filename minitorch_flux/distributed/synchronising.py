"""Before the first step: every rank has the same model, the same numbers in it, and a random stream of its own."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ..autograd import Buffer, Tensor
from ..backend import Generator, device_of, to_device
from ..nn.generators import generators
from ..nn.state_dicts import tensors_by_path
from .groups import DistributedError, Group, current


def synchronize(model: Any, group: Group | None = None) -> Any:
    """Give every rank the parameters and buffers of rank 0, in place; returns the model.

    Refuses, before anything is written, ranks whose models differ in a path, a shape or a dtype, or that run another version of
    the library: DistributedError names the ranks and the first difference. Afterwards ``default_generator()`` and the
    generators in the model's layers have a stream of their own on each rank, so that dropout masks and augmentations differ;
    rank 0 keeps its. Collective.
    """
    group = current() if group is None else group
    if group.size == 1:
        return model
    from .. import __version__

    tensors = tensors_by_path(model)
    _compare(group, "the version of minitorch_flux", [__version__])
    _compare(group, "the model", [f"{path} {t.shape} {t.dtype}" for path, t in tensors.items()])
    for path, t in tensors.items():
        a = np.ascontiguousarray(t.data) if device_of(t.data) == "cpu" else t.data
        group.broadcast(a, what=f"the broadcast of {path}")
        t.data[...] = a
        t.version += 1
    separate(model, group)
    return model


def separate(model: Any, group: Group) -> None:
    """A random stream for each rank, found from rank 0's: key by key, at the same place."""
    for name, g in generators(model).items():
        if not isinstance(g, Generator):
            raise DistributedError(f"{name}: a numpy.random.Generator cannot be split between ranks; use flux.Generator")
        state = group.gather(g.state_dict(), "the generators")[0]
        key = state["key"]
        if group.rank:
            digest = hashlib.sha256(f"{key} {group.rank}".encode()).digest()
            key = int.from_bytes(digest[:8], "little")
        g.load_state_dict({"key": key, "counter": state["counter"]})


def check_equal(model: Any, group: Group | None = None) -> None:
    """Raise DistributedError, which names the ranks and the first array, where a parameter is not the same on all ranks.

    They drift apart where a rank does something else than the others, an update for instance that is not made everywhere.
    Collective.
    """
    group = current() if group is None else group
    if group.size == 1:
        return
    digests = [f"{path} {_digest(t)}" for path, t in tensors_by_path(model).items() if not isinstance(t, Buffer)]
    _compare(group, "the numbers of the model", digests)


def _digest(t: Tensor) -> str:
    return hashlib.blake2b(np.ascontiguousarray(to_device(t.data, "cpu")).tobytes(), digest_size=8).hexdigest()


def _compare(group: Group, what: str, entries: list[str]) -> None:
    """All ranks have the same list of entries, or all raise."""
    mine = hashlib.blake2b("\n".join(entries).encode(), digest_size=16).hexdigest()
    digests = group.gather(mine, what)
    if len(set(digests)) == 1:
        return
    everybody = group.gather(entries, what)
    other = next(r for r, d in enumerate(digests) if d != digests[0])
    ours, theirs = everybody[0], everybody[other]
    i = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    first, second = (e[i] if i < len(e) else "nothing" for e in (ours, theirs))
    others = ", ".join(str(r) for r, d in enumerate(digests) if d != digests[0] and r != other)
    more = f"; {others} have something else than rank 0, too" if others else ""
    raise DistributedError(f"the ranks differ in {what}: rank 0 has {first}, rank {other} has {second}{more}")
