"""The tasks in PyTorch: eager, or on a GPU as one CUDA graph; images contiguous or with the channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..clocks import between
from ..tasks import Setting, Task, given_gradients, labels, output_gradient, targets, weights
from .framework import Framework, Ready

ACTIVATIONS: dict[str | None, Any] = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": lambda: nn.GELU(approximate="tanh"), None: nn.Identity,
}  # fmt: skip

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": torch.relu, "gelu": lambda x: F.gelu(x, approximate="tanh"), "tanh": torch.tanh, "exp": torch.exp, "erf": torch.erf,
    "add": lambda x: x + 1.5 * x, "where": lambda x: torch.where(x > 0, x, 0.1 * x), "half": lambda x: x.half(),
    "softmax": lambda x: F.softmax(x, -1), "logsoftmax": lambda x: F.log_softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1), "sum": lambda x: x.sum(-1), "sum of columns": lambda x: x.sum(0),
    "max": lambda x: x.amax(-1), "argmax": lambda x: x.argmax(-1), "cumsum": lambda x: x.cumsum(-1),
}  # fmt: skip


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, f: Callable[[Any], Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Any) -> Any:
        """As the function's."""
        return self.f(x)


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


def _dense(i: int, o: int, act: Any) -> list[Any]:
    return [nn.Linear(i, o), *_activation(act)]


def _activation(act: Any) -> list[Any]:
    return [ACTIVATIONS[act]()] if act else []


def _conv(i: int, o: int, k: int, pad: int, act: Any, stride: int = 1, groups: int = 1) -> list[Any]:
    return [nn.Conv2d(i, o, k, stride, pad, groups=groups), *_activation(act)]


def _conv_norm(i: int, o: int, k: int, stride: int, groups: int, act: Any) -> list[Any]:
    return [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o), *_activation(act)]


def _ctc(length: int) -> list[Any]:
    def loss(x: Any) -> Any:
        steps, n, classes = x.shape
        y, lengths = torch.from_numpy(targets(n, length, classes)), torch.full((n,), length)
        each = F.ctc_loss(x.log_softmax(-1), y, torch.full((n,), steps), lengths, reduction="none")
        return each.mean()

    return [Function(loss)]


def _crossentropy() -> list[Any]:
    return [Function(lambda x: F.cross_entropy(x, torch.from_numpy(labels(*x.shape)).to(x.device)))]


LAYERS: dict[str, Callable[..., list[Any]]] = {
    "dense": _dense,
    "conv": _conv,
    "conv_norm": _conv_norm,
    "deconv": lambda i, o, k, stride, pad: [nn.ConvTranspose2d(i, o, k, stride, pad)],
    "flatten": lambda: [nn.Flatten()],
    "mean": lambda axes: [Function(lambda x: x.mean(axes))],
    "pool": lambda: [nn.MaxPool2d(2)],
    "max_pool": lambda k, stride, pad: [nn.MaxPool2d(k, stride, pad)],
    "mean_pool": lambda k: [nn.AvgPool2d(k)],
    "adaptive_mean": lambda size: [nn.AdaptiveAvgPool2d(size)],
    "add": lambda branch, shortcut, act: [Add(branch, shortcut, act)],
    "batch_norm": lambda i, act: [nn.BatchNorm2d(i), *_activation(act)],
    "group_norm": lambda i, groups: [nn.GroupNorm(groups, i)],
    "norm": lambda size: [nn.LayerNorm(size)],
    "rms_norm": lambda size: [nn.RMSNorm(size, eps=1e-5)],
    "attention": lambda size, heads: [Attention(size, heads)],
    "rnn": lambda i, o: [Outputs(nn.RNN(i, o))],
    "lstm": lambda i, o: [Outputs(nn.LSTM(i, o))],
    "gru": lambda i, o: [Outputs(nn.GRU(i, o))],
    "embedding": lambda i, o: [nn.Embedding(i, o)],
    "crossentropy": _crossentropy,
    "ctc": _ctc,
    "function": lambda name: [Function(FUNCTIONS[name])],
    "upsample": lambda scale: [nn.Upsample(scale_factor=scale, mode="bilinear")],
    "unfold": lambda k, pad: [nn.Unfold(k, padding=pad)],
}


def sequence(layers: Any) -> Any:
    """A Sequential of a table's layers; without any it is the identity."""
    return nn.Sequential(*(made for kind, *sizes in layers for made in LAYERS[kind](*sizes)))


def _numpy(x: Any) -> np.ndarray:
    return np.array(x.detach().cpu().numpy())


class Torch(Framework):
    """PyTorch in its process; the setting says on which device and how."""

    version = str(torch.__version__)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        torch.set_num_threads(setting.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.tf32

    @property
    def device(self) -> str:
        """What the device calls itself."""
        return super().device if self.setting.device == "cpu" else torch.cuda.get_device_name()

    def ready(self, task: Task) -> Ready:
        """The task, ready to run."""
        model = sequence(task.network.layers)
        parameters = list(model.named_parameters())
        with torch.no_grad():
            for (_, p), a in zip(parameters, weights((name, tuple(p.shape)) for name, p in parameters), strict=True):
                p.copy_(torch.from_numpy(a))
        model.to(self.setting.device)
        x, y = (torch.from_numpy(a).to(self.setting.device) for a in task.network.data())
        if self.setting.layout == "channels_last" and x.ndim == 4:
            model.to(memory_format=torch.channels_last)
            x = x.to(memory_format=torch.channels_last)
        return getattr(self, f"_{task.mode}")(model, x, y)

    def _train(self, model: Any, x: Any, y: Any) -> Ready:
        opt = torch.optim.Adam(model.parameters(), 1e-3, capturable=self.setting.graph)
        classes, sequences = y.flatten(), y.ndim > 1

        def step() -> Any:
            opt.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits.flatten(0, -2) if sequences else logits, classes)
            loss.backward()
            opt.step()
            return loss.detach()

        call = graphed(step, opt.zero_grad) if self.setting.graph else step
        return Ready(call, lambda n: [np.array([float(call()) for _ in range(n)])])

    def _infer(self, model: Any, x: Any, y: Any) -> Ready:
        model.eval()

        def outputs() -> Any:
            with torch.inference_mode():
                return model(x)

        call = graphed(outputs, lambda: None) if self.setting.graph else outputs
        return Ready(call, lambda n: [_numpy(call())])

    def _gradient(self, model: Any, x: Any, y: Any) -> Ready:
        wanted = list(model.parameters())
        if x.is_floating_point():
            x.requires_grad_()
            wanted.insert(0, x)
        with torch.no_grad():
            like = model(x)
        dy = torch.from_numpy(output_gradient(tuple(like.shape))).to(like)
        if like.ndim == 4 and self.setting.layout == "channels_last":
            dy = dy.to(memory_format=torch.channels_last)

        def call() -> Any:
            return torch.autograd.grad(model(x), wanted, dy)

        return Ready(call, lambda n: [_numpy(a) for a in call()])

    def _update(self, model: Any, x: Any, y: Any) -> Ready:
        parameters = list(model.parameters())
        opt = torch.optim.Adam(parameters, 1e-3)
        for p, g in zip(parameters, given_gradients(tuple(p.shape) for p in parameters), strict=True):
            p.grad = torch.from_numpy(g).to(p)

        def answers(n: int) -> list[np.ndarray]:
            for _ in range(n):
                opt.step()
            return [_numpy(p) for p in parameters]

        return Ready(opt.step, answers)

    def timed(self, call: Callable[[], Any], n: int) -> float:
        """Seconds of ``n`` calls."""
        if self.setting.device == "cpu":
            return super().timed(call, n)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        between(first, last, call, n)
        return float(first.elapsed_time(last)) / 1e3


def graphed(eager: Callable[[], Any], before: Callable[[], Any]) -> Callable[[], Any]:
    """Calls as PyTorch's documents capture them: the first three run eagerly, on another stream, and warm up."""
    graph, beside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    found: list[Any] = []

    def call() -> Any:
        if len(found) < 3:
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                found.append(eager())
            torch.cuda.current_stream().wait_stream(beside)
            return found[-1]
        if len(found) == 3:
            before()
            with torch.cuda.graph(graph):
                found.append(eager())
        graph.replay()
        return found[3].clone()

    return call


make = Torch
