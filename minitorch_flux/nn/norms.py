"""BatchNorm, GroupNorm and InstanceNorm: normalisation over the channels of (N, channels, *sizes)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..autograd import Buffer, Param, Tensor, is_outlining
from ..autograd.recording import note
from ..backend import DEFAULT, is_float
from ..ops.channel_norms import batch_norm, fixed_norm, group_norm
from ..ops.elementwise import as_tensor
from ..ops.nonlinearities import activation_of, identity
from ..ops.shapes import repeat
from .dropouts import check_active
from .initialisers import ones, zeros
from .inputs import as_input, as_real, bias_parameter, drawn, layer_name, whole
from .layer_norms import check_activation
from .lazy_sizes import open_size
from .module import Module, training


def _saved_channels(shapes: Mapping[str, tuple[int, ...]], layer: Any) -> int:
    return shapes["weight" if layer.affine else "running_mean"][0]


class _ChannelNorm(Module):
    """What the three share: weights, checks, running statistics and printing."""

    channels: int
    groups: int
    weight: Param | None
    bias: Param | None
    running_mean: Buffer | None
    running_var: Buffer | None
    _defaults: dict[str, Any]
    _first: tuple[str, ...] = ("channels",)
    stays_float32 = True

    def _set(
        self,
        activation: Any,
        affine: bool,
        bias: Any,
        track_stats: bool,
        eps: float,
        ε: float | None,
        momentum: float,
        init_beta: Callable[..., Any],
        init_gamma: Callable[..., Any],
        active: bool | None,
    ) -> None:
        name = type(self).__name__
        if ε is not None:
            if eps != self._defaults["eps"]:
                raise TypeError(f"{name}: eps={eps!r} and ϵ={ε!r} are the same argument, give one of them")
            eps = ε
        if not 0 <= eps < math.inf:
            raise ValueError(f"{name}: eps must be 0 or a small positive number, got {eps!r}")
        if not isinstance(momentum, int | float) or not 0 <= momentum <= 1:
            raise ValueError(f"{name}: momentum, the weight of the new value, must be between 0 and 1, got {momentum!r}")
        self.activation = check_activation(name, activation)
        self.affine, self.track_stats, self.eps, self.momentum = affine, track_stats, eps, momentum
        self.init_beta, self.init_gamma, self.active = init_beta, init_gamma, check_active(name, active)
        self.weight = Param(drawn(init_gamma, (self.channels,), None, name)) if affine else None
        dtype = DEFAULT if self.weight is None else self.weight.dtype
        if self.weight is None and not isinstance(bias, bool | None):
            raise ValueError(f"{name}: affine=False leaves the bias out, too; got one of shape {as_tensor(bias).shape}")
        self.bias = None if self.weight is None else bias_parameter(bias, self.weight, self.channels, init_beta, name)
        self.running_mean = Buffer(drawn(zeros, (self.groups,), None, name).astype(dtype, copy=False)) if track_stats else None
        self.running_var = Buffer(drawn(ones, (self.groups,), None, name).astype(dtype, copy=False)) if track_stats else None

    def _input(self, x: Any, ndim: int) -> Tensor:
        """``x`` in the dtype of the layer's arrays, after a look at its shape: at least ``ndim`` axes."""
        like = self.weight if self.running_mean is None else self.running_mean
        if like is not None:
            x = as_input(x, like, self)
        else:
            x = as_real(x, self)
            x = x if is_float(x.dtype) else x.astype(DEFAULT)
        shape = x.shape
        if len(shape) < ndim:
            wanted = "(N, channels, ...)" if ndim == 2 else "(N, channels, sizes...)"
            raise ValueError(f"{layer_name(self)}: the input has {len(shape)} ax{'i' if len(shape) == 1 else 'e'}s, expected "
                             f"{wanted} (input shape {shape}); x[None] has a batch axis more")
        if shape[1] != self.channels:
            raise ValueError(f"{layer_name(self)}: the input has {shape[1]} channels on axis 1, expected {self.channels} "
                             f"(input shape {shape})")
        return x

    def _normalised(self, x: Tensor, what: str, normalise: Callable[..., Tensor], count: int) -> Tensor:
        """act(w v + b): by the running statistics in test mode, else by those of x, of ``count`` numbers each."""
        act = activation_of(self.activation)
        keywords: dict[str, Any] = {"eps": self.eps, "activation": identity if act is None else act}
        if self.running_mean is not None and self.running_var is not None and not training(self):
            mean: Any
            var: Any
            mean, var = self.running_mean, self.running_var
            if self.groups != self.channels:
                mean, var = (repeat(a, self.channels // self.groups) for a in (mean, var))
            y = fixed_norm(x, self.weight, self.bias, mean, var, **keywords)
        elif count == 1 and not is_outlining():
            hint = " or call the layer in test mode, flux.testmode(model)" if self.track_stats else ""
            raise ValueError(f"{layer_name(self)}: one value per {what} has no variance (input shape {x.shape}): "
                             f"give it larger inputs{hint}")
        else:
            observe = functools.partial(self._move, count=count) if self.track_stats and training(self) and count > 1 else None
            y = normalise(x, self.weight, self.bias, observe=observe, **keywords)
        return self.activation(y) if act is None else y

    def _move(self, stats: Any, count: int) -> None:
        """Move the running statistics towards ``stats`` (4, rows), the mean over the samples of the unbiased ones."""
        if not stats.size or not count:
            return
        if stats.shape[1] != self.groups:
            stats = stats.reshape(4, -1, self.groups).mean(axis=1)
        moved(self.running_mean, stats[0] + stats[1], self.momentum)
        moved(self.running_var, stats[2] * (count / (count - 1)), self.momentum)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        first = [getattr(self, name) for name in self._first] + ([] if self.activation is identity else [self.activation])
        values = {name: getattr(self, name) for name in self._defaults}
        keywords = {n: v for n, v in values.items() if v is not self._defaults[n] and v != self._defaults[n]}
        return first, {**keywords, "bias": False} if self.affine and self.bias is None else keywords


def moved(buffer: Any, value: Any, momentum: float) -> None:
    old, version = buffer.data.copy(), buffer.version

    def undo() -> None:
        buffer.data[...], buffer.version = old, version

    note(undo)
    buffer.data[...] = (1 - momentum) * old + momentum * value
    buffer.version += 1


@open_size("channels", axis=1, saved=_saved_channels)
class BatchNorm(_ChannelNorm):
    """BatchNorm(channels, activation=identity, *, affine=True, bias=True, track_stats=True, eps=1e-5, momentum=0.1,
    init_beta=zeros, init_gamma=ones, active=None)

    Batch normalisation: ``y = activation(weight * (x - mean) / sqrt(var + eps) + bias)``, channel by channel.

    ``x`` (N, channels, ...), a batch of features (N, channels) or of images (N, channels, H, W), keeps its shape. In train
    mode mean and (biased) variance are those of the batch, over all axes but 1, and the running ones move::

        running = (1 - momentum) * running + momentum * new        the new variance unbiased, m / (m - 1) of the biased one

    In test mode the running ones are used. The mode is automatic: train inside a recording scope, test outside; see
    ``testmode``. ``weight`` and ``bias`` (channels,) are made by ``init_gamma`` and ``init_beta``; ``affine=False`` leaves
    them out, ``bias=False`` the bias alone; an array is taken as the bias. ``track_stats=False`` keeps no running
    statistics: the batch's own are used in test mode, too. 16-bit inputs beside float32 weights are computed in float32 and
    keep their dtype.

    ``eps`` is 1e-5. Flux's page prints ``ϵ = 1e-8``, but the constructor that it documents has had 1e-5 all along, as
    PyTorch has. ``ϵ=`` is accepted for ``eps=``. ``BatchNorm(None)`` takes its size from the first input.

    Raises ValueError where axis 1 has another size, and for one value per channel in train mode: it has no variance.
    Sources: Flux's ``BatchNorm``; Ioffe and Szegedy, "Batch normalization", 2015.
    """

    _defaults = {"affine": True, "track_stats": True, "eps": 1e-5, "momentum": 0.1, "init_beta": zeros, "init_gamma": ones,
                 "active": None}

    def __init__(
        self,
        channels: int,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = True,
        bias: Any = True,
        track_stats: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        init_beta: Callable[..., Any] = zeros,
        init_gamma: Callable[..., Any] = ones,
        active: bool | None = None,
        ε: float | None = None,
    ) -> None:
        self.channels = whole(channels, "BatchNorm(channels): the number of channels")
        self._set(activation, affine, bias, track_stats, eps, ε, momentum, init_beta, init_gamma, active)

    @property
    def groups(self) -> int:  # type: ignore[override]
        """How many statistics there are: one for each channel."""
        return self.channels

    def __call__(self, x: Any) -> Tensor:
        x = self._input(x, 2)
        return self._normalised(x, "channel", batch_norm, x.shape[0] * math.prod(x.shape[2:]))


@open_size("channels", axis=1, saved=_saved_channels, multiple_of="groups")
class GroupNorm(_ChannelNorm):
    """GroupNorm(channels, groups, activation=identity, *, affine=True, bias=True, track_stats=False, eps=1e-5, momentum=0.1,
    init_beta=zeros, init_gamma=ones, active=None)

    Group normalisation: ``y = activation(weight * (x - mean) / sqrt(var + eps) + bias)`` with the mean and the (biased)
    variance of each sample and each group of ``channels / groups`` consecutive channels.

    ``x`` (N, channels, *sizes) with one axis of sizes or more keeps its shape. ``weight`` and ``bias`` (channels,) as in
    ``BatchNorm``. The same in train and test mode; but with ``track_stats=True`` the layer keeps running statistics
    (groups,), means over the samples that move by ``momentum`` in train mode, and uses them in test mode: Flux 0.8 did so.

    Raises ValueError where ``channels`` is no multiple of ``groups``, for an input without sizes or with another number of
    channels, and where a group is one value. Sources: Flux's ``GroupNorm``; Wu and He, "Group normalization", 2018.
    """

    _defaults = BatchNorm._defaults | {"track_stats": False}
    _first = ("channels", "groups")

    def __init__(
        self,
        channels: int,
        groups: int,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = True,
        bias: Any = True,
        track_stats: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        init_beta: Callable[..., Any] = zeros,
        init_gamma: Callable[..., Any] = ones,
        active: bool | None = None,
        ε: float | None = None,
    ) -> None:
        self.channels = whole(channels, "GroupNorm(channels, groups): the number of channels")
        self.groups = whole(groups, "GroupNorm(channels, groups): the number of groups")
        if not groups or channels % groups:
            raise ValueError(f"GroupNorm: the number of channels must be an integer multiple of the number of groups, got "
                             f"{channels} channels and {groups} groups")
        self._set(activation, affine, bias, track_stats, eps, ε, momentum, init_beta, init_gamma, active)

    def __call__(self, x: Any) -> Tensor:
        x = self._input(x, 3)
        normalise = functools.partial(group_norm, groups=self.groups)
        return self._normalised(x, "group", normalise, self.channels // self.groups * math.prod(x.shape[2:]))


@open_size("channels", axis=1, saved=_saved_channels)
class InstanceNorm(_ChannelNorm):
    """InstanceNorm(channels, activation=identity, *, affine=False, bias=True, track_stats=False, eps=1e-5, momentum=0.1,
    init_beta=zeros, init_gamma=ones, active=None)

    Instance normalisation: ``GroupNorm`` with groups of one channel, so that every channel of every sample has its own
    mean and variance; without ``weight`` and ``bias``, if not ``affine=True``.

    ``x`` (N, channels, *sizes) with one axis of sizes or more keeps its shape. ``track_stats=True`` keeps running
    statistics (channels,), means over the samples, and uses them in test mode.

    Raises ValueError for an input without sizes or with another number of channels, and for one value per channel.
    Sources: Flux's ``InstanceNorm``; Ulyanov and others, "Instance normalization", 2016.
    """

    _defaults = BatchNorm._defaults | {"affine": False, "track_stats": False}

    def __init__(
        self,
        channels: int,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = False,
        bias: Any = True,
        track_stats: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        init_beta: Callable[..., Any] = zeros,
        init_gamma: Callable[..., Any] = ones,
        active: bool | None = None,
        ε: float | None = None,
    ) -> None:
        self.channels = whole(channels, "InstanceNorm(channels): the number of channels")
        self._set(activation, affine, bias, track_stats, eps, ε, momentum, init_beta, init_gamma, active)

    @property
    def groups(self) -> int:  # type: ignore[override]
        """How many statistics a sample has: one for each channel."""
        return self.channels

    def __call__(self, x: Any) -> Tensor:
        x = self._input(x, 3)
        normalise = functools.partial(group_norm, groups=self.channels)
        return self._normalised(x, "channel and sample", normalise, math.prod(x.shape[2:]))
