"""The tasks in minitorch_flux."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import minitorch_flux as flux
from minitorch_flux.autograd.tree import Gradients, mirror
from minitorch_flux.backend import to_device

from ..clocks import on_cupy
from ..tasks import Setting, Task, given_gradients, labels, output_gradient, targets, weights
from .framework import Framework, Ready

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": flux.relu, "gelu": flux.gelu, "tanh": flux.tanh, "exp": flux.exp, "erf": flux.erf,
    "add": lambda x: x + 1.5 * x, "where": lambda x: flux.where(x > 0, x, 0.1 * x),
    "half": lambda x: flux.astype(x, "float16"),
    "softmax": flux.softmax, "logsoftmax": flux.logsoftmax, "logsumexp": flux.logsumexp,
    "sum": lambda x: x.sum(axis=-1), "sum of columns": lambda x: x.sum(axis=0), "max": lambda x: flux.amax(x, axis=-1),
    "argmax": lambda x: flux.argmax(x, axis=-1), "cumsum": lambda x: flux.cumsum(x, axis=-1),
}  # fmt: skip


def activation(name: Any) -> Any:
    """The activation of a layer's table."""
    return getattr(flux, name or "identity")


def _conv(i: int, o: int, k: int, pad: int, act: Any, stride: int = 1, groups: int = 1) -> list[Any]:
    return [flux.Conv((k, k), i, o, activation(act), stride=stride, pad=pad, groups=groups)]


def _conv_norm(i: int, o: int, k: int, stride: int, groups: int, act: Any) -> list[Any]:
    conv = flux.Conv((k, k), i, o, stride=stride, pad=k // 2, groups=groups, bias=False)
    return [conv, flux.BatchNorm(o, activation(act))]


def _add(branch: Any, shortcut: Any, act: Any) -> list[Any]:
    f = activation(act)
    if not shortcut:
        return [flux.SkipConnection(chain(branch), lambda y, x: f(y + x))]
    return [flux.Parallel(lambda y, x: f(y + x), chain(branch), chain(shortcut))]


def _crossentropy() -> list[Any]:
    return [lambda x: flux.losses.logitcrossentropy(x, labels(*x.shape))]


def _ctc(length: int) -> list[Any]:
    def loss(x: Any) -> Any:
        y = targets(x.shape[1], length, x.shape[2])
        return flux.losses.ctc_loss(x, y, blank=0)

    return [loss]


def _recurrent(kind: str) -> Callable[[int, int], list[Any]]:
    return lambda i, o: [getattr(flux, kind)(i, o, hidden_bias=True)]


LAYERS: dict[str, Callable[..., list[Any]]] = {
    "dense": lambda i, o, act: [flux.Dense(i, o, activation(act))],
    "conv": _conv,
    "conv_norm": _conv_norm,
    "deconv": lambda i, o, k, stride, pad: [flux.ConvTranspose((k, k), i, o, stride=stride, pad=pad)],
    "flatten": lambda: [flux.flatten],
    "mean": lambda axes: [lambda x: x.mean(axis=axes)],
    "pool": lambda: [flux.MaxPool((2, 2))],
    "max_pool": lambda k, stride, pad: [flux.MaxPool((k, k), stride=stride, pad=pad)],
    "mean_pool": lambda k: [flux.MeanPool((k, k))],
    "adaptive_mean": lambda size: [flux.AdaptiveMeanPool((size, size))],
    "add": _add,
    "batch_norm": lambda i, act: [flux.BatchNorm(i, activation(act))],
    "group_norm": lambda i, groups: [flux.GroupNorm(i, groups)],
    "norm": lambda size: [flux.LayerNormV2(size)],
    "rms_norm": lambda size: [flux.RMSNorm(size, eps=1e-5)],
    "attention": lambda size, heads: [flux.MultiHeadAttention(size, heads)],
    "rnn": _recurrent("RNN"),
    "lstm": _recurrent("LSTM"),
    "gru": _recurrent("GRU"),
    "embedding": lambda i, o: [flux.Embedding(i, o)],
    "crossentropy": _crossentropy,
    "ctc": _ctc,
    "function": lambda name: [FUNCTIONS[name]],
    "upsample": lambda scale: [flux.Upsample("bilinear", scale=scale)],
    "unfold": lambda k, pad: [lambda x: flux.unfold(x, (k, k), pad=pad)],
}  # fmt: skip


def chain(layers: Any) -> Any:
    """A Chain of a table's layers."""
    return flux.Chain(*(made for kind, *sizes in layers for made in LAYERS[kind](*sizes)))


def _numpy(x: Any) -> np.ndarray:
    return np.array(to_device(x.data if isinstance(x, flux.Tensor) else x, "cpu"))


def _leaves(grads: Any) -> Iterator[Any]:
    if isinstance(grads, Gradients | list | tuple):
        for part in grads:
            yield from _leaves(part)
    elif grads is not None:
        yield grads


class Flux(Framework):
    """minitorch_flux in its process; the setting says on which device and how."""

    version = flux.__version__

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        flux.set_num_threads(setting.threads)
        flux.allow_tf32(setting.tf32)

    @property
    def device(self) -> str:
        """What the device calls itself."""
        if self.setting.device == "cpu":
            return super().device
        from cupy import cuda

        return str(cuda.runtime.getDeviceProperties(0)["name"].decode())

    def ready(self, task: Task) -> Ready:
        """The task, ready to run."""
        model = chain(task.network.layers)
        parameters = list(model.named_parameters())
        drawn = weights((name, p.shape) for name, p in parameters)
        model.load_state_dict({name: a for (name, _), a in zip(parameters, drawn, strict=True)}, strict=False)
        model = model.to(self.setting.device)
        x, y = (to_device(a, self.setting.device) for a in task.network.data())
        return getattr(self, f"_{task.mode}")(model, x, y)

    def _captured(self, f: Callable[[], Any]) -> Any:
        return flux.capture(f) if self.setting.capture else f

    def _train(self, model: Any, x: Any, y: Any) -> Ready:
        opt = flux.setup(flux.Adam(1e-3), model)

        def loss(m: Any) -> Any:
            return flux.losses.logitcrossentropy(m(x), y)

        def step() -> Any:
            value, grads = flux.withgradient(loss, model)
            flux.update(opt, model, grads)
            return value

        call = self._captured(step)
        return Ready(call, lambda n: [np.array([float(call()) for _ in range(n)])])

    def _infer(self, model: Any, x: Any, y: Any) -> Ready:
        call = self._captured(lambda: model(x))
        return Ready(call, lambda n: [_numpy(call())])

    def _gradient(self, model: Any, x: Any, y: Any) -> Ready:
        dy = to_device(output_gradient(model(x).shape), self.setting.device)
        inputs = (x,) if x.dtype.kind == "f" else ()

        def call() -> Any:
            return flux.vjp(lambda m, *xs: m(*(xs or (x,))), model, *inputs)[1](dy)

        run = self._captured(call)

        def answers(n: int) -> list[np.ndarray]:
            grads, *dx = run() if inputs else (run(),)
            return [*map(_numpy, dx), *map(_numpy, _leaves(grads))]

        return Ready(run, answers)

    def _update(self, model: Any, x: Any, y: Any) -> Ready:
        opt = flux.setup(flux.Adam(1e-3), model)
        parameters = list(model.parameters())
        given = iter(given_gradients(p.shape for p in parameters))
        grads = mirror(model, lambda p: to_device(next(given), self.setting.device))
        call = self._captured(lambda: flux.update(opt, model, grads))

        def answers(n: int) -> list[np.ndarray]:
            for _ in range(n):
                call()
            return [_numpy(p) for p in parameters]

        return Ready(call, answers)

    def timed(self, call: Callable[[], Any], n: int) -> float:
        """Seconds of ``n`` calls."""
        return super().timed(call, n) if self.setting.device == "cpu" else on_cupy(call, n)

    def fresh(self) -> int | None:
        """Bytes of new memory so far, on the CPU."""
        return int(flux.memory_stats()["fresh_bytes"]) if self.setting.device == "cpu" else None

    def release(self) -> None:
        """Give the pool's memory back."""
        super().release()
        flux.free_memory()


make = Flux
