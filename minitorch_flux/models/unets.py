"""UNet: an encoder that makes an image small and a decoder that makes it large again, from the maps on the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..autograd import Tensor
from ..nn import printing
from ..nn.chain import Chain
from ..nn.containers import Container
from ..nn.convolutions import Conv
from ..nn.initialisers import glorot_uniform
from ..nn.module import Module
from ..nn.norms import BatchNorm
from ..nn.output_sizes import outputsize
from ..nn.upsamples import PixelShuffle
from ..ops.elementwise import as_tensor
from ..ops.joining import concatenate
from ..ops.nonlinearities import relu
from .densenets import DenseNet
from .layers.convolutions import conv_norm
from .layers.utilities import flatten_chains
from .networks import Network, named_layers
from .networks import backbone as backbone_of


class Decode(Module):
    """Decode(up, join)

    A step of a UNet's decoder: ``y = join(cat(up(x), before))``, where ``before`` is the encoder's map of the size of
    ``up(x)``. Raises ValueError where they differ in size.
    """

    def __init__(self, up: Callable[..., Any], join: Callable[..., Any]) -> None:
        self.up, self.join = up, join

    def __call__(self, x: Any, before: Any) -> Tensor:
        y = self.up(x)
        if y.shape[2:] != before.shape[2:]:
            raise ValueError(f"Decode: maps of {before.shape[2]} x {before.shape[3]} pixels came back as {y.shape[2]} x "
                             f"{y.shape[3]}: the encoder could not divide them evenly; take images whose height and width are "
                             "multiples of all that it divides by")
        return self.join(concatenate([y, before], axis=1))


class EncoderDecoder(Container):
    """EncoderDecoder(stage0=..., stage1=..., middle=..., step1=...)

    Layers in the form of a U, an even number of them, 2n: the stages of an encoder, n, called one after the other; the middle;
    and the steps of a decoder, n - 1. Each of these is called with what came before it and with the output of a stage, of the
    last but one for the first step, of the first for the last. Layers are numbered or named as a Chain's.
    """

    def __init__(self, *layers: Any, **named: Any) -> None:
        n = len(layers) + len(named)
        if not n or n % 2:
            raise ValueError(f"EncoderDecoder: n stages, a middle and n - 1 steps are an even number of layers, got {n}")
        self._hold(layers, named)

    def _again(self, layers: list[Any], named: dict[str, Any]) -> Chain:
        return Chain(*layers, **named)

    def __call__(self, x: Any) -> Tensor:
        x, n = as_tensor(x), len(self.layers) // 2
        maps = []
        for i in range(n):
            x = self._call(i, x)
            maps.append(x)
        x = self._call(n, maps.pop())
        for i in range(n + 1, 2 * n):
            x = self._call(i, x, maps.pop())
        return x


def icnr(r: int, *shape: int, init: Callable[..., Any] = glorot_uniform, rng: Any = None) -> Any:
    """A first weight for the convolution before ``PixelShuffle(r)`` with which all pixels that one pixel becomes are equal.

    Source: Aitken and others, "Checkerboard artifact free sub-pixel convolution", 2017.
    """
    return init(shape[0] // r**2, *shape[1:], rng=rng).repeat(r**2, axis=0)


def UNet(
    imsize: tuple[int, int] = (256, 256),
    inchannels: int = 3,
    outplanes: int = 3,
    encoder_backbone: Any = None,
    *,
    activation: Callable[..., Any] = relu,
    norm_layer: Callable[..., Any] = BatchNorm,
    rng: Any = None,
) -> Network:
    """UNet(imsize=(256, 256), inchannels=3, outplanes=3, encoder_backbone=backbone(DenseNet(121)), *, activation=relu,
    norm_layer=BatchNorm, rng=None)

    Images (N, inchannels, H, W) give maps (N, outplanes, H, W), scores for every pixel: segmentation.

    ``encoder_backbone``: what makes maps of images, such as ``backbone(ResNet(18))``, whose layers are shared, weights and
    all. It is cut before every layer that makes maps smaller, by any whole factor. From its last maps on, after two 3x3
    convolutions, every step of the decoder makes maps larger by the same factor (a 1x1 convolution and ``PixelShuffle``),
    joins them with those that the encoder had at this size, and has two 3x3 convolutions; it has as many planes as the
    encoder there, or half of its last step's where this is more. Each convolution is a ``conv_norm`` with ``activation`` and
    ``norm_layer``. The classifier is a 1x1 convolution. The backbone is ``EncoderDecoder(stage0=..., ..., middle=...,
    step1=..., ...)``; it gives maps of the size of the image.

    The height and width of images are multiples of all factors together, 32 for ResNet and DenseNet; ``imsize`` is one such
    size, others may be given. Raises ValueError for one that is not, and for an encoder without maps or that never makes
    them smaller.
    Sources: Metalhead's ``UNet``; Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image
    segmentation", 2015 (https://arxiv.org/abs/1505.04597).
    """
    if encoder_backbone is None:
        encoder_backbone = backbone_of(DenseNet(121, inchannels=inchannels, rng=rng))
    stages, planes, factors = _cut(encoder_backbone, (1, inchannels, *imsize))

    def conv(kernel: int, n: int, out: int, number: int | str, **keywords: Any) -> dict[str, Any]:
        pair = conv_norm((kernel, kernel), n, out, activation, norm_layer=norm_layer, pad=kernel // 2, rng=rng, **keywords)
        return named_layers(pair, activation, number)

    n = planes.pop()
    middle = Chain(**conv(3, n, 2 * n, 1), **conv(3, 2 * n, n, 2))
    steps: dict[str, Decode] = {}
    while planes:
        beside, r = planes.pop(), factors.pop()
        out = max(beside, n // 2)
        up = Chain(**conv(1, n, out * r**2, "", init=partial(icnr, r)), shuffle=PixelShuffle(r))
        steps[f"step{len(steps) + 1}"] = Decode(up, Chain(**conv(3, out + beside, out, 1), **conv(3, out, out, 2)))
        n = out
    classifier = Chain(conv=Conv((1, 1), n, outplanes, rng=rng))
    body = EncoderDecoder(**stages, middle=middle, **steps)
    return Network(body, classifier, imsize=imsize, inchannels=inchannels, nclasses=outplanes)


def _cut(encoder: Any, shape: tuple[int, ...]) -> tuple[dict[str, Chain], list[int], list[int]]:
    """The layers of an encoder in stages, each but the first with a layer in front that makes the maps smaller; the planes
    that come out of each; and the factors between them.
    """
    stages: list[list[Any]] = [[]]
    planes, factors = [shape[1]], []
    for layer in flatten_chains(encoder):
        out = outputsize(layer, shape)
        if len(out) != 4:
            raise ValueError(f"UNet: the encoder gives maps (N, C, H, W), but its layer {printing.text(layer)} gives {out}; of "
                             "a whole network take models.backbone(m)")
        (h, w), (high, wide) = shape[2:], out[2:]
        r = h // max(high, 1)
        if (r * high, r * wide) != (h, w):
            raise ValueError(f"UNet: the layer {printing.text(layer)} of the encoder makes {high} x {wide} of {h} x {w}, which "
                             "is not the same whole fraction both ways; take another imsize or another encoder")
        if r > 1:
            stages.append([])
            planes.append(0)
            factors.append(r)
        stages[-1].append(layer)
        planes[-1] = out[1]
        shape = out
    if not factors:
        raise ValueError(f"UNet: the encoder {printing.text(encoder):.80} never makes the maps smaller")
    return {f"stage{i}": Chain(*layers) for i, layers in enumerate(stages)}, planes, factors
