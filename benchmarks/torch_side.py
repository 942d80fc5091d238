"""The workloads in PyTorch: eager, or on a GPU as one CUDA graph."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import nn

from .clocks import between, on_host
from .workloads import GATES, Setting, Side, Workload, weights

ACTIVATIONS: dict[str | None, Any] = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": lambda: nn.GELU(approximate="tanh"), None: nn.Identity,
}  # fmt: skip


class Outputs(nn.Module):
    """The outputs of a recurrent layer, without its state."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        """As the layer's."""
        return self.layer(x)[0]


class Add(nn.Module):
    """activation(branch(x) + shortcut(x))."""

    def __init__(self, branch: Any, shortcut: Any, act: str | None) -> None:
        super().__init__()
        self.branch, self.shortcut, self.act = sequence(branch), sequence(shortcut), ACTIVATIONS[act]()

    def forward(self, x: Any) -> Any:
        """The sum."""
        return self.act(self.branch(x) + self.shortcut(x))


class Attention(nn.Module):
    """Self-attention of (N, tokens, size)."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(size, heads, batch_first=True)

    def forward(self, x: Any) -> Any:
        """The outputs alone."""
        return self.layer(x, x, x, need_weights=False)[0]


class Mean(nn.Module):
    """The mean over axes."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Any) -> Any:
        """The mean."""
        return x.mean(self.axes)


def layer(kind: str, *sizes: Any) -> list[Any]:
    """The layers for an entry of a workload's table."""
    if kind == "dense":
        i, o, act = sizes
        return [nn.Linear(i, o), *([ACTIVATIONS[act]()] if act else [])]
    if kind == "conv":
        i, o, k, pad, act = sizes
        return [nn.Conv2d(i, o, k, padding=pad), ACTIVATIONS[act]()]
    if kind == "conv_norm":
        i, o, k, stride, groups, act = sizes
        conv = nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(o), *([ACTIVATIONS[act]()] if act else [])]
    if kind in GATES:
        return [Outputs(getattr(nn, kind.upper())(*sizes))]
    made: dict[str, Any] = {"pool": lambda: nn.MaxPool2d(2), "flatten": nn.Flatten, "embedding": nn.Embedding, "add": Add,
                            "mean": Mean, "norm": nn.LayerNorm, "attention": Attention}
    return [made[kind](*sizes)]


def sequence(layers: Any) -> Any:
    """A Sequential of them; without any it is the identity."""
    return nn.Sequential(*(made for entry in layers for made in layer(*entry)))


class TorchSide(Side):
    """A workload in PyTorch; ``setting`` says on which device and how."""

    def __init__(self, w: Workload, setting: Setting) -> None:
        torch.set_num_threads(setting.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.tf32
        self.setting = setting
        self.model = sequence(w.layers)
        parameters = list(self.model.named_parameters())
        with torch.no_grad():
            for (_, p), a in zip(parameters, weights((name, tuple(p.shape)) for name, p in parameters), strict=True):
                p.copy_(torch.from_numpy(a))
        self.model.to(setting.device)
        self.opt = torch.optim.Adam(self.model.parameters(), 1e-3, capturable=setting.graph)
        self.x, y = (torch.from_numpy(a).to(setting.device) for a in w.data())
        self.y, self.sequences = y.flatten(), y.ndim > 1
        self.step = self._graphed() if setting.graph else self._eager
        self.device = torch.cuda.get_device_name() if setting.device != "cpu" else platform.processor() or platform.machine()

    def _eager(self) -> Any:
        self.opt.zero_grad()
        logits = self.model(self.x)
        loss = nn.functional.cross_entropy(logits.flatten(0, -2) if self.sequences else logits, self.y)
        loss.backward()
        self.opt.step()
        return loss.detach()

    def _graphed(self) -> Any:
        """The step as PyTorch's documents capture it: the first three run eagerly, on another stream, and warm up."""
        graph, beside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        found: list[Any] = []

        def step() -> Any:
            if len(found) < 3:
                beside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(beside):
                    found.append(self._eager())
                torch.cuda.current_stream().wait_stream(beside)
                return found[-1]
            if len(found) == 3:
                self.opt.zero_grad()
                with torch.cuda.graph(graph):
                    found.append(self._eager())
            graph.replay()
            return found[3].clone()

        return step

    def timed(self, n: int) -> float:
        """Seconds of ``n`` steps."""
        if self.setting.device == "cpu":
            return on_host(self.step, n)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        between(first, last, self.step, n)
        return float(first.elapsed_time(last)) / 1e3
