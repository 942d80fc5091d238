"""Node: one recorded call of an operation, with what its gradient needs."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import to_device
from .tensors import Tensor

next_order = itertools.count(1).__next__


class TapeError(RuntimeError):
    """The tape cannot be walked: freed, changed in place, or never recorded."""


class Node:
    """One recorded call: the operation, where its inputs came from, and what its gradient needs."""

    __slots__ = ("__weakref__", "checks", "dtypes", "inputs", "op", "order", "out", "parents", "residuals", "shapes",
                 "static", "types", "versions")

    op: Any  # an Operation, or something else with a name and ``pull``
    order: int  # later nodes have higher numbers
    dtypes: tuple[Any, ...]  # of the outputs
    parents: Sequence[Any]  # per input: None, a leaf Tensor, a Node (its output 0), or (Node, output)
    inputs: Sequence[Any] | None  # the saved ones, None elsewhere; None altogether once freed
    out: tuple[Any, ...] | None
    residuals: Sequence[Any]
    shapes: Sequence[Any] | None  # of the inputs
    types: Sequence[Any] | None  # the dtypes of the inputs
    static: dict[str, Any]
    versions: Sequence[tuple[Tensor, int]]  # of every leaf whose memory is saved
    checks: Sequence[tuple[Any, Any, int]] | None  # under debug(): where an array was found, the array, its checksum

    def free(self) -> None:
        """Let go of everything saved, and of the tape behind this node."""
        self.inputs = self.shapes = self.types = self.checks = self.out = None
        self.residuals = self.parents = self.versions = ()

    def check_saved(self) -> None:
        """Raise when the node is used up, or when a saved value has changed since it was saved."""
        if self.inputs is None:
            raise TapeError(
                f"the tape behind {self.op.name} has been used and freed; call backward(retain_graph=True) the first "
                "time to walk it again"
            )
        for t, version in self.versions:
            if t.version != version:
                raise TapeError(
                    f"{self.op.name} saved a value of shape {t.shape} for its gradient that was changed in place since "
                    f"(version {t.version}, saved at {version}); finish the backward pass before updating or loading"
                )
        if self.checks is not None:
            self._check_arrays()

    def _check_arrays(self) -> None:
        for holder, a, checksum in self.checks or ():
            if isinstance(holder, Tensor) and holder.data is not a:
                raise TapeError(
                    f"{self.op.name} saved a tensor of shape {a.shape} for its gradient whose .data was exchanged for "
                    "another array since; finish the backward pass first"
                )
            if checksum_of(a) != checksum:
                raise TapeError(
                    f"{self.op.name} saved an array of shape {a.shape} for its gradient that somebody wrote to "
                    "since; pass a copy, or finish the backward pass first"
                )


class Resumed:
    """What ``pull`` returns where the walk is to go on elsewhere: gradients for places of a tape that was made just now."""

    __slots__ = ("grads", "parents")

    def __init__(self, parents: list[Any], grads: list[Any]) -> None:
        self.parents, self.grads = parents, grads


def checksum_of(a: Any) -> int:
    """A checksum of the bytes of an array's elements."""
    host = np.ascontiguousarray(to_device(a, "cpu"))
    return zlib.crc32(host.view(np.uint8).reshape(-1).data) if host.size else 0
