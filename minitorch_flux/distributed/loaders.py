"""Batches shared out among the ranks."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..backend import Generator, is_array, resolve_rng
from ..data import DataLoader
from ..data.observations import columns_of
from .groups import DistributedError, Group, current


class DistributedLoader(DataLoader):
    """A DataLoader of which every rank gets its share: ``for x, y in DistributedLoader((x, y), batchsize=256, shuffle=True)``.

    ``batchsize`` counts the observations of all ranks together, so that a script's results do not depend on the number of
    ranks: the batches are those of one process, and each is cut into ``size`` consecutive parts, the first ones one longer
    where it does not come out even. Together the ranks see every observation once in an epoch, in an order that is drawn anew
    and is the same on all of them. A short last batch may leave ranks with none: these get arrays of length 0, which
    ``distributed.withgradient`` lets count for nothing (for data that are not arrays such a batch is refused: use
    ``partial=False``).

    Keywords as DataLoader's; ``rng=None`` takes a generator of its own, seeded from rank 0's default one. ``group``: default,
    the one that ``init`` made. A state that was saved fits any number of ranks. The constructor is collective: ranks whose data
    have different lengths are refused.
    """

    def __init__(self, data: Any, batchsize: int = 1, shuffle: bool = False, partial: bool = True,
                 rng: Generator | None = None, *, group: Group | None = None, **keywords: Any) -> None:
        self.group = current() if group is None else group
        if rng is not None and not isinstance(rng, Generator):
            raise TypeError(f"DistributedLoader: rng must be a flux.Generator, or None, got {type(rng).__name__}")
        generator = Generator(int(resolve_rng(None).spawn(1)[0].key)) if rng is None else rng
        super().__init__(data, batchsize, shuffle, partial, generator, **keywords)
        told = self.group.gather([self.nobs, generator.state_dict()], "a DistributedLoader")
        lengths = [n for n, _ in told]
        if len(set(lengths)) > 1:
            raise DistributedError(f"DistributedLoader: the ranks have data of different lengths, {lengths}; every rank gets "
                                   "the whole data, and takes its share itself")
        generator.load_state_dict(told[0][1])
        self.share = (self.group.rank, self.group.size)
        rest = self.nobs % self.batchsize if partial else 0
        smallest = min(rest or self.batchsize, self.nobs or self.batchsize)
        arrays = all(isinstance(c, Tensor) or is_array(c) for _, c in columns_of(data, "DistributedLoader"))
        if smallest < self.group.size and not (arrays and self.collate is None):
            raise ValueError(f"DistributedLoader: a batch of {smallest} leaves some of the {self.group.size} ranks without an "
                             "observation, which only arrays can be; use partial=False, or a larger batchsize")

    def __repr__(self) -> str:
        return f"{super().__repr__()}, rank {self.share[0]} of {self.share[1]}"
