"""What makes tokens of images: PatchEmbedding, ViPosEmbedding and ClassTokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...autograd import Param, Tensor
from ...nn.convolutions import Conv
from ...nn.initialisers import truncated_normal, zeros
from ...nn.inputs import as_input, drawn, layer_name, whole
from ...nn.module import Module
from ...ops.joining import concatenate
from ...ops.nonlinearities import identity
from ...ops.reductions import broadcast_to
from ...ops.shapes import reshape, swapaxes
from .norm_factories import norm_layers


def _pair(value: Any, what: str) -> tuple[int, int]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"PatchEmbedding: {what} is a pair (height, width), got {value!r}")
    height, width = (whole(n, f"PatchEmbedding: {what}") for n in value)
    return height, width


class PatchEmbedding(Module):
    """PatchEmbedding(imsize=(224, 224), *, inchannels=3, patch_size=(16, 16), embedplanes=768, norm_layer=identity,
    flatten=True, rng=None)

    Cuts images into patches and maps each to ``embedplanes`` features, as vision transformers do: a Conv whose kernel and
    stride are ``patch_size``. ``x`` (N, inchannels, H, W) gives tokens (N, npatches, embedplanes), row after row of the
    image; with ``flatten=False`` the map (N, embedplanes, H / ph, W / pw). Then comes the norm that ``norm_layer`` makes.

    ``imsize`` (height, width) must be divisible by ``patch_size``; ``npatches`` is the number of patches. In a state dict
    the convolution is ``proj``, the norm ``norm``. Raises ValueError for images that cannot be cut into whole patches.
    Sources: Metalhead's ``Layers.PatchEmbedding``; Dosovitskiy and others, "An image is worth 16x16 words", 2021.
    """

    def __init__(
        self,
        imsize: tuple[int, int] = (224, 224),
        *,
        inchannels: int = 3,
        patch_size: tuple[int, int] = (16, 16),
        embedplanes: int = 768,
        norm_layer: Callable[..., Any] = identity,
        flatten: bool = True,
        rng: Any = None,
    ) -> None:
        self.imsize, self.patch_size = _pair(imsize, "imsize"), _pair(patch_size, "patch_size")
        self._check_divisible("PatchEmbedding", self.imsize)
        self.inchannels, self.embedplanes, self.norm_layer, self.flatten = inchannels, embedplanes, norm_layer, flatten
        self.proj = Conv(self.patch_size, inchannels, embedplanes, stride=self.patch_size, rng=rng)
        self.norm = norm_layers(norm_layer, embedplanes)[0]

    @property
    def npatches(self) -> int:
        """The number of patches of an image of ``imsize``."""
        return (self.imsize[0] // self.patch_size[0]) * (self.imsize[1] // self.patch_size[1])

    def _check_divisible(self, name: str, size: tuple[int, ...]) -> None:
        if 0 in self.patch_size or any(n % k for n, k in zip(size, self.patch_size)):
            (h, w), (ph, pw) = size, self.patch_size
            raise ValueError(f"{name}: images of {h} x {w} cannot be cut into patches of {ph} x {pw} (height x width)")

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.proj.weight, self)
        if x.ndim != 4:
            raise ValueError(f"{layer_name(self)}: the input has {x.ndim} axes, expected 4, (N, channels, H, W) (input shape "
                             f"{x.shape})")
        self._check_divisible(layer_name(self), x.shape[2:])
        y = self.proj(x)
        if self.flatten:
            n, planes, h, w = y.shape
            y = swapaxes(reshape(y, (n, planes, h * w)), 1, 2)
        return self.norm(y)


def position_init(*shape: Any, rng: Any = None) -> Any:
    """The first positions of vision transformers: normal with a deviation of 0.02, cut off at 2."""
    return truncated_normal(*shape, std=0.02, rng=rng)


class ViPosEmbedding(Module):
    """ViPosEmbedding(embedsize, npatches, *, init=position_init, rng=None)

    Adds a learnable vector for its place to every token: ``y = x + vectors``, ``x`` (N, npatches, embedsize).

    ``vectors`` (1, npatches, embedsize), shaped as PyTorch's vision transformers have them, is drawn by ``init``,
    by default normal with a deviation of 0.02. Class tokens count as patches. Raises ValueError for another number of tokens
    or features.
    Source: Metalhead's ``Layers.ViPosEmbedding``.
    """

    def __init__(
        self,
        embedsize: int,
        npatches: int,
        *,
        init: Callable[..., Any] = position_init,
        rng: Any = None,
    ) -> None:
        self.embedsize = whole(embedsize, "ViPosEmbedding(embedsize, npatches): embedsize")
        self.npatches = whole(npatches, "ViPosEmbedding(embedsize, npatches): npatches")
        self.init = init
        self.vectors = Param(drawn(init, (1, self.npatches, self.embedsize), rng, "ViPosEmbedding"))

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.vectors, self)
        if x.ndim != 3 or x.shape[1:] != self.vectors.shape[1:]:
            raise ValueError(f"{layer_name(self)}: expected an input (N, {self.npatches}, {self.embedsize}): (N, tokens, "
                             f"features) (input shape {x.shape})")
        return x + self.vectors


class ClassTokens(Module):
    """ClassTokens(planes, *, init=zeros, rng=None)

    Puts a learnable token, of which the classifier will be read, before the others: ``x`` (N, L, planes) gives (N, L + 1,
    planes), ``y[:, 0] = token``.

    ``token`` (1, 1, planes), shaped as PyTorch's vision transformers have it, is made by ``init``. Raises ValueError for
    another number of features. Source: Metalhead's ``Layers.ClassTokens``.
    """

    def __init__(self, planes: int, *, init: Callable[..., Any] = zeros, rng: Any = None) -> None:
        self.planes = whole(planes, "ClassTokens(planes): planes")
        self.init = init
        self.token = Param(drawn(init, (1, 1, self.planes), rng, "ClassTokens"))

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.token, self)
        if x.ndim != 3 or x.shape[2] != self.planes:
            raise ValueError(f"{layer_name(self)}: expected an input (N, tokens, {self.planes}) (input shape {x.shape})")
        return concatenate([broadcast_to(self.token, (x.shape[0], 1, self.planes)), x], axis=1)
