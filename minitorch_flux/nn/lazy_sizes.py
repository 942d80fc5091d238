"""Sizes left open: ``Dense(None, 10)`` learns the number of its input features from the first input that it sees.

A layer gets this by one decorator, which says where the size stands among the arguments and in the input:

    @open_size("in_", axis=-1, saved=lambda shapes, layer: shapes["weight"][1])
    class Dense(Module): ...

Until then the layer is an instance of a subclass of its own class that has arguments, but no weights; then ``__init__``
runs with the size in its place, and the same object is an ordinary layer.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Tensor, is_outlining, no_grad
from ..autograd.recording import undoing
from ..autograd.tree import same_kind
from ..backend import as_array, device_of, is_array, is_outline
from . import printing
from .inputs import nothing_drawn
from .module import Module, walk
from .output_sizes import outputsize

_building = threading.RLock()
_open_classes: dict[type, type] = {}


class _Size(NamedTuple):
    """Where the open size of a class stands."""

    init: Callable[..., None]  # the class's own __init__
    signature: inspect.Signature
    argument: str
    axis: int | Callable[[Any], int]
    saved: Callable[[Mapping[str, tuple[int, ...]], Any], int]
    multiple_of: str | None
    which: int


def open_size(
    argument: str,
    *,
    axis: int | Callable[[Any], int],
    saved: Callable[[Mapping[str, tuple[int, ...]], Any], int],
    multiple_of: str | None = None,
    which: int = 0,
) -> Callable[[type], type]:
    """Class decorator: the size ``argument`` (or the first of the pair that it is) may be None.

    ``axis``: the axis of the input that has this size, or a function that tells it from the layer as it would be with any
    size. ``saved``: the size from the shapes in a state dict, by their names in the layer, and that same layer.
    ``multiple_of``: an argument that the size must be a multiple of. ``which``: the input that is looked at.
    """

    def decorate(cls: type) -> type:
        own = cls.__init__  # type: ignore[misc]
        size = _Size(own, inspect.signature(own), argument, axis, saved, multiple_of, which)

        @functools.wraps(size.init)
        def init(self: Module, *args: Any, **keywords: Any) -> None:
            if not _is_open(size, self, args, keywords):
                return size.init(self, *args, **keywords)
            vars(self)["_waiting"] = (cls, args, keywords)
            self.__class__ = _open_class(type(self))
            _tried(self)  # wrong arguments are named now, not at the first input
            return None

        cls.__init__ = init  # type: ignore[misc]
        cls._size = size  # type: ignore[attr-defined]
        return cls

    return decorate


def build(model: Any, *shapes: Any, dtype: Any = np.float32) -> Any:
    """Fill the sizes that were left open in ``model`` (``Dense(None, 10)``), for inputs of these shapes; returns the model.

    ``build(Chain(Dense(None, 10)), (1, 784))``: shapes are given as to ``outputsize``, and nothing is computed. Calling the
    model once does the same. Raises ValueError where a layer is not reached by the inputs, and so stays open.
    """
    outputsize(model, *shapes, dtype=dtype)
    if waiting := [f"{path or 'the model'}: {printing.text(m)}" for path, m in walk(model) if m._open]:
        raise ValueError(f"build: the input did not reach {', '.join(waiting)}, whose size stays open")
    return model


def _is_open(size: _Size, layer: Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    if args and (is_array(args[0]) or isinstance(args[0], Tensor)):
        return False  # made from given weights: a None among the arguments means something else
    try:
        bound = size.signature.bind(layer, *args, **keywords)
    except TypeError:
        return False  # __init__ itself says what is missing
    value = bound.arguments.get(size.argument, ())
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value is None


def _filled(value: Any, n: int) -> Any:
    """``value``, or the first entry of the tuple that it is, as the number ``n``."""
    return n if value is None else same_kind(value, [_filled(value[0], n), *value[1:]])


class _Open(Module):
    """What a layer is until it knows its size: mixed into a subclass of its class."""

    _open = True
    _becomes: type
    _waiting: tuple[type, tuple[Any, ...], dict[str, Any]]  # the class that has the open size, and its arguments
    running = ()

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        with _building:
            if not self._open:  # another thread was quicker
                return self(*inputs, **keywords)
            before, own = dict(vars(self)), type(self)
            self._adopt(_built(self, *_size_and_device(self, inputs)))
            try:
                with undoing() if is_outlining() else nullcontext():
                    return self(*inputs, **keywords)
            except BaseException:  # an input that does not fit decides nothing
                vars(self).clear()
                vars(self).update(before)
                self.__class__ = own
                raise

    def children(self) -> Iterator[tuple[str, Any]]:
        raise ValueError(f"{printing.text(self)} does not know its size yet: call the model once, or flux.build(model, shape)")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{printing.text(self)} has no {name!r} yet, its size is not known: call the model once, or "
                             "flux.build(model, shape)", name=name, obj=self)

    def __reduce__(self) -> Any:
        return _reopened, (self._becomes, vars(self))

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        cls, args, keywords = self._waiting
        parameters = inspect.signature(cls).parameters
        return list(args), {n: v for n, v in keywords.items() if n != "rng" and v is not parameters[n].default}

    def _for_state(self, shapes: Mapping[str, tuple[int, ...]]) -> Module | None:
        """The layer that arrays of these shapes, by their names in it, belong to; None where they do not say."""
        try:
            return _built(self, _size_of(self).saved(shapes, _tried(self)))
        except LookupError:
            return None

    def _adopt(self, built: Module) -> None:
        """Become what was built, in place: the class last, so that no thread sees a half-made layer."""
        vars(self).update(vars(built))
        self.__class__ = type(built)  # type: ignore[assignment]
        del vars(self)["_waiting"]


def _open_class(cls: Any) -> type:
    if cls not in _open_classes:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, "_becomes": cls}
        _open_classes[cls] = type(cls.__name__, (_Open, cls), names)
    return _open_classes[cls]


def _reopened(cls: type, attributes: dict[str, Any]) -> Any:
    layer: Any = object.__new__(_open_class(cls))
    vars(layer).update(attributes)
    return layer


def _size_of(layer: Any) -> _Size:
    return layer._waiting[0]._size


def _size_and_device(layer: Any, inputs: tuple[Any, ...]) -> tuple[int, str]:
    """The open size of ``layer``, from its inputs, and where its weights belong."""
    size = _size_of(layer)
    if len(inputs) <= size.which:
        raise TypeError(f"{printing.text(layer)}: there is no input to take the size from")
    x = inputs[size.which]
    data = x.data if isinstance(x, Tensor) else x if is_array(x) else as_array(x)
    axis, shape = size.axis if isinstance(size.axis, int) else size.axis(_tried(layer)), data.shape
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{printing.text(layer)}: its size is that of axis {axis} of the input, which has the shape {shape}")
    return shape[axis], "cpu" if is_outline(data) else device_of(data)


def _built(layer: Any, n: int, device: str = "cpu") -> Module:
    """What ``layer`` becomes with the size ``n``: another object, so that nothing has changed where this fails."""
    size, (_, args, keywords) = _size_of(layer), layer._waiting
    new = object.__new__(layer._becomes)
    vars(new).update({k: v for k, v in vars(layer).items() if k != "_waiting"})
    bound = size.signature.bind(new, *args, **keywords)
    bound.arguments[size.argument] = _filled(bound.arguments[size.argument], n)
    with no_grad():
        size.init(*bound.args, **bound.kwargs)
    if "active" in vars(layer):  # a mode that was set meanwhile
        new.active = layer.active
    return new if device == "cpu" else new.to(device)


def _tried(layer: Any) -> Module:
    """The layer with some size that its arguments permit, and zeros that take no memory for its weights."""
    size, (_, args, keywords) = _size_of(layer), layer._waiting
    bound = size.signature.bind(layer, *args, **keywords)
    bound.apply_defaults()
    n = bound.arguments[size.multiple_of] if size.multiple_of else 1
    with nothing_drawn():
        return _built(layer, n if isinstance(n, int) and n > 0 else 1)
