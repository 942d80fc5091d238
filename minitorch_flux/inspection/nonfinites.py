"""find_nonfinite: the operation that made the first NaN or infinity, forward or backward."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..autograd import Param, Tensor, record
from ..autograd.recording import state, undoing
from ..autograd.tree import Structure
from ..backend import array_module, default_generator, is_array, is_float
from ..nn.module import _named
from .followers import Follower, Place, following
from .texts import in_shape


class NonFinite:
    """What ``find_nonfinite`` found; prints as a sentence.

    ``value``: "NaN", "inf" or "-inf". ``phase``: "forward" or "backward", or "given" for one that was there before.
    ``operation``: its name. ``path``, ``layer``: where it ran in the model, "" outside. ``index``: of the first bad number,
    in an array of ``shape`` with ``count`` bad ones; ``which``: what that array is. ``inputs``: what went in.
    """

    def __init__(
        self, array: Any, phase: str, operation: str, place: Place | None, which: str, inputs: list[tuple[str, Any]]
    ) -> None:
        xp = array_module(array)
        bad = ~xp.isfinite(array)
        place_of_first = int(bad.reshape(-1).argmax())
        self.index = tuple(int(i) for i in xp.unravel_index(place_of_first, array.shape))
        first = float(array[self.index])
        self.value = "NaN" if first != first else "inf" if first > 0 else "-inf"
        self.phase, self.operation, self.which = phase, operation, which
        self.path = "" if place is None else place.path
        self.layer = "" if place is None or place.layer is None else place.name
        self.shape, self.count, self.size = tuple(array.shape), int(bad.sum()), array.size
        self.inputs = [(name, _range(a)) for name, a in inputs]

    def __str__(self) -> str:
        where = f" of {self.path}, {self.layer}" if self.path else f" of {self.layer}" if self.layer else ""
        what = f"{self.which}{f', {in_shape(self.shape)}' if self.shape else ''}"
        at = f" at {list(self.index)}, the first of {self.count:,} in {self.size:,}" if self.shape else ""
        if self.phase == "given":
            return f"{self.value} was there from the beginning: {what}{at}"
        lines = [f"{self.value} in the {self.phase} pass of {self.operation}{where}: {what}{at}"]
        lines += [f"  {name}: {text}" for name, text in self.inputs]
        return "\n".join(lines)

    __repr__ = __str__


class _Found(BaseException):  # not an Exception: nobody on the way may take it for an error of his own
    def __init__(self, finding: NonFinite) -> None:
        self.finding = finding


def _range(a: Any) -> str:
    if not is_array(a):
        return repr(a)
    xp = array_module(a)
    if not a.size or not is_float(a.dtype):
        return f"{in_shape(tuple(a.shape))} {a.dtype.name}"
    good = a[xp.isfinite(a)]
    text = f"from {float(good.min()):.4g} to {float(good.max()):.4g}" if good.size else "nothing finite"
    missing = a.size - good.size
    return f"{in_shape(tuple(a.shape))}, {text}" + (f", {missing:,} not finite" if missing else "")


def _worst(a: Any) -> int:
    """2 for an array with a NaN, 1 with an infinity, 0 for any other."""
    if not is_array(a) or not is_float(a.dtype) or not a.size:
        return 2 if isinstance(a, float) and a != a else 1 if isinstance(a, float) and abs(a) == float("inf") else 0
    xp = array_module(a)
    if bool(xp.isfinite(a).all()):
        return 0
    return 2 if bool(xp.isnan(a).any()) else 1


class _Detective(Follower):
    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.here = Place("", None, None)
        self.calls: dict[int, tuple[Any, Place, list[Any]]] = {}
        self.names = {id(t): path for path, t in _named(model, Param, open_too=True)}

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """Run an operation and look at what comes out."""
        result = operation.forward(*arrays, **static)
        several = result if isinstance(result, tuple | list) else [result]
        outputs = [array_module(a).asarray(a) for a in several if a is not None]
        before = max(map(_worst, arrays), default=0)
        for i, a in enumerate(outputs[: operation.outputs]):
            if _worst(a) > before:
                which = "its output" if operation.outputs == 1 else f"its output {i}"
                raise _Found(NonFinite(a, "forward", operation.name, self.here, which, self._named(operation, arrays)))
        self.calls[id(static)] = (static, self.here, list(arrays))
        return arrays, result

    def pulling(self, node: Any, dy: Any, create_graph: bool) -> Any:
        """Pull a gradient back and look at what comes out."""
        grads = node.op.pull(node, dy, create_graph)
        _, place, arrays = self.calls.get(id(node.static), (None, None, []))
        dys = [_data(g) for g in (dy if isinstance(dy, tuple) else (dy,)) if g is not None]
        before = max(map(_worst, (*dys, *arrays)), default=0)
        for i, g in enumerate(grads):
            if node.parents and i < len(node.parents) and node.parents[i] is None:
                continue
            if g is not None and _worst(_data(g)) > before:
                parent = node.parents[i] if node.parents else None
                name = self.names.get(id(parent), "") if isinstance(parent, Tensor) else ""
                which = f"the gradient of {name}" if name else f"the gradient of its input {_parameter(node.op, i)}"
                inputs = [("the gradient that came in", dys[0]), *self._named(node.op, arrays)] if dys else []
                raise _Found(NonFinite(_data(g), "backward", node.op.name, place, which, inputs))
        return grads

    def _named(self, operation: Any, arrays: Any) -> list[tuple[str, Any]]:
        return [(_parameter(operation, i), a) for i, a in enumerate(arrays) if a is not None]


def _data(g: Any) -> Any:
    return g.data if isinstance(g, Tensor) else g


def _parameter(operation: Any, i: int) -> str:
    """The name of an operation's i-th input."""
    names = [name for name, p in getattr(operation, "signature", {}).items() if p.kind is not p.KEYWORD_ONLY]
    return names[i] if i < len(names) and not names[i].endswith("s") else f"{i}"


def find_nonfinite(f: Callable[..., Any], *arguments: Any) -> NonFinite | None:
    """The first NaN or infinity in ``f(*arguments)`` and its backward pass: where it was made; None where there is none.

    Arguments as of ``flux.gradient``: ``print(flux.find_nonfinite(lambda m: loss(m(x), y), model))`` names the layer's path,
    the operation, the index of the first bad number, and the range of what went into the operation. What is looked for is
    the first operation that makes a NaN of no NaN, or an infinity of finite numbers; parameters and inputs are looked at
    before. NumPy's warnings are silent meanwhile.

    Layers are in train mode, as inside ``flux.gradient``; what the call changes in the model (running statistics, recurrent
    state) is put back, and so is the default random generator. Every result is read once more, so this is for looking for a
    fault, not for training.
    """
    if not callable(f):
        raise TypeError(f"find_nonfinite(f, *arguments): the function comes first, got {type(f).__name__}")
    models = [a for a in arguments if isinstance(a, Structure)]
    model = f if isinstance(f, Structure) else models[0] if len(models) == 1 else models
    if (given := _given(model, arguments)) is not None:
        return given
    detective = _Detective(model)
    generator = default_generator()
    before, through, pulling = generator.state_dict(), state.through, state.pulling
    grads = [(t, t.grad) for _, t in _named(model, Tensor, open_too=True)]
    with ExitStack() as stack:
        stack.callback(generator.load_state_dict, before)
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(undoing())
        stack.enter_context(following(model, detective))
        stack.callback(_restore, through, pulling, grads)
        state.through, state.pulling = detective.through, detective.pulling
        inputs = [_leaf(a) for a in arguments]
        try:
            with record():
                y = f(*inputs)
            loss = y[0] if isinstance(y, tuple) and y else y
            if isinstance(loss, Tensor) and loss.recorded and loss.size and is_float(loss.dtype):
                loss.backward(array_module(loss.data).ones(loss.shape, loss.dtype))
        except _Found as found:
            return found.finding
    return None


def _restore(through: Any, pulling: Any, grads: list[tuple[Tensor, Any]]) -> None:
    state.through, state.pulling = through, pulling
    for t, grad in grads:
        t.grad = grad


def _leaf(a: Any) -> Any:
    """An array as a tensor that gradients flow to."""
    if is_array(a) and is_float(a.dtype):
        t = Tensor(a)
        t.requires_grad = True
        return t
    return a


def _given(model: Any, arguments: tuple[Any, ...]) -> NonFinite | None:
    """One that was there from the beginning, in a parameter, a buffer or an array."""
    arrays = [(f"the parameter or buffer {path}", t.data) for path, t in _named(model, Tensor, open_too=True)]
    arrays += [(f"argument {i}", _data(a)) for i, a in enumerate(arguments) if is_array(a) or isinstance(a, Tensor)]
    for which, a in arrays:
        if _worst(a):
            return NonFinite(a, "given", "", None, which, [])
    return None
