"""Module: what a layer is. Plain Python objects whose attributes are walked.

    class Residual(flux.Module):
        def __init__(self, f): self.f = f
        def __call__(self, x): return x + self.f(x)

is a complete layer. A parameter is an attribute made by ``flux.Param(array)``, a saved value that does not train by
``flux.Buffer(array)``, a child is an attribute that is a module or a list, tuple or dict of them. No registration, no
``super().__init__()``. ``forward`` works as the name of the call, too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..autograd import Buffer, Param, Structure, Tensor, is_outlining, is_recording
from ..autograd.tree import items, parameters
from ..backend import parse_device, to_device
from ..foreign_attributes import LAYER, attach
from ..ops.transfers import move_tensor
from ..spelling import check_keywords, known_keywords
from .state_dicts import load_state_dict, state_dict

_PACKAGE = __name__.partition(".")[0] + "."


class Module(Structure):
    """The base of every layer: walking, moving, saving and printing are generic."""

    active: bool | None = None  # train mode: None automatic, True on, False off; see testmode
    stays_float32 = False  # in flux.mixed: True of norms

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        if keywords and (known := known_keywords(cls.__init__)) is not None:
            check_keywords(cls.__name__, keywords, known)  # a foreign keyword gets an error that gives our name for it
        return super().__new__(cls)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "forward" in vars(cls) and _calls_forward(cls):
            cls.__call__ = cls.forward  # type: ignore[attr-defined,method-assign]
        if "__call__" in vars(cls) and not cls.__module__.startswith(_PACKAGE):  # a layer of this package names itself
            cls.__call__ = _telling(cls.__call__)  # type: ignore[method-assign]

    def parameters(self) -> list[Param]:
        """Every trainable parameter, each once."""
        return parameters(self)

    def named_parameters(self) -> Iterator[tuple[str, Param]]:
        """``(dotted path, parameter)``, each parameter once, under its first path."""
        return named_parameters(self)

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """``(dotted path, buffer)``, each once."""
        return named_buffers(self)

    def modules(self) -> Iterator[Module]:
        """This module and every module inside it, each once."""
        return (m for _, m in walk(self))

    def state_dict(self) -> dict[str, Any]:
        """Copies of all parameters and buffers: ``{"0.weight": array, ...}``."""
        return state_dict(self)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> dict[str, list[str]]:
        """Copy the arrays of ``state`` into this model, all of them or none; see ``nn.state_dicts.load_state_dict``."""
        return load_state_dict(self, state, strict)

    def to(self, device: str) -> Module:
        """Move every parameter and buffer to ``"cpu"`` or ``"cuda:N"``, in place; returns the model."""
        parse_device(device)
        moved = [(t, to_device(t.data, device)) for _, t in _named(self, Tensor, open_too=True) if t.node is None]
        for t, data in moved:  # nothing has changed when a copy failed
            if data is not t.data:
                t.data, t.grad = data, None
                t.version += 1
        for m in self.modules():
            m._carry(lambda t: move_tensor(t, device))
        return self

    def train(self, mode: bool = True) -> Module:
        """PyTorch's name: train mode on (or off) for this module and all inside it."""
        return testmode(self, not mode)

    def eval(self) -> Module:
        """PyTorch's name: test mode for this module and all inside it."""
        return testmode(self)


attach(Module, LAYER)


def _calls_forward(cls: type) -> bool:
    """Whether the first class with a call of its own, from ``cls`` upwards, has ``forward`` as its call (or none has)."""
    for base in cls.__mro__:
        if "__call__" in vars(base):
            return inspect.unwrap(vars(base)["__call__"]) is vars(base).get("forward")
    return True


def _telling(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call of a module made of others: an error in one of them names its place, ``Block.branch[1] Dense(5, 4): ...``."""

    @functools.wraps(call)
    def told(self: Module, *inputs: Any, **keywords: Any) -> Any:
        try:
            return call(self, *inputs, **keywords)
        except Exception as error:
            from .containers import add_place  # which needs this file

            add_place(error, self)
            raise

    return told


def walk(x: Any, path: str = "") -> Iterator[tuple[str, Module]]:
    """``(dotted path, module)`` for every module in a nested value, each once, outside in; the root's path is ``""``."""
    seen: set[int] = set()
    stack = [(path, x)]
    while stack:
        path, value = stack.pop()
        if id(value) in seen or not isinstance(value, Structure | dict | list | tuple):
            continue
        seen.add(id(value))
        if isinstance(value, Module):
            yield path, value
            if value._open:
                continue
        parts = [(f"{path}.{name}" if path else name, v) for name, v in items(value)]
        stack.extend(reversed(parts))


def _named(x: Any, kind: type, open_too: bool = False) -> Iterator[tuple[str, Any]]:
    """``(dotted path, tensor)`` of a kind; ``open_too``: layers that don't know their size yet are passed by, no error."""
    seen: set[int] = set()
    stack = [("", x)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, Tensor):
            if isinstance(value, kind) and id(value) not in seen:
                seen.add(id(value))
                yield path, value
            continue
        if id(value) in seen or not isinstance(value, Structure | dict | list | tuple):
            continue
        seen.add(id(value))
        if open_too and getattr(value, "_open", False):
            continue
        stack.extend(reversed([(f"{path}.{name}" if path else name, v) for name, v in items(value)]))


def named_parameters(x: Any) -> Iterator[tuple[str, Param]]:
    """``(dotted path, parameter)`` in a nested value, each parameter once, under its first path."""
    return _named(x, Param)


def named_buffers(x: Any) -> Iterator[tuple[str, Buffer]]:
    """``(dotted path, buffer)`` in a nested value, each once, under its first path."""
    return _named(x, Buffer)


def zero_grad(model: Any) -> Any:
    """Forget the ``.grad`` of every parameter of ``model``, as ``update(opt, model)`` does too; returns the model."""
    for _, t in _named(model, Tensor, open_too=True):
        t.grad = None
    return model


def training(layer: Module) -> bool:
    """Whether a layer is in train mode here and now: switched on, or automatic and inside a recording scope.

    Where only shapes are followed, outside of a training step, it never is: nothing may move then.
    """
    return is_recording() if layer.active is None else layer.active and (is_recording() or not is_outlining())


def testmode(model: Any, mode: bool | str = True) -> Any:
    """Put every layer of ``model`` into test mode; returns the model.

    ``mode``: True test, False train, ``"auto"`` automatic: train inside a recording scope, test outside (the default of
    a new layer). Matters to dropout and normalisation layers. Source: Flux's ``testmode!``.
    """
    if mode not in (True, False, "auto"):
        raise ValueError(f"testmode takes True, False or 'auto', got {mode!r}")
    for _, module in walk(model):
        module.active = None if mode == "auto" else not mode
    return model


def trainmode(model: Any, mode: bool | str = True) -> Any:
    """``testmode`` the other way round: ``trainmode(model)`` is ``testmode(model, False)``; returns the model."""
    return testmode(model, mode if mode == "auto" else not mode)
