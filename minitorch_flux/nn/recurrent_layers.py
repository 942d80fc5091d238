"""RNN, LSTM, GRU and GRUv3: a Recur around a pure cell that takes one step, or a whole sequence in one fused pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Param, Tensor
from ..backend import as_array, to_device
from ..backend.arrays import same_device
from ..ops.comparisons import where
from ..ops.dropouts import check_probability, dropout
from ..ops.joining import concatenate
from ..ops.nonlinearities import tanh
from ..ops.shapes import broadcast_to
from .cells import (
    Family,
    GRUFamily,
    GRUv3Family,
    LSTMFamily,
    RNNFamily,
    States,
    Weights,
    check_features,
    check_states,
    draw_weights,
    is_on,
    one_step,
    packed,
    sizes_of,
    step,
    zero_states,
)
from .initialisers import glorot_uniform
from .inputs import as_input, layer_name, whole
from .lazy_sizes import open_size
from .module import training
from .recurrence import Recur


class _Layers(Family, Recur):
    """One or several recurrent layers, in one direction or both."""

    weight_ih_l0: Param
    _arguments: Any = None  # prints by its signature, unlike Recur

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
        num_layers: int = 1,
        bidirectional: bool = False,
        batch_first: bool = False,
        stateful: bool = False,
        train_init: bool = False,
        dropout: float = 0.0,
        rng: Any = None,
    ) -> None:
        name = type(self).__name__
        self.in_, self.out, _ = sizes_of(name, in_, out)
        self.num_layers, self.dropout = whole(num_layers, f"{name}: num_layers"), check_probability(name, dropout)
        self.bias, self.hidden_bias, self.bidirectional = is_on(bias), is_on(hidden_bias), bool(bidirectional)
        self.batch_first, self.stateful, self.train_init = bool(batch_first), bool(stateful), bool(train_init)
        self.init, self.init_recurrent, self.init_bias = init, init_recurrent, init_bias
        if self.num_layers < 1:
            raise ValueError(f"{name}: num_layers must be at least 1, got {num_layers}")
        if self.dropout and self.num_layers == 1:
            raise ValueError(f"{name}: dropout works between layers, but num_layers is 1; put a Dropout after the layer")
        if self.bidirectional and self.stateful:
            raise ValueError(f"{name}: bidirectional layers see whole sequences, there is no state to go on from: "
                             "stateful=True cannot be")
        if self.dropout:
            self.rng = rng
        for k, suffix in enumerate(self._suffixes()):
            inputs = self.in_ if k < self._directions else self.out * self._directions
            w = draw_weights(self, inputs, bias, hidden_bias, rng)
            for what, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), w, strict=True):
                setattr(self, f"{what}_{suffix}", value)
            for part in self.parts if self.train_init else ():
                setattr(self, f"{part}0_{suffix}", Param(np.zeros(self.out, w.ih.dtype)))

    # -- parameters and states -----------------------------------------------------------------------------------------

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self) -> list[str]:
        """Of the parameters' names, for each layer and direction: l0, l0_reverse, l1, ..."""
        ways = ("", "_reverse")[: self._directions]
        return [f"l{k}{way}" for k in range(self.num_layers) for way in ways]

    def _weights(self) -> list[Weights]:
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [Weights(*(getattr(self, f"{part}_{s}") for part in parts)) for s in self._suffixes()]

    def _before(self, inputs: tuple[Any, ...] = ()) -> Any:
        """The state that was left, or the initial one for a batch like that of the input."""
        if (left := self._remembered()) is not None:
            return left[0]
        return self.initial_state(inputs[0].shape[-2] if inputs and inputs[0].ndim > 1 else None)

    def initial_state(self, batch: int | None = None) -> Any:
        """The state to begin with, for one sample or for a batch of ``batch``: zeros, or what ``train_init`` has learnt."""
        shape = () if batch is None else (batch,)
        if not self.train_init:
            return self._packed([zero_states(self, self.weight_ih_l0, shape) for _ in self._suffixes()])
        learnt = [tuple([vars(self)[f"{part}0_{s}"] for part in self.parts]) for s in self._suffixes()]
        return self._packed([tuple([broadcast_to(t, (*shape, self.out)) for t in states]) for states in learnt])

    def _packed(self, states: list[States]) -> Any:
        """The state as users see it: that of the one layer, or a tuple of all layers' and directions'."""
        return packed(states[0]) if len(states) == 1 else tuple([packed(s) for s in states])

    def _states(self, given: Any, batch: tuple[int, ...], shape: tuple[int, ...]) -> list[States]:
        """The parts of a state, checked against an input of ``shape``."""
        n = self.num_layers * self._directions
        if n == 1:
            given = (given,)
        elif not isinstance(given, tuple | list) or len(given) != n:
            got = f"{len(given)}" if isinstance(given, tuple | list) else f"a {type(given).__name__}"
            raise TypeError(f"{layer_name(self)}: the state is a tuple of {n} states, {', '.join(self._suffixes())}, got {got}")
        return [check_states(self, state, self.weight_ih_l0, batch, shape) for state in given]

    # -- calls ---------------------------------------------------------------------------------------------------------

    def __call__(  # type: ignore[override]
        self, x: Any, state: Any = None, *, mask: Any = None, lengths: Any = None
    ) -> Tensor:
        x = as_input(x, self.weight_ih_l0, self)
        if x.ndim == 3:
            return self._sequence(x, state, mask, lengths)
        axes = "(N, T, in)" if self.batch_first else "(T, N, in)"
        if x.ndim not in (1, 2):
            raise ValueError(f"{layer_name(self)}: the input has {x.ndim} axes, expected one step (in,) or (N, in), or a whole "
                             f"sequence {axes} (input shape {x.shape})")
        if self.bidirectional:
            raise ValueError(f"{layer_name(self)}: a bidirectional layer takes whole sequences {axes}, no single steps (input "
                             f"shape {x.shape})")
        if mask is not None or lengths is not None:
            raise ValueError(f"{layer_name(self)}: mask and lengths are for whole sequences {axes} (input shape {x.shape})")
        left, y = self.cell(self._before((x,)) if state is None else state, x)
        self._leave(left)
        return y

    def cell(self, h: Any, x: Any) -> tuple[Any, Tensor]:
        """One step as a pure function, ``h, y = rnn.cell(h, x)``: the layer's own state is not touched."""
        if self.bidirectional:
            raise ValueError(f"{layer_name(self)}: a bidirectional layer takes whole sequences, it has no cell")
        x = as_input(x, self.weight_ih_l0, self)
        states = self._states(h, one_step(self, x), x.shape)
        for k, w in enumerate(self._weights()):
            if k:
                x = self._dropped(x)
            x, states[k] = step(self, w, x, states[k])
        return self._packed(states), x

    def _sequence(self, x: Tensor, state: Any, mask: Any, lengths: Any) -> Tensor:
        check_features(self, x)
        shape = x.shape
        if self.batch_first:
            x = x.transpose(1, 0, 2)
        mask = self._mask(mask, lengths, x, shape)
        if mask is not None:  # what stands where there is no step, NaN perhaps, must not reach the gradient of the weights
            x = where(mask[:, :, None], x, 0)
        if state is None:
            state = self._before((x,)) if self.stateful else self.initial_state(x.shape[1])
        states = self._states(state, (x.shape[1],), shape)
        weights, ways = self._weights(), self._directions
        for k in range(0, len(weights), ways):
            if k:
                x = self._dropped(x)
            ys = []
            for way in range(ways):
                y, states[k + way] = self._run(weights[k + way], x, states[k + way], mask, reverse=way == 1)
                ys.append(y)
            x = ys[0] if ways == 1 else concatenate(ys, axis=2)
        self._leave(self._packed(states))
        return x.transpose(1, 0, 2) if self.batch_first else x

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.dropout:
            return x
        return dropout(x, self.dropout, rng=self.rng, active=training(self), name=layer_name(self))

    def _mask(self, mask: Any, lengths: Any, x: Tensor, shape: tuple[int, ...]) -> Any:
        """The mask (T, N) as an array of booleans, from the one or the other; None where every step counts."""
        if mask is None and lengths is None:
            return None
        name, (steps, batch, _) = layer_name(self), x.shape
        if lengths is None:
            mask = as_array(mask.data if isinstance(mask, Tensor) else mask, like=x.data)
            if mask.shape != shape[:2] or mask.dtype != np.bool_:
                raise ValueError(f"{name}: the mask must be booleans of the shape {shape[:2]}, got {mask.dtype} of shape "
                                 f"{mask.shape} (input shape {shape})")
            same_device(name, (x.data, mask))
            return mask.T if self.batch_first else mask
        if mask is not None:
            raise ValueError(f"{name}: give mask or lengths, not both")
        lengths = to_device(as_array(lengths.data if isinstance(lengths, Tensor) else lengths), "cpu")
        if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
            raise ValueError(f"{name}: lengths must be {batch} whole numbers, one for each sequence, got {lengths.dtype} of "
                             f"shape {lengths.shape} (input shape {shape})")
        if batch and not 0 <= lengths.min() <= lengths.max() <= steps:
            raise ValueError(f"{name}: lengths must be from 0 to {steps}, the number of steps, got {lengths.min()} to "
                             f"{lengths.max()} (input shape {shape})")
        return to_device(np.arange(steps)[:, None] < lengths, x.device)


_size_may_be_open = open_size("in_", axis=-1, saved=lambda shapes, _: shapes["weight_ih_l0"][1])


@_size_may_be_open
class RNN(RNNFamily, _Layers):
    """RNN(in, out, activation=tanh, *, bias=True, hidden_bias=False, init=glorot_uniform, init_recurrent=glorot_uniform,
    init_bias=None, num_layers=1, bidirectional=False, batch_first=False, stateful=False, train_init=False, dropout=0.0,
    rng=None)

    The most basic recurrent layer; essentially acts as a Dense layer, but with the output fed back into the input each
    time step: ``h' = y = activation(W x + b + U h)``.

    **One step**: x (in,) or (N, in) gives y (out,) or (N, out), from the state that the last call left, until ``reset``.
    **A whole sequence**: x (T, N, in) gives y (T, N, out) in one fused pass, from the initial state; the last state is
    left behind. (Two axes are always one step of a batch; ``rnn.map(xs)`` makes steps along the first axis.)

    ``batch_first``: sequences are (N, T, in) and (N, T, out). ``stateful``: sequences, too, go on from the state that was
    left, as a constant: truncated backpropagation. ``train_init``: the initial states are parameters, ``h0_l0`` (out,),
    else zeros. ``num_layers``: so many layers, each fed by the one before; ``dropout`` between them in train mode.
    ``bidirectional``: a second layer walks each sequence from its end, y has the features of both, (T, N, 2 out).

    ``rnn(x, state)`` begins from a given state: (out,) or (N, out), for several layers or directions a tuple of these in
    the order l0, l0_reverse, l1, ...; ``.state`` has the same form. For sequences of several lengths ``mask=`` (T, N),
    True where a step is real, or ``lengths=`` (N,), whole numbers: where there is no step, y is 0 and the state stays.

    Parameters, with PyTorch's names and shapes: ``weight_ih_l0`` W (out, in) drawn by ``init``, ``weight_hh_l0`` U (out,
    out) by ``init_recurrent``, ``bias_ih_l0`` b (out,) by ``init_bias`` (zeros), and ``bias_hh_l0`` with
    ``hidden_bias=True``; then ``_l0_reverse``, ``_l1``, ... ``bias`` may be an array, then each layer has a copy.

    Raises ValueError that names both sizes where features do not fit, or where the batch size changes without a
    ``reset``. Sources: Flux's ``RNN``; names and order of PyTorch.
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
        num_layers: int = 1,
        bidirectional: bool = False,
        batch_first: bool = False,
        stateful: bool = False,
        train_init: bool = False,
        dropout: float = 0.0,
        rng: Any = None,
    ) -> None:
        in_, out, self.activation = sizes_of("RNN", in_, out, activation)
        super().__init__(in_, out, bias=bias, hidden_bias=hidden_bias, init=init, init_recurrent=init_recurrent,
                         init_bias=init_bias, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first,
                         stateful=stateful, train_init=train_init, dropout=dropout, rng=rng)


@_size_may_be_open
class LSTM(LSTMFamily, _Layers):
    """LSTM(in, out, *, bias=True, hidden_bias=False, ..., num_layers=1, bidirectional=False, batch_first=False, ...)

    Long Short Term Memory recurrent layer. Behaves like an RNN but generally exhibits a longer memory span over
    sequences. Calls, keywords, parameters and errors are those of ``RNN``; the state is the pair (h, c):

        i, f, g, o = W x + b + U h                       weight_ih_l0 (4 out, in), weight_hh_l0 (4 out, out)
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = y = sigmoid(o) tanh(c')

    ``init_bias=None``: zeros, and 1 for the forget gate f. ``train_init`` makes ``h0_l0`` and ``c0_l0``.
    Sources: Flux's ``LSTM``; Gers, Schmidhuber and Cummins, "Learning to forget", 2000; names and order of PyTorch.
    """


@_size_may_be_open
class GRU(GRUFamily, _Layers):
    """GRU(in, out, *, bias=True, hidden_bias=False, ..., num_layers=1, bidirectional=False, batch_first=False, ...)

    Gated Recurrent Unit layer. Behaves like an RNN but generally exhibits a longer memory span over sequences. Calls,
    keywords, parameters and errors are those of ``RNN``:

        r, z = sigmoid(W_rz x + b_rz + U_rz h)           weight_ih_l0 (3 out, in), weight_hh_l0 (3 out, out)
        n = tanh(W_n x + b_n + r (U_n h))
        h' = y = (1 - z) n + z h

    ``hidden_bias=True`` adds ``bias_hh_l0`` to U h, inside of the product with r, as PyTorch does.
    Sources: Flux's ``GRU``; arXiv:1406.1078v1; names and order of PyTorch.
    """


@_size_may_be_open
class GRUv3(GRUv3Family, _Layers):
    """GRUv3(in, out, *, bias=True, hidden_bias=False, ..., num_layers=1, bidirectional=False, batch_first=False, ...)

    As ``GRU``, but ``n = tanh(W_n x + b_n + U_n (r h))``. Sources: Flux's ``GRUv3``; arXiv:1406.1078v3.
    """


__all__ = ["GRU", "LSTM", "RNN", "GRUv3"]
