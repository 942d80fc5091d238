"""The workloads in minitorch_flux."""

from __future__ import annotations

import platform
from typing import Any

import minitorch_flux as flux
from minitorch_flux.backend import to_device

from .clocks import on_cupy, on_host
from .workloads import GATES, Setting, Side, Workload, weights


def layer(kind: str, *sizes: Any) -> list[Any]:
    """The layers for an entry of a workload's table."""
    if kind == "dense":
        i, o, act = sizes
        return [flux.Dense(i, o, getattr(flux, act or "identity"))]
    if kind == "conv":
        i, o, k, pad, act = sizes
        return [flux.Conv((k, k), i, o, getattr(flux, act), pad=pad)]
    if kind == "conv_norm":
        i, o, k, stride, groups, act = sizes
        conv = flux.Conv((k, k), i, o, stride=stride, pad=k // 2, groups=groups, bias=False)
        return [conv, flux.BatchNorm(o, getattr(flux, act or "identity"))]
    if kind == "add":
        branch, shortcut, act = sizes
        f = getattr(flux, act or "identity")
        if not shortcut:
            return [flux.SkipConnection(chain(branch), lambda y, x: f(y + x))]
        return [flux.Parallel(lambda y, x: f(y + x), chain(branch), chain(shortcut))]
    if kind == "mean":
        return [lambda x: x.mean(axis=sizes[0])]
    if kind in GATES:
        return [getattr(flux, kind.upper())(*sizes, hidden_bias=True)]
    if kind == "flatten":
        return [flux.flatten]
    made: dict[str, Any] = {"pool": lambda: flux.MaxPool((2, 2)), "embedding": flux.Embedding, "norm": flux.LayerNormV2,
                            "attention": flux.MultiHeadAttention}
    return [made[kind](*sizes)]


def chain(layers: Any) -> Any:
    """A Chain of them."""
    return flux.Chain(*(made for entry in layers for made in layer(*entry)))


class FluxSide(Side):
    """A workload in minitorch_flux; ``setting`` says on which device and how."""

    def __init__(self, w: Workload, setting: Setting) -> None:
        flux.set_num_threads(setting.threads)
        flux.allow_tf32(setting.tf32)
        self.setting = setting
        model = chain(w.layers)
        parameters = [(name, p) for name, p in model.named_parameters()]
        drawn = weights((name, p.shape) for name, p in parameters)
        model.load_state_dict({name: a for (name, _), a in zip(parameters, drawn, strict=True)}, strict=False)
        model = model.to(setting.device)
        opt = flux.setup(flux.Adam(1e-3), model)
        x, y = (to_device(a, setting.device) for a in w.data())

        def loss(m: Any) -> Any:
            return flux.losses.logitcrossentropy(m(x), y)

        def step() -> Any:
            value, grads = flux.withgradient(loss, model)
            flux.update(opt, model, grads)
            return value

        self.step = flux.capture(step) if setting.capture else step
        self.device = platform.processor() or platform.machine()
        if setting.device != "cpu":
            from cupy import cuda

            self.device = cuda.runtime.getDeviceProperties(0)["name"].decode()

    def timed(self, n: int) -> float:
        """Seconds of ``n`` steps."""
        return (on_host if self.setting.device == "cpu" else on_cupy)(self.step, n)

    def fresh(self) -> int | None:
        """Bytes of new memory so far, on the CPU."""
        return int(flux.memory_stats()["fresh_bytes"]) if self.setting.device == "cpu" else None
