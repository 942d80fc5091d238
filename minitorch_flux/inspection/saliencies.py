"""Which pixels matter: the gradient of a score with respect to the input, smoothed or not, and Grad-CAM.

    saliency    S = d score / d x                                   SmoothGrad: the mean of S at x + noise
    grad_cam    L = relu(sum over k of a_k A_k)                     A_k the maps of a layer, a_k = mean of d score / d A_k

Sources: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2014; Smilkov and others, "SmoothGrad", 2017;
Selvaraju and others, "Grad-CAM", ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor, tensor
from ..autograd.recording import PLAIN, at_level
from ..backend import array_module, as_array, is_float, resolve_rng
from ..nn.module import walk
from .followers import Follower, following
from .maps import feature_maps, in_test_mode, on_host, path_of

Target = int | Any | Callable[[Any], Any] | None


def _score(name: str, y: Any, target: Target) -> Tensor:
    """One number: what ``target`` says of the outputs, or the sum of the scores of a class for each sample."""
    if callable(target):
        score = target(y)
        if getattr(score, "size", 0) != 1:
            raise ValueError(f"{name}: the target is a function of the output that gives one number, got shape "
                             f"{getattr(score, 'shape', None)}")
        return score
    if getattr(y, "ndim", 0) != 2:
        raise ValueError(f"{name}: the output has shape {getattr(y, 'shape', None)}, expected scores (N, classes); give as "
                         "target a function of the output that gives one number")
    xp, (n, classes) = array_module(y.data), y.shape
    chosen = y.data.argmax(axis=1) if target is None else xp.broadcast_to(as_array(np.asarray(target), like=y.data), (n,))
    if target is not None and (chosen.dtype.kind not in "iu" or int(chosen.max()) >= classes or int(chosen.min()) < 0):
        raise ValueError(f"{name}: the target is a class from 0 to {classes - 1}, one for each sample or for all, got "
                         f"{target!r}")
    return (y * Tensor((xp.arange(classes) == chosen[:, None]).astype(y.dtype))).sum()


def saliency(
    model: Any, x: Any, target: Target = None, *, samples: int = 1, noise: float = 0.15, rng: Any = None
) -> np.ndarray:
    """How the score of a class changes with each number of the input: its gradient, an array with the shape of ``x``.

    ``target=None``: the likeliest class of each sample; a class, or one for each sample; or a function of the output that
    gives one number. ``samples``: above 1 it is SmoothGrad, the mean over so many inputs with normal noise, whose standard
    deviation is ``noise`` times the range of ``x``; ``rng`` draws it. The model runs in test mode.

    Draw it with ``flux.show_heat(images, numpy.abs(s).max(1))``.

    Raises TypeError where the input is not of floats, ValueError for a target that does not fit.
    """
    data = as_array(x.data if isinstance(x, Tensor) else x)
    if not is_float(data.dtype):
        raise TypeError(f"saliency: the gradient is with respect to numbers of a float dtype, the input has {data.dtype}")
    if samples < 1:
        raise ValueError(f"saliency: samples is at least 1, got {samples}")
    xp, total = array_module(data), None
    generator = resolve_rng(rng, like=data) if samples > 1 else None
    spread = noise * float(data.max() - data.min()) if samples > 1 else 0.0
    chosen: Any = target
    with at_level(PLAIN), in_test_mode(model):
        if target is None and samples > 1:  # of what the input is, not of what noise makes of it
            chosen = on_host(model(data)).argmax(axis=1)
        for _ in range(samples):
            near = data if generator is None else data + spread * generator.normal(data.shape, dtype=data.dtype, like=data)
            leaf = tensor(near.astype(data.dtype, copy=False), requires_grad=True)
            _score("saliency", model(leaf), chosen).backward()
            total = leaf.grad if total is None else total + leaf.grad
    return on_host(xp.asarray(total) / samples)


class _Tap(Follower):
    """Adds zeros, a leaf of their own, to the output of one layer: their gradient is that of the output."""

    def __init__(self, model: Any, path: str) -> None:
        super().__init__(model)
        self.path = path
        self.output: Any = None
        self.zeros: Any = None

    def called(self, path: str, layer: Any, call: Any, *args: Any, **keywords: Any) -> Any:
        """A call of a layer; of the one that is listened to, with the leaf."""
        output = super().called(path, layer, call, *args, **keywords)
        if path != self.path:
            return output
        self.output = output
        self.zeros = tensor(array_module(output.data).zeros(output.shape, output.dtype), requires_grad=True)
        return output + self.zeros


def grad_cam(model: Any, x: Any, target: Target = None, *, layer: Any = None) -> np.ndarray:
    """Where a convolutional network looks for a class: (N, H, W), not negative, at the resolution of ``layer``.

    ``target``: as for ``saliency``. ``layer``: a path or a layer whose output is (N, C, H, W); by default the last one whose
    maps have more than one pixel. The model runs in test mode. Draw it with ``flux.show_heat(images, cam)``.

    Raises ValueError for a layer without maps, or a target that does not fit.
    """
    path = _last_maps(model, x) if layer is None else path_of("grad_cam", model, layer)
    tap = _Tap(model, path)
    with at_level(PLAIN), in_test_mode(model), following(model, tap):
        y = model(x)
    if tap.zeros is None or tap.output.ndim != 4:
        shape = None if tap.output is None else tap.output.shape
        raise ValueError(f"grad_cam: the layer {path!r} gives no maps (N, C, H, W), its output has shape {shape}")
    _score("grad_cam", y, target).backward()
    if tap.zeros.grad is None:
        raise ValueError(f"grad_cam: the score does not depend on the layer {path!r}")
    maps, weights = on_host(tap.output), on_host(tap.zeros.grad).mean(axis=(2, 3), keepdims=True)
    return np.maximum((weights * maps).sum(axis=1), 0)


def _last_maps(model: Any, x: Any) -> str:
    layers = dict(walk(model))
    maps = feature_maps(model, x)
    found = [path for path, y in maps.items() if y.ndim == 4 and y.shape[2] * y.shape[3] > 1 and path in layers]
    if not found:
        raise ValueError(f"grad_cam: no layer of this {type(model).__name__} gives maps (N, C, H, W) of more than one pixel")
    return found[-1]
