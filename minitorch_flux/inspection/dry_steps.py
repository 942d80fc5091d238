"""A training step on outlines: what a model would compute and keep, found out without running or allocating anything.

A copy of the model with outlines for parameters is called with outlines for inputs, recorded on the tape as ever; a loss is
made of its output, and the backward pass walks back. Operations take the ways of the kernels on this machine's CPU, with
the work space that those ask for. Every outline is booked in a ledger from its birth to its death, so the ledger knows
what the arrays would take at each moment.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..autograd import Tensor, is_outlining, outlining, shapes_only
from ..autograd.recording import state, undoing
from ..backend import Outline, OutlineError, default_generator, outline_of
from ..backend.outlines import Account, Ledger, own
from ..nn.module import _named, named_buffers, named_parameters, walk, zero_grad
from ..optimisers import Rule, setup, update
from .flop_counts import backward_flops, flops
from .followers import Follower, Place, following, shape_of

Loss = Callable[[Any], Any]


class Moment:
    """Where in a training step: the forward or the backward pass of a place, or the update, which has none."""

    def __init__(self, backward: bool, place: Place | None) -> None:
        self.backward, self.place = backward, place

    def __str__(self) -> str:
        if self.place is None:
            return "in the update"
        path, name = self.place.path, self.place.name
        where = "the loss" if path == "(loss)" else f"{path}, {name}" if path else name
        return f"in the {'backward' if self.backward else 'forward'} pass of {where}"


class Sizes:
    """What one place takes by itself, without the places inside it."""

    parameters = trained = 0  # numbers
    parameter_bytes = gradients = activations = 0  # bytes
    flops = backward_flops = 0


class DryStep(Follower):
    """One training step of ``model`` with inputs of these shapes, followed by outlines.

    ``sizes`` has the Sizes of every place; ``peak`` the bytes that the arrays of the step take at the worst moment, without
    parameters and inputs, and ``moment`` says when that is. The state of an ``optimiser``, ``state_bytes``, is among them. The
    model is left as it is.
    """

    def __init__(
        self, model: Any, inputs: Sequence[Any], loss: Loss | None, optimiser: Rule | None = None, kernels: bool = True
    ) -> None:
        super().__init__(model)
        self.ledger = Ledger()
        self.accounts: dict[tuple[bool, str], Account] = {}
        self.calls: dict[int, tuple[Any, Place, str, int]] = {}  # by the keywords of a recorded call, which are its own
        self.sizes: dict[str, Sizes] = {}
        xs = [outline_input(x) for x in inputs]
        self.stand_in = self.root.layer = stand_in(model, xs)
        generator = default_generator()
        before, through, pulling = generator.state_dict(), state.through, state.pulling
        try:
            with outlining(train=True, kernels=kernels), undoing(), following(self.stand_in, self):
                state.through, state.pulling = self.through, self.pulling
                self._run(xs, loss or _mean, optimiser)
        except OutlineError as error:
            raise OutlineError(f"summary: the step cannot be told from shapes: {error}") from None
        finally:
            state.through, state.pulling, own.account = through, pulling, None
            generator.load_state_dict(before)
        self.input_bytes = sum(x.nbytes for x in _tensors(xs))
        self.peak, self.moment = self.ledger.peak, self.ledger.where
        self._count_parameters()
        self.of_loss = self.sizes.pop("(loss)", Sizes())

    def _run(self, xs: list[Any], loss: Loss, optimiser: Rule | None) -> None:
        own.account = state_account = Account(Moment(False, None), self.ledger)
        opt = None if optimiser is None else setup(optimiser, self.stand_in)
        self.state_bytes = state_account.live
        self._book(False)
        y = self.stand_in(*xs)
        if self.root.output is None:
            self.root.output = shape_of(y)
        self.here = Place("(loss)", loss, None)
        self._book(False)
        value = loss(y)
        del y  # as in withgradient(lambda m: loss(m(x)), m): nobody holds it
        if not isinstance(value, Tensor) or value.size != 1:
            raise ValueError(f"summary: the loss is a function of the model's output that gives one number, got "
                             f"{shape_of(value) if hasattr(value, 'shape') else type(value).__name__}")
        for (_, path), account in self.accounts.items():
            self.sizes_of(path).activations = account.live
        if value.recorded:
            self._book(True)
            value.backward()
        if opt is not None:
            self._update(opt)

    def _update(self, opt: Any) -> None:
        """The optimiser's step; what it keeps for the next one lies there in all of the next step."""
        ledger = self.ledger
        peak, where = ledger.peak, ledger.where
        own.account = Account(Moment(True, None), ledger)
        with suppress(OutlineError):  # a rule that looks at numbers, such as a norm: it has its work space by then
            update(opt, self.stand_in)
        zero_grad(self.stand_in)
        if (again := peak + ledger.live - self.state_bytes) > ledger.peak:
            ledger.peak, ledger.where = again, where

    def sizes_of(self, path: str) -> Sizes:
        """The Sizes of a place."""
        return self.sizes.setdefault(path, Sizes())

    def _book(self, backward: bool) -> None:
        """From now on arrays are booked to the place at work."""
        key = (backward, self.here.path)
        if key not in self.accounts:
            self.accounts[key] = Account(Moment(backward, self.here), self.ledger)
        own.account = self.accounts[key]

    def enter(self, path: str, layer: Any) -> None:
        """Book to the layer whose call begins."""
        super().enter(path, layer)
        self._book(False)

    def leave(self, before: Place, output: Any) -> None:
        """Book to the layer that goes on."""
        super().leave(before, output)
        self._book(False)

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """Run an operation on outlines and count what it takes."""
        arrays = [outline_of(a) for a in arrays] if is_outlining() else arrays
        result = operation.forward(*arrays, **static)
        outputs = [a for a in (result if isinstance(result, tuple | list) else [result]) if hasattr(a, "size")]
        n = flops(operation.name, arrays, static, outputs)
        if state.again:  # of a checkpoint, on the way back
            self.sizes_of(self.here.path).backward_flops += n
        else:
            self.sizes_of(self.here.path).flops += n
        self.calls[id(static)] = (static, self.here, operation.name, n)
        return arrays, result

    def pulling(self, node: Any, dy: Any, create_graph: bool) -> Any:
        """The backward pass of an operation on outlines, counted as well."""
        _, self.here, name, n = self.calls.get(id(node.static), (None, self.root, "", 0))
        self._book(True)
        needs = [parent is not None for parent in node.parents]
        self.sizes_of(self.here.path).backward_flops += backward_flops(name, n, needs)
        return node.op.pull(node, dy, create_graph)

    def _count_parameters(self) -> None:
        """The parameters and buffers of every layer: each once, and where the layer was not called, in what holds it."""
        seen: set[int] = set()
        layers = dict(walk(self.stand_in))
        for find, trains in ((named_parameters, True), (named_buffers, False)):
            for path, t in find(self.stand_in):
                if id(t) in seen:
                    continue
                seen.add(id(t))
                while path not in self.places or path not in layers:
                    if not path:
                        break
                    path = path.rpartition(".")[0]
                sizes = self.sizes_of(path)
                sizes.parameter_bytes += t.nbytes
                if trains:
                    sizes.parameters += t.size
                if trains and t.requires_grad:
                    sizes.trained += t.size
                    sizes.gradients += t.nbytes


def _mean(y: Any) -> Any:
    """The least that a loss can be: the mean of the output, or the sum of the means of several."""
    if isinstance(y, Tensor):
        return y.mean()
    parts = [_mean(part) for part in (y.values() if isinstance(y, dict) else y)]
    return sum(parts[1:], parts[0])


def stand_in(model: Any, inputs: Sequence[Any] = ()) -> Any:
    """A copy of ``model`` whose parameters and buffers are outlines; with ``inputs`` its open sizes are filled."""
    if inputs and any(layer._open for _, layer in walk(model)):
        model = stand_in(model)
        with outlining(), undoing(), shapes_only():
            model(*inputs)
    memo: dict[int, Any] = {}
    for _, t in _named(model, Tensor, open_too=True):
        if t.node is None:
            new: Any = Tensor.__new__(type(t))
            Tensor.__init__(new, Outline(t.shape, t.dtype), t.track)
            memo[id(t)] = new
    return copy.deepcopy(model, memo)


def outline_input(x: Any) -> Any:
    """An input as an outline: of an array, or of a ``(shape, dtype)``; tuples and lists of them too."""
    if isinstance(x, tuple | list) and not (len(x) == 2 and isinstance(x[1], np.dtype)):
        return type(x)(outline_input(part) for part in x)
    if isinstance(x, tuple | list):
        return Tensor(Outline(x[0], x[1]))
    return Tensor(Outline(x.shape, x.dtype))


def _tensors(x: Any) -> list[Any]:
    return [t for part in x for t in _tensors(part)] if isinstance(x, tuple | list) else [x]


