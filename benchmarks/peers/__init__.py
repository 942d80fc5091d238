"""The sides of a comparison: this library and its peers. A new peer is a row of ``PEERS`` and a module of its name here."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import cast

from ..tasks import Network, Setting
from .framework import Framework


@dataclass(frozen=True)
class Peer:
    """A framework, and what it can be asked for."""

    name: str  # the module here, and the package that is imported
    title: str
    layouts: tuple[str, ...] = ("contiguous",)  # of images
    devices: tuple[str, ...] = ("cpu",)

    @property
    def installed(self) -> bool:
        """Whether it can be imported here."""
        return importlib.util.find_spec(self.name) is not None

    @property
    def advice(self) -> str:
        """What to do where it is not installed."""
        return f"{self.title} is not installed, so it is not measured: pip install {self.name}"


OURS = Peer("minitorch_flux", "minitorch_flux", devices=("cpu", "cuda"))
PEERS = {
    p.name: p
    for p in (
        Peer("torch", "PyTorch", ("contiguous", "channels_last"), ("cpu", "cuda")),
        Peer("jax", "JAX"),
    )
}
"""In order of importance: the first one that takes part is the one that the ratio of a row is told from."""


@dataclass(frozen=True)
class Side:
    """A peer with a layout: one process."""

    peer: Peer
    layout: str = "contiguous"

    @property
    def name(self) -> str:
        """``"torch"``, ``"torch channels_last"``, ..."""
        return self.peer.name + ("" if self.layout == "contiguous" else f" {self.layout}")

    @property
    def title(self) -> str:
        """As a reader knows it."""
        return self.peer.title + ("" if self.layout == "contiguous" else f", {self.layout}")

    def takes(self, network: Network) -> bool:
        """Whether its layout makes a difference to this network."""
        return self.layout == "contiguous" or network.images


def sides(peers: tuple[Peer, ...], device: str = "cpu") -> list[Side]:
    """Ours, and every layout of the peers that run on a device."""
    return [Side(OURS), *(Side(p, layout) for p in peers if device in p.devices for layout in p.layouts)]


def framework(name: str, setting: Setting) -> Framework:
    """A side in this process. Imports nothing of the others."""
    module = "flux" if name == OURS.name else name
    return cast(Framework, importlib.import_module(f"{__name__}.{module}").make(setting))
