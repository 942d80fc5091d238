"""The blocks of residual networks: what is on the branch, without the shortcut around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...autograd import Tensor
from ...nn.chain import Chain
from ...nn.containers import Container
from ...nn.inputs import layer_name
from ...nn.norms import BatchNorm
from ...nn.pools import MeanPool
from ...ops.elementwise import as_tensor
from ...ops.joining import chunk, concatenate
from ...ops.nonlinearities import identity, relu
from ..layers.convolutions import conv_norm
from ..networks import named_layers


def no_attention(planes: int) -> Any:
    """The ``attn_fn`` of a network without attention: ``identity`` for any number of planes."""
    return identity


class _Branch:
    """Layers by name, added one after the other; what is off is left out, so that no key depends on it."""

    def __init__(self, activation: Any, **keywords: Any) -> None:
        self.activation, self.keywords = activation, keywords
        self.layers: dict[str, Any] = {}
        self.pairs = 0

    def conv(
        self, size: int, inplanes: int, outplanes: int, activation: Any = identity, drop: Any = identity, **keywords: Any
    ) -> None:
        """A ``conv_norm``; with ``drop`` its activation comes after that."""
        self.pairs += 1
        inner = identity if drop is not identity else activation
        pair = conv_norm((size, size), inplanes, outplanes, inner, pad=size // 2, **self.keywords, **keywords)
        self.layers |= named_layers(pair, self.activation, self.pairs)
        if drop is not identity:
            self.add(drop_block=drop, **{f"act{self.pairs}": activation})

    def add(self, **layers: Any) -> None:
        """Further layers."""
        self.layers |= {name: layer for name, layer in layers.items() if layer is not identity}

    def chain(self) -> Chain:
        """All of them in turn."""
        return Chain(**self.layers)


def basicblock(
    inplanes: int,
    planes: int,
    *,
    stride: int = 1,
    reduction_factor: int = 1,
    activation: Callable[..., Any] = relu,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    attn_fn: Callable[[int], Any] = no_attention,
    drop_block: Any = identity,
    drop_path: Any = identity,
    rng: Any = None,
) -> Chain:
    """Two 3x3 convolutions with norms, of ``planes / reduction_factor`` and ``planes``; after the first DropBlock and the
    activation, after the second attention and StochasticDepth. ``stride`` is the first one's.

    Sources: Metalhead's ``basicblock``; He and others, "Deep residual learning for image recognition", 2016.
    """
    first = planes // reduction_factor
    branch = _Branch(activation, norm_layer=norm_layer, revnorm=revnorm, rng=rng)
    branch.conv(3, inplanes, first, activation, drop_block, stride=stride)
    branch.conv(3, first, planes)
    branch.add(attention=attn_fn(planes), drop_path=drop_path)
    return branch.chain()


def bottleneck(
    inplanes: int,
    planes: int,
    *,
    stride: int = 1,
    cardinality: int = 1,
    base_width: int = 64,
    reduction_factor: int = 1,
    activation: Callable[..., Any] = relu,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    attn_fn: Callable[[int], Any] = no_attention,
    drop_block: Any = identity,
    drop_path: Any = identity,
    rng: Any = None,
) -> Chain:
    """A 1x1 convolution to ``width / reduction_factor``, a 3x3 one to ``width`` in ``cardinality`` groups, a 1x1 one to ``4
    planes``, with ``width = planes * base_width // 64 * cardinality``; after the second DropBlock, after the third attention
    and StochasticDepth. ``stride`` is the 3x3 one's.

    Sources: Metalhead's ``bottleneck``; He and others, 2016; Xie and others, "Aggregated residual transformations", 2017.
    """
    width = planes * base_width // 64 * cardinality
    first = width // reduction_factor
    branch = _Branch(activation, norm_layer=norm_layer, revnorm=revnorm, rng=rng)
    branch.conv(1, inplanes, first, activation)
    branch.conv(3, first, width, activation, drop_block, stride=stride, groups=cardinality)
    branch.conv(1, width, 4 * planes)
    branch.add(attention=attn_fn(4 * planes), drop_path=drop_path)
    return branch.chain()


class Scales(Container):
    """Scales(rest, l1, l2, ..., added=True)

    The middle of a Res2Net block: the channels are split into n + 1 equal parts for n layers. Layer i has part i, and with
    ``added`` the output of layer i - 1 added to it; ``rest`` has the last part. All outputs are joined again.

    Source: Gao and others, "Res2Net: a new multi-scale backbone architecture", 2021.
    """

    def __init__(self, rest: Any, *layers: Any, added: bool = True) -> None:
        self.added = added
        self._hold((*layers, rest), {})

    @property
    def rest(self) -> Any:
        """The layer that the last part goes through."""
        return self.layers[-1]

    def __call__(self, x: Any) -> Tensor:
        x, n = as_tensor(x), len(self.layers)
        if x.ndim < 2 or x.shape[1] % n:
            raise ValueError(f"{layer_name(self)}: the channels of axis 1 cannot be split into {n} parts (input shape "
                             f"{x.shape})")
        parts = chunk(x, n, axis=1)
        outputs: list[Any] = []
        for i in range(n - 1):
            outputs.append(self._call(i, parts[i] + outputs[-1] if self.added and i else parts[i]))
        return concatenate([*outputs, self._call(n - 1, parts[-1])], axis=1)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.rest, *self.layers[:-1]], {} if self.added else {"added": False}

    def _again(self, layers: list[Any], named: dict[str, Any]) -> Chain:
        return Chain(*layers)


def bottle2neck(
    inplanes: int,
    planes: int,
    *,
    stride: int = 1,
    cardinality: int = 1,
    base_width: int = 26,
    scale: int = 4,
    is_first: bool = False,
    activation: Callable[..., Any] = relu,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    attn_fn: Callable[[int], Any] = no_attention,
    rng: Any = None,
) -> Chain:
    """``bottleneck`` whose 3x3 convolution is ``scale - 1`` smaller ones, each of ``width = planes * base_width // 64 *
    cardinality`` channels and each fed with the output of the one before, too; a last part of the channels passes by.

    In the first block of a stage (``is_first``) nothing is added, and the last part goes through a 3x3 mean pool.
    Sources: Metalhead's ``bottle2neck``; Gao and others, "Res2Net", 2021, whose order of the parts it has.
    """
    if scale < 2:
        raise ValueError(f"bottle2neck: scale is the number of parts, at least 2, got {scale}; for one part take bottleneck")
    width = planes * base_width // 64 * cardinality
    keywords = {"norm_layer": norm_layer, "revnorm": revnorm, "rng": rng}
    scales = []
    for _ in range(scale - 1):
        part = _Branch(activation, **keywords)
        part.conv(3, width, width, activation, stride=stride, groups=cardinality)
        scales.append(part.chain())
    rest = MeanPool((3, 3), stride=stride, pad=1) if is_first else identity
    branch = _Branch(activation, **keywords)
    branch.conv(1, inplanes, width * scale, activation)
    branch.add(scales=Scales(rest, *scales, added=not is_first))
    branch.conv(1, width * scale, 4 * planes)
    branch.add(attention=attn_fn(4 * planes))
    return branch.chain()


EXPANSION = {basicblock: 1, bottleneck: 4, bottle2neck: 4}
"""How many planes come out of a block, in units of its ``planes``."""
