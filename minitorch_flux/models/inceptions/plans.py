"""What an Inception network is built from: a plan, which is a table of convolutions, pools, forks and residual blocks.

    fork([same(1, 64)], [same(1, 48), same(5, 64)], [MEAN, same(1, 32)])

is a block of three branches, whose outputs lie side by side: a 1x1 convolution to 64 planes; one to 48 and a 5x5 one to 64;
a pool and a 1x1 convolution to 32. How many planes come in is counted, not written down. Every convolution is a
``basic_conv_bn``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from ...nn.chain import Chain
from ...nn.combinations import Parallel
from ...nn.convolutions import Conv
from ...nn.pools import MaxPool
from ...ops.nonlinearities import identity, relu
from ..layers.classifiers import create_classifier
from ..layers.connections import addact, cat_channels
from ..layers.convolutions import basic_conv_bn
from ..layers.utilities import inputscale
from ..networks import Network, named_layers


class Step(NamedTuple):
    """A convolution with its norm and relu."""

    kernel: tuple[int, int]
    planes: int
    stride: int
    pad: tuple[int, int]


class Fork(NamedTuple):
    """Branches of one input, whose outputs lie side by side."""

    branches: tuple[Plan, ...]


class Residual(NamedTuple):
    """``activation(x + scale * up(fork(x)))``: ``up`` is a 1x1 convolution with bias and without norm, to the planes of x."""

    fork: Fork
    scale: float
    activation: Callable[..., Any] = relu


Plan: TypeAlias = Sequence[Step | Fork | Residual | Callable[[], Any]]
"""What comes one after the other; a function without arguments makes a pool."""

MAX = partial(MaxPool, (3, 3), stride=2)
"""A pool to half of the size, of whole windows only."""


def same(kernel: int | tuple[int, int], planes: int, stride: int = 1) -> Step:
    """A convolution that keeps the size, or with a stride leaves its part of it."""
    h, w = (kernel, kernel) if isinstance(kernel, int) else kernel
    return Step((h, w), planes, stride, (h // 2, w // 2))


def valid(kernel: int, planes: int, stride: int = 1) -> Step:
    """A convolution of whole windows only."""
    return Step((kernel, kernel), planes, stride, (0, 0))


def fork(*branches: Plan) -> Fork:
    """Branches of one input, whose outputs lie side by side."""
    return Fork(branches)


class Builder:
    """Makes layers of plans. ``width_mult`` multiplies all planes; the keywords are those of ``basic_conv_bn``."""

    def __init__(self, width_mult: float, rng: Any, **keywords: Any) -> None:
        self.width_mult, self.rng, self.keywords = width_mult, rng, keywords

    def chain(self, plan: Plan, planes: int) -> tuple[Chain, int]:
        """The layers of ``plan`` for an input of ``planes`` channels, and how many channels come out."""
        layers: dict[str, Any] = {}
        kinds: Counter[str] = Counter()

        def name(kind: str) -> str:
            kinds[kind] += 1
            return f"{kind}{kinds[kind]}"

        for part in plan:
            if isinstance(part, Step):
                kinds["conv"] += 1
                pair, planes = self._conv(part, planes)
                layers |= named_layers(pair, relu, kinds["conv"])
            elif isinstance(part, Fork):
                layers[name("mixed")], planes = self._fork(part, planes)
            elif isinstance(part, Residual):
                layers[name("residual")] = self._residual(part, planes)
            else:
                layers[name("pool")] = part()
        return Chain(**layers), planes

    def _conv(self, step: Step, planes: int) -> tuple[list[Any], int]:
        outplanes = max(1, round(step.planes * self.width_mult))
        pair = basic_conv_bn(step.kernel, planes, outplanes, stride=step.stride, pad=step.pad, rng=self.rng, **self.keywords)
        return pair, outplanes

    def _fork(self, part: Fork, planes: int) -> tuple[Parallel, int]:
        chains, outplanes = zip(*(self.chain(branch, planes) for branch in part.branches), strict=True)
        return Parallel(cat_channels, **{f"branch{i + 1}": chain for i, chain in enumerate(chains)}), sum(outplanes)

    def _residual(self, part: Residual, planes: int) -> Parallel:
        mixed, inner = self._fork(part.fork, planes)
        scale = {} if part.scale == 1 else {"scale": inputscale(part.scale)}
        branch = Chain(mixed=mixed, up=Conv((1, 1), inner, planes, rng=self.rng), **scale)
        return Parallel(partial(addact, part.activation), shortcut=identity, branch=branch)


def inception(
    name: str,
    stages: Mapping[str, Plan],
    *,
    width_mult: float,
    dropout_prob: float | None,
    imsize: tuple[int, int],
    inchannels: int,
    nclasses: int,
    rng: Any,
    **keywords: Any,
) -> Network:
    """A network whose backbone has the named ``stages``, with a classifier of a mean pool, Dropout and a Dense layer."""
    if not width_mult > 0:
        raise ValueError(f"{name}: width_mult multiplies the planes and must be positive, got {width_mult}")
    builder, planes, chains = Builder(width_mult, rng, **keywords), inchannels, {}
    for stage, plan in stages.items():
        chains[stage], planes = builder.chain(plan, planes)
    head = create_classifier(planes, nclasses, dropout_prob=dropout_prob, rng=rng)
    return Network(Chain(**chains), head, imsize=imsize, inchannels=inchannels, nclasses=nclasses)
