"""The tasks in JAX: pure functions of the parameters, compiled by ``jit``, on the CPU.

A layer is ``(parameters, apply)``: names and shapes as PyTorch has them, and ``apply(arrays, x, train)``. BatchNorm keeps no
running statistics: a little less work than the others do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from ..tasks import Absent, Setting, Task, given_gradients, labels, output_gradient, weights
from .framework import Framework, Ready

Layer = tuple[list[tuple[str, tuple[int, ...]]], Callable[[list[Any], Any, bool], Any]]

ACTIVATIONS: dict[Any, Callable[[Any], Any]] = {
    "tanh": jnp.tanh, "relu": nn.relu, "relu6": nn.relu6, "gelu": nn.gelu, None: lambda x: x,
}  # fmt: skip

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": nn.relu, "gelu": nn.gelu, "tanh": jnp.tanh, "exp": jnp.exp, "erf": jax.scipy.special.erf,
    "add": lambda x: x + 1.5 * x, "where": lambda x: jnp.where(x > 0, x, 0.1 * x), "half": lambda x: x.astype(jnp.float16),
    "softmax": nn.softmax, "logsoftmax": nn.log_softmax, "logsumexp": lambda x: nn.logsumexp(x, -1),
    "sum": lambda x: x.sum(-1), "sum of columns": lambda x: x.sum(0), "max": lambda x: x.max(-1),
    "argmax": lambda x: x.argmax(-1), "cumsum": lambda x: x.cumsum(-1),
}  # fmt: skip


def _plain(f: Callable[[Any], Any]) -> Layer:
    return [], lambda p, x, train: f(x)


def _dense(i: int, o: int, act: Any) -> Layer:
    return [("weight", (o, i)), ("bias", (o,))], lambda p, x, train: ACTIVATIONS[act](x @ p[0].T + p[1])


def _convolved(x: Any, w: Any, stride: int, pad: int, groups: int) -> Any:
    return lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad)] * 2, feature_group_count=groups)


def _conv(i: int, o: int, k: int, pad: int, act: Any, stride: int = 1, groups: int = 1) -> Layer:
    def apply(p: list[Any], x: Any, train: bool) -> Any:
        return ACTIVATIONS[act](_convolved(x, p[0], stride, pad, groups) + p[1][:, None, None])

    return [("weight", (o, i // groups, k, k)), ("bias", (o,))], apply


def _batch_normed(x: Any, w: Any, b: Any, train: bool) -> Any:
    mean = x.mean((0, 2, 3), keepdims=True) if train else 0.0
    var = x.var((0, 2, 3), keepdims=True) if train else 1.0
    return (x - mean) * (lax.rsqrt(var + 1e-5) * w[:, None, None]) + b[:, None, None]


def _conv_norm(i: int, o: int, k: int, stride: int, groups: int, act: Any) -> Layer:
    def apply(p: list[Any], x: Any, train: bool) -> Any:
        return ACTIVATIONS[act](_batch_normed(_convolved(x, p[0], stride, k // 2, groups), p[1], p[2], train))

    return [("0.weight", (o, i // groups, k, k)), ("1.weight", (o,)), ("1.bias", (o,))], apply


def _batch_norm(i: int, act: Any) -> Layer:
    return [("weight", (i,)), ("bias", (i,))], lambda p, x, train: ACTIVATIONS[act](_batch_normed(x, p[0], p[1], train))


def _group_norm(i: int, groups: int) -> Layer:
    def apply(p: list[Any], x: Any, train: bool) -> Any:
        g = x.reshape(len(x), groups, -1)
        g = (g - g.mean(-1, keepdims=True)) * lax.rsqrt(g.var(-1, keepdims=True) + 1e-5)
        return g.reshape(x.shape) * p[0][:, None, None] + p[1][:, None, None]

    return [("weight", (i,)), ("bias", (i,))], apply


def _deconv(i: int, o: int, k: int, stride: int, pad: int) -> Layer:
    def apply(p: list[Any], x: Any, train: bool) -> Any:
        w = jnp.flip(p[0], (2, 3)).swapaxes(0, 1)
        y = lax.conv_general_dilated(x, w, (1, 1), [(k - 1 - pad, k - 1 - pad)] * 2, lhs_dilation=(stride, stride))
        return y + p[1][:, None, None]

    return [("weight", (i, o, k, k)), ("bias", (o,))], apply


def _norm(size: int) -> Layer:
    def apply(p: list[Any], x: Any, train: bool) -> Any:
        return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * p[0] + p[1]

    return [("weight", (size,)), ("bias", (size,))], apply


def _rms_norm(size: int) -> Layer:
    return [("weight", (size,))], lambda p, x, train: x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[0]


def _attention(size: int, heads: int) -> Layer:
    def apply(p: list[Any], x: Any, train: bool) -> Any:
        n, tokens, _ = x.shape
        q, k, v = ((x @ p[0].T + p[1]).reshape(n, tokens, 3, heads, -1)[:, :, i] for i in range(3))
        return nn.dot_product_attention(q, k, v).reshape(x.shape) @ p[2].T + p[3]

    return [("in_proj_weight", (3 * size, size)), ("in_proj_bias", (3 * size,)), ("weight", (size, size)),
            ("bias", (size,))], apply  # fmt: skip


def _rnn_step(a: Any, b: Any, state: Any) -> tuple[Any, ...]:
    return (jnp.tanh(a + b),)


def _lstm_step(a: Any, b: Any, state: Any) -> tuple[Any, ...]:
    i, f, g, o = jnp.split(a + b, 4, -1)
    c = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


def _gru_step(a: Any, b: Any, state: Any) -> tuple[Any, ...]:
    (ar, az, an), (br, bz, bn) = jnp.split(a, 3, -1), jnp.split(b, 3, -1)
    z = nn.sigmoid(az + bz)
    return ((1 - z) * jnp.tanh(an + nn.sigmoid(ar + br) * bn) + z * state[0],)


def _recurrent(gates: int, states: int, step: Any) -> Callable[[int, int], Layer]:
    def layer(i: int, o: int) -> Layer:
        def apply(p: list[Any], x: Any, train: bool) -> Any:
            def scanned(state: Any, a: Any) -> Any:
                new = step(a, state[0] @ p[1].T + p[3], state)
                return new, new[0]

            start = (jnp.zeros((x.shape[1], o), x.dtype),) * states
            return lax.scan(scanned, start, x @ p[0].T + p[2])[1]

        rows = gates * o
        return [("weight_ih", (rows, i)), ("weight_hh", (rows, o)), ("bias_ih", (rows,)), ("bias_hh", (rows,))], apply

    return layer


def _max_pool(k: int, stride: int, pad: int) -> Layer:
    pads = [(0, 0), (0, 0), (pad, pad), (pad, pad)]
    return _plain(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, k, k), (1, 1, stride, stride), pads))


def _mean_pool(k: int) -> Layer:
    return _plain(lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, k, k), (1, 1, k, k), "VALID") / k**2)


def _add(branch: Any, shortcut: Any, act: Any) -> Layer:
    (first, f), (second, g) = sequence(branch), sequence(shortcut)

    def apply(p: list[Any], x: Any, train: bool) -> Any:
        return ACTIVATIONS[act](f(p[: len(first)], x, train) + g(p[len(first) :], x, train))

    return first + second, apply


def _crossentropy() -> Layer:
    def loss(x: Any) -> Any:
        return -jnp.take_along_axis(nn.log_softmax(x), labels(*x.shape)[:, None], -1).mean()

    return _plain(loss)


def _absent(what: str) -> Callable[..., Layer]:
    def layer(*sizes: Any) -> Layer:
        raise Absent(f"JAX has no {what}")

    return layer


def _unfold(k: int, pad: int) -> Layer:
    def patches(x: Any) -> Any:
        y = lax.conv_general_dilated_patches(x, (k, k), (1, 1), [(pad, pad)] * 2)
        return y.reshape(*y.shape[:2], -1)

    return _plain(patches)


LAYERS: dict[str, Callable[..., Layer]] = {
    "dense": _dense,
    "conv": _conv,
    "conv_norm": _conv_norm,
    "deconv": _deconv,
    "flatten": lambda: _plain(lambda x: x.reshape(len(x), -1)),
    "mean": lambda axes: _plain(lambda x: x.mean(axes)),
    "pool": lambda: _max_pool(2, 2, 0),
    "max_pool": _max_pool,
    "mean_pool": _mean_pool,
    "adaptive_mean": _absent("adaptive pooling"),
    "add": _add,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "norm": _norm,
    "rms_norm": _rms_norm,
    "attention": _attention,
    "rnn": _recurrent(1, 1, _rnn_step),
    "lstm": _recurrent(4, 2, _lstm_step),
    "gru": _recurrent(3, 1, _gru_step),
    "embedding": lambda i, o: ([("weight", (i, o))], lambda p, x, train: p[0][x]),
    "crossentropy": _crossentropy,
    "ctc": _absent("CTC loss (Optax has)"),
    "function": lambda name: _plain(FUNCTIONS[name]),
    "upsample": _absent("bilinear upsampling with PyTorch's borders"),
    "unfold": _unfold,
}


def sequence(layers: Any) -> Layer:
    """One layer after the other; without any it is the identity."""
    made = [LAYERS[kind](*sizes) for kind, *sizes in layers]

    def apply(p: list[Any], x: Any, train: bool) -> Any:
        at = 0
        for parameters, f in made:
            x = f(p[at : at + len(parameters)], x, train)
            at += len(parameters)
        return x

    return [entry for parameters, _ in made for entry in parameters], apply


def adam(p: list[Any], g: list[Any], state: Any) -> tuple[list[Any], Any]:
    """A step of Adam with a rate of 1e-3: new parameters, new state (t, m, v)."""
    t, m, v = state
    t = t + 1
    m = [0.9 * a + 0.1 * d for a, d in zip(m, g, strict=True)]
    v = [0.999 * a + 0.001 * d * d for a, d in zip(v, g, strict=True)]
    rate, scale = 1e-3 / (1 - 0.9**t), 1 - 0.999**t
    return [w - rate * a / (jnp.sqrt(b / scale) + 1e-8) for w, a, b in zip(p, m, v, strict=True)], (t, m, v)


class Jax(Framework):
    """JAX in its process. Its thread pool has a thread for every processor that the process may use."""

    version = jax.__version__

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setting.threads])

    def ready(self, task: Task) -> Ready:
        """The task, ready to run."""
        parameters, apply = sequence(task.network.layers)
        p = [jnp.asarray(a) for a in weights(parameters)]
        x, y = map(jnp.asarray, task.network.data())
        return getattr(self, f"_{task.mode}")(apply, p, x, y)

    def _train(self, apply: Any, p: list[Any], x: Any, y: Any) -> Ready:
        def loss(p: list[Any]) -> Any:
            return -jnp.take_along_axis(nn.log_softmax(apply(p, x, True)), y[..., None], -1).mean()

        def step(p: list[Any], state: Any) -> Any:
            value, g = jax.value_and_grad(loss)(p)
            return value, *adam(p, g, state)

        compiled = jax.jit(step, donate_argnums=(0, 1))
        state: list[Any] = [p, _zeros(p)]

        def call() -> Any:
            value, *state[:] = jax.block_until_ready(compiled(*state))
            return value

        return Ready(call, lambda n: [np.array([float(call()) for _ in range(n)])])

    def _infer(self, apply: Any, p: list[Any], x: Any, y: Any) -> Ready:
        compiled = jax.jit(lambda p, x: apply(p, x, False))

        def call() -> Any:
            return jax.block_until_ready(compiled(p, x))

        return Ready(call, lambda n: [np.array(call())])

    def _gradient(self, apply: Any, p: list[Any], x: Any, y: Any) -> Ready:
        real = jnp.issubdtype(x.dtype, jnp.floating)

        def gradients(p: list[Any], x: Any, dy: Any) -> Any:
            f = (lambda x, p: apply(p, x, True)) if real else lambda p: apply(p, x, True)
            return jax.vjp(f, *((x, p) if real else (p,)))[1](dy)

        like = jax.eval_shape(lambda p, x: apply(p, x, True), p, x)
        dy = jnp.asarray(output_gradient(like.shape)).astype(like.dtype)
        compiled = jax.jit(gradients)

        def call() -> Any:
            return jax.block_until_ready(compiled(p, x, dy))

        return Ready(call, lambda n: [np.array(a) for a in jax.tree.leaves(call())])

    def _update(self, apply: Any, p: list[Any], x: Any, y: Any) -> Ready:
        compiled = jax.jit(adam, donate_argnums=(0, 2))
        g = [jnp.asarray(a) for a in given_gradients(a.shape for a in p)]
        state: list[Any] = [p, _zeros(p)]

        def call() -> None:
            state[:] = jax.block_until_ready(compiled(state[0], g, state[1]))

        def answers(n: int) -> list[np.ndarray]:
            for _ in range(n):
                call()
            return [np.array(a) for a in state[0]]

        return Ready(call, answers)

    def release(self) -> None:
        """Forget what is compiled."""
        jax.clear_caches()
        super().release()


def _zeros(p: list[Any]) -> Any:
    return jnp.zeros((), jnp.float32), [jnp.zeros_like(a) for a in p], [jnp.zeros_like(a) for a in p]


make = Jax
