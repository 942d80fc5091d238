"""inverted_residual_network: the builder of MobileNets, MNASNets and EfficientNets, from a table of their stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

from ...nn import printing
from ...nn.chain import Chain
from ...nn.combinations import SkipConnection
from ...nn.norms import BatchNorm
from ...ops.arithmetic import add
from ...ops.geometry import SamePad
from ...ops.nonlinearities import identity, relu, sigmoid
from ..layers.classifiers import create_classifier
from ..layers.convolutions import conv_norm, dwsep_conv_norm
from ..layers.drops import StochasticDepth, linear_scheduler
from ..layers.inverted_residuals import fused_mbconv, mbconv
from ..layers.utilities import round_channels
from ..networks import Network, named_layers

IMSIZE = (224, 224)


class Stage(NamedTuple):
    """A row of a table of stages: what its blocks are, and how many of them."""

    block: Callable[..., Any]
    """``mbconv``, ``fused_mbconv`` or ``dwsep_conv_norm``."""
    kernel: int
    planes: int
    """That come out, before they are scaled."""
    expansion: float
    """How many times as wide as its input a block is inside; 1 for ``dwsep_conv_norm``."""
    stride: int
    """Of the first block; the others have 1."""
    repeats: int
    reduction: float | None = None
    """Of ``mbconv``: squeeze and excitation with a part of 1 / reduction of the planes, or None."""
    activation: Callable[..., Any] | None = None
    """None: the network's."""


def inverted_residual_network(
    stages: Sequence[Stage | tuple[Any, ...]],
    *,
    width_mult: float = 1,
    depth_mult: float = 1,
    inplanes: int = 32,
    headplanes: int | None = 1280,
    hidden_planes: int | None = None,
    connection: Callable[..., Any] = add,
    activation: Callable[..., Any] = relu,
    norm_layer: Callable[..., Any] = BatchNorm,
    pad: Any = None,
    se_from_explanes: bool = False,
    se_round_fn: Callable[[Any], Any] = round,
    se_activation: Callable[..., Any] | None = None,
    gate_activation: Callable[..., Any] = sigmoid,
    stochastic_depth_prob: float | None = None,
    dropout_prob: float | None = None,
    imsize: tuple[int, int] = IMSIZE,
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """inverted_residual_network(stages, *, width_mult=1, depth_mult=1, inplanes=32, headplanes=1280, hidden_planes=None,
    connection=add, activation=relu, norm_layer=BatchNorm, pad=SamePad(), se_from_explanes=False, se_round_fn=round,
    se_activation=None, gate_activation=sigmoid, stochastic_depth_prob=None, dropout_prob=None, imsize=(224, 224),
    inchannels=3, nclasses=1000, rng=None)

    A stem, a 3x3 convolution with stride 2 to ``inplanes``; stages of blocks; a head, a 1x1 convolution to ``headplanes``,
    left out for None; a classifier, with a hidden layer of ``hidden_planes`` if they are given.

    ``stages``: a ``Stage`` for each, or a tuple: (block, kernel, planes, expansion, stride, repeats, reduction=None,
    activation=None), with ``mbconv``, ``fused_mbconv`` or ``dwsep_conv_norm`` as its block. An inverted residual block that
    keeps size and planes has a residual connection around it: ``SkipConnection(block, connection)``. The planes of the
    stages are ``round_channels(planes * width_mult)``, those of the stem alike, the repeats ``ceil(repeats * depth_mult)``;
    ``headplanes`` and ``hidden_planes`` are taken as they are.
    ``activation``: of the stem, the head, the hidden layer, and of stages without one of their own.
    ``pad``: of the stem and of every depthwise or fused convolution; ``SamePad("upper")`` is TensorFlow's.
    ``se_from_explanes``: squeeze and excitation leaves ``se_round_fn`` of 1 / reduction of the planes inside a block, not of
    those that come in; ``se_activation`` (by default the block's) and ``gate_activation`` are its activations.
    ``stochastic_depth_prob``: what the blocks' probabilities grow to, see ``linear_scheduler``; they act on the branches of
    residual blocks. ``dropout_prob``: in the classifier. None for either: nothing is dropped.

    The result's backbone is ``Chain(stem=..., stage1=..., ..., head=...)``. Raises ValueError for factors that are not
    positive, for stages with another block or with what their block has not, and for a ``stochastic_depth_prob`` where no
    block has a residual connection.
    Sources: Metalhead's ``build_invresmodel``; Sandler and others, "MobileNetV2", 2018.
    """
    check_factor("inverted_residual_network", "width_mult", width_mult)
    check_factor("inverted_residual_network", "depth_mult", depth_mult)
    rows = [_checked(i + 1, stage) for i, stage in enumerate(stages)]
    inplanes = round_channels(inplanes * width_mult)
    pad = SamePad() if pad is None else pad
    every = {"norm_layer": norm_layer, "rng": rng}
    squeeze = {"se_round_fn": se_round_fn, "se_activation": se_activation, "gate_activation": gate_activation}
    stem = conv_norm((3, 3), inchannels, inplanes, activation, stride=2, pad=pad, **every)
    layers = {"stem": Chain(**named_layers(stem, activation))}
    repeats = [math.ceil(stage.repeats * depth_mult) for stage in rows]
    drops = iter(linear_scheduler(stochastic_depth_prob, depth=sum(repeats)))
    for i, (stage, n) in enumerate(zip(rows, repeats, strict=True)):
        outplanes = round_channels(stage.planes * width_mult)
        blocks = []
        for j in range(n):
            keywords: dict[str, Any] = {"stride": 1 if j else stage.stride, "pad": pad, **every}
            if stage.reduction is not None:
                wide = round_channels(inplanes * stage.expansion)
                keywords |= squeeze | {"reduction": stage.reduction * (1 if se_from_explanes else wide / inplanes)}
            drop = next(drops)
            blocks.append(_block(stage, inplanes, outplanes, stage.activation or activation, connection, drop, keywords))
            inplanes = outplanes
        layers[f"stage{i + 1}"] = Chain(*blocks)
    branches = [block for stage in layers.values() for block in stage if isinstance(block, SkipConnection)]
    if stochastic_depth_prob is not None and not branches:
        raise ValueError(f"inverted_residual_network: stochastic_depth_prob={stochastic_depth_prob} has nothing to drop: none "
                         "of the blocks has a residual connection")
    if headplanes is not None:
        head = conv_norm((1, 1), inplanes, headplanes, activation, **every)
        layers["head"], inplanes = Chain(**named_layers(head, activation)), headplanes
    if hidden_planes is None:
        scores = create_classifier(inplanes, nclasses, dropout_prob=dropout_prob, rng=rng)
    else:
        scores = create_classifier(inplanes, hidden_planes, nclasses, (activation, identity), dropout_prob=dropout_prob,
                                   rng=rng)
    return Network(Chain(**layers), scores, imsize=imsize, inchannels=inchannels, nclasses=nclasses)


def _checked(number: int, stage: Any) -> Stage:
    """A stage as a ``Stage``; ValueError for a block that there is not, or for what a block has not."""
    stage = Stage(*stage)
    name = f"inverted_residual_network: stage {number}"
    if stage.block not in (mbconv, fused_mbconv, dwsep_conv_norm):
        raise ValueError(f"{name}: the block is mbconv, fused_mbconv or dwsep_conv_norm, got {printing.text(stage.block)}")
    if stage.reduction is not None and stage.block is not mbconv:
        raise ValueError(f"{name}: {stage.block.__name__} has no squeeze and excitation, got reduction={stage.reduction}; "
                         "mbconv has")
    if stage.block is dwsep_conv_norm and stage.expansion != 1:
        raise ValueError(f"{name}: dwsep_conv_norm expands nothing, got expansion={stage.expansion}, expected 1")
    return stage


def _block(
    stage: Stage,
    inplanes: int,
    outplanes: int,
    activation: Callable[..., Any],
    connection: Callable[..., Any],
    drop: float | None,
    keywords: dict[str, Any],
) -> Any:
    """One block of a stage, in a residual connection where it keeps size and planes."""
    kernel = (stage.kernel, stage.kernel)
    if stage.block is dwsep_conv_norm:
        pairs = dwsep_conv_norm(kernel, inplanes, outplanes, activation, **keywords)
        half = len(pairs) // 2
        named = [named_layers(pair, activation) for pair in (pairs[:half], pairs[half:])]
        return Chain(**{f"{role}_{name}": layer for role, pair in zip(("depthwise", "pointwise"), named, strict=True)
                        for name, layer in pair.items()})
    explanes = round_channels(inplanes * stage.expansion)
    branch = stage.block(kernel, inplanes, explanes, outplanes, activation, **keywords)
    if keywords["stride"] != 1 or inplanes != outplanes:
        return branch
    if drop is not None:
        layers = dict(zip(branch.names, branch.layers, strict=True))
        branch = Chain(**layers, drop_path=StochasticDepth(drop, rng=keywords["rng"]))
    return SkipConnection(branch, connection)


def check_factor(name: str, what: str, factor: Any) -> None:
    """Raise ValueError where ``factor`` is no positive number."""
    if isinstance(factor, bool) or not isinstance(factor, Real) or not 0 < float(factor) < math.inf:
        raise ValueError(f"{name}: {what} must be a positive number, got {printing.text(factor)}")


def widened(planes: int, width_mult: float) -> int:
    """The planes of a head: scaled by a ``width_mult`` above 1, but not by one below, which would leave too few features."""
    return round_channels(planes * max(1, width_mult))
