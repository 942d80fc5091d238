"""RNNCell, LSTMCell, GRUCell and GRUv3Cell: one step of a recurrent layer, as pure functions ``h, y = cell(h, x)``.

What tells the families apart (how many gates, which states, which op runs) stands in the four mixins here, once for the
cells and for the layers of whole sequences. The mathematics is in ops/recurrences.py: a cell is a sequence of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..autograd import Param, Tensor
from ..backend import array_module, is_array
from ..ops.dense import dense
from ..ops.nonlinearities import activation_of, tanh
from ..ops.recurrences import gru_sequence, lstm_layer, rnn_sequence, rnn_step, through_time
from .initialisers import glorot_uniform, zeros
from .inputs import as_input, bias_parameter, drawn, layer_name, whole
from .module import Module

States = tuple[Tensor, ...]


class Weights(NamedTuple):
    """The parameters of one layer in one direction."""

    ih: Param  # (gates * out, in)
    hh: Param  # (gates * out, out)
    bias_ih: Param | None  # (gates * out,)
    bias_hh: Param | None


def _one_bias(w: Weights) -> Any:
    """Both biases as one, where they are added to each other anyway."""
    if w.bias_ih is None or w.bias_hh is None:
        return w.bias_hh if w.bias_ih is None else w.bias_ih
    return w.bias_ih + w.bias_hh


class Family:
    """What tells one kind of recurrent layer from the others."""

    gates: int
    parts: tuple[str, ...] = ("h",)  # of a state
    _run: Callable[..., tuple[Tensor, States]]  # (weights, x (T, N, in), states, mask, reverse) -> (y (T, N, out), states)


class RNNFamily(Family):
    """h' = act(W x + b + U h): one gate, whose activation is free."""

    gates = 1
    activation: Any

    def _run(self, w: Weights, x: Tensor, states: States, mask: Any = None, reverse: bool = False) -> tuple[Tensor, States]:
        gx, known = dense(x, w.ih, _one_bias(w)), activation_of(self.activation)
        if known is None:  # any function: step by step
            y, h = through_time(lambda x, s: rnn_step(x, s, w.hh, self.activation), gx, states, mask, reverse)
        else:
            y, h = rnn_sequence(gx, w.hh, states[0], mask, activation=known, reverse=reverse)
        return y, (h,)


class LSTMFamily(Family):
    """Four gates in the order input, forget, cell, output; the state is h and c."""

    gates, parts = 4, ("h", "c")

    def _run(self, w: Weights, x: Tensor, states: States, mask: Any = None, reverse: bool = False) -> tuple[Tensor, States]:
        h, c = states
        y, *last = lstm_layer(x, w.ih, _one_bias(w), w.hh, h, c, mask, reverse=reverse)
        return y, tuple(last)

    @staticmethod
    def _default_bias(n: int) -> Any:
        """Zeros, but 1 for the forget gate, so that at first everything is remembered."""
        bias = zeros(n)
        bias[n // 4 : n // 2] = 1
        return bias


class GRUFamily(Family):
    """Three gates in the order reset, update, new; the hidden bias is inside of ``r * (...)``."""

    gates, form = 3, "gru"

    def _run(self, w: Weights, x: Tensor, states: States, mask: Any = None, reverse: bool = False) -> tuple[Tensor, States]:
        gx = dense(x, w.ih, w.bias_ih)
        y, h = gru_sequence(gx, w.hh, w.bias_hh, states[0], mask, reverse=reverse, form=self.form)
        return y, (h,)


class GRUv3Family(GRUFamily):
    """A GRU that multiplies the state by the reset gate before the matrix product."""

    form = "gruv3"


# -- what cells and layers share ---------------------------------------------------------------------------------------


def sizes_of(name: str, in_: Any, out: Any, activation: Any = tanh) -> tuple[int, int, Any]:
    """``(in, out, activation)`` from two sizes or a pair of them, after which the activation may follow."""
    if isinstance(in_, tuple | list):
        if len(in_) != 2 or not (out is None or (callable(out) and activation is tanh)):
            raise TypeError(f"{name}: give the sizes as a pair or as two numbers, got {in_!r} and {out!r}")
        activation = activation if out is None else out
        in_, out = in_
    if not callable(activation):
        raise TypeError(f"{name}: the activation must be a function, got {activation!r}")
    return whole(in_, f"{name}(in, out): `in`"), whole(out, f"{name}(in, out): `out`"), activation


def draw_weights(layer: Any, inputs: int, bias: Any, hidden_bias: Any, rng: Any) -> Weights:
    """New parameters for ``inputs`` features, drawn by the layer's initialisers."""
    name, rows = type(layer).__name__, layer.gates * layer.out
    ih = Param(drawn(layer.init, (rows, inputs), rng, name))
    hh = Param(drawn(layer.init_recurrent, (rows, layer.out), rng, name))
    default = getattr(layer, "_default_bias", zeros)
    first = bias_parameter(bias, ih, rows, layer.init_bias or default, name)
    second = bias_parameter(hidden_bias, ih, rows, layer.init_bias or (default if first is None else zeros), name)
    return Weights(ih, hh, first, second)


def is_on(bias: Any) -> bool:
    """Whether the argument ``bias`` (True, False, None or an array) asks for one."""
    return not (bias is None or bias is False)


def one_step(layer: Any, x: Tensor) -> tuple[int, ...]:
    """The batch axes of the input of one step, () or (N,). Raises ValueError where it does not fit."""
    if x.ndim not in (1, 2):
        raise ValueError(f"{layer_name(layer)}: the input has {x.ndim} axes, expected (in,) or (N, in) (input shape {x.shape})")
    check_features(layer, x)
    return x.shape[:-1]


def check_features(layer: Any, x: Tensor) -> None:
    """Raise ValueError where the last axis is not the layer's ``in``."""
    if x.shape[-1] != layer.in_:
        raise ValueError(f"{layer_name(layer)}: the input has {x.shape[-1]} features on axis {x.ndim - 1}, expected "
                         f"{layer.in_} (input shape {x.shape})")


def check_states(layer: Any, given: Any, weight: Tensor, batch: tuple[int, ...], shape: tuple[int, ...]) -> States:
    """The parts of a given state as tensors of the weight's dtype; raises what does not fit an input of ``shape``."""
    parts: Sequence[Any] = (given,)
    if len(layer.parts) > 1:
        if not isinstance(given, tuple | list) or len(given) != len(layer.parts):
            got = f"{len(given)} values" if isinstance(given, tuple | list) else type(given).__name__
            raise TypeError(f"{layer_name(layer)}: the state is the pair ({', '.join(layer.parts)}), got {got}")
        parts = given
    states = []
    for part, name in zip(parts, layer.parts, strict=True):
        if not (isinstance(part, Tensor) or is_array(part)):
            raise TypeError(f"{layer_name(layer)}: the state {name} is an array, got {type(part).__name__}")
        s = as_input(part, weight, layer)
        if s.shape != (*batch, layer.out):
            raise ValueError(f"{layer_name(layer)}: {_misfit(layer, s.shape, batch, name)} (state shape {s.shape}, input "
                             f"shape {shape})")
        states.append(s)
    return tuple(states)


def _misfit(layer: Any, shape: tuple[int, ...], batch: tuple[int, ...], name: str) -> str:
    if not shape or shape[-1] != layer.out or len(shape) > 2:
        return f"the state {name} must have the shape {(*batch, layer.out)}"
    was = f"is of batch size {shape[0]}" if len(shape) == 2 else "is of one sample without a batch axis"
    now = f"is of batch size {batch[0]}" if batch else "is one sample without a batch axis"
    return (f"the state {name} {was}, the input {now}: call flux.reset(model) before a batch of another size, or give a "
            "state of this one")


def zero_states(layer: Any, weight: Tensor, batch: tuple[int, ...]) -> States:
    """Zeros of the weight's dtype, on its device."""
    xp = array_module(weight.data)
    return tuple([Tensor(xp.zeros((*batch, layer.out), weight.dtype)) for _ in layer.parts])


def packed(states: States) -> Any:
    """The state of one layer as users see it: h, or the pair (h, c)."""
    return states[0] if len(states) == 1 else states


# -- the cells ---------------------------------------------------------------------------------------------------------


class _Cell(Family, Module):
    def __init__(
        self,
        in_: Any,
        out: Any = None,
        *,
        bias: Any = True,
        hidden_bias: Any = False,
        init: Callable[..., Any] = glorot_uniform,
        init_recurrent: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] | None = None,
        rng: Any = None,
    ) -> None:
        self.in_, self.out, _ = sizes_of(type(self).__name__, in_, out)
        self.bias, self.hidden_bias = is_on(bias), is_on(hidden_bias)
        self.init, self.init_recurrent, self.init_bias = init, init_recurrent, init_bias
        w = draw_weights(self, self.in_, bias, hidden_bias, rng)
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = w

    def initial_state(self, batch: int | None = None) -> Any:
        """Zeros: the state to begin with, for one sample (out,) or for a batch of ``batch`` samples (batch, out)."""
        return packed(zero_states(self, self.weight_ih, () if batch is None else (batch,)))

    def __call__(self, h: Any, x: Any) -> tuple[Any, Tensor]:
        x = as_input(x, self.weight_ih, self)
        batch = one_step(self, x)
        states = check_states(self, h, self.weight_ih, batch, x.shape)
        weights = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        y, states = step(self, weights, x, states)
        return packed(states), y


def step(layer: Any, w: Weights, x: Tensor, states: States) -> tuple[Tensor, States]:
    """``(y, states)`` of one step: x (in,) or (N, in)."""
    batch = x.shape[:-1]
    n = batch[0] if batch else 1
    if not batch:
        states = tuple([s.reshape(1, layer.out) for s in states])
    y, states = layer._run(w, x.reshape(1, n, x.shape[-1]), states)
    if not batch:
        states = tuple([s.reshape(layer.out) for s in states])
    return y.reshape(*batch, layer.out), states


class RNNCell(RNNFamily, _Cell):
    """RNNCell(in, out, activation=tanh, *, bias=True, hidden_bias=False, init=, init_recurrent=, init_bias=, rng=None)

    One step of an RNN: ``h' = y = activation(W x + b + U h)``.

    ``cell(h, x)`` gives ``(h', y)`` for x (in,) or (N, in) and h (out,) or (N, out); nothing is broadcast. Parameters:
    ``weight_ih`` W (out, in) drawn by ``init``, ``weight_hh`` U (out, out) by ``init_recurrent``, ``bias_ih`` b (out,) by
    ``init_bias`` (zeros), and ``bias_hh`` with ``hidden_bias=True``. The biases may be given as arrays. ``initial_state()``
    is zeros. Raises ValueError that names both sizes where the input or the state does not fit. Source: Flux's
    ``RNNCell``; names of PyTorch.
    """

    def __init__(
        self,
        in_: Any,
        out: Any = None,
        activation: Callable[..., Any] = tanh,
        *,
        bias: Any = True,
        hidden_bias: Any = False,
        init: Callable[..., Any] = glorot_uniform,
        init_recurrent: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] | None = None,
        rng: Any = None,
    ) -> None:
        in_, out, activation = sizes_of("RNNCell", in_, out, activation)
        super().__init__(in_, out, bias=bias, hidden_bias=hidden_bias, init=init, init_recurrent=init_recurrent,
                         init_bias=init_bias, rng=rng)
        self.activation = activation


class LSTMCell(LSTMFamily, _Cell):
    """LSTMCell(in, out, *, bias=True, hidden_bias=False, init=, init_recurrent=, init_bias=None, rng=None)

    One step of an LSTM, ``cell((h, c), x)`` gives ``((h', c'), h')``; shapes, parameters and errors as of ``RNNCell``:

        i, f, g, o = W x + b + U h                       weight_ih (4 out, in), weight_hh (4 out, out), bias_ih (4 out,)
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')

    ``init_bias=None``: zeros, and 1 for the forget gate. Source: Flux's ``LSTMCell``; names and order of PyTorch.
    """


class GRUCell(GRUFamily, _Cell):
    """GRUCell(in, out, *, bias=True, hidden_bias=False, init=, init_recurrent=, init_bias=None, rng=None)

    One step of a GRU, ``cell(h, x)`` gives ``(h', h')``; shapes, parameters and errors as of ``RNNCell``:

        r, z = sigmoid(W_rz x + b_rz + U_rz h)           weight_ih (3 out, in), weight_hh (3 out, out), bias_ih (3 out,)
        n = tanh(W_n x + b_n + r (U_n h))
        h' = (1 - z) n + z h

    ``hidden_bias=True`` adds ``bias_hh`` to U h, inside of the product with r. Sources: Flux's ``GRUCell``,
    arXiv:1406.1078v1; names and order of PyTorch.
    """


class GRUv3Cell(GRUv3Family, _Cell):
    """GRUv3Cell(in, out, *, bias=True, hidden_bias=False, init=, init_recurrent=, init_bias=None, rng=None)

    As ``GRUCell``, but ``n = tanh(W_n x + b_n + U_n (r h))``. Sources: Flux's ``GRUv3Cell``, arXiv:1406.1078v3.
    """


__all__ = ["GRUCell", "GRUv3Cell", "LSTMCell", "RNNCell"]
