"""resnet: the builder of all residual networks, from a block and the number of times that each stage repeats it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...nn.chain import Chain
from ...nn.combinations import Parallel
from ...nn.norms import BatchNorm
from ...ops.nonlinearities import relu
from ..layers.classifiers import create_classifier
from ..layers.connections import addact
from ..layers.drops import DropBlock, StochasticDepth, linear_scheduler
from ..networks import Network
from .blocks import EXPANSION, basicblock, bottle2neck, bottleneck, no_attention
from .shortcuts import SHORTCUTS
from .stems import resnet_stem


def resnet(
    block: Callable[..., Any],
    repeats: Sequence[int],
    downsample: Any = "B",
    *,
    cardinality: int | None = None,
    base_width: int | None = None,
    scale: int | None = None,
    inplanes: int = 64,
    planes: int = 64,
    reduction_factor: int = 1,
    connection: Callable[..., Any] = addact,
    activation: Callable[..., Any] = relu,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    attn_fn: Callable[[int], Any] = no_attention,
    stem: Any = "default",
    replace_stem_pool: bool = False,
    pool_layer: Any = None,
    use_conv: bool = False,
    dropblock_prob: float | None = None,
    stochastic_depth_prob: float | None = None,
    dropout_prob: float | None = None,
    imsize: tuple[int, int] = (256, 256),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """resnet(block, repeats, downsample="B", *, cardinality=1, base_width=64, scale=4, inplanes=64, planes=64,
    reduction_factor=1, connection=addact, activation=relu, norm_layer=BatchNorm, revnorm=False, attn_fn=no_attention,
    stem="default", replace_stem_pool=False, pool_layer=AdaptiveMeanPool((1, 1)), use_conv=False, dropblock_prob=None,
    stochastic_depth_prob=None, dropout_prob=None, imsize=(256, 256), inchannels=3, nclasses=1000, rng=None)

    A residual network: a stem, stages of ``block``, each of which begins with half of the size and twice the planes of the
    last one (but for the first), and a classifier.

    ``block``: ``basicblock``, ``bottleneck`` or ``bottle2neck``; ``repeats``: how many blocks each stage has. ``planes``: of
    the first stage. ``cardinality`` and ``base_width`` (64; 26 for bottle2neck) widen bottlenecks, ``scale`` is bottle2neck's,
    ``reduction_factor`` narrows the first convolution of a block.
    ``downsample``: the type of the shortcuts: "A" pads with zeros, "B" convolves where planes or size change, "C" always,
    "D" pools and convolves; or two functions ``f(inplanes, outplanes, *, stride, norm_layer, revnorm, rng)``, for blocks that
    change something and for others. ``connection(activation, branch, shortcut)`` joins: ``addact`` or ``actadd``.
    ``norm_layer``, ``revnorm`` as in ``conv_norm``. ``attn_fn``: a function of the planes, such as ``squeeze_excite``.
    ``stem``: "default", "deep", "deep_tiered" (see ``resnet_stem``, also for ``replace_stem_pool``) with ``inplanes`` planes,
    or a layer that gives so many. ``dropblock_prob``, ``stochastic_depth_prob``: the ends of linear schedules over all blocks.
    ``pool_layer``, ``use_conv`` and ``dropout_prob`` are those of ``create_classifier``. Nothing depends on ``imsize``, which
    is kept for whoever asks.

    The backbone is ``Chain(stem=..., stage1=..., ...)``; a block is ``Parallel(connection, branch=..., shortcut=...)``,
    in the order of PyTorch's residual networks, so that their weights load (``flux.load_torch``).
    Raises ValueError for options that a block does not have.
    Sources: Metalhead's ``resnet``; He and others, "Deep residual learning for image recognition", 2016.
    """
    if block not in EXPANSION:
        raise ValueError(f"resnet: the block is basicblock, bottleneck or bottle2neck, got {block!r}")
    options = _block_options(block, cardinality, base_width, scale, reduction_factor, dropblock_prob, stochastic_depth_prob)
    changed, unchanged = _shortcuts(downsample)
    every = {"norm_layer": norm_layer, "revnorm": revnorm, "rng": rng}
    if isinstance(stem, str):
        stem = resnet_stem(stem, inchannels=inchannels, outplanes=inplanes, replace_pool=replace_stem_pool,
                           activation=activation, **every)
    elif replace_stem_pool:
        raise ValueError("resnet: replace_stem_pool=True is for a stem by name; the stem given is what it is")
    depth = sum(repeats)
    drops = zip(*(linear_scheduler(p, depth=depth) for p in (dropblock_prob, stochastic_depth_prob)), strict=True)
    stages: dict[str, Chain] = {}
    for i, n in enumerate(repeats):
        blocks = []
        for j in range(n):
            stride, out = (2 if i and not j else 1), planes * 2**i * EXPANSION[block]
            drop_block, drop_path = next(drops)
            if block is bottle2neck:
                options["is_first"] = not j
            else:
                options |= {"drop_block": DropBlock(drop_block, rng=rng), "drop_path": StochasticDepth(drop_path, rng=rng)}
            branch = block(inplanes, planes * 2**i, stride=stride, activation=activation, attn_fn=attn_fn, **options, **every)
            around = changed if stride != 1 or inplanes != out else unchanged
            shortcut = around(inplanes, out, stride=stride, **every)
            blocks.append(Parallel(partial(connection, activation), branch=branch, shortcut=shortcut))
            inplanes = out
        stages[f"stage{i + 1}"] = Chain(*blocks)
    head = create_classifier(inplanes, nclasses, use_conv=use_conv, pool_layer=pool_layer, dropout_prob=dropout_prob, rng=rng)
    return Network(Chain(stem=stem, **stages), head, imsize=imsize, inchannels=inchannels, nclasses=nclasses)


def _block_options(
    block: Any, cardinality: Any, base_width: Any, scale: Any, reduction_factor: int, dropblock_prob: Any, depth_prob: Any
) -> dict[str, Any]:
    """The keywords for the block; ValueError for those that it does not have."""
    options = {"cardinality": cardinality, "base_width": base_width, "scale": scale}
    options |= {"reduction_factor": None if reduction_factor == 1 else reduction_factor}
    options |= {"dropblock_prob": dropblock_prob, "stochastic_depth_prob": depth_prob}
    has = {
        basicblock: {"reduction_factor", "dropblock_prob", "stochastic_depth_prob"},
        bottleneck: {"cardinality", "base_width", "reduction_factor", "dropblock_prob", "stochastic_depth_prob"},
        bottle2neck: {"cardinality", "base_width", "scale"},
    }[block]
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in has:
            raise ValueError(f"resnet: {block.__name__} has no {name}, got {name}={value}; it takes {', '.join(sorted(has))}")
    return {name: value for name, value in given.items() if not name.endswith("_prob")}


def _shortcuts(downsample: Any) -> Any:
    """The two functions that make shortcuts."""
    if isinstance(downsample, str) and downsample in SHORTCUTS:
        return SHORTCUTS[downsample]
    if isinstance(downsample, tuple | list) and len(downsample) == 2 and all(map(callable, downsample)):
        return downsample
    raise ValueError(f"resnet: downsample is 'A', 'B', 'C' or 'D', or two functions that make shortcuts, got {downsample!r}")
