"""create_classifier: the head of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from ...nn import printing
from ...nn.chain import Chain
from ...nn.convolutions import Conv
from ...nn.dense import Dense
from ...nn.dropouts import Dropout
from ...nn.pools import AdaptiveMeanPool
from ...ops.nonlinearities import identity, relu
from ...ops.shapes import flatten


@overload
def create_classifier(
    inplanes: int,
    nclasses: int,
    activation: Callable[..., Any] = ...,
    *,
    use_conv: bool = ...,
    pool_layer: Any = ...,
    dropout_prob: float | None = ...,
    rng: Any = ...,
) -> Chain: ...
@overload
def create_classifier(
    inplanes: int,
    hidden_planes: int,
    nclasses: int,
    activations: tuple[Callable[..., Any], Callable[..., Any]] = ...,
    *,
    use_conv: tuple[bool, bool] = ...,
    pool_layer: Any = ...,
    dropout_prob: float | None = ...,
    rng: Any = ...,
) -> Chain: ...
def create_classifier(*sizes: Any, **keywords: Any) -> Chain:
    """create_classifier(inplanes, nclasses, activation=identity, *, use_conv=False, pool_layer=AdaptiveMeanPool((1, 1)),
    dropout_prob=None, rng=None)
    create_classifier(inplanes, hidden_planes, nclasses, activations=(relu, identity), *, use_conv=(False, False),
    pool_layer=AdaptiveMeanPool((1, 1)), dropout_prob=None, rng=None)

    A classifier head, a Chain: the pool, ``flatten``, Dropout, a Dense layer to ``nclasses``. With three sizes it has an
    extra hidden layer: the pool, ``flatten``, a Dense layer to ``hidden_planes``, Dropout, a Dense layer to ``nclasses``;
    ``activations`` are those of the two. The layers are named (pool, flatten, hidden, dropout, last), so that the keys of a
    state dict do not depend on what is left out.

    ``use_conv``: a 1x1 convolution in place of a Dense layer, so that maps stay maps: (N, inplanes, h, w) gives (N, nclasses,
    h, w); in the second form a pair, one for each layer. ``pool_layer``: a layer, instantiated; ``identity`` for none.
    ``dropout_prob``: None is no Dropout layer, 0.0 is one.

    ``flatten`` stands before the first Dense layer, but not where ``pool_layer`` is ``identity``: then features (N, inplanes)
    are expected. Of the combinations with a hidden layer ``use_conv=(False, True)`` raises ValueError, a Dense layer leaves
    no maps to convolve, and so does ``(True, False)`` with ``pool_layer=identity``, whose Dense layer would get whole maps.
    Source: Metalhead's ``Layers.create_classifier``.
    """
    hidden = bool(keywords.keys() & {"hidden_planes", "activations"})
    third = sizes[2] if len(sizes) > 2 else None
    hidden = hidden or not (third is None or callable(third)) or (len(sizes) == 2 and "nclasses" in keywords)
    return (_with_hidden_layer if hidden else _without_hidden_layer)(*sizes, **keywords)


def _without_hidden_layer(
    inplanes: int,
    nclasses: int,
    activation: Callable[..., Any] = identity,
    *,
    use_conv: bool = False,
    pool_layer: Any = None,
    dropout_prob: float | None = None,
    rng: Any = None,
) -> Chain:
    if not isinstance(use_conv, bool):
        raise TypeError(f"create_classifier: use_conv is True or False where there is no hidden layer, got {use_conv!r}")
    pool = _pool(pool_layer)
    flat = {} if use_conv or pool is identity else {"flatten": flatten}
    last = _layer(use_conv, inplanes, nclasses, activation, rng)
    return Chain(pool=pool, **flat, **_dropout(dropout_prob, rng), last=last)


def _with_hidden_layer(
    inplanes: int,
    hidden_planes: int,
    nclasses: int,
    activations: tuple[Callable[..., Any], Callable[..., Any]] = (relu, identity),
    *,
    use_conv: tuple[bool, bool] = (False, False),
    pool_layer: Any = None,
    dropout_prob: float | None = None,
    rng: Any = None,
) -> Chain:
    if not (isinstance(use_conv, tuple | list) and len(use_conv) == 2 and all(isinstance(u, bool) for u in use_conv)):
        raise TypeError(f"create_classifier: with a hidden layer use_conv is a pair, such as (True, False), got {use_conv!r}")
    if not (isinstance(activations, tuple | list) and len(activations) == 2):
        raise TypeError("create_classifier: with a hidden layer activations is a pair, of the hidden and of the last layer, "
                        f"got {activations!r}")
    pool, (first, last) = _pool(pool_layer), use_conv
    if last and not first:
        raise ValueError("create_classifier: use_conv=(False, True) makes no sense: the Dense layer leaves features (N, "
                         "hidden), there are no maps for a convolution; use (True, True) or (True, False)")
    if first and not last and pool is identity:
        raise ValueError("create_classifier: use_conv=(True, False) needs a pool_layer: without one the Dense layer would get "
                         "every pixel of the maps; give a pool to (1, 1), or use_conv=(True, True)")
    flat = {} if first or pool is identity else {"flatten": flatten}
    between = {"flatten": flatten} if first and not last else {}
    hidden = _layer(first, inplanes, hidden_planes, activations[0], rng)
    scores = _layer(last, hidden_planes, nclasses, activations[1], rng)
    return Chain(pool=pool, **flat, hidden=hidden, **_dropout(dropout_prob, rng), **between, last=scores)


for _form in (_without_hidden_layer, _with_hidden_layer):
    _form.__qualname__ = "create_classifier"  # what Python calls it where an argument is missing


def _pool(pool_layer: Any) -> Any:
    if pool_layer is None:
        return AdaptiveMeanPool((1, 1))
    if isinstance(pool_layer, type) or not callable(pool_layer):
        raise TypeError("create_classifier: pool_layer is a layer, such as AdaptiveMeanPool((1, 1)), or identity for none, "
                        f"got {printing.text(pool_layer)}")
    return pool_layer


def _dropout(p: float | None, rng: Any) -> dict[str, Any]:
    return {} if p is None else {"dropout": Dropout(p, rng=rng if p else None)}


def _layer(conv: bool, inplanes: int, outplanes: int, activation: Any, rng: Any) -> Any:
    if conv:
        return Conv((1, 1), inplanes, outplanes, activation, rng=rng)
    return Dense(inplanes, outplanes, activation, rng=rng)
